// Package kubeadm starts the server as kubeadm's static pod does, and talks to it as kubeadm does.
//
// ORRERY_BIN names the server under test. A real etcd passes what does not need the flags that it has
// removed; a copy of its live directory does not always start.
package kubeadm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// The line that a server logs when clients may come.
	readyLine = "ready to serve client requests"
	// No test waits longer for anything.
	patience = 60 * time.Second
	poll     = 10 * time.Millisecond
)

// release is a minor release of Kubernetes, by what its kubeadm writes into the pod.
type release struct {
	name   string
	newKey func() (crypto.Signer, error)
	// Flags that changed their names from release to release.
	flags []string
	// Paths that the kubelet asks, on the listener for metrics.
	probes []string
}

var (
	experimental = []string{
		"--experimental-initial-corrupt-check=true",
		"--experimental-watch-progress-notify-interval=5s",
	}
	releases = []release{
		{"1.30", newRSA, experimental, []string{
			"/health?exclude=NOSPACE&serializable=true", "/health?serializable=false",
		}},
		{"1.33", newRSA, experimental, []string{"/livez", "/readyz"}},
		{"1.36", newECDSA, []string{
			"--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s",
		}, []string{"/livez", "/readyz"}},
	}
	newest = releases[len(releases)-1]
)

// node is a machine of a control plane, as far as its etcd goes. It has an address of its own on
// loopback, so only the numbers of its ports differ from those that kubeadm writes.
type node struct {
	process
	release       release
	name, address string
	ports         map[string]int
	pki           pki
	// The server under test, unless something else is said.
	binary string
	// /var/lib/etcd
	data string
	// Added to what kubeadm writes: its extraArgs.
	extra []string
}

const localhost = "127.0.0.1"

func newNode(t *testing.T, r release, authority pki, number int) *node {
	t.Helper()
	n := &node{process: process{t: t}, release: r, name: fmt.Sprintf("control-plane-%d", number), binary: os.Getenv("ORRERY_BIN")}
	n.address = fmt.Sprintf("127.0.1.%d", number)
	n.ports = map[string]int{
		"client": reservePort(t, localhost, n.address),
		"peer":   reservePort(t, n.address),
		"probe":  reservePort(t, localhost),
	}
	n.pki = authority.ofNode(t, n.name, n.address)
	home := t.TempDir()
	n.data, n.log = filepath.Join(home, "etcd"), filepath.Join(home, "log")
	// kubeadm makes it.
	check(t, os.Mkdir(n.data, 0o700))
	t.Cleanup(func() { n.end(n.name, 80) })
	return n
}

// reservePort is a port that nobody else is given while the test runs: bound, never listening, so
// that the server can listen there.
func reservePort(t *testing.T, addresses ...string) int {
	t.Helper()
	for range 100 {
		number, held := 0, []int{}
		for _, address := range addresses {
			socket, bound := bind(t, address, number)
			held = append(held, socket)
			number = bound
		}
		if number != 0 {
			t.Cleanup(func() {
				for _, socket := range held {
					syscall.Close(socket)
				}
			})
			return number
		}
		for _, socket := range held {
			syscall.Close(socket)
		}
	}
	t.Fatalf("no port is free on %v", addresses)
	return 0
}

// bind gives zero if another process has the port.
func bind(t *testing.T, address string, number int) (int, int) {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(t, err)
	check(t, syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	at := syscall.SockaddrInet4{Port: number, Addr: [4]byte(net.ParseIP(address).To4())}
	if syscall.Bind(socket, &at) != nil {
		return socket, 0
	}
	name, err := syscall.Getsockname(socket)
	check(t, err)
	return socket, name.(*syscall.SockaddrInet4).Port
}

func (n *node) clientURL() string { return fmt.Sprintf("https://%s:%d", n.address, n.ports["client"]) }

func (n *node) peerURL() string { return fmt.Sprintf("https://%s:%d", n.address, n.ports["peer"]) }

func (n *node) probeURL() string { return fmt.Sprintf("http://%s:%d", localhost, n.ports["probe"]) }

// command is the pod's, which kubeadm sorts. cluster is empty for the first node.
func (n *node) command(cluster string) []string {
	state := []string{"--initial-cluster-state=existing"}
	if cluster == "" {
		cluster, state = n.name+"="+n.peerURL(), nil
	}
	certificate := n.pki.file
	arguments := []string{
		"--advertise-client-urls=" + n.clientURL(),
		"--cert-file=" + certificate("etcd/server.crt"),
		"--client-cert-auth=true",
		"--data-dir=" + n.data,
		"--initial-advertise-peer-urls=" + n.peerURL(),
		"--initial-cluster=" + cluster,
		"--key-file=" + certificate("etcd/server.key"),
		fmt.Sprintf("--listen-client-urls=https://%s:%d,%s", localhost, n.ports["client"], n.clientURL()),
		"--listen-metrics-urls=" + n.probeURL(),
		"--listen-peer-urls=" + n.peerURL(),
		"--name=" + n.name,
		"--peer-cert-file=" + certificate("etcd/peer.crt"),
		"--peer-client-cert-auth=true",
		"--peer-key-file=" + certificate("etcd/peer.key"),
		"--peer-trusted-ca-file=" + certificate("etcd/ca.crt"),
		"--snapshot-count=10000",
		"--trusted-ca-file=" + certificate("etcd/ca.crt"),
	}
	arguments = append(append(arguments, n.release.flags...), state...)
	return append(arguments, n.extra...)
}

// start starts the pod's process, and does not wait for it.
func (n *node) start(arguments []string) {
	n.t.Helper()
	if n.binary == "" {
		n.t.Fatal("ORRERY_BIN names no server")
	}
	n.run(exec.Command(n.binary, arguments...))
}

// up starts the pod and waits until it serves.
func (n *node) up(arguments []string) {
	n.t.Helper()
	n.start(arguments)
	n.waitReady()
}

func (n *node) waitReady() {
	n.t.Helper()
	eventually(n.t, n.name+" serves clients", func() bool {
		return strings.Contains(n.logged(), readyLine)
	})
}

// connect is a client as kubeadm or, by another certificate, the API server is one.
func (n *node) connect(certificate string, endpoints ...string) *clientv3.Client {
	n.t.Helper()
	return n.connectWith(n.pki.client(n.t, certificate), endpoints...)
}

func (n *node) connectWith(config *tls.Config, endpoints ...string) *clientv3.Client {
	n.t.Helper()
	if len(endpoints) == 0 {
		endpoints = []string{n.clientURL()}
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: callTimeout, TLS: config, Logger: zap.NewNop(),
	})
	check(n.t, err)
	n.t.Cleanup(func() { client.Close() })
	return client
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll) {
		if holds() {
			return
		}
	}
	t.Fatalf("not in %v: %s", patience, what)
}

// run is a program that must end well; its output is returned.
func run(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, bytes.TrimSpace(output))
	}
	return string(output)
}
