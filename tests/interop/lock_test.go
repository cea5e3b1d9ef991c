package interop

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// A stop that waited for a lock would take as long as its lease.
const stopDeadline = 20 * time.Second

// caller is a connection to one member, for the services that clientv3 does not call.
type caller struct {
	lock     lpb.LockClient
	election epb.ElectionClient
	kv       pb.KVClient
	lease    pb.LeaseClient
	hash     pb.MaintenanceClient
	close    func() error
}

func callMember(t *testing.T, m *member) caller {
	t.Helper()
	target := fmt.Sprintf("127.0.0.1:%d", m.client.number)
	c, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return caller{
		lock: lpb.NewLockClient(c), election: epb.NewElectionClient(c), kv: pb.NewKVClient(c),
		lease: pb.NewLeaseClient(c), hash: pb.NewMaintenanceClient(c), close: c.Close,
	}
}

func (c caller) grant(t *testing.T, ctx context.Context) int64 {
	t.Helper()
	granted, err := c.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
	check(t, err)
	return granted.ID
}

func lockRequest(lease int64) *lpb.LockRequest {
	return &lpb.LockRequest{Name: []byte("lock"), Lease: lease}
}

// waitKeys waits until so many callers are in the queue for the lock.
func (c caller) waitKeys(t *testing.T, ctx context.Context, count int64) {
	t.Helper()
	request := &pb.RangeRequest{Key: []byte("lock/"), RangeEnd: []byte("lock0"), CountOnly: true}
	eventually(t, testDeadline, fmt.Sprint(count, " keys"), func() bool {
		found, err := c.kv.Range(ctx, request)
		return err == nil && found.Count == count
	})
}

type locked struct {
	key []byte
	err error
}

func (c caller) beginLock(ctx context.Context, lease int64) <-chan locked {
	done := make(chan locked, 1)
	go func() {
		answer, err := c.lock.Lock(ctx, lockRequest(lease))
		done <- locked{answer.GetKey(), err}
	}()
	return done
}

