package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// How long members may take to answer after they were started.
	readyPatience = 60 * time.Second
	callTimeout   = 3 * time.Second
	pollPause     = 200 * time.Millisecond
)

// Members are a cluster of three with certificates, started with the flags that kubeadm gives, that
// can be killed, paused, cut off from each other and replaced.
type Members struct {
	Authority *Authority
	// Client is the certificate that an API server shows.
	Client Pair

	binary  string
	home    string
	served  Pair
	network *network

	mutex sync.Mutex
	list  []*member
}

type member struct {
	name                  string
	clientPort, relayPort int
	peerPort              int
	generation            int
	process               *process
	// What processes that have ended had taken of the CPU.
	spent time.Duration
}

// StartMembers starts a cluster of this many, which keeps its files below a directory.
func StartMembers(ctx context.Context, binary, home string, count int) (*Members, error) {
	m := &Members{binary: binary, home: home}
	m.network = newNetwork(m.caller)
	var err error
	if m.Authority, err = NewAuthority(filepath.Join(home, "etcd-certificates")); err != nil {
		return nil, err
	}
	if m.served, err = m.Authority.Issue("member"); err != nil {
		return nil, err
	}
	if m.Client, err = m.Authority.Issue("kube-apiserver-etcd-client"); err != nil {
		return nil, err
	}
	for i := range count {
		one := &member{name: fmt.Sprintf("m%d", i+1)}
		if one.clientPort, err = freePort(); err != nil {
			return nil, err
		}
		if one.peerPort, err = freePort(); err != nil {
			return nil, err
		}
		if one.relayPort, err = m.network.relay(i, one.peerPort); err != nil {
			return nil, err
		}
		m.list = append(m.list, one)
	}
	for i := range m.list {
		if err := m.start(i, "new"); err != nil {
			m.Stop()
			return nil, err
		}
	}
	if err := m.awaitAll(ctx); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

// Endpoints are where clients find the members.
func (m *Members) Endpoints() []string {
	endpoints := make([]string, len(m.list))
	for i := range m.list {
		endpoints[i] = m.endpoint(i)
	}
	return endpoints
}

func (m *Members) endpoint(i int) string { return "https://" + loopback(m.list[i].clientPort) }

func (m *Members) peerURL(i int) string { return "https://" + loopback(m.list[i].relayPort) }

// Name is what a member is called.
func (m *Members) Name(i int) string { return m.list[i].name }

func (m *Members) start(i int, state string) error {
	one := m.list[i]
	var cluster []string
	for i := range m.list {
		cluster = append(cluster, m.list[i].name+"="+m.peerURL(i))
	}
	running, err := program{
		path: m.binary,
		log:  m.log(i),
		arguments: append([]string{
			"--name=" + one.name,
			"--data-dir=" + filepath.Join(m.home, fmt.Sprintf("%s-%d", one.name, one.generation)),
			"--listen-client-urls=" + m.endpoint(i), "--advertise-client-urls=" + m.endpoint(i),
			"--listen-peer-urls=https://" + loopback(one.peerPort),
			"--initial-advertise-peer-urls=" + m.peerURL(i),
			"--initial-cluster=" + strings.Join(cluster, ","), "--initial-cluster-state=" + state,
			"--snapshot-count=10000", "--feature-gates=InitialCorruptCheck=true",
			"--watch-progress-notify-interval=5s",
		}, m.Authority.MemberFlags(m.served)...),
	}.start()
	if err != nil {
		return err
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if one.process != nil {
		ended := one.process.command.ProcessState
		one.spent += ended.UserTime() + ended.SystemTime()
	}
	one.process = running
	return nil
}

func (m *Members) log(i int) string { return filepath.Join(m.home, m.list[i].name+".log") }

// caller finds which member a connection comes from.
func (m *Members) caller(connection net.Conn) int {
	inode, found := socketOf(connection)
	if !found {
		return nobody
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for i, one := range m.list {
		if one.process != nil && holds(one.process.command.Process.Pid, inode) {
			return i
		}
	}
	return nobody
}

// Connect makes a client of all members.
func (m *Members) Connect() (*clientv3.Client, error) { return m.connect(m.Endpoints()...) }

func (m *Members) connect(endpoints ...string) (*clientv3.Client, error) {
	shown, err := m.Authority.ClientTLS(m.Client)
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: shown, Logger: zap.NewNop(),
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
	})
}

// awaitAll waits until each member can read what all have agreed on.
func (m *Members) awaitAll(ctx context.Context) error {
	for i := range m.list {
		if err := m.await(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (m *Members) await(ctx context.Context, i int) error {
	client, err := m.connect(m.endpoint(i))
	if err != nil {
		return err
	}
	defer client.Close()
	return until(ctx, readyPatience, func() error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := client.Get(ctx, "none")
		if err != nil {
			return fmt.Errorf("%s does not answer: %w; see %s", m.list[i].name, err, m.log(i))
		}
		return nil
	})
}

// final is an error that time does not heal.
type final struct{ error }

// until asks again and again, and returns the last error if it takes too long.
func until(ctx context.Context, patience time.Duration, try func() error) error {
	for deadline := time.Now().Add(patience); ; {
		err := try()
		var end final
		if err == nil || errors.As(err, &end) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollPause):
		}
	}
}

// Leader finds the leader.
func (m *Members) Leader(ctx context.Context) (int, error) {
	found := nobody
	err := until(ctx, readyPatience, func() error {
		for i := range m.list {
			status, err := m.status(ctx, i)
			if err == nil && status.Leader == status.Header.MemberId {
				found = i
				return nil
			}
		}
		return errors.New("no member says that it leads")
	})
	return found, err
}

func (m *Members) status(ctx context.Context, i int) (*clientv3.StatusResponse, error) {
	client, err := m.connect(m.endpoint(i))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return client.Status(ctx, m.endpoint(i))
}

// Kill ends a member without warning.
func (m *Members) Kill(i int) { m.list[i].process.kill() }

// Restart starts a member that was killed.
func (m *Members) Restart(ctx context.Context, i int) error {
	if err := m.start(i, "existing"); err != nil {
		return err
	}
	return m.await(ctx, i)
}

// Pause stops a member, whose connections stay open.
func (m *Members) Pause(i int) { m.list[i].process.send(syscall.SIGSTOP) }

// Resume lets a paused member go on.
func (m *Members) Resume(ctx context.Context, i int) error {
	m.list[i].process.send(syscall.SIGCONT)
	return m.await(ctx, i)
}

// CutOff separates a member from the others; clients still reach it.
func (m *Members) CutOff(i int) { m.network.cutOff(i) }

// Heal ends what CutOff began.
func (m *Members) Heal(ctx context.Context, i int) error {
	m.network.heal(i)
	return m.await(ctx, i)
}

// Remove kills a member and has the others forget it.
func (m *Members) Remove(ctx context.Context, i int) error {
	status, err := m.status(ctx, i)
	if err != nil {
		return err
	}
	m.Kill(i)
	client, err := m.Connect()
	if err != nil {
		return err
	}
	defer client.Close()
	return until(ctx, readyPatience, func() error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		members, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, known := range members.Members {
			if known.ID == status.Header.MemberId {
				_, err := client.MemberRemove(ctx, known.ID)
				return err
			}
		}
		return nil
	})
}

