package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// How kubeadm calls: each call has so long, and is repeated at this interval.
const (
	callTimeout  = 2 * time.Second
	callInterval = 500 * time.Millisecond
)

// joiner is kubeadm on a node, as a client of the cluster: it comes with the certificate for health
// checks of that node, makes a new client for nearly every step, and knows members by peer URL.
type joiner struct {
	*node
	endpoints []string
}

func newJoiner(n *node, endpoint string) *joiner {
	j := &joiner{node: n, endpoints: []string{endpoint}}
	j.sync()
	return j
}

func (j *joiner) client() *clientv3.Client {
	j.t.Helper()
	return j.connect("etcd/healthcheck-client", j.endpoints...)
}

// repeat has a step done as often as it fails.
func (j *joiner) repeat(what string, step func(context.Context, *clientv3.Client) error) {
	j.t.Helper()
	client := j.client()
	defer client.Close()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(callInterval) {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		err = step(ctx, client)
		cancel()
		if err == nil {
			return
		}
	}
	j.t.Fatalf("%s: %v", what, err)
}

func (j *joiner) sync() {
	j.t.Helper()
	j.repeat("sync", func(ctx context.Context, client *clientv3.Client) error {
		err := client.Sync(ctx)
		j.endpoints = client.Endpoints()
		return err
	})
}

func (j *joiner) members() []*pb.Member {
	j.t.Helper()
	var members []*pb.Member
	j.repeat("member list", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.MemberList(ctx)
		if err == nil {
			members = response.Members
		}
		return err
	})
	return members
}

func (j *joiner) member(peerURL string) *pb.Member {
	j.t.Helper()
	for _, member := range j.members() {
		if member.PeerURLs[0] == peerURL {
			return member
		}
	}
	return nil
}

// announce adds this node as a learner, and is the value of --initial-cluster for it.
func (j *joiner) announce() string {
	j.t.Helper()
	members := j.members()
	if j.member(j.peerURL()) == nil {
		j.repeat("add", func(ctx context.Context, client *clientv3.Client) error {
			response, err := client.MemberAddAsLearner(ctx, []string{j.peerURL()})
			if err == nil {
				members = response.Members
			}
			return err
		})
	}
	var cluster []string
	for _, member := range members {
		name := member.Name
		if member.PeerURLs[0] == j.peerURL() {
			name = j.name
		} else if name == "" {
			name = strconv.FormatUint(member.ID, 16)
		}
		cluster = append(cluster, name+"="+member.PeerURLs[0])
	}
	return strings.Join(cluster, ",")
}

// promote waits until the learner has a name, and promotes it as soon as that is allowed. It counts
// the refusals, each of which must be that the learner lags behind.
func (j *joiner) promote() (refusals int) {
	j.t.Helper()
	eventually(j.t, j.name+" has a name", func() bool {
		member := j.member(j.peerURL())
		return member != nil && member.Name == j.name && len(member.ClientURLs) > 0
	})
	id := j.member(j.peerURL()).ID
	j.repeat("promote", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.MemberPromote(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberLearnerNotReady) {
			refusals++
			return err
		}
		if err != nil {
			return fmt.Errorf("not what a learner that lags is told: %w", err)
		}
		for _, member := range response.Members {
			if member.ID == id && member.IsLearner {
				return errors.New("it is promoted, and a learner in the list that comes back")
			}
		}
		return nil
	})
	j.endpoints = append(j.endpoints, j.clientURL())
	return refusals
}

// waitHealthy asks all members for their status, where none may have an error.
func (j *joiner) waitHealthy() {
	j.t.Helper()
	for _, endpoint := range j.endpoints {
		j.repeat("status of "+endpoint, func(ctx context.Context, client *clientv3.Client) error {
			status, err := client.Status(ctx, endpoint)
			if err == nil && len(status.Errors) > 0 {
				err = fmt.Errorf("not healthy: %v", status.Errors)
			}
			return err
		})
	}
}

// join is `kubeadm join --control-plane` as far as etcd goes.
func (n *node) join(endpoint string) *joiner {
	n.t.Helper()
	j := newJoiner(n, endpoint)
	j.waitHealthy()
	n.start(n.command(j.announce()))
	j.promote()
	j.waitHealthy()
	return j
}

func TestAControlPlaneGrowsFromOneNodeToThree(t *testing.T) {
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			nodes := growTo(t, r, 3)
			j := newJoiner(nodes[0], nodes[0].clientURL())
			expect(t, "endpoints", len(j.endpoints), 3)
			j.waitHealthy()
			for _, n := range nodes {
				n.waitReady()
				expectServes(t, n)
				for _, path := range r.probes {
					status, body := n.probe(path)
					expect(t, path+" of "+n.name+": "+body, status, 200)
				}
			}
		})
	}
}

