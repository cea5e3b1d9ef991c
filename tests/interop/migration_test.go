package interop

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Requests of the history that is carried from one server to the other.
const migrationRequests = 1200

// The key whose event ends the comparison of watches.
const lastKey = "end of history"

// Everything that an etcd holds goes to ours and back: all revisions, HashKV at each, leases and
// watches.
func TestRoundTrip(t *testing.T) {
	first := startEtcd(t)
	h := populate(t, connectTo(t, first.members[0]), 1)
	dir := t.TempDir()

	saved := filepath.Join(dir, "etcd.db")
	etcdctl(t, first.endpoints(), "", "snapshot", "save", saved)
	ours := restored(t, orrery(t), orrery(t), []string{"snapshot", "restore", saved})
	expectSameStore(t, h, connectTo(t, ours.members[0]), connectTo(t, first.members[0]))

	again, byUs := filepath.Join(dir, "orrery.db"), filepath.Join(dir, "by-us.db")
	etcdctl(t, ours.endpoints(), "", "snapshot", "save", again)
	run(t, orrery(t), "snapshot", "save", byUs, "--endpoints", ours.endpoints()[0])
	expectSameAnswers(t, again)
	last := restored(t, etcdutl(t), etcd(t), []string{"snapshot", "restore", again})
	expectSameStore(t, h, connectTo(t, last.members[0]), connectTo(t, first.members[0]))
	expectSameWrites(t, connectTo(t, ours.members[0]), connectTo(t, last.members[0]))
}

// What a killed etcd leaves behind is taken over, the newest writes from its log, and not touched.
func TestDataDirectoryLeftBehind(t *testing.T) {
	first := startEtcd(t)
	h := populate(t, connectTo(t, first.members[0]), 2)
	first.kill(0)
	left := argument(first.members[0], "--data-dir")
	before := contents(t, left)
	ours := restored(t, orrery(t), orrery(t), []string{"snapshot", "restore", left})
	expect(t, "what etcd left behind", contents(t, left), before)
	first.start(0)
	first.waitReady(0)
	expectSameStore(t, h, connectTo(t, ours.members[0]), connectTo(t, first.members[0]))

	if output, err := exec.Command(orrery(t), "snapshot", "restore", left, "--data-dir",
		filepath.Join(t.TempDir(), "new")).CombinedOutput(); err == nil ||
		!strings.Contains(string(output), "in use by another process") {
		t.Fatalf("a directory in use was taken: %s", output)
	}
}

// A raised revision is what etcdutl makes of it, to the hash.
func TestRestoreWithARaisedRevision(t *testing.T) {
	first := startEtcd(t)
	h := populate(t, connectTo(t, first.members[0]), 3)
	saved := filepath.Join(t.TempDir(), "etcd.db")
	etcdctl(t, first.endpoints(), "", "snapshot", "save", saved)
	restore := []string{"snapshot", "restore", saved, "--bump-revision=1000000", "--mark-compacted"}
	ours := connectTo(t, restored(t, orrery(t), orrery(t), restore).members[0])
	etcds := connectTo(t, restored(t, etcdutl(t), etcd(t), restore).members[0])
	h.floor, h.revision = h.revision+1000000, h.revision+1000000
	expectSameStore(t, h, ours, etcds)
	expectSameWrites(t, ours, etcds)
	for _, server := range []server{ours, etcds} {
		_, err := server.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Revision: h.floor - 1})
		if err == nil || !strings.Contains(err.Error(), "has been compacted") {
			t.Fatalf("a revision from before the restore: %v", err)
		}
	}
}

