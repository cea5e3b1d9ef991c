package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// gone is a URL at which no member is.
const gone = "http://127.0.0.1:1"

// raw is the services of one member, spoken to without what clientv3 makes of their answers.
type raw struct {
	kv          pb.KVClient
	cluster     pb.ClusterClient
	maintenance pb.MaintenanceClient
}

func (c *cluster) raw(t *testing.T, at int) raw {
	t.Helper()
	target := fmt.Sprintf("127.0.0.1:%d", c.members[at].client.number)
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(target, plain)
	check(t, err)
	t.Cleanup(func() { connection.Close() })
	return raw{
		kv: pb.NewKVClient(connection), cluster: pb.NewClusterClient(connection),
		maintenance: pb.NewMaintenanceClient(connection),
	}
}

func refusedAs(t *testing.T, got, want error) {
	t.Helper()
	expect(t, "the answer", said(got), said(want))
}

// asUnknown is how etcd sends an error that it has not given a status.
func asUnknown(want error) error {
	return status.Error(codes.Unknown, status.Convert(want).Message())
}

func (c *cluster) signal(at int, signal syscall.Signal) {
	c.t.Helper()
	check(c.t, c.members[at].process.Process.Signal(signal))
}

// The list of tests/golden/etcd_errors.txt, which says where each error is provoked, is etcd's own.
func TestTheListOfErrorsIsComplete(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(moduleDir(t, "go.etcd.io/etcd/api/v3"),
		"v3rpc/rpctypes/error.go"))
	check(t, err)
	declared := regexp.MustCompile(`(ErrGRPC\w+)\s*= status\.Error\(codes\.(\w+), "([^"]+)"\)`)
	listed, err := os.ReadFile("../golden/etcd_errors.txt")
	check(t, err)
	var ours []string
	for _, line := range strings.Split(string(listed), "\n") {
		if strings.HasPrefix(line, "ErrGRPC") {
			ours = append(ours, line)
		}
	}
	found := declared.FindAllStringSubmatch(string(source), -1)
	expect(t, "errors", len(ours), len(found))
	for at, of := range found {
		expect(t, "error", ours[at], of[1]+" "+of[2]+": "+of[3])
	}
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	output, err := goList("-m", "-f", "{{.Dir}}", module)
	check(t, err)
	return strings.TrimSpace(output)
}

func TestErrorsOfMembership(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx, c := deadline(t), startClusterOf(t, binary, 3)
		leader := c.leader()
		at := c.raw(t, leader)
		add := func(learner bool, urls ...string) error {
			_, err := at.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: learner})
			return err
		}
		for _, bad := range [][]string{nil, {""}, {"nonsense"}, {"http://127.0.0.1"}, {gone, "x"}} {
			refusedAs(t, add(false, bad...), rpctypes.ErrGRPCMemberBadURLs)
		}
		_, err := at.cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 1, PeerURLs: []string{gone}})
		refusedAs(t, err, rpctypes.ErrGRPCMemberNotFound)
		_, err = at.cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 1})
		refusedAs(t, err, rpctypes.ErrGRPCMemberNotFound)
		_, err = at.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 1})
		refusedAs(t, err, rpctypes.ErrGRPCMemberNotFound)
		status, err := at.maintenance.Status(ctx, &pb.StatusRequest{})
		check(t, err)
		_, err = at.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: status.Header.MemberId})
		refusedAs(t, err, rpctypes.ErrGRPCMemberNotLearner)

		eventually(t, testDeadline, "the cluster counts as healthy", func() bool {
			err = add(true, gone)
			return said(err) != said(rpctypes.ErrGRPCUnhealthy)
		})
		check(t, err)
		refusedAs(t, add(true, "http://127.0.0.1:2"), rpctypes.ErrGRPCTooManyLearners)
		// Before that second is over the ids would be the same, too, and are looked at first.
		time.Sleep(1100 * time.Millisecond)
		refusedAs(t, add(false, gone), rpctypes.ErrGRPCPeerURLExist)
		members, err := at.cluster.MemberList(ctx, &pb.MemberListRequest{})
		check(t, err)
		for _, member := range members.Members {
			if member.IsLearner {
				_, err = at.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: member.ID})
				refusedAs(t, err, rpctypes.ErrGRPCLearnerNotReady)
			}
		}

		_, err = at.maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1})
		refusedAs(t, err, rpctypes.ErrGRPCBadLeaderTransferee)
		follower := c.raw(t, (leader+1)%3)
		_, err = follower.maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: status.Leader})
		refusedAs(t, err, rpctypes.ErrGRPCNotLeader)
	})
}

