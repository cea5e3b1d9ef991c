package kubeadm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	writers = 4
	// Bytes of an object: the upper end of a pod's.
	objectBytes = 10 << 10
	// Objects of each writer, written over and over.
	objects = 500
)

// traffic is a control plane that writes, and a record of all that came of it.
type traffic struct {
	t      *testing.T
	client *clientv3.Client
	// The newest revision that a writer was told of.
	acknowledged atomic.Int64
	stop         context.CancelFunc
	running      sync.WaitGroup
	mutex        sync.Mutex
	events       []*clientv3.Event
}

func startTraffic(n *node) *traffic {
	n.t.Helper()
	w := &traffic{t: n.t, client: n.connect("apiserver-etcd-client")}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	watched := w.client.Watch(context.Background(), "/registry/", clientv3.WithPrefix(), clientv3.WithRev(1))
	go func() {
		for response := range watched {
			w.mutex.Lock()
			w.events = append(w.events, response.Events...)
			w.mutex.Unlock()
		}
	}()
	for writer := range writers {
		w.running.Add(1)
		go w.write(ctx, writer)
	}
	w.running.Add(1)
	go w.compact(ctx)
	n.t.Cleanup(cancel)
	return w
}

func (w *traffic) write(ctx context.Context, writer int) {
	defer w.running.Done()
	random := rand.New(rand.NewPCG(uint64(writer), 1))
	value := make([]byte, objectBytes)
	for number := 0; ctx.Err() == nil; number++ {
		key := fmt.Sprintf("/registry/pods/%d-%d", writer, random.IntN(objects))
		for at := range value {
			value[at] = byte('a' + random.IntN(26))
		}
		operation := clientv3.OpPut(key, strconv.Itoa(number)+string(value))
		if number%10 == 9 {
			operation = clientv3.OpDelete(key)
		}
		response, err := w.client.Txn(ctx).Then(operation).Commit()
		if err != nil {
			continue
		}
		for at := response.Header.Revision; ; {
			known := w.acknowledged.Load()
			if known >= at || w.acknowledged.CompareAndSwap(known, at) {
				break
			}
		}
	}
}

// compact has the history dropped all the time, and the files rewritten.
func (w *traffic) compact(ctx context.Context) {
	defer w.running.Done()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		if at := w.acknowledged.Load() - 1000; at > 0 {
			w.client.Compact(ctx, at)
			w.client.Defragment(ctx, w.client.Endpoints()[0])
		}
	}
}

func (w *traffic) end() {
	w.stop()
	w.running.Wait()
	w.t.Helper()
	eventually(w.t, "all writes are watched", func() bool {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		return len(w.events) > 0 && w.events[len(w.events)-1].Kv.ModRevision >= w.acknowledged.Load()
	})
}

// at is every key with its value after that revision.
func (w *traffic) at(revision int64) map[string]string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	state := map[string]string{}
	for _, event := range w.events {
		if event.Kv.ModRevision > revision {
			break
		}
		if event.Type == clientv3.EventTypeDelete {
			delete(state, string(event.Kv.Key))
		} else {
			state[string(event.Kv.Key)] = string(event.Kv.Value)
		}
	}
	return state
}

// backup is how kubeadm copies /var/lib/etcd before an upgrade. Files may go while it runs: then
// cp says so, kubeadm ends before it has changed anything, and is run again.
type backup struct {
	data string
	// What was acknowledged when it began and when it had ended.
	began, ended int64
}

func (w *traffic) copyOf(n *node, to string) (backup, bool) {
	w.t.Helper()
	b := backup{data: to, began: w.acknowledged.Load()}
	output, err := exec.Command("cp", "-r", n.data, to).CombinedOutput()
	b.ended = w.acknowledged.Load()
	if err != nil {
		w.t.Logf("cp: %v: %s", err, output)
		check(w.t, os.RemoveAll(to))
	}
	return b, err == nil
}

func TestACopyOfTheLiveDirectoryStarts(t *testing.T) {
	copies := 4
	if given, err := strconv.Atoi(os.Getenv("ORRERY_COPIES")); err == nil {
		copies = given
	}
	n := growTo(t, newest, 1)[0]
	w := startTraffic(n)
	home, broken := t.TempDir(), 0
	var backups []backup
	for len(backups) < copies {
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
		b, whole := w.copyOf(n, filepath.Join(home, fmt.Sprintf("copy-%d", len(backups))))
		if whole {
			backups = append(backups, b)
		} else {
			broken++
		}
	}
	w.end()
	n.down()
	t.Logf("%d copies; %d more ended because a file went; %d writes", copies, broken, w.acknowledged.Load())
	live, earlier := n.data, 0
	for _, b := range backups {
		n.data = b.data
		n.up(n.command(""))
		if strings.Contains(n.logged(), "state lacks files") {
			earlier++
		}
		expectAsOf(t, n, w, b)
		expectServes(t, n)
		n.down()
	}
	t.Logf("%d copies had a list of files from later than the files", earlier)
	n.data = live
	n.up(n.command(""))
	expectServes(t, n)
}

