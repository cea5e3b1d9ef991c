package interop

import (
	"path/filepath"
	"strings"
	"testing"
)

// Users, roles and permissions go from an etcd to ours and back, by way of a killed etcd's log, which
// has the newest of them, and of a snapshot; all of them can come in and do what they could before.
func TestUsersMoveAlong(t *testing.T) {
	first := startEtcd(t)
	at := first.endpoints()
	plain := func(arguments ...string) { etcdctl(t, at, "", arguments...) }
	plain("user", "add", "root:r")
	plain("user", "grant-role", "root", "root")
	plain("user", "add", "reader:secret")
	plain("user", "add", "named", "--no-password")
	plain("role", "add", "readers")
	plain("role", "grant-permission", "readers", "read", "a", "c")
	plain("role", "grant-permission", "readers", "readwrite", "own/", "--prefix")
	plain("user", "grant-role", "reader", "readers")
	plain("put", "b", "1")
	plain("auth", "enable")
	root := func(arguments ...string) { plain(append(arguments, "--user", "root:r")...) }
	root("user", "add", "gone:x")
	root("user", "delete", "gone")
	etcdctl(t, at, "other\n", "user", "passwd", "reader", "--interactive=false", "--user", "root:r")
	root("role", "add", "late")
	root("role", "grant-permission", "late", "write", "z")
	root("role", "revoke-permission", "late", "z")
	root("user", "grant-role", "named", "late")
	// What etcd refuses stands in its log, too.
	refused(t, at, "permission denied", "put", "b", "2", "--user", "reader:other")
	plain("put", "own/1", "1", "--user", "reader:other")
	before := users(t, at)

	first.kill(0)
	left := argument(first.members[0], "--data-dir")
	ours := restored(t, orrery(t), orrery(t), []string{"snapshot", "restore", left})
	expect(t, "users in ours", users(t, ours.endpoints()), before)
	expectRights(t, ours.endpoints())

	saved := filepath.Join(t.TempDir(), "orrery.db")
	etcdctl(t, ours.endpoints(), "", "snapshot", "save", saved, "--user", "root:r")
	last := restored(t, etcdutl(t), etcd(t), []string{"snapshot", "restore", saved})
	expect(t, "users in etcd again", users(t, last.endpoints()), before)
	expectRights(t, last.endpoints())
}

// users tells all that etcdctl tells of them.
func users(t *testing.T, endpoints []string) string {
	t.Helper()
	var told []string
	ask := func(arguments ...string) string {
		answer := etcdctl(t, endpoints, "", append(arguments, "--user", "root:r")...)
		told = append(told, answer)
		return answer
	}
	ask("auth", "status")
	for name := range strings.FieldsSeq(ask("user", "list")) {
		ask("user", "get", name)
	}
	for name := range strings.FieldsSeq(ask("role", "list")) {
		ask("role", "get", name)
	}
	return strings.Join(told, "\n")
}

func expectRights(t *testing.T, at []string) {
	t.Helper()
	expect(t, "b", etcdctl(t, at, "", "get", "b", "--user", "reader:other"), "b\n1\n")
	etcdctl(t, at, "", "put", "own/2", "2", "--user", "reader:other")
	refused(t, at, "permission denied", "put", "b", "2", "--user", "reader:other")
	refused(t, at, "authentication failed", "get", "b", "--user", "reader:secret")
	refused(t, at, "authentication failed", "get", "b", "--user", "gone:x")
	refused(t, at, "authentication failed", "get", "b", "--user", "named:any")
	refused(t, at, "user name is empty", "get", "b")
}

func refused(t *testing.T, endpoints []string, words string, arguments ...string) {
	t.Helper()
	output, err := command(t, endpoints, "", arguments...).CombinedOutput()
	if err == nil || !strings.Contains(string(output), words) {
		t.Fatalf("etcdctl %s: %v %s", strings.Join(arguments, " "), err, output)
	}
}
