package interop

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Requests of one history that both servers are asked.
const historyRequests = 3000

// Each of them waits for two disks.
const historyDeadline = 5 * time.Minute

// How deep transactions are nested.
const txnDepth = 3

// server is one of the two, spoken to without a client that retries or hides anything.
type server struct {
	kv          pb.KVClient
	lease       pb.LeaseClient
	watch       pb.WatchClient
	maintenance pb.MaintenanceClient
}

func connectTo(t *testing.T, m *member) server {
	t.Helper()
	target := fmt.Sprintf("127.0.0.1:%d", m.client.number)
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { connection.Close() })
	return server{
		kv: pb.NewKVClient(connection), lease: pb.NewLeaseClient(connection),
		watch: pb.NewWatchClient(connection), maintenance: pb.NewMaintenanceClient(connection),
	}
}

func (s server) ask(ctx context.Context, request proto.Message) (proto.Message, error) {
	switch request := request.(type) {
	case *pb.RangeRequest:
		return s.kv.Range(ctx, request)
	case *pb.PutRequest:
		return s.kv.Put(ctx, request)
	case *pb.DeleteRangeRequest:
		return s.kv.DeleteRange(ctx, request)
	case *pb.TxnRequest:
		return s.kv.Txn(ctx, request)
	case *pb.CompactionRequest:
		return s.kv.Compact(ctx, request)
	case *pb.LeaseGrantRequest:
		return s.lease.LeaseGrant(ctx, request)
	case *pb.LeaseRevokeRequest:
		return s.lease.LeaseRevoke(ctx, request)
	case *pb.LeaseTimeToLiveRequest:
		return s.lease.LeaseTimeToLive(ctx, request)
	case *pb.LeaseLeasesRequest:
		return s.lease.LeaseLeases(ctx, request)
	case *pb.HashKVRequest:
		return s.maintenance.HashKV(ctx, request)
	}
	panic(fmt.Sprintf("no way to ask %T", request))
}

// Every answer of ours is etcd's: each field of it, the revisions in its headers, code and text of
// each error, HashKV at every revision, and every event.
func TestAnswersAreEtcds(t *testing.T) {
	compare(t, startCluster(t, 1).members[0])
}

// A follower hands writes on, and answers all the same as if it led.
func TestAnswersOfAFollowerAreEtcds(t *testing.T) {
	c := startCluster(t, 3)
	compare(t, c.members[(c.leader()+1)%3])
}

func compare(t *testing.T, m *member) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		check(t, err)
	}
	t.Logf("SEED=%d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), historyDeadline)
	t.Cleanup(cancel)
	ours, etcds := connectTo(t, m), connectTo(t, startEtcd(t).members[0])
	ourEvents, etcdsEvents := ours.follow(t, ctx, 0), etcds.follow(t, ctx, 0)
	h := history{random: rand.New(rand.NewPCG(seed, 0)), revision: 1}
	for at := range historyRequests {
		request := h.next()
		our, err := ours.ask(ctx, request)
		ourShown := shown(request, our, err)
		etcd, err := etcds.ask(ctx, request)
		if etcdShown := shown(request, etcd, err); ourShown != etcdShown {
			t.Fatalf("request %d, at revision %d, compacted at %d: %T %s\nours: %s\netcd: %s",
				at, h.revision, h.floor, request, prototext.Format(request), ourShown, etcdShown)
		}
		if err == nil {
			h.learn(request, etcd)
		}
	}

	last := &pb.PutRequest{Key: []byte("end")}
	for _, server := range []server{ours, etcds} {
		_, err := server.ask(ctx, last)
		check(t, err)
	}
	expectSameEvents(t, "all along", ourEvents("end"), etcdsEvents("end"))
	for _, start := range []int64{h.floor, h.floor + 1, (h.floor + h.revision) / 2, h.revision} {
		expectSameEvents(t, fmt.Sprintf("from %d of %d", start, h.revision),
			ours.follow(t, ctx, start)("end"), etcds.follow(t, ctx, start)("end"))
	}
}

func startEtcd(t *testing.T) *cluster {
	t.Helper()
	binary := os.Getenv("ETCD")
	if binary == "" {
		t.Skip("ETCD names no etcd to compare with")
	}
	return startClusterOf(t, binary, 1)
}

// history makes up requests, most of which make sense where the history stands.
type history struct {
	random          *rand.Rand
	revision, floor int64
}

func (h *history) learn(request, answer proto.Message) {
	if answer, ok := answer.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		h.revision = max(h.revision, answer.GetHeader().GetRevision())
	}
	if request, ok := request.(*pb.CompactionRequest); ok {
		h.floor = request.Revision
	}
}