// expectAsOf has the member hold exactly what was there after one write, no earlier than what was
// acknowledged when the copy began.
func expectAsOf(t *testing.T, n *node, w *traffic, b backup) {
	t.Helper()
	client := n.connect("apiserver-etcd-client")
	found := map[string]string{}
	response, err := client.Get(deadline(t), "/registry/", clientv3.WithPrefix())
	check(t, err)
	revision := response.Header.Revision
	for _, kv := range response.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	expected := w.at(revision)
	for key, value := range expected {
		if found[key] != value {
			t.Fatalf("at revision %d: %s is %.20q, not %.20q", revision, key, found[key], value)
		}
	}
	expect(t, "keys", len(found), len(expected))
	t.Logf("revision %d, copied from %d to %d", revision, b.began, b.ended)
	if revision < b.began {
		t.Fatalf("the copy began at revision %d, and has come to %d", b.began, revision)
	}
}

// The upgrade goes wrong: the new pod ran, its data is put aside for the copy, the old one starts.
func TestAnUpgradeIsRolledBack(t *testing.T) {
	n := growTo(t, releases[0], 1)[0]
	w := startTraffic(n)
	eventually(t, "there is something to copy", func() bool { return w.acknowledged.Load() > 2000 })
	b, whole := w.copyOf(n, filepath.Join(t.TempDir(), "etcd"))
	expect(t, "copied", whole, true)
	w.end()
	n.down()
	n.release = newest
	n.up(n.command(""))
	newJoiner(n, n.clientURL()).waitHealthy()
	expectServes(t, n)
	n.down()

	// What kubeadm does by itself lays the copy into the directory, beside what is there.
	run(t, "cp", "-r", b.data, filepath.Join(n.data, "kubeadm-backup-etcd"))
	n.release = releases[0]
	n.up(n.command(""))
	expectServes(t, n)
	n.down()

	check(t, removeContents(n.data))
	run(t, "cp", "-r", b.data+"/.", n.data)
	n.up(n.command(""))
	expectAsOf(t, n, w, b)
	expectServes(t, n)
}

// The cluster is dead, and is put back from the copy of one member. Those of several members are from
// different moments, and what one has acknowledged the next may not have: the others join anew.
func TestAClusterIsPutBackFromOneCopy(t *testing.T) {
	nodes := growTo(t, newest, 3)
	w := startTraffic(nodes[1])
	eventually(t, "there is something to copy", func() bool { return w.acknowledged.Load() > 1000 })
	// One that does not lead knows of what was acknowledged a moment later than the leader.
	b, whole := w.copyOf(nodes[1], filepath.Join(t.TempDir(), "etcd"))
	expect(t, "copied", whole, true)
	w.end()
	for _, n := range nodes {
		n.down()
		check(t, removeContents(n.data))
	}
	first := nodes[1]
	run(t, "cp", "-r", b.data+"/.", first.data)
	first.up(append(first.command(""), "--force-new-cluster"))
	first.down()
	first.up(first.command(""))
	b.began = 0
	expectAsOf(t, first, w, b)
	for _, n := range []*node{nodes[0], nodes[2]} {
		n.join(first.clientURL())
		n.waitReady()
	}
	expectSame(t, nodes)
	for _, n := range nodes {
		expectServes(t, n)
	}
}

// expectSame has all members hold the same, once they have come as far.
func expectSame(t *testing.T, nodes []*node) {
	t.Helper()
	client := nodes[0].connect("etcd/healthcheck-client")
	said := ""
	t.Cleanup(func() { t.Log(said) })
	eventually(t, "all have the same hash", func() bool {
		hashes := map[uint32]bool{}
		said = ""
		for _, n := range nodes {
			hash, err := client.HashKV(deadline(t), n.clientURL(), 0)
			if err != nil {
				said += fmt.Sprintf("%s: %v; ", n.name, err)
				return false
			}
			said += fmt.Sprintf("%s: %d at %d, compacted %d; ", n.name, hash.Hash, hash.HashRevision, hash.CompactRevision)
			hashes[hash.Hash] = true
		}
		return len(hashes) == 1
	})
}
