package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// etcdctl runs one command on the endpoints and returns what it prints.
func etcdctl(t *testing.T, endpoints []string, input string, arguments ...string) string {
	t.Helper()
	output, err := command(t, endpoints, input, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output)
}

func command(t *testing.T, endpoints []string, input string, arguments ...string) *exec.Cmd {
	t.Helper()
	binary := os.Getenv("ETCDCTL")
	if binary == "" {
		t.Fatal("ETCDCTL names no etcdctl")
	}
	command := exec.Command(binary, arguments...)
	command.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+strings.Join(endpoints, ","))
	command.Stdin = strings.NewReader(input)
	return command
}

func TestEtcdctlCommands(t *testing.T) {
	c := startCluster(t, 3)
	at := c.endpoints()
	ctl := func(want string, arguments ...string) string {
		t.Helper()
		output := etcdctl(t, at, "", arguments...)
		if !regexp.MustCompile(want).MatchString(output) {
			t.Fatalf("etcdctl %s printed\n%s\nwhich is not %s", strings.Join(arguments, " "), output, want)
		}
		return output
	}
	ctl(`^OK\n$`, "put", "ctl/a", "1")
	ctl(`^OK\n$`, "put", "ctl/b", "2")
	ctl(`^ctl/a\n1\nctl/b\n2\n$`, "get", "--prefix", "ctl/")
	ctl(`^ctl/b\n+$`, "get", "--prefix", "--keys-only", "--limit=1", "--order=DESCEND", "--sort-by=KEY", "ctl/")
	ctl(`"Count" : 2`, "get", "--prefix", "--count-only", "-w", "fields", "ctl/")
	ctl(`^1\n$`, "del", "ctl/b")

	txn := "value(\"ctl/a\") = \"1\"\n\nput ctl/a 3\n\nget ctl/a\n\n"
	if output := etcdctl(t, at, txn, "txn"); !strings.Contains(output, "SUCCESS") {
		t.Fatalf("txn printed\n%s", output)
	}
	if output := etcdctl(t, at, txn, "txn"); !strings.Contains(output, "FAILURE") {
		t.Fatalf("txn printed\n%s", output)
	}

	grant := ctl(`^lease [0-9a-f]+ granted with TTL\(60s\)\n$`, "lease", "grant", "60")
	lease := strings.Fields(grant)[1]
	ctl(`^OK\n$`, "put", "ctl/leased", "1", "--lease="+lease)
	ctl(`keepalived with TTL\(60\)`, "lease", "keep-alive", "--once", lease)
	ctl(`granted with TTL\(60s\), remaining\(\d+s\), attached keys\(\[ctl/leased\]\)`,
		"lease", "timetolive", "--keys", lease)
	ctl(lease, "lease", "list")
	ctl(`revoked`, "lease", "revoke", lease)
	ctl(`^$`, "get", "ctl/leased")

	table := ctl(`ID +. STATUS +. NAME`, "member", "list", "-w", "table")
	expect(t, "members that are started", strings.Count(table, " started "), 3)
	var health []struct{ Health bool }
	check(t, json.Unmarshal([]byte(ctl(`health`, "endpoint", "health", "--cluster", "-w", "json")), &health))
	expect(t, "healthy members", len(health), 3)
	var statuses []struct {
		Status struct {
			Header struct{ Revision int64 }
			Leader uint64
		}
	}
	check(t, json.Unmarshal([]byte(ctl(`Status`, "endpoint", "status", "--cluster", "-w", "json")), &statuses))
	expect(t, "statuses", len(statuses), 3)
	for _, member := range statuses {
		expect(t, "leader", member.Status.Leader, statuses[0].Status.Leader)
	}

	revision := statuses[0].Status.Header.Revision
	ctl(fmt.Sprintf(`^compacted revision %d\n$`, revision), "compaction", fmt.Sprint(revision))
	var hashes []struct{ HashKV struct{ Hash uint32 } }
	hashed := ctl(`HashKV`, "endpoint", "hashkv", "--cluster", "--rev", fmt.Sprint(revision), "-w", "json")
	check(t, json.Unmarshal([]byte(hashed), &hashes))
	expect(t, "hashes", len(hashes), 3)
	for _, member := range hashes {
		expect(t, "hash", member.HashKV.Hash, hashes[0].HashKV.Hash)
	}
	ctl(`inside`, "lock", "ctl/lock", "echo", "inside")
}

func TestEtcdctlWatch(t *testing.T) {
	at := startCluster(t, 1).endpoints()
	etcdctl(t, at, "", "put", "watch/a", "1")
	watch := command(t, at, "", "watch", "--prefix", "--prev-kv", "--rev=1", "watch/")
	output, err := watch.StdoutPipe()
	check(t, err)
	check(t, watch.Start())
	defer func() {
		watch.Process.Kill()
		watch.Wait()
	}()
	lines := make(chan string)
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	next := func(want ...string) {
		t.Helper()
		for _, line := range want {
			select {
			case got := <-lines:
				expect(t, "line", got, line)
			case <-time.After(testDeadline):
				t.Fatalf("no line %q", line)
			}
		}
	}
	next("PUT", "watch/a", "1")
	etcdctl(t, at, "", "put", "watch/a", "2")
	next("PUT", "watch/a", "1", "watch/a", "2")
	etcdctl(t, at, "", "del", "watch/a")
	next("DELETE", "watch/a", "2", "watch/a", "")
}
