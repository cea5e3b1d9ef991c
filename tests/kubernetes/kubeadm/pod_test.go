package kubeadm

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestThePodOfEachReleaseStarts(t *testing.T) {
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			n := newNode(t, r, newPKI(t, r.newKey), 1)
			n.up(n.command(""))
			expectServes(t, n)
			for _, path := range r.probes {
				status, body := n.probe(path)
				expect(t, path+" "+body, status, 200)
			}
			expectVersion(t, n)

			for _, endpoint := range []string{localhost, n.address} {
				url := "https://" + endpoint + ":" + strconv.Itoa(n.ports["client"])
				for _, name := range []string{"etcd/healthcheck-client", "etcd/server"} {
					_, err := n.connect(name, url).Get(deadline(t), "/registry/health")
					check(t, err)
				}
			}
			stranger := n.connectWith(n.pki.client(t, ""))
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			if _, err := stranger.Get(ctx, "/registry/health"); err == nil {
				t.Fatal("a client without a certificate is served")
			}
		})
	}
}

// extraArgs that kubeadm's users are known to give, and the variables of its extraEnvs.
func TestThePodTakesExtraArguments(t *testing.T) {
	n := newNode(t, newest, newPKI(t, newest.newKey), 1)
	t.Setenv("ETCD_LOG_LEVEL", "info")
	n.extra = []string{
		"--auto-compaction-mode=periodic", "--auto-compaction-retention=8h",
		"--quota-backend-bytes=8589934592", "--heartbeat-interval=250", "--election-timeout=2500",
		"--max-snapshots=10", "--max-wals=10", "--metrics=extensive", "--logger=zap",
		"--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
		"--tls-min-version=TLS1.2", "--unsafe-no-fsync=true", "--max-request-bytes=33554432",
		"--backend-batch-interval=10ms", "--enable-pprof=true", "--pre-vote=true",
	}
	n.up(n.command(""))
	expectServes(t, n)
}

// A manifest may give another listener for metrics, with TLS; the probes follow it.
func TestProbesGoToAListenerWithTLS(t *testing.T) {
	n := newNode(t, newest, newPKI(t, newest.newKey), 1)
	url := strings.Replace(n.probeURL(), "http://", "https://", 1)
	arguments := n.command("")
	for at, argument := range arguments {
		if strings.HasPrefix(argument, "--listen-metrics-urls=") {
			arguments[at] = "--listen-metrics-urls=" + url
		}
	}
	n.up(arguments)
	client := http.Client{
		Transport: &http.Transport{TLSClientConfig: n.pki.client(t, "etcd/healthcheck-client")},
		Timeout:   15 * time.Second,
	}
	response, err := client.Get(url + "/livez")
	check(t, err)
	response.Body.Close()
	expect(t, "status", response.StatusCode, 200)
}

// The certificates are renewed on disk while the pod runs; it takes the new ones.
func TestRenewedCertificatesAreShown(t *testing.T) {
	authority := newPKI(t, newest.newKey)
	n := newNode(t, newest, authority, 1)
	n.up(n.command(""))
	before := n.shownSerial()
	renewed := authority.ofNode(t, n.name, n.address)
	for _, name := range []string{"etcd/server.crt", "etcd/server.key"} {
		content, err := os.ReadFile(renewed.file(name))
		check(t, err)
		n.pki.write(t, name, content)
	}
	eventually(t, "the new certificate is shown", func() bool { return n.shownSerial() != before })
	expectServes(t, n)
}

// shownSerial is empty when there was no handshake, as while key and certificate do not fit.
func (n *node) shownSerial() string {
	address := strings.TrimPrefix(n.clientURL(), "https://")
	connection, err := tls.Dial("tcp", address, n.pki.client(n.t, "etcd/healthcheck-client"))
	if err != nil {
		return ""
	}
	defer connection.Close()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// probe is what the kubelet does.
func (n *node) probe(path string) (int, string) {
	n.t.Helper()
	client := http.Client{Timeout: 15 * time.Second}
	response, err := client.Get(n.probeURL() + path)
	check(n.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(n.t, err)
	return response.StatusCode, string(body)
}

// The preflight check of an external etcd: kubeadm 1.36 takes none before 3.5.24.
func expectVersion(t *testing.T, n *node) {
	t.Helper()
	client := http.Client{
		Transport: &http.Transport{TLSClientConfig: n.pki.client(t, "apiserver-etcd-client")},
		Timeout:   callTimeout,
	}
	response, err := client.Get(n.clientURL() + "/version")
	check(t, err)
	defer response.Body.Close()
	var version struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
	}
	check(t, json.NewDecoder(response.Body).Decode(&version))
	parts := strings.SplitN(version.Server, ".", 3)
	expect(t, "parts of the version", len(parts), 3)
	minor, err := strconv.Atoi(parts[1])
	check(t, err)
	if parts[0] != "3" || minor < 6 {
		t.Fatalf("kubeadm would refuse version %s", version.Server)
	}
}

func removeContents(directory string) error {
	entries, err := os.ReadDir(directory)
	for _, entry := range entries {
		if err == nil {
			err = os.RemoveAll(filepath.Join(directory, entry.Name()))
		}
	}
	return err
}
