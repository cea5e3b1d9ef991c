package kubeadm

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// apiServer is a real kube-apiserver on the members of a control plane.
type apiServer struct {
	process
	arguments []string
	config    *rest.Config
}

// tool is a program that the test was told of; without it the test is skipped.
func tool(t *testing.T, variable, name string) string {
	t.Helper()
	directory := os.Getenv(variable)
	if directory == "" {
		t.Skip(variable + " names no directory with " + name)
	}
	return filepath.Join(directory, name)
}

func newAPIServer(t *testing.T, nodes []*node) *apiServer {
	t.Helper()
	p, port := nodes[0].pki, reservePort(t, localhost)
	p.sign(t, "apiserver", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	p.sign(t, "admin", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	key, err := p.newKey()
	check(t, err)
	p.write(t, "sa.key", encodedKey(t, key))
	var endpoints []string
	for _, n := range nodes {
		endpoints = append(endpoints, n.clientURL())
	}
	home := t.TempDir()
	s := &apiServer{process: process{t: t, log: filepath.Join(home, "log")}}
	s.arguments = []string{
		tool(t, "KUBE_BIN", "kube-apiserver"),
		"--etcd-servers=" + strings.Join(endpoints, ","), "--etcd-cafile=" + p.file("etcd/ca.crt"),
		"--etcd-certfile=" + p.file("apiserver-etcd-client.crt"),
		"--etcd-keyfile=" + p.file("apiserver-etcd-client.key"),
		"--bind-address=" + localhost, fmt.Sprintf("--secure-port=%d", port),
		// Nobody goes there; loopback is refused.
		"--advertise-address=192.0.2.1", "--cert-dir=" + home,
		"--tls-cert-file=" + p.file("apiserver.crt"), "--tls-private-key-file=" + p.file("apiserver.key"),
		"--client-ca-file=" + p.file("etcd/ca.crt"), "--authorization-mode=Node,RBAC",
		"--service-cluster-ip-range=10.0.0.0/16", "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.file("sa.key"),
		"--service-account-signing-key-file=" + p.file("sa.key"),
		"--disable-admission-plugins=ServiceAccount",
	}
	s.config = &rest.Config{
		Host: fmt.Sprintf("https://%s:%d", localhost, port), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: p.file("etcd/ca.crt"), CertFile: p.file("admin.crt"), KeyFile: p.file("admin.key"),
		},
	}
	t.Cleanup(func() { s.end("the API server", 20) })
	return s
}

// up starts it, as the kubelet does when its manifest is there, and waits until it is ready.
func (s *apiServer) up() {
	s.t.Helper()
	command := exec.Command(s.arguments[0], s.arguments[1:]...)
	command.Env = append(os.Environ(), "KUBE_WATCHCACHE_CONSISTENCY_CHECKER=true")
	s.run(command)
	var err error
	client := s.client()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		err = client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		cancel()
		if err == nil {
			return
		}
	}
	s.t.Fatalf("the API server is not ready: %v", err)
}

func (s *apiServer) client() *kubernetes.Clientset {
	s.t.Helper()
	client, err := kubernetes.NewForConfig(s.config)
	check(s.t, err)
	return client
}
