// Package testserver takes the place of the package of this name in k8s.io/apiserver, whose tests start an
// etcd inside themselves: here it is the program that ETCD_EXEC names, with the same configuration.
package testserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const deadline = 60 * time.Second

// NewTestConfig is the configuration of a member of its own, which a test may change.
func NewTestConfig(t testing.TB) *embed.Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	config := embed.NewConfig()
	client := url.URL{Scheme: "http", Host: listener.Addr().String()}
	// The program takes a free port for its peers, of which there are none.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true
	config.Dir = filepath.Join(t.TempDir(), "data")
	return config
}

// RunEtcd starts a member and connects to it; it ends with the test.
func RunEtcd(t testing.TB, config *embed.Config) *kubernetes.Client {
	t.Helper()
	if config == nil {
		config = NewTestConfig(t)
	}
	program := os.Getenv("ETCD_EXEC")
	if program == "" {
		t.Fatal("ETCD_EXEC names no server")
	}
	var printed bytes.Buffer
	server := exec.Command(program, arguments(config)...)
	server.Stdout, server.Stderr = &printed, &printed
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil && !stopped(err) {
			t.Errorf("the server ended with %v: %s", err, printed.String())
		}
	})
	return connect(t, config)
}

// stopped tells of an end by the signal that was sent: so does etcd end, too.
func stopped(err error) bool {
	var exit *exec.ExitError
	if e, ok := err.(*exec.ExitError); ok {
		exit = e
	} else {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

func arguments(config *embed.Config) []string {
	list := func(urls []url.URL) string {
		var all []string
		for _, one := range urls {
			all = append(all, one.String())
		}
		return strings.Join(all, ",")
	}
	flags := []string{
		"--name=" + config.Name,
		"--data-dir=" + config.Dir,
		"--listen-client-urls=" + list(config.ListenClientUrls),
		"--advertise-client-urls=" + list(config.AdvertiseClientUrls),
		"--listen-peer-urls=" + list(config.ListenPeerUrls),
		"--initial-advertise-peer-urls=" + list(config.AdvertisePeerUrls),
		"--initial-cluster=" + config.InitialCluster,
		"--log-level=error",
		fmt.Sprintf("--unsafe-no-fsync=%t", config.UnsafeNoFsync),
		fmt.Sprintf("--watch-progress-notify-interval=%s", config.WatchProgressNotifyInterval),
	}
	tls := config.ClientTLSInfo
	for flag, file := range map[string]string{
		"--cert-file=": tls.CertFile, "--key-file=": tls.KeyFile, "--trusted-ca-file=": tls.TrustedCAFile,
	} {
		if file != "" {
			flags = append(flags, flag+file)
		}
	}
	if tls.ClientCertAuth {
		flags = append(flags, "--client-cert-auth")
	}
	return flags
}

func connect(t testing.TB, config *embed.Config) *kubernetes.Client {
	t.Helper()
	tls, err := config.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	var endpoints []string
	for _, one := range config.AdvertiseClientUrls {
		endpoints = append(endpoints, one.String())
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS:         tls,
		Endpoints:   endpoints,
		DialTimeout: 10 * time.Second,
		Logger:      zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)).Named("client"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for {
		if _, err = client.Get(ctx, "ready", kubernetes.GetOptions{}); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("the server does not answer: %v", err)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}
