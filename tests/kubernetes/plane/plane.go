// Package plane starts a cluster of members and a Kubernetes control plane on it, with fake nodes: each
// part is a process of its own, ends with the one that started it, and writes its log to a file.
package plane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
)

// Config says what to start.
type Config struct {
	// Binaries is the directory of Kubernetes' programs and kwok.
	Binaries string
	// Home is the directory for files and logs.
	Home       string
	Storage    Storage
	APIServers int
	// Nodes is how many fake nodes there are.
	Nodes int
	// EventTTL and CompactionInterval are the API server's own where they are zero.
	EventTTL, CompactionInterval time.Duration
}

// Plane is a control plane that runs.
type Plane struct {
	APIServers []*APIServer

	config    Config
	authority *Authority
	admin     Pair
	// The file of the key that signs service accounts' tokens.
	tokenKey string
	services map[string]*service
}

// Start returns once every fake node is ready.
func Start(ctx context.Context, config Config) (*Plane, error) {
	p := &Plane{config: config, services: map[string]*service{}}
	if err := p.start(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Plane) start(ctx context.Context) error {
	certificates := filepath.Join(p.config.Home, "certificates")
	var err error
	if p.authority, err = NewAuthority(certificates); err != nil {
		return err
	}
	if p.admin, err = p.authority.Issue("admin", "system:masters"); err != nil {
		return err
	}
	p.tokenKey = filepath.Join(certificates, "service-accounts.key")
	if _, err := writeKey(p.tokenKey); err != nil {
		return err
	}
	flags, err := p.apiServerFlags()
	if err != nil {
		return err
	}
	for i := range p.config.APIServers {
		server, err := p.startAPIServer(i, flags)
		if err != nil {
			return err
		}
		p.APIServers = append(p.APIServers, server)
		// The first one fills an empty storage, which the others would do at the same time.
		if err := server.await(ctx); err != nil {
			return err
		}
	}
	if err := p.startControllers(); err != nil {
		return err
	}
	return p.startNodes(ctx)
}

// server is the API server for the n-th of its clients.
func (p *Plane) server(n int) *APIServer { return p.APIServers[n%len(p.APIServers)] }

func (p *Plane) startControllers() error {
	for n, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		shown, err := p.authority.Issue("system:" + name)
		if err != nil {
			return err
		}
		kubeconfig, _, err := p.kubeconfig(name, p.server(n).Config.Host, shown)
		if err != nil {
			return err
		}
		port, err := freePort()
		if err != nil {
			return err
		}
		arguments := []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig,
			"--authorization-kubeconfig=" + kubeconfig, "--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", port), "--kube-api-qps=500", "--kube-api-burst=1000",
		}
		if name == "kube-controller-manager" {
			arguments = append(arguments, "--service-account-private-key-file="+p.tokenKey,
				"--root-ca-file="+p.authority.Bundle(), "--use-service-account-credentials=true")
		}
		if err := p.serve(name, arguments...); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plane) serve(name string, arguments ...string) error {
	running, err := program{
		path:      filepath.Join(p.config.Binaries, name),
		arguments: arguments,
		log:       filepath.Join(p.config.Home, name+".log"),
	}.serve()
	if err == nil {
		p.services[name] = running
	}
	return err
}

// Restarts tells how often a program beside the API servers ended and was started again.
func (p *Plane) Restarts(name string) int { return p.services[name].restarted() }

// Kubectl is where the program is.
func (p *Plane) Kubectl() string { return filepath.Join(p.config.Binaries, "kubectl") }

// Clientset is a client of the n-th API server, or of one of those before it if there are fewer.
func (p *Plane) Clientset(n int) (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(p.server(n).Config)
}

// Failed names the API servers that have ended by themselves or tell of a panic.
func (p *Plane) Failed() []string {
	var failed []string
	for _, server := range p.APIServers {
		failed = append(failed, server.failed()...)
	}
	return failed
}

// Stop ends everything but the members.
func (p *Plane) Stop() {
	for _, running := range p.services {
		running.stop()
	}
	for _, server := range p.APIServers {
		server.process.kill()
	}
}

// MakeHome makes the directory for a run. Without a name it is a temporary one, and it goes with it.
func MakeHome(named string) (home string, remove func(), err error) {
	if named == "" {
		home, err = os.MkdirTemp("", "orrery-kubernetes-")
		return home, func() { _ = os.RemoveAll(home) }, err
	}
	home, err = filepath.Abs(named)
	if err != nil {
		return "", nil, err
	}
	return home, func() {}, os.MkdirAll(home, 0o755)
}

// Home is the directory for files and logs.
func (p *Plane) Home() string { return p.config.Home }