// Three members start from one snapshot; a fourth that joins without one is sent everything.
func TestRestoredClusterGrows(t *testing.T) {
	first := startEtcd(t)
	h := populate(t, connectTo(t, first.members[0]), 4)
	saved := filepath.Join(t.TempDir(), "etcd.db")
	etcdctl(t, first.endpoints(), "", "snapshot", "save", saved)
	c := prepareCluster(t, orrery(t), 3)
	for _, m := range c.members {
		run(t, orrery(t), append([]string{"snapshot", "restore", saved}, founding(m)...)...)
	}
	startAll(c)
	for _, m := range c.members {
		expectSameStore(t, h, connectTo(t, m), connectTo(t, first.members[0]))
	}

	home := t.TempDir()
	fourth := &member{client: reservePort(t), peer: reservePort(t), log: filepath.Join(home, "log")}
	// Members that have just met are no healthy cluster yet.
	eventually(t, testDeadline, "a member can be added", func() bool {
		add := command(t, c.endpoints(), "", "member", "add", "m3", "--peer-urls="+fourth.peer.url())
		return add.Run() == nil
	})
	everybody := argument(c.members[0], "--initial-cluster") + ",m3=" + fourth.peer.url()
	fourth.arguments = []string{
		"--name", "m3", "--data-dir", filepath.Join(home, "data"),
		"--listen-client-urls", fourth.client.url(), "--advertise-client-urls", fourth.client.url(),
		"--listen-peer-urls", fourth.peer.url(), "--initial-advertise-peer-urls", fourth.peer.url(),
		"--initial-cluster", everybody, "--initial-cluster-state", "existing",
		"--initial-cluster-token", argument(c.members[0], "--initial-cluster-token"),
	}
	c.members = append(c.members, fourth)
	c.start(3)
	c.waitReady(3)
	expectSameStore(t, h, connectTo(t, fourth), connectTo(t, first.members[0]))
}

// Called by its name, ours answers as etcdutl does, on the same file.
func expectSameAnswers(t *testing.T, file string) {
	t.Helper()
	byName := filepath.Join(t.TempDir(), "etcdutl")
	check(t, os.Symlink(orrery(t), byName))
	saved, copied := must(os.ReadFile(file)), filepath.Join(t.TempDir(), "copy.db")
	file = copied
	for _, command := range [][]string{
		{"snapshot", "status", file}, {"snapshot", "status", file, "-w", "json"},
		{"snapshot", "status", file, "-w", "table"}, {"snapshot", "status", file, "-w", "fields"},
		{"snapshot", "status", file, "-w", "protobuf"}, {"snapshot", "status", file, "-w", "xml"},
		{"hashkv", file, "-w", "json"}, {"hashkv", file, "--rev", "1000000000"},
		{"hashkv", file, "-w", "table"}, {"hashkv", file},
		{"snapshot", "status"}, {"snapshot", "restore"}, {"snapshot", "restore", file, "--mark-compacted"},
		{"snapshot", "status", "/no/such/file"}, {"snapshot", "status", os.Args[0]},
	} {
		outputs, statuses := [2]string{}, [2]int{}
		for at, binary := range []string{byName, etcdutl(t)} {
			// etcdutl's hashkv changes the file.
			check(t, os.WriteFile(copied, saved, 0o600))
			process := exec.Command(binary, command...)
			output, _ := process.CombinedOutput()
			outputs[at], statuses[at] = string(output), process.ProcessState.ExitCode()
		}
		if outputs[0] != outputs[1] || statuses[0] != statuses[1] {
			t.Errorf("etcdutl %s\nours (%d):\n%s\netcd's (%d):\n%s", strings.Join(command, " "),
				statuses[0], outputs[0], statuses[1], outputs[1])
		}
	}
}

// populate gives a server a history, and leases, and says where it ends.
func populate(t *testing.T, s server, stream uint64) history {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("SEED"); given != "" {
		seed = must(strconv.ParseUint(given, 10, 64))
	}
	t.Logf("SEED=%d", seed)
	h := history{random: rand.New(rand.NewPCG(seed, stream)), revision: 1}
	for range migrationRequests {
		request := h.next()
		if answer, err := s.ask(t.Context(), request); err == nil {
			h.learn(request, answer)
		}
	}
	large := strings.Repeat("v", 100_000)
	for _, put := range []*pb.PutRequest{
		{Key: []byte("large"), Value: []byte(large)}, {Key: []byte(lastKey)},
	} {
		h.learn(put, must(s.ask(t.Context(), put)))
	}
	return h
}