// growTo is a control plane of so many nodes, each of which joined by the one before.
func growTo(t *testing.T, r release, size int) []*node {
	t.Helper()
	authority := newPKI(t, r.newKey)
	nodes := []*node{newNode(t, r, authority, 1)}
	nodes[0].up(nodes[0].command(""))
	for number := 2; number <= size; number++ {
		n := newNode(t, r, authority, number)
		n.join(nodes[number-2].clientURL())
		nodes = append(nodes, n)
	}
	return nodes
}

// expectServes has the API server's certificate write, and this node answer alone.
func expectServes(t *testing.T, n *node) {
	t.Helper()
	client := n.connect("apiserver-etcd-client")
	key := ""
	eventually(t, n.name+" takes a write", func() bool {
		// A new one each time: that of a write whose answer was lost may be there.
		key = fmt.Sprintf("/registry/served-by/%s/%d", n.name, time.Now().UnixNano())
		response, err := client.Txn(deadline(t)).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, n.name)).Commit()
		return err == nil && response.Succeeded
	})
	found, err := client.Get(deadline(t), key)
	check(t, err)
	expect(t, "found", string(found.Kvs[0].Value), n.name)
}

func TestAnAddThatIsRepeatedIsToldThatThePeerURLExists(t *testing.T) {
	nodes := growTo(t, newest, 1)
	j := newJoiner(nodes[0], nodes[0].clientURL())
	client := j.client()
	there := "https://127.0.1.9:2380"
	// One voter alone may be given a learner at once.
	added, err := client.MemberAddAsLearner(deadline(t), []string{there})
	check(t, err)
	// The id of a member is made of its URLs and the second in which it is added.
	time.Sleep(1100 * time.Millisecond)
	_, err = client.MemberAddAsLearner(deadline(t), []string{there})
	if !errors.Is(err, rpctypes.ErrPeerURLExist) {
		t.Fatalf("got %v, want %v", err, rpctypes.ErrPeerURLExist)
	}
	expect(t, "name of a member that has not started", added.Member.Name, "")
	expect(t, "the member that comes back is one that is listed", len(added.Members), 2)
	_, err = client.MemberPromote(deadline(t), added.Member.ID)
	if !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) {
		t.Fatalf("got %v, want %v", err, rpctypes.ErrMemberLearnerNotReady)
	}

	removed, err := client.MemberRemove(deadline(t), added.Member.ID)
	check(t, err)
	expect(t, "members", len(removed.Members), 1)
	_, err = client.MemberRemove(deadline(t), added.Member.ID)
	if !errors.Is(err, rpctypes.ErrMemberNotFound) {
		t.Fatalf("got %v, want %v", err, rpctypes.ErrMemberNotFound)
	}
}

// `kubeadm reset` of one node, and its return with an empty directory.
func TestANodeIsResetAndJoinsAgain(t *testing.T) {
	nodes := growTo(t, newest, 3)
	gone := nodes[1]
	j := newJoiner(gone, gone.clientURL())
	id := j.member(gone.peerURL()).ID
	j.repeat("remove", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.MemberRemove(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil
		}
		if err == nil {
			expect(t, "members", len(response.Members), 2)
		}
		return err
	})
	gone.down()
	check(t, removeContents(gone.data))
	newJoiner(nodes[0], nodes[0].clientURL()).waitHealthy()

	gone.join(nodes[2].clientURL())
	gone.waitReady()
	expectServes(t, gone)
	expect(t, "members", len(newJoiner(gone, gone.clientURL()).endpoints), 3)
}

// What is answered must hold: a promoted member votes, and one that was removed is not missed.
func TestTheLeaderMayGoOnceTheThirdMemberIsPromoted(t *testing.T) {
	nodes := growTo(t, newest, 3)
	nodes[0].stop(syscall.SIGKILL)
	expectServes(t, nodes[2])
}

func TestOneOfTwoMayGoOnceItIsRemoved(t *testing.T) {
	nodes := growTo(t, newest, 2)
	j := newJoiner(nodes[0], nodes[0].clientURL())
	id := j.member(nodes[1].peerURL()).ID
	j.repeat("remove", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.MemberRemove(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil
		}
		return err
	})
	nodes[1].stop(syscall.SIGKILL)
	expectServes(t, nodes[0])
}
