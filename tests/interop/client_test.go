package interop

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func TestKeysAreWrittenReadAndDeleted(t *testing.T) {
	ctx, client := deadline(t), newClient(t, oneMember(t)...)
	first, err := client.Put(ctx, "kv/a", "1")
	check(t, err)
	second, err := client.Put(ctx, "kv/a", "2", clientv3.WithPrevKV())
	check(t, err)
	expect(t, "revision", second.Header.Revision, first.Header.Revision+1)
	expect(t, "previous value", string(second.PrevKv.Value), "1")
	_, err = client.Put(ctx, "kv/b", "3")
	check(t, err)

	all, err := client.Get(ctx, "kv/", clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	check(t, err)
	expect(t, "count", all.Count, int64(2))
	expect(t, "first key", string(all.Kvs[0].Key), "kv/b")
	expect(t, "version of the other", all.Kvs[1].Version, int64(2))
	old, err := client.Get(ctx, "kv/a", clientv3.WithRev(first.Header.Revision))
	check(t, err)
	expect(t, "old value", string(old.Kvs[0].Value), "1")
	own, err := client.Get(ctx, "kv/a", clientv3.WithSerializable())
	check(t, err)
	expect(t, "value", string(own.Kvs[0].Value), "2")

	deleted, err := client.Delete(ctx, "kv/", clientv3.WithPrefix())
	check(t, err)
	expect(t, "deleted", deleted.Deleted, int64(2))
	_, err = client.Compact(ctx, deleted.Header.Revision)
	check(t, err)
	_, err = client.Get(ctx, "kv/a", clientv3.WithRev(first.Header.Revision))
	expect(t, "a compacted read", err, rpctypes.ErrCompacted)
	_, err = client.Get(ctx, "kv/a", clientv3.WithRev(deleted.Header.Revision+1000))
	expect(t, "a read of the future", err, rpctypes.ErrFutureRev)
	_, err = client.Put(ctx, "", "x")
	expect(t, "a put without a key", err, rpctypes.ErrEmptyKey)
}

func TestTransactionsCompareAndBranch(t *testing.T) {
	ctx, client := deadline(t), newClient(t, oneMember(t)...)
	create := func(value string) *clientv3.TxnResponse {
		reply, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision("txn/a"), "=", 0)).
			Then(clientv3.OpPut("txn/a", value)).
			Else(clientv3.OpGet("txn/a")).Commit()
		check(t, err)
		return reply
	}
	expect(t, "created", create("1").Succeeded, true)
	again := create("2")
	expect(t, "created again", again.Succeeded, false)
	found := again.Responses[0].GetResponseRange().Kvs[0]
	expect(t, "value", string(found.Value), "1")

	swap, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision("txn/a"), "=", found.ModRevision),
			clientv3.Compare(clientv3.Value("txn/a"), "<", "2"),
			clientv3.Compare(clientv3.Version("txn/a"), ">", 0)).
		Then(clientv3.OpPut("txn/a", "3"), clientv3.OpPut("txn/b", "4"),
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("txn/none")}, nil)).Commit()
	check(t, err)
	expect(t, "swapped", swap.Succeeded, true)
	both, err := client.Get(ctx, "txn/", clientv3.WithPrefix())
	check(t, err)
	for _, kv := range both.Kvs {
		expect(t, "one revision for "+string(kv.Key), kv.ModRevision, swap.Header.Revision)
	}
	_, err = client.Txn(ctx).Then(clientv3.OpPut("txn/a", ""), clientv3.OpPut("txn/a", "")).Commit()
	expect(t, "a key put twice", err, rpctypes.ErrDuplicateKey)
}