// expectSameStore compares everything from the floor on.
func expectSameStore(t *testing.T, h history, ours, etcds server) {
	t.Helper()
	requests := []proto.Message{
		&pb.LeaseLeasesRequest{},
		&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}},
		&pb.HashKVRequest{},
	}
	for id := range int64(8) {
		requests = append(requests, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	}
	for revision := max(h.floor, 1) + 1; revision <= h.revision; revision++ {
		requests = append(requests, &pb.HashKVRequest{Revision: revision},
			&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
	}
	for _, request := range requests {
		our, err := ours.ask(t.Context(), request)
		ourShown := shown(request, our, err)
		etcd, err := etcds.ask(t.Context(), request)
		if etcdShown := shown(request, etcd, err); ourShown != etcdShown {
			t.Fatalf("at revision %d, compacted at %d: %T %s\nours: %s\netcd: %s", h.revision, h.floor,
				request, prototext.Format(request), ourShown, etcdShown)
		}
	}
	if h.floor == h.revision {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	for _, start := range []int64{max(h.floor, 1), (h.floor + h.revision) / 2} {
		expectSameEvents(t, fmt.Sprintf("from %d of %d", start, h.revision),
			ours.follow(t, ctx, start)(lastKey), etcds.follow(t, ctx, start)(lastKey))
	}
}

// expectSameWrites goes on writing in both: what was restored can be changed as before.
func expectSameWrites(t *testing.T, ours, etcds server) {
	t.Helper()
	for _, request := range []proto.Message{
		&pb.PutRequest{Key: []byte("a"), Value: []byte("new"), PrevKv: true},
		&pb.DeleteRangeRequest{Key: []byte("b"), RangeEnd: []byte("c"), PrevKv: true},
		&pb.LeaseRevokeRequest{ID: 3},
		&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}},
		&pb.HashKVRequest{},
	} {
		our, err := ours.ask(t.Context(), request)
		ourShown := shown(request, our, err)
		etcd, err := etcds.ask(t.Context(), request)
		if etcdShown := shown(request, etcd, err); ourShown != etcdShown {
			t.Fatalf("%T %s\nours: %s\netcd: %s", request, prototext.Format(request), ourShown, etcdShown)
		}
	}
}

// restored starts a single member from what a tool restores.
func restored(t *testing.T, tool, server string, command []string) *cluster {
	t.Helper()
	c := prepareCluster(t, server, 1)
	run(t, tool, append(command, founding(c.members[0])...)...)
	startAll(c)
	return c
}

// founding is what the tools must know of a member, in its own words.
func founding(m *member) []string {
	var flags []string
	for _, flag := range []string{
		"--name", "--data-dir", "--initial-cluster", "--initial-cluster-token",
		"--initial-advertise-peer-urls",
	} {
		flags = append(flags, flag, argument(m, flag))
	}
	return flags
}

func argument(m *member, flag string) string {
	for at, argument := range m.arguments {
		if argument == flag {
			return m.arguments[at+1]
		}
	}
	panic(flag)
}

func run(t *testing.T, binary string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(binary, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", binary, strings.Join(arguments, " "), err, output)
	}
	return string(output)
}

func orrery(t *testing.T) string { return binaryOf(t, "ORRERY_BIN") }

func etcd(t *testing.T) string { return binaryOf(t, "ETCD") }

// The tool is built beside its server.
func etcdutl(t *testing.T) string { return filepath.Join(filepath.Dir(etcd(t)), "etcdutl") }

func binaryOf(t *testing.T, variable string) string {
	t.Helper()
	binary := os.Getenv(variable)
	if binary == "" {
		t.Skipf("%s names no binary", variable)
	}
	return binary
}

// contents is a digest of every file below a directory, with its name.
func contents(t *testing.T, dir string) string {
	t.Helper()
	digests := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		bytes, err := os.ReadFile(path)
		digests[path] = fmt.Sprintf("%x", sha256.Sum256(bytes))
		return err
	}))
	return string(must(json.Marshal(digests)))
}