func (h *history) next() proto.Message {
	switch roll := h.random.IntN(100); {
	case roll < 25:
		return h.put()
	case roll < 35:
		return h.deletion()
	case roll < 60:
		return h.txn(txnDepth, h.chance(2))
	case roll < 80:
		return h.reading()
	case roll < 84:
		return &pb.LeaseGrantRequest{ID: 1 + h.leaseID(), TTL: 1000}
	case roll < 87:
		return &pb.LeaseRevokeRequest{ID: h.leaseID()}
	case roll < 89:
		return &pb.LeaseTimeToLiveRequest{ID: h.leaseID(), Keys: h.chance(2)}
	case roll < 90:
		return &pb.LeaseLeasesRequest{}
	case roll < 93:
		// Not too often, so that there is some history, and now and then what was compacted already.
		floor := h.floor + h.random.Int64N((h.revision-h.floor)/2+3) - 1
		if floor == 0 {
			// etcd calls the store compacted then, though nothing can be; ours does not.
			floor = 1
		}
		return &pb.CompactionRequest{Revision: floor, Physical: h.chance(2)}
	default:
		// At the floor and below, etcd answers with hashes that it remembers from compactions.
		revision := h.floor + 1 + h.random.Int64N(h.revision-h.floor+1)
		return &pb.HashKVRequest{Revision: revision}
	}
}

func (h *history) chance(oneIn int) bool { return h.random.IntN(oneIn) == 0 }

func (h *history) pick(of ...string) []byte { return []byte(of[h.random.IntN(len(of))]) }

func (h *history) key() []byte {
	if h.chance(100) {
		return nil
	}
	return h.pick("a", "a\x00", "ab", "b", "b/1", "b/2", "b/3", "c", "\x00", "\xff", "\xff\xff", "é")
}

func (h *history) end() []byte {
	if h.chance(2) {
		return nil
	}
	return h.pick("\x00", "a", "ac", "b0", "b/3", "c", "z", "\xff\xff\xff")
}

func (h *history) leaseID() int64 { return h.random.Int64N(7) }

func (h *history) anyRevision() int64 {
	if h.chance(2) {
		return 0
	}
	return h.random.Int64N(h.revision+4) - 1
}

func (h *history) put() *pb.PutRequest {
	put := &pb.PutRequest{
		Key: h.key(), Value: h.pick("", "1", "2", "\x00\xff"), PrevKv: h.chance(3),
		IgnoreValue: h.chance(12), IgnoreLease: h.chance(12),
	}
	if put.IgnoreValue && !h.chance(5) {
		put.Value = nil
	}
	if h.chance(3) {
		put.Lease = h.leaseID()
	}
	return put
}

func (h *history) deletion() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: h.key(), RangeEnd: h.end(), PrevKv: h.chance(2)}
}

func (h *history) reading() *pb.RangeRequest {
	read := &pb.RangeRequest{
		Key: h.key(), RangeEnd: h.end(), Revision: h.anyRevision(), Serializable: h.chance(2),
		KeysOnly: h.chance(6), CountOnly: h.chance(8),
	}
	if h.chance(3) {
		read.SortOrder = pb.RangeRequest_SortOrder(h.random.IntN(4))
		read.SortTarget = pb.RangeRequest_SortTarget(h.random.IntN(5))
	}
	// Which of equal ones are cut off is nobody's promise.
	if read.SortTarget == pb.RangeRequest_KEY && h.chance(3) {
		read.Limit = h.random.Int64N(5) - 1
	}
	for _, bound := range []*int64{
		&read.MinModRevision, &read.MaxModRevision, &read.MinCreateRevision, &read.MaxCreateRevision,
	} {
		if h.chance(10) {
			*bound = h.anyRevision()
		}
	}
	return read
}

// txn makes up a transaction of which nested ones either put or delete: etcd overlooks a put in one
// that another one deletes, which ours refuses.
func (h *history) txn(depth int, nestedPut bool) *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	for range h.random.IntN(3) {
		txn.Compare = append(txn.Compare, h.compare())
	}
	for range h.random.IntN(4) {
		txn.Success = append(txn.Success, h.operation(depth, nestedPut))
	}
	for range h.random.IntN(3) {
		txn.Failure = append(txn.Failure, h.operation(depth, nestedPut))
	}
	return txn
}

func (h *history) compare() *pb.Compare {
	compare := &pb.Compare{
		Key: h.key(), Result: pb.Compare_CompareResult(h.random.IntN(4)),
	}
	if h.chance(3) {
		compare.RangeEnd = h.end()
	}
	switch compare.Target = pb.Compare_CompareTarget(h.random.IntN(5)); compare.Target {
	case pb.Compare_VERSION:
		compare.TargetUnion = &pb.Compare_Version{Version: h.random.Int64N(4)}
	case pb.Compare_CREATE:
		compare.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: h.anyRevision()}
	case pb.Compare_MOD:
		compare.TargetUnion = &pb.Compare_ModRevision{ModRevision: h.anyRevision()}
	case pb.Compare_VALUE:
		compare.TargetUnion = &pb.Compare_Value{Value: h.pick("", "1", "2", "3")}
	case pb.Compare_LEASE:
		compare.TargetUnion = &pb.Compare_Lease{Lease: h.leaseID()}
	}
	if h.chance(30) {
		compare.TargetUnion = nil
	}
	return compare
}