func TestMutexLetsOneInAtATime(t *testing.T) {
	const holders, turns = 4, 5
	ctx, c := deadline(t), startCluster(t, 3)
	inside, total := 0, 0
	var everybody sync.WaitGroup
	for at := range holders {
		client := newClient(t, c.endpoints()[at%3])
		everybody.Go(func() {
			session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
			if err != nil {
				t.Error(err)
				return
			}
			defer session.Close()
			mutex := concurrency.NewMutex(session, "mutex")
			for range turns {
				if err := mutex.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				// The race detector would complain too, and the count would be wrong.
				inside++
				if inside != 1 {
					t.Errorf("%d are inside", inside)
				}
				total++
				inside--
				if err := mutex.Unlock(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	everybody.Wait()
	expect(t, "turns", total, holders*turns)
}

func TestElectionPassesOnWhenTheLeaderResigns(t *testing.T) {
	ctx, c := deadline(t), startCluster(t, 3)
	campaign := func(name, endpoint string) *concurrency.Election {
		session, err := concurrency.NewSession(newClient(t, endpoint), concurrency.WithTTL(10))
		check(t, err)
		election := concurrency.NewElection(session, "election")
		check(t, election.Campaign(ctx, name))
		return election
	}
	first := campaign("first", c.endpoints()[0])
	observed := first.Observe(ctx)
	expect(t, "observed", string((<-observed).Kvs[0].Value), "first")
	won := make(chan *concurrency.Election)
	go func() { won <- campaign("second", c.endpoints()[1]) }()
	check(t, first.Proclaim(ctx, "first again"))
	expect(t, "observed", string((<-observed).Kvs[0].Value), "first again")
	check(t, first.Resign(ctx))
	second := <-won
	expect(t, "observed", string((<-observed).Kvs[0].Value), "second")
	leader, err := second.Leader(ctx)
	check(t, err)
	expect(t, "leader", string(leader.Kvs[0].Value), "second")
}

func TestSoftwareTransactionsAddUp(t *testing.T) {
	const clients, additions = 4, 20
	ctx, c := deadline(t), startCluster(t, 3)
	var everybody sync.WaitGroup
	for at := range clients {
		client := newClient(t, c.endpoints()[at%3])
		everybody.Go(func() {
			for range additions {
				_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
					for _, key := range []string{"stm/a", "stm/b"} {
						value, _ := strconv.Atoi(stm.Get(key))
						stm.Put(key, strconv.Itoa(value+1))
					}
					return nil
				}, concurrency.WithAbortContext(ctx))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	everybody.Wait()
	both, err := newClient(t, c.endpoints()...).Get(ctx, "stm/", clientv3.WithPrefix())
	check(t, err)
	expect(t, "keys", len(both.Kvs), 2)
	for _, kv := range both.Kvs {
		expect(t, string(kv.Key), string(kv.Value), strconv.Itoa(clients*additions))
	}
}

// The client must move on by itself, and the application sees each event once, in order.
func TestWatchResumesWhenItsMemberDies(t *testing.T) {
	const writes, kills = 600, 3
	ctx, c := deadline(t), startCluster(t, 3)
	// One endpoint first: the watch is then known to be on member 0.
	watcher := newClient(t, c.endpoints()[0])
	events := watcher.Watch(clientv3.WithRequireLeader(ctx), "watch/", clientv3.WithPrefix())
	_, err := watcher.Get(ctx, "watch/")
	check(t, err)
	watcher.SetEndpoints(c.endpoints()...)

	written := make(chan int64, writes)
	go func() {
		defer close(written)
		writer := newClient(t, c.endpoints()[1:]...)
		for at := range writes {
			for ctx.Err() == nil {
				reply, err := writer.Put(ctx, fmt.Sprintf("watch/%04d", at), "")
				if err == nil {
					written <- reply.Header.Revision
					break
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()

	var last int64
	seen, killed := make(map[string]bool), 0
	for len(seen) < writes {
		response, open := <-events
		if !open || response.Err() != nil {
			// Without a leader the watch is cancelled, as asked; the application opens it again.
			events = watcher.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(last+1))
			continue
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision <= last {
				t.Fatalf("revision %d after %d", event.Kv.ModRevision, last)
			}
			last = event.Kv.ModRevision
			seen[string(event.Kv.Key)] = true
		}
		if killed < kills && len(seen) > (killed+1)*writes/(kills+1) {
			c.kill(0)
			c.start(0)
			killed++
		}
	}
	expect(t, "kills", killed, kills)
	for revision := range written {
		if revision > last {
			t.Fatalf("the watch missed revision %d, its last is %d", revision, last)
		}
	}
}

func TestLeaseIsKeptAliveAcrossALeaderChange(t *testing.T) {
	const ttl = 5
	ctx, c := deadline(t), startCluster(t, 3)
	leader := c.leader()
	client := newClient(t, c.endpoints()...)
	kept, err := client.Grant(ctx, ttl)
	check(t, err)
	left, err := client.Grant(ctx, ttl)
	check(t, err)
	_, err = client.Put(ctx, "lease/kept", "", clientv3.WithLease(kept.ID))
	check(t, err)
	_, err = client.Put(ctx, "lease/left", "", clientv3.WithLease(left.ID))
	check(t, err)
	answers, err := client.KeepAlive(ctx, kept.ID)
	check(t, err)
	expect(t, "granted", (<-answers).TTL, int64(ttl))

	c.kill(leader)
	killed := time.Now()
	for time.Since(killed) < 3*ttl*time.Second {
		select {
		case answer, open := <-answers:
			if !open {
				t.Fatal("the lease was lost")
			}
			expect(t, "renewed", answer.TTL, int64(ttl))
		case <-time.After(2 * ttl * time.Second):
			t.Fatal("no renewal")
		}
	}
	found, err := client.Get(ctx, "lease/kept")
	check(t, err)
	expect(t, "keys of the lease that was kept", len(found.Kvs), 1)
	eventually(t, 4*ttl*time.Second, "the other lease runs out", func() bool {
		found, err := client.Get(ctx, "lease/left")
		return err == nil && len(found.Kvs) == 0
	})
	_, err = client.Revoke(ctx, kept.ID)
	check(t, err)
	_, err = client.Revoke(ctx, kept.ID)
	expect(t, "revoked again", err, rpctypes.ErrLeaseNotFound)
}
