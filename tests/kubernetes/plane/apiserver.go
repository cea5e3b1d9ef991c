package plane

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Storage is where API servers keep everything.
type Storage struct {
	Endpoints []string
	// Bundle and Client are empty where the endpoints want no certificates.
	Bundle string
	Client Pair
}

// Storage of the members, for API servers.
func (m *Members) Storage() Storage {
	return Storage{Endpoints: m.Endpoints(), Bundle: m.Authority.Bundle(), Client: m.Client}
}

func (s Storage) flags() []string {
	flags := []string{"--etcd-servers=" + strings.Join(s.Endpoints, ",")}
	if s.Bundle != "" {
		flags = append(flags, "--etcd-cafile="+s.Bundle)
	}
	if s.Client.Certificate != "" {
		flags = append(flags, "--etcd-certfile="+s.Client.Certificate, "--etcd-keyfile="+s.Client.Key)
	}
	return flags
}

// APIServer is one of those of a plane.
type APIServer struct {
	// Kubeconfig is the file of an administrator.
	Kubeconfig string
	// Config is the same for clients in Go.
	Config *rest.Config

	name    string
	program program
	process *process
	crashed bool
}

// The prefix of what the API servers write into the storage for a secret.
const EncryptedPrefix = "k8s:enc:secretbox:v1:"

const encryption = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox: {keys: [{name: first, secret: %s}]}
`

func (p *Plane) encryptionConfig() (string, error) {
	key := make([]byte, 32)
	// It never fails.
	_, _ = rand.Read(key)
	file := filepath.Join(p.config.Home, "encryption.yaml")
	text := fmt.Sprintf(encryption, base64.StdEncoding.EncodeToString(key))
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func (p *Plane) startAPIServer(i int, shared []string) (*APIServer, error) {
	s := &APIServer{name: fmt.Sprintf("kube-apiserver-%d", i+1)}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.program = program{
		path: filepath.Join(p.config.Binaries, "kube-apiserver"),
		log:  filepath.Join(p.config.Home, s.name+".log"),
		// It panics when its cache is not what is stored.
		environment: []string{"KUBE_WATCHCACHE_CONSISTENCY_CHECKER=true"},
		arguments: append([]string{
			fmt.Sprintf("--secure-port=%d", port),
			// Kept in the storage with a lease; nobody goes there. Loopback is refused.
			fmt.Sprintf("--advertise-address=192.0.2.%d", i+1),
			"--cert-dir=" + filepath.Join(p.config.Home, s.name),
		}, shared...),
	}
	url := "https://" + loopback(port)
	if s.Kubeconfig, s.Config, err = p.kubeconfig(s.name+"-admin", url, p.admin); err != nil {
		return nil, err
	}
	if s.process, err = s.program.start(); err != nil {
		return nil, err
	}
	return s, nil
}

func (p *Plane) apiServerFlags() ([]string, error) {
	served, err := p.authority.Issue("kube-apiserver")
	if err != nil {
		return nil, err
	}
	encrypted, err := p.encryptionConfig()
	if err != nil {
		return nil, err
	}
	flags := append(p.config.Storage.flags(),
		"--bind-address=127.0.0.1",
		"--tls-cert-file="+served.Certificate, "--tls-private-key-file="+served.Key,
		"--client-ca-file="+p.authority.Bundle(), "--authorization-mode=Node,RBAC",
		"--service-cluster-ip-range=10.0.0.0/16", "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+p.tokenKey, "--service-account-signing-key-file="+p.tokenKey,
		"--disable-admission-plugins=ServiceAccount", "--delete-collection-workers=8",
		"--encryption-provider-config="+encrypted)
	if p.config.EventTTL > 0 {
		flags = append(flags, "--event-ttl="+p.config.EventTTL.String())
	}
	if p.config.CompactionInterval > 0 {
		flags = append(flags, "--etcd-compaction-interval="+p.config.CompactionInterval.String())
	}
	return flags, nil
}

// How long an API server may take until it is ready: it installs its roles first.
const apiServerPatience = 3 * time.Minute

func (s *APIServer) await(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	return until(ctx, apiServerPatience, func() error {
		if !s.process.running() {
			return final{fmt.Errorf("%s has ended; see %s", s.name, s.program.log)}
		}
		ready := client.RESTClient().Get().AbsPath("/readyz").Timeout(callTimeout)
		if err := ready.Do(ctx).Error(); err != nil {
			return fmt.Errorf("%s is not ready: %w; see %s", s.name, err, s.program.log)
		}
		return nil
	})
}

// Restart kills the API server and starts it again.
func (s *APIServer) Restart(ctx context.Context) error {
	if !s.process.running() {
		s.crashed = true
	}
	s.process.kill()
	var err error
	if s.process, err = s.program.start(); err != nil {
		return err
	}
	return s.await(ctx)
}

func (s *APIServer) failed() []string {
	found := panics(s.name, s.program.log)
	if s.crashed || !s.process.running() {
		found = append(found, s.name+" has ended by itself")
	}
	return found
}