func (h *history) operation(depth int, nestedPut bool) *pb.RequestOp {
	roll, nested := h.random.IntN(20), depth < txnDepth
	switch {
	case roll < 8 && (!nested || nestedPut):
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: h.put()}}
	case roll < 11 && (!nested || !nestedPut):
		deletion := h.deletion()
		if string(deletion.RangeEnd) == "\x00" {
			// Beside such a deletion, too, etcd overlooks puts.
			deletion.RangeEnd = []byte("\xff\xff\xff")
		}
		return &pb.RequestOp{
			Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: deletion},
		}
	case roll < 17 || depth == 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: h.reading()}}
	case h.chance(20):
		return &pb.RequestOp{}
	default:
		nested := h.txn(depth-1, nestedPut)
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: nested}}
	}
}

// shown is an answer without what may differ: who answered, and how fast time passed.
func shown(request, answer proto.Message, err error) string {
	if err != nil {
		return status.Convert(err).String()
	}
	if answer, ok := answer.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		if header := answer.GetHeader(); header != nil {
			header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
		}
	}
	switch answer := answer.(type) {
	case *pb.RangeResponse:
		settleTies(request.(*pb.RangeRequest), answer)
	case *pb.TxnResponse:
		settleTiesWithin(request.(*pb.TxnRequest), answer)
	case *pb.LeaseTimeToLiveResponse:
		answer.TTL = min(answer.TTL, 1)
		slices.SortFunc(answer.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(answer.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	}
	return string(must(proto.MarshalOptions{Deterministic: true}.Marshal(answer))) + prototext.Format(answer)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// settleTies orders keys that sort alike by name, because etcd's sort is not stable.
func settleTies(request *pb.RangeRequest, response *pb.RangeResponse) {
	slices.SortStableFunc(response.Kvs, func(a, b *mvccpb.KeyValue) int {
		ties := map[pb.RangeRequest_SortTarget]bool{
			pb.RangeRequest_VERSION: a.Version == b.Version,
			pb.RangeRequest_CREATE:  a.CreateRevision == b.CreateRevision,
			pb.RangeRequest_MOD:     a.ModRevision == b.ModRevision,
			pb.RangeRequest_VALUE:   string(a.Value) == string(b.Value),
		}
		if ties[request.SortTarget] {
			return cmp.Compare(string(a.Key), string(b.Key))
		}
		return 0
	})
}

func settleTiesWithin(request *pb.TxnRequest, response *pb.TxnResponse) {
	operations := request.Failure
	if response.Succeeded {
		operations = request.Success
	}
	for at, operation := range operations {
		switch operation := operation.Request.(type) {
		case *pb.RequestOp_RequestRange:
			settleTies(operation.RequestRange, response.Responses[at].GetResponseRange())
		case *pb.RequestOp_RequestTxn:
			settleTiesWithin(operation.RequestTxn, response.Responses[at].GetResponseTxn())
		}
	}
}

// follow watches everything from a revision on. What it returns waits for the event of a key and
// gives all events up to it.
func (s server) follow(t *testing.T, ctx context.Context, start int64) func(last string) []string {
	t.Helper()
	stream, err := s.watch.Watch(ctx)
	check(t, err)
	create := &pb.WatchCreateRequest{
		Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: start, PrevKv: true,
	}
	check(t, stream.Send(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create},
	}))
	created, err := stream.Recv()
	check(t, err)
	expect(t, "created", created.Created && !created.Canceled, true)
	return func(last string) []string {
		var events []string
		for {
			response, err := stream.Recv()
			check(t, err)
			if response.Canceled {
				t.Fatalf("the watch from %d was canceled: %v", start, response)
			}
			for _, event := range response.Events {
				events = append(events, string(must(proto.Marshal(event)))+prototext.Format(event))
				if string(event.Kv.Key) == last {
					return events
				}
			}
		}
	}
}

func expectSameEvents(t *testing.T, what string, ours, etcds []string) {
	t.Helper()
	for at := range max(len(ours), len(etcds)) {
		if at >= len(ours) || at >= len(etcds) || ours[at] != etcds[at] {
			t.Fatalf("watching %s, event %d of %d and %d:\nours: %s\netcd: %s", what, at, len(ours),
				len(etcds), ours[min(at, len(ours)-1)], etcds[min(at, len(etcds)-1)])
		}
	}
}