func TestMembersThatAreNotStartedForbidMore(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx, c := deadline(t), startClusterOf(t, binary, 1)
		at := c.raw(t, 0)
		_, err := at.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{gone}})
		check(t, err)
		more := &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:2"}}
		_, err = at.cluster.MemberAdd(ctx, more)
		refusedAs(t, err, asUnknown(rpctypes.ErrGRPCMemberNotEnoughStarted))
	})
}

func TestErrorsOfDowngradesAndSizes(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx, c := deadline(t), startClusterOf(t, binary, 1)
		at := c.raw(t, 0)
		downgrade := func(action pb.DowngradeRequest_DowngradeAction, version string) error {
			request := &pb.DowngradeRequest{Action: action, Version: version}
			_, err := at.maintenance.Downgrade(ctx, request)
			return err
		}
		validate, enable := pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE
		refusedAs(t, downgrade(validate, "v3.6"), rpctypes.ErrGRPCWrongDowngradeVersionFormat)
		refusedAs(t, downgrade(validate, "3.4"), rpctypes.ErrGRPCInvalidDowngradeTargetVersion)
		cancel := pb.DowngradeRequest_CANCEL
		// Though there is a text for it, to cancel nothing is no fault.
		check(t, downgrade(cancel, ""))
		check(t, downgrade(enable, "3.6"))
		refusedAs(t, downgrade(enable, "3.6"), rpctypes.ErrGRPCDowngradeInProcess)
		check(t, downgrade(cancel, ""))

		large := &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1536*1024+1)}
		_, err := at.kv.Put(ctx, large)
		refusedAs(t, err, rpctypes.ErrGRPCRequestTooLarge)
	})
}

// A put that was on its way to a leader that fell silent: nobody knows whether it was done.
func TestAPutWhoseLeaderFallsSilentIsOfUnknownOutcome(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx, c := deadline(t), startClusterOf(t, binary, 3)
		leader := c.leader()
		at := c.raw(t, (leader+1)%3)
		_, err := at.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
		check(t, err)
		c.signal(leader, syscall.SIGSTOP)
		_, err = at.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
		// Ours knows that the leader is gone. etcd gives up when its time is over, and what it says
		// then depends on when the next leader was elected and on its connection to that one.
		outcomes := []error{rpctypes.ErrGRPCTimeoutDueToLeaderFail, rpctypes.ErrGRPCTimeoutDueToConnectionLost}
		if binary == os.Getenv("ETCD") {
			// It may also have elected the next leader soon enough to do it.
			outcomes = append(outcomes, rpctypes.ErrGRPCTimeout, nil)
		}
		if !slices.ContainsFunc(outcomes, func(outcome error) bool { return said(outcome) == said(err) }) {
			refusedAs(t, err, outcomes[0])
		}
	})
}

// A linearizable read that waits when somebody else begins to lead.
func TestAReadAcrossAChangeOfLeader(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx, c := deadline(t), startClusterOf(t, binary, 3)
		leader := c.leader()
		at := c.raw(t, (leader+1)%3)
		_, err := at.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
		check(t, err)
		c.signal(leader, syscall.SIGSTOP)
		_, err = at.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		// Ours asks the new leader by itself.
		if err != nil {
			refusedAs(t, err, rpctypes.ErrGRPCLeaderChanged)
		}
	})
}
