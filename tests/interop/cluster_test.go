// Package interop drives the server with the clients that its users have: Go clientv3 and etcdctl.
//
// ORRERY_BIN names the server under test, ENDPOINTS a running member instead of one that the tests
// start, ETCDCTL the etcdctl to use, ETCD the etcd to compare with. A real etcd passes the same tests.
package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// The line that a server logs when clients may come.
	readyLine = "ready to serve client requests"
	// Longer than a start takes on a busy machine.
	startDeadline = 60 * time.Second
	// No test waits longer for anything.
	testDeadline = 60 * time.Second
	poll         = 10 * time.Millisecond
)

// port is a port of this machine that nobody else is given while the socket is open. It is bound
// and never listens, so the server can listen there, and while the server is down nobody answers.
type port struct{ number, socket int }

func reservePort(t *testing.T) port {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { syscall.Close(socket) })
	check(t, syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	check(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(socket)
	check(t, err)
	return port{number: name.(*syscall.SockaddrInet4).Port, socket: socket}
}

func (p port) url() string { return fmt.Sprintf("http://127.0.0.1:%d", p.number) }

type member struct {
	client, peer port
	arguments    []string
	log          string
	process      *exec.Cmd
}

// cluster is a set of server processes on loopback. They end with the test.
type cluster struct {
	t       *testing.T
	binary  string
	members []*member
}

func startCluster(t *testing.T, size int) *cluster {
	t.Helper()
	binary := os.Getenv("ORRERY_BIN")
	if binary == "" {
		t.Fatal("ORRERY_BIN names no server")
	}
	return startClusterOf(t, binary, size)
}

func startClusterOf(t *testing.T, binary string, size int) *cluster {
	t.Helper()
	c := prepareCluster(t, binary, size)
	startAll(c)
	return c
}

func startAll(c *cluster) {
	c.t.Helper()
	for at := range c.members {
		c.start(at)
	}
	for at := range c.members {
		c.waitReady(at)
	}
}

// prepareCluster is a cluster of which no member runs yet.
func prepareCluster(t *testing.T, binary string, size int) *cluster {
	t.Helper()
	home := t.TempDir()
	c := &cluster{t: t, binary: binary}
	var everybody []string
	for at := range size {
		m := &member{client: reservePort(t), peer: reservePort(t)}
		m.log = filepath.Join(home, fmt.Sprintf("m%d.log", at))
		everybody = append(everybody, fmt.Sprintf("m%d=%s", at, m.peer.url()))
		c.members = append(c.members, m)
	}
	for at, m := range c.members {
		m.arguments = []string{
			"--name", fmt.Sprintf("m%d", at),
			"--data-dir", filepath.Join(home, fmt.Sprintf("m%d.data", at)),
			"--listen-client-urls", m.client.url(), "--advertise-client-urls", m.client.url(),
			"--listen-peer-urls", m.peer.url(), "--initial-advertise-peer-urls", m.peer.url(),
			"--initial-cluster", strings.Join(everybody, ","),
			"--initial-cluster-state", "new", "--initial-cluster-token", home,
		}
	}
	t.Cleanup(c.end)
	return c
}

// start starts a member that does not run, and does not wait for it.
func (c *cluster) start(at int) {
	c.t.Helper()
	m := c.members[at]
	check(c.t, os.RemoveAll(m.log))
	log, err := os.Create(m.log)
	check(c.t, err)
	defer log.Close()
	m.process = exec.Command(c.binary, m.arguments...)
	m.process.Stdout, m.process.Stderr = log, log
	m.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(c.t, m.process.Start())
}

func (c *cluster) waitReady(at int) {
	c.t.Helper()
	eventually(c.t, startDeadline, fmt.Sprintf("member %d is ready", at), func() bool {
		log, err := os.ReadFile(c.members[at].log)
		return err == nil && bytes.Contains(log, []byte(readyLine))
	})
}

// kill is SIGKILL, and waits until the process is gone.
func (c *cluster) kill(at int) {
	m := c.members[at]
	if m.process == nil {
		return
	}
	syscall.Kill(-m.process.Process.Pid, syscall.SIGKILL)
	m.process.Wait()
	m.process = nil
}

func (c *cluster) end() {
	for at := range c.members {
		c.kill(at)
		if c.t.Failed() {
			log, _ := os.ReadFile(c.members[at].log)
			c.t.Logf("member %d ends with:\n%s", at, tail(string(log), 15))
		}
	}
}

func (c *cluster) endpoints() []string {
	var endpoints []string
	for _, m := range c.members {
		endpoints = append(endpoints, m.client.url())
	}
	return endpoints
}

// leader is the member that leads, once one does.
func (c *cluster) leader() int {
	c.t.Helper()
	found := -1
	eventually(c.t, testDeadline, "there is a leader", func() bool {
		for at, m := range c.members {
			if m.process != nil && leads(m.client.url()) {
				found = at
				return true
			}
		}
		return false
	})
	return found
}

func leads(endpoint string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return false
	}
	defer client.Close()
	status, err := client.Status(ctx, endpoint)
	return err == nil && status.Leader == status.Header.MemberId
}

// oneMember is where to find a single member: ENDPOINTS, or a new one.
func oneMember(t *testing.T) []string {
	t.Helper()
	if running := os.Getenv("ENDPOINTS"); running != "" {
		return strings.Split(running, ",")
	}
	return startCluster(t, 1).endpoints()
}

func newClient(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: 5 * time.Second,
		// A member that was killed is left at once for another.
		DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second,
	})
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(poll) {
		if holds() {
			return
		}
	}
	t.Fatalf("not in %v: %s", within, what)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
