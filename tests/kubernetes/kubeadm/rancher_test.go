package kubeadm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// datastore is what k3s takes as --datastore-endpoint, -cafile, -certfile and -keyfile, or as
// variables: anything that begins with http:// or https:// is an etcd, its endpoints between commas.
type datastore struct{ endpoint, authority, certificate, key string }

func datastoreFromEnvironment() datastore {
	return datastore{
		os.Getenv("K3S_DATASTORE_ENDPOINT"), os.Getenv("K3S_DATASTORE_CAFILE"),
		os.Getenv("K3S_DATASTORE_CERTFILE"), os.Getenv("K3S_DATASTORE_KEYFILE"),
	}
}

// bootstrap is k3s as a client: what it keeps of the cluster's certificates beside Kubernetes' keys.
type bootstrap struct{ client *clientv3.Client }

func (d datastore) open(t *testing.T) bootstrap {
	t.Helper()
	if !strings.HasPrefix(d.endpoint, "https://") {
		t.Fatalf("k3s would not take %q for an etcd", d.endpoint)
	}
	authority, err := os.ReadFile(d.authority)
	check(t, err)
	shown, err := tls.LoadX509KeyPair(d.certificate, d.key)
	check(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(d.endpoint, ","), DialTimeout: callTimeout,
		TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{shown}},
	})
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return bootstrap{client}
}

var errChanged = errors.New("the revision is another one")

// get has a modification revision of zero for a key that is not there.
func (b bootstrap) get(ctx context.Context, key string) (string, int64, error) {
	response, err := b.client.Get(ctx, key)
	if err != nil || len(response.Kvs) == 0 {
		return "", 0, err
	}
	return string(response.Kvs[0].Value), response.Kvs[0].ModRevision, nil
}

func (b bootstrap) list(ctx context.Context, prefix string, revision int64) (map[string]string, error) {
	response, err := b.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, kv := range response.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	return found, nil
}

func (b bootstrap) create(ctx context.Context, key, value string) error {
	return b.ifAt(ctx, key, 0, clientv3.OpPut(key, value))
}

func (b bootstrap) update(ctx context.Context, key string, revision int64, value string) error {
	return b.ifAt(ctx, key, revision, clientv3.OpPut(key, value), clientv3.OpGet(key))
}

func (b bootstrap) delete(ctx context.Context, key string, revision int64) error {
	return b.ifAt(ctx, key, revision, clientv3.OpDelete(key), clientv3.OpGet(key))
}

func (b bootstrap) ifAt(
	ctx context.Context, key string, revision int64, then clientv3.Op, otherwise ...clientv3.Op,
) error {
	response, err := b.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(then).Else(otherwise...).Commit()
	if err == nil && !response.Succeeded {
		err = errChanged
	}
	return err
}

func TestK3sKeepsItsBootstrapData(t *testing.T) {
	nodes := growTo(t, newest, 3)
	var endpoints []string
	for _, n := range nodes {
		endpoints = append(endpoints, n.clientURL())
	}
	t.Setenv("K3S_DATASTORE_ENDPOINT", strings.Join(endpoints, ","))
	t.Setenv("K3S_DATASTORE_CAFILE", nodes[0].pki.file("etcd/ca.crt"))
	t.Setenv("K3S_DATASTORE_CERTFILE", nodes[0].pki.file("apiserver-etcd-client.crt"))
	t.Setenv("K3S_DATASTORE_KEYFILE", nodes[0].pki.file("apiserver-etcd-client.key"))
	b, ctx := datastoreFromEnvironment().open(t), deadline(t)

	const key = "/bootstrap/0123456789ab"
	value, revision, err := b.get(ctx, key)
	check(t, err)
	expect(t, "revision of a key that is not there", revision, 0)
	check(t, b.create(ctx, key, "locked"))
	expect(t, "created twice", b.create(ctx, key, "other"), errChanged)
	value, revision, err = b.get(ctx, key)
	check(t, err)
	expect(t, "value", value, "locked")
	check(t, b.update(ctx, key, revision, "certificates"))
	expect(t, "updated twice", b.update(ctx, key, revision, "other"), errChanged)
	expect(t, "deleted at an old revision", b.delete(ctx, key, revision), errChanged)
	check(t, b.create(ctx, "/bootstrap/other", "more"))
	found, err := b.list(ctx, "/bootstrap", 0)
	check(t, err)
	expect(t, "listed", fmt.Sprint(found), "map[/bootstrap/0123456789ab:certificates /bootstrap/other:more]")
	found, err = b.list(ctx, "/bootstrap", revision)
	check(t, err)
	expect(t, "listed as of before", fmt.Sprint(found), "map[/bootstrap/0123456789ab:locked]")

	_, newest, err := b.get(ctx, key)
	check(t, err)
	_, err = b.client.Compact(ctx, newest)
	check(t, err)
	if _, err = b.list(ctx, "/bootstrap", revision); err == nil {
		t.Fatal("a revision that is compacted is listed")
	}
	check(t, b.delete(ctx, key, newest))

	// Any one of the servers may be away.
	nodes[0].down()
	value, _, err = b.get(ctx, "/bootstrap/other")
	check(t, err)
	expect(t, "value", value, "more")
}