// Add has a removed member join anew and empty, first as a learner, as kubeadm does it.
func (m *Members) Add(ctx context.Context, i int) error {
	client, err := m.Connect()
	if err != nil {
		return err
	}
	defer client.Close()
	var id uint64
	err = until(ctx, readyPatience, func() error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if known, err := client.MemberList(ctx); err == nil {
			for _, one := range known.Members {
				if one.PeerURLs[0] == m.peerURL(i) {
					id = one.ID
					return nil
				}
			}
		}
		added, err := client.MemberAddAsLearner(ctx, []string{m.peerURL(i)})
		if err == nil {
			id = added.Member.ID
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("adding a learner: %w", err)
	}
	m.list[i].generation++
	if err := m.start(i, "existing"); err != nil {
		return err
	}
	err = until(ctx, readyPatience, func() error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := client.MemberPromote(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotLearner) {
			// An attempt whose answer was lost.
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("promoting a learner: %w", err)
	}
	return m.await(ctx, i)
}

// Stop ends all members.
func (m *Members) Stop() {
	var all sync.WaitGroup
	for _, one := range m.list {
		if one.process != nil {
			all.Go(one.process.stop)
		}
	}
	all.Wait()
	m.network.close()
}

// Failed names the members that have ended by themselves, or say that they have panicked.
func (m *Members) Failed() []string {
	var failed []string
	for i, one := range m.list {
		if !one.process.running() {
			failed = append(failed, one.name+" has ended")
		}
		failed = append(failed, panics(one.name, m.log(i))...)
	}
	return failed
}

// panics finds where a log tells of a panic.
func panics(name, log string) []string {
	text, err := os.ReadFile(log)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "panic:") || strings.Contains(line, "panicked at") ||
			strings.Contains(line, "Observed a panic") ||
			strings.Contains(line, "Cache consistency check failed") {
			found = append(found, name+": "+strings.TrimSpace(line))
		}
	}
	return found
}
