package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"orrery.invalid/kubernetes/plane"
)

const (
	oursName = "orrery"
	etcdName = "etcd"

	// Longer than a start takes on a busy machine.
	startDeadline = 60 * time.Second
	// Longer than a stop with a transfer of leadership takes.
	stopDeadline = 20 * time.Second

	// Of what a member logged, the lines that are told of, and the bytes of each.
	loggedLines = 5
	loggedBytes = 300
)

// As kubeadm and the limits of Kubernetes have them.
var kubeadmFlags = []string{
	"--snapshot-count=10000",
	"--watch-progress-notify-interval=5s",
	"--quota-backend-bytes=8589934592",
}

type server struct{ name, binary string }

type member struct {
	url     string
	process *exec.Cmd
	log     string
}

// cluster is members on loopback with data in a temporary directory.
type cluster struct {
	of      server
	home    string
	members []*member
	tls     *tls.Config
	// Who signs, and what clients show; nobody and nothing without TLS.
	authority *plane.Authority
	shown     plane.Pair
	sockets   []int
}

func startCluster(
	ctx context.Context, of server, size int, plain bool, flags ...string,
) (*cluster, error) {
	home, err := os.MkdirTemp("", "orrery-load-")
	if err != nil {
		return nil, err
	}
	c := &cluster{of: of, home: home}
	if err := c.start(ctx, size, plain, flags); err != nil {
		err = fmt.Errorf("%s: %w%s", of.name, err, c.logged())
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) start(ctx context.Context, size int, plain bool, flags []string) error {
	scheme := "http"
	flags = append(append([]string{}, kubeadmFlags...), flags...)
	if !plain {
		scheme = "https"
		var err error
		if c.authority, err = plane.NewAuthority(filepath.Join(c.home, "certs")); err != nil {
			return err
		}
		served, err := c.authority.Issue("member")
		if err != nil {
			return err
		}
		flags = append(flags, c.authority.MemberFlags(served)...)
		if c.shown, err = c.authority.Issue("kube-apiserver-etcd-client"); err != nil {
			return err
		}
		if c.tls, err = c.authority.ClientTLS(c.shown); err != nil {
			return err
		}
	}
	var peers, everybody []string
	for at := range size {
		client, err := c.reservePort(scheme)
		if err != nil {
			return err
		}
		peer, err := c.reservePort(scheme)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("m%d", at)
		c.members = append(c.members, &member{url: client, log: filepath.Join(c.home, name+".log")})
		peers = append(peers, peer)
		everybody = append(everybody, name+"="+peer)
	}
	for at, m := range c.members {
		name := fmt.Sprintf("m%d", at)
		arguments := append([]string{
			"--name=" + name,
			"--data-dir=" + filepath.Join(c.home, name+".data"),
			"--listen-client-urls=" + m.url, "--advertise-client-urls=" + m.url,
			"--listen-peer-urls=" + peers[at], "--initial-advertise-peer-urls=" + peers[at],
			"--initial-cluster=" + strings.Join(everybody, ","),
			"--initial-cluster-state=new", "--initial-cluster-token=" + filepath.Base(c.home),
		}, flags...)
		if err := m.start(c.of.binary, arguments); err != nil {
			return err
		}
	}
	return c.waitReady(ctx)
}

// reservePort is a port that nobody else is given: its socket is bound and never listens, so that the
// member can listen there.
func (c *cluster) reservePort(scheme string) (string, error) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	c.sockets = append(c.sockets, socket)
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, name.(*syscall.SockaddrInet4).Port), nil
}

func (m *member) start(binary string, arguments []string) error {
	log, err := os.Create(m.log)
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(binary, arguments...)
	process.Stdout, process.Stderr = log, log
	// Out of reach of the terminal's Ctrl-C, which is ours to handle, and gone when we are.
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return err
	}
	m.process = process
	return nil
}

// waitReady waits until each member answers a read that needs a leader.
func (c *cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	for _, m := range c.members {
		client, err := c.client(m.url)
		if err != nil {
			return err
		}
		for {
			once, end := context.WithTimeout(ctx, 2*time.Second)
			_, err = client.Get(once, "/registry/health")
			end()
			if err == nil || ctx.Err() != nil {
				break
			}
			if pause(ctx, 20*time.Millisecond) != nil {
				break
			}
		}
		client.Close()
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", m.url, err)
		}
	}
	return nil
}

// stop ends what still runs, and removes the data.
func (c *cluster) stop() {
	for _, m := range c.members {
		if m.process != nil {
			m.process.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, m := range c.members {
		if m.process == nil {
			continue
		}
		late := time.AfterFunc(stopDeadline, func() { m.process.Process.Kill() })
		m.process.Wait()
		late.Stop()
	}
	for _, socket := range c.sockets {
		syscall.Close(socket)
	}
	os.RemoveAll(c.home)
}

// logged is the end of what the members said, for the message of a failure.
func (c *cluster) logged() string {
	var all strings.Builder
	for _, m := range c.members {
		text, _ := os.ReadFile(m.log)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		for _, line := range lines[max(0, len(lines)-loggedLines):] {
			fmt.Fprintf(&all, "\n%s: %.*s", m.url, loggedBytes, line)
		}
	}
	return all.String()
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.url)
	}
	return all
}

// storage is what API servers need to find and to be let in.
func (c *cluster) storage() plane.Storage {
	found := plane.Storage{Endpoints: c.endpoints()}
	if c.tls != nil {
		found.Bundle, found.Client = c.authority.Bundle(), c.shown
	}
	return found
}

// client is configured as kube-apiserver's.
func (c *cluster) client(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		TLS:                  c.tls,
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               zap.NewNop(),
	})
}

// leader is the place of the member that leads.
func (c *cluster) leader(ctx context.Context) (int, error) {
	client, err := c.client(c.endpoints()...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for at, m := range c.members {
		status, err := client.Status(ctx, m.url)
		if err != nil {
			return 0, err
		}
		if status.Leader == status.Header.MemberId {
			return at, nil
		}
	}
	return 0, fmt.Errorf("%s has no leader", c.of.name)
}