// rke2File is what RKE2 writes to DATA/config for the pod `etcd --config-file=DATA/config`. As it
// comes from Go, durations are nanoseconds, and texts that need no quotes have none.
func rke2File(n *node, cluster string, latest string) string {
	state := "new"
	if cluster == "" {
		cluster = n.name + "=" + n.peerURL()
	} else {
		state = "existing"
	}
	trust := func(name string) string {
		return fmt.Sprintf("  cert-file: %s\n  client-cert-auth: true\n  key-file: %s\n  trusted-ca-file: %s\n",
			n.pki.file("etcd/"+name+".crt"), n.pki.file("etcd/"+name+".key"), n.pki.file("etcd/ca.crt"))
	}
	local := func(scheme, port string) string {
		return fmt.Sprintf("%s://%s:%d", scheme, localhost, n.ports[port])
	}
	return "advertise-client-urls: " + n.clientURL() + "\n" +
		"client-transport-security:\n" + trust("server") +
		"data-dir: " + n.data + "\n" +
		"election-timeout: 5000\n" + latest +
		"heartbeat-interval: 500\n" +
		"initial-advertise-peer-urls: " + n.peerURL() + "\n" +
		"initial-cluster: " + cluster + "\n" +
		"initial-cluster-state: " + state + "\n" +
		"listen-client-http-urls: " + local("https", "http") + "\n" +
		"listen-client-urls: " + local("https", "client") + "," + n.clientURL() + "\n" +
		"listen-metrics-urls: " + local("http", "probe") + "\n" +
		"listen-peer-urls: " + local("https", "peer") + "," + n.peerURL() + "\n" +
		"log-outputs:\n- stderr\n" +
		"logger: zap\n" +
		"name: " + n.name + "\n" +
		"peer-transport-security:\n" + trust("peer") +
		"snapshot-count: 10000\n" +
		"socket-options: {}\n"
}

func newServer(t *testing.T, authority pki, number int) *node {
	t.Helper()
	n := newNode(t, newest, authority, number)
	n.ports["peer"] = reservePort(t, localhost, n.address)
	n.ports["http"] = reservePort(t, localhost)
	return n
}

// file is where RKE2 puts it, in the data directory itself, beside the name of the member.
func (n *node) file(content string) []string {
	n.t.Helper()
	path := filepath.Join(n.data, "config")
	check(n.t, os.WriteFile(path, []byte(content), 0o600))
	check(n.t, os.WriteFile(filepath.Join(n.data, "name"), []byte(n.name), 0o600))
	return []string{"--config-file=" + path}
}

func TestRKE2StartsByItsConfigurationFile(t *testing.T) {
	for name, latest := range map[string]string{
		"experimental": "experimental-initial-corrupt-check: true\n" +
			"experimental-watch-progress-notify-interval: 5000000000\n",
		"since 1.34": "feature-gates: InitialCorruptCheck=true\n" +
			"watch-progress-notify-interval: 5000000000\n",
	} {
		t.Run(name, func(t *testing.T) {
			authority := newPKI(t, newECDSA)
			first, second := newServer(t, authority, 1), newServer(t, authority, 2)
			first.up(first.file(rke2File(first, "", latest)))
			expectServes(t, first)
			status, body := first.probe("/health")
			expect(t, "health: "+body, status, 200)
			client := http.Client{
				Transport: &http.Transport{TLSClientConfig: first.pki.client(t, "etcd/healthcheck-client")},
				Timeout:   callTimeout,
			}
			response, err := client.Get(fmt.Sprintf("https://%s:%d/health", localhost, first.ports["http"]))
			check(t, err)
			response.Body.Close()
			expect(t, "health where there is only HTTP", response.StatusCode, 200)

			j := newJoiner(second, first.clientURL())
			second.start(second.file(rke2File(second, j.announce(), latest)))
			j.promote()
			j.waitHealthy()
			second.waitReady()
			expectServes(t, second)
			first.down()
			first.up(first.file(rke2File(first, "", latest)))
			expectServes(t, first)
		})
	}
}