func TestTheLockServiceLetsOneInAtATime(t *testing.T) {
	const holders, turns = 6, 5
	ctx, c := deadline(t), startCluster(t, 3)
	inside, total := 0, 0
	var everybody sync.WaitGroup
	for at := range holders {
		caller := callMember(t, c.members[at%3])
		lease := caller.grant(t, ctx)
		if at%2 == 0 {
			lease = 0
		}
		everybody.Go(func() {
			for range turns {
				held, err := caller.lock.Lock(ctx, lockRequest(lease))
				if err != nil {
					t.Error(err)
					return
				}
				inside++
				if inside != 1 {
					t.Errorf("%d are inside", inside)
				}
				total++
				inside--
				if _, err := caller.lock.Unlock(ctx, &lpb.UnlockRequest{Key: held.Key}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	everybody.Wait()
	expect(t, "turns", total, holders*turns)
}

// Calls that wait at the members that live on outlive the leader.
func TestAWaitForALockOutlivesTheLeader(t *testing.T) {
	ctx, c := deadline(t), startCluster(t, 3)
	leader := c.leader()
	one, other := callMember(t, c.members[(leader+1)%3]), callMember(t, c.members[(leader+2)%3])
	held, err := one.lock.Lock(ctx, lockRequest(one.grant(t, ctx)))
	check(t, err)
	waiting := other.beginLock(ctx, other.grant(t, ctx))
	other.waitKeys(t, ctx, 2)
	c.kill(leader)
	eventually(t, testDeadline, "the lock is let go", func() bool {
		_, err := one.lock.Unlock(ctx, &lpb.UnlockRequest{Key: held.Key})
		return err == nil
	})
	got := <-waiting
	check(t, got.err)
	found, err := other.kv.Range(ctx, &pb.RangeRequest{Key: got.key, CountOnly: true})
	check(t, err)
	expect(t, "keys of the holder", found.Count, int64(1))
}

// However a client goes away that waits, those behind it do not wait for its lease.
func TestAClientThatGoesAwayLeavesTheQueue(t *testing.T) {
	ctx, c := deadline(t), startCluster(t, 1)
	first := callMember(t, c.members[0])
	held, err := first.lock.Lock(ctx, lockRequest(first.grant(t, ctx)))
	check(t, err)

	canceled, cancel := context.WithCancel(ctx)
	waiting := first.beginLock(canceled, first.grant(t, ctx))
	first.waitKeys(t, ctx, 2)
	cancel()
	expect(t, "code", status.Code((<-waiting).err), codes.Canceled)
	first.waitKeys(t, ctx, 1)

	hurried, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = first.lock.Lock(hurried, lockRequest(first.grant(t, ctx)))
	expect(t, "code", status.Code(err), codes.DeadlineExceeded)
	first.waitKeys(t, ctx, 1)

	gone := callMember(t, c.members[0])
	waiting = gone.beginLock(ctx, first.grant(t, ctx))
	first.waitKeys(t, ctx, 2)
	check(t, gone.close())
	<-waiting
	first.waitKeys(t, ctx, 1)

	candidate := callMember(t, c.members[0])
	campaign := &epb.CampaignRequest{Name: []byte("lock"), Lease: first.grant(t, ctx)}
	go candidate.election.Campaign(ctx, campaign)
	first.waitKeys(t, ctx, 2)
	check(t, candidate.close())
	first.waitKeys(t, ctx, 1)

	_, err = first.lock.Unlock(ctx, &lpb.UnlockRequest{Key: held.Key})
	check(t, err)
	first.waitKeys(t, ctx, 0)
}

// A member that stops does not wait for calls that wait, and their places are free.
func TestAStopEndsTheCallsThatWait(t *testing.T) {
	ctx, c := deadline(t), startCluster(t, 3)
	stopped, other := callMember(t, c.members[0]), callMember(t, c.members[1])
	held, err := other.lock.Lock(ctx, lockRequest(other.grant(t, ctx)))
	check(t, err)
	waiting := stopped.beginLock(ctx, other.grant(t, ctx))
	observer, err := stopped.election.Observe(ctx, &epb.LeaderRequest{Name: []byte("lock")})
	check(t, err)
	_, err = observer.Recv()
	check(t, err)
	other.waitKeys(t, ctx, 2)

	begun := time.Now()
	process := c.members[0].process
	check(t, process.Process.Signal(syscall.SIGTERM))
	expect(t, "code of the lock", status.Code((<-waiting).err), codes.Unavailable)
	_, err = observer.Recv()
	expect(t, "code of the observer", status.Code(err), codes.Unavailable)
	process.Wait()
	c.members[0].process = nil
	if took := time.Since(begun); took > stopDeadline {
		t.Fatalf("the stop took %v", took)
	}
	other.waitKeys(t, ctx, 1)
	_, err = other.lock.Unlock(ctx, &lpb.UnlockRequest{Key: held.Key})
	check(t, err)
}

func TestHashIsOverAllThatAMemberHas(t *testing.T) {
	ctx, c := deadline(t), startCluster(t, 1)
	one := callMember(t, c.members[0])
	hash := func() *pb.HashResponse {
		answer, err := one.hash.Hash(ctx, &pb.HashRequest{})
		check(t, err)
		return answer
	}
	first := hash()
	expect(t, "hash of the same", hash().Hash, first.Hash)
	_, err := one.kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 1<<20)})
	check(t, err)
	second := hash()
	expect(t, "revision", second.Header.Revision, first.Header.Revision+1)
	expect(t, "hash of the same", hash().Hash, second.Hash)
	one.grant(t, ctx)
	third := hash()
	expect(t, "revision", third.Header.Revision, second.Header.Revision)
	if first.Hash == second.Hash || second.Hash == third.Hash {
		t.Fatalf("hashes %v, %v, %v", first.Hash, second.Hash, third.Hash)
	}
	expect(t, "member", third.Header.MemberId != 0, true)
}
