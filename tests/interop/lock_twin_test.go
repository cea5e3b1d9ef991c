package interop

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// What two servers are asked alike, one after the other; each is a chapter of one history.
var chapters = []struct {
	about string
	tell  func(*teller)
}{
	{"a lock is held, held again and let go", func(s *teller) {
		s.grant(7, 1000)
		s.lock("m", 7)
		s.lock("m", 7)
		s.keys("m/")
		s.lock("m/x", 7)
		s.lock("", 7)
		s.lock("\x00\xff", 7)
		s.unlock("m/7")
		s.unlock("m/7")
		s.unlock("no/lock")
		s.unlock("")
		// Its key is behind m/ as well, and so are those of m/x.
		s.unlock("m/x/7")
		s.lock("m", 7)
		s.revoke(7)
		s.keys("")
	}},
	{"a lock without a lease gets a session", func(s *teller) {
		s.lock("own", 0)
		s.lock("", 0)
		s.keys("")
		s.leases()
		s.unlock("/" + s.chosen[1])
		s.unlock("own/" + s.chosen[0])
		for _, lease := range s.chosen {
			s.revokeHex(lease)
		}
	}},
	{"a lock with a lease that is not there", func(s *teller) {
		s.lock("m", 99)
		s.lock("m", -1)
		s.lock("m", -9223372036854775808)
		s.keys("")
		// What is called by the lease counts, whoever made it.
		s.put("m/63", "by hand", 0)
		s.put("m/-1", "by hand", 0)
		s.lock("m", 99)
		s.unlock("m/63")
		s.lock("m", -1)
		s.unlock("m/-1")
	}},
	{"a name that is too long", func(s *teller) {
		s.grant(7, 1000)
		s.lock(strings.Repeat("x", 1<<20), 7)
		s.campaign(strings.Repeat("x", 1<<20), "", 7)
		s.campaign("e", strings.Repeat("x", 1<<20+1<<19), 7)
		s.revoke(7)
	}},
	{"a lock goes from one to the next", func(s *teller) {
		s.grantAll(1, 2, 3, 4)
		s.lock("m", 1)
		second := s.beginLock("m", 2)
		third := s.beginLock("m", 3)
		fourth := s.beginLock("m", 4)
		s.unlock("m/1")
		second.finish()
		s.revoke(2)
		third.finish()
		// One that holds it and asks again does not wait behind those who wait.
		s.lock("m", 3)
		s.compact()
		s.unlock("m/3")
		fourth.finish()
		s.unlock("m/4")
		s.revokeAll(1, 3, 4)
	}},
	{"one in the middle goes, and the order stays", func(s *teller) {
		s.grantAll(1, 2, 3)
		s.lock("m", 1)
		second := s.beginLock("m", 2)
		third := s.beginLock("m", 3)
		second.cancel()
		s.without("m/2")
		s.keys("m/")
		s.unlock("m/1")
		third.finish()
		s.revokeAll(1, 2, 3)
	}},
	{"a lease that is revoked while its owner waits", func(s *teller) {
		s.grantAll(1, 2, 3)
		s.lock("m", 1)
		second := s.beginLock("m", 2)
		third := s.beginLock("m", 3)
		s.revoke(2)
		s.unlock("m/1")
		second.finish()
		third.finish()
		s.revokeAll(1, 3)
	}},
	{"a lease that expires while its owner waits", func(s *teller) {
		s.grantAll(1)
		s.grant(2, 2)
		s.lock("m", 1)
		second := s.beginLock("m", 2)
		s.without("m/2")
		s.keys("m/")
		s.unlock("m/1")
		second.finish()
		s.revokeAll(1)
	}},
	{"a lease that expires while its owner holds the lock", func(s *teller) {
		s.grant(1, 2)
		s.grantAll(2)
		s.lock("m", 1)
		second := s.beginLock("m", 2)
		second.finish()
		s.revokeAll(2)
	}},
	{"a waiting call is made twice with one lease", func(s *teller) {
		s.grantAll(1, 2)
		s.lock("m", 1)
		one := s.beginLock("m", 2)
		other := s.beginLock("m", 2)
		s.unlock("m/1")
		one.finish()
		other.finish()
		s.revokeAll(1, 2)
	}},
	{"keys under the name that nobody's lease made", func(s *teller) {
		s.grantAll(1)
		s.put("m/elder", "", 0)
		first := s.beginLock("m", 1)
		s.put("m/elder", "changed", 0)
		s.put("m/younger", "", 0)
		first.pending()
		s.delete("m/elder")
		first.finish()
		s.delete("m/younger")
		s.revokeAll(1)
	}},
	{"a waiting owner's key is deleted and made again", func(s *teller) {
		s.grantAll(1, 2)
		s.lock("m", 1)
		second := s.beginLock("m", 2)
		s.delete("m/2")
		s.put("m/2", "again", 2)
		s.unlock("m/1")
		second.finish()
		s.keys("m/")
		s.revokeAll(1, 2)
	}},
	{"an election is won, proclaimed and resigned", func(s *teller) {
		s.grant(7, 1000)
		s.leader("e")
		won := s.campaign("e", "one", 7)
		s.leader("e")
		s.proclaim(won, "two")
		s.leader("e")
		s.campaign("e", "two", 7)
		s.campaign("e", "three", 7)
		s.leader("e")
		s.proclaim(won, "")
		s.leader("e")
		s.resign(won)
		s.resign(won)
		s.proclaim(won, "late")
		s.leader("e")
		s.revoke(7)
	}},
	{"leaders that make no sense", func(s *teller) {
		s.proclaim(nil, "x")
		s.resign(nil)
		s.leader("")
		s.grant(7, 1000)
		won := s.campaign("e", "one", 7)
		for _, leader := range []*epb.LeaderKey{
			{},
			{Lease: 7},
			{Name: []byte("e"), Key: won.Key, Rev: won.Rev - 1, Lease: 7},
			{Name: []byte("other"), Key: won.Key, Rev: won.Rev, Lease: 7},
			{Name: []byte("e"), Key: won.Key, Rev: won.Rev, Lease: 99},
			{Name: []byte("e"), Key: won.Key, Rev: won.Rev, Lease: -7},
			{Name: []byte("e"), Key: won.Key, Rev: won.Rev},
			// No key, and none expected.
			{Name: []byte("e"), Key: []byte("e/none"), Lease: 7},
		} {
			s.proclaim(leader, "x")
			s.keys("e/")
			s.resign(leader)
			s.keys("e/")
			won = s.campaign("e", "one", 7)
		}
		s.revoke(7)
		s.campaign("e", "x", 99)
		s.campaign("e", "x", -1)
		s.leader("e")
		s.revokeOthers()
	}},
	{"a leader without a lease of its own", func(s *teller) {
		s.campaign("own", "x", 0)
		s.leader("own")
		s.leases()
		s.revokeOthers()
		s.leader("own")
	}},
	{"an election goes from one to the next", func(s *teller) {
		s.grantAll(1, 2, 3, 4)
		first := s.campaign("e", "1", 1)
		second := s.beginCampaign("e", "2", 2)
		third := s.beginCampaign("e", "3", 3)
		fourth := s.beginCampaign("e", "4", 4)
		s.leader("e")
		s.compact()
		s.resign(first)
		second.finish()
		s.leader("e")
		third.cancel()
		s.without("e/3")
		s.revoke(2)
		fourth.finish()
		s.leader("e")
		s.revokeAll(1, 3, 4)
		s.leader("e")
	}},
	{"a candidate whose lease ends while it waits", func(s *teller) {
		s.grantAll(1, 2)
		first := s.campaign("e", "1", 1)
		second := s.beginCampaign("e", "2", 2)
		s.revoke(2)
		second.pending()
		s.resign(first)
		second.finish()
		s.leader("e")
		s.revokeAll(1)
	}},
	{"a candidate that changes its mind while it waits", func(s *teller) {
		s.grantAll(1, 2)
		first := s.campaign("e", "1", 1)
		second := s.beginCampaign("e", "2", 2)
		again := s.beginCampaign("e", "two", 2)
		s.resign(first)
		second.finish()
		again.finish()
		s.leader("e")
		s.revokeAll(1, 2)
	}},
	{"an observer sees leaders come, proclaim and go", func(s *teller) {
		s.grantAll(1, 2, 3)
		early := s.observe("e")
		first := s.campaign("e", "1", 1)
		early.next()
		late := s.observe("e")
		late.next()
		s.proclaim(first, "one")
		early.next()
		late.next()
		second := s.beginCampaign("e", "2", 2)
		s.resign(first)
		second.finish()
		early.next()
		late.next()
		s.revoke(2)
		early.silent()
		s.put("other", "", 0)
		s.put("e/by hand", "x", 0)
		early.next()
		late.next()
		s.compact()
		s.put("e/by hand", "y", 0)
		early.next()
		late.next()
		s.delete("e/by hand")
		s.campaign("e", "3", 3)
		early.next()
		late.next()
		early.end()
		late.end()
		s.revokeAll(1, 3)
	}},
	{"an observer sees several changes of one transaction", func(s *teller) {
		s.grantAll(1)
		observer := s.observe("e")
		observer.silent()
		s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{put("e/b", "b"), put("e/a", "a")}})
		observer.next()
		s.delete("e/b")
		observer.next()
		s.delete("e/a")
		observer.end()
		s.revokeAll(1)
	}},
}

// Every answer of Lock and Election is etcd's: each field, the revisions in headers, code and text of
// each error, and what is left in the store.
func TestLocksAndElectionsAreEtcds(t *testing.T) {
	tell(t, startCluster(t, 1).members[0])
}

func TestLocksAndElectionsOfAFollowerAreEtcds(t *testing.T) {
	c := startCluster(t, 3)
	tell(t, c.members[(c.leader()+1)%3])
}

func tell(t *testing.T, m *member) {
	ours, etcds := newTeller(t, m), newTeller(t, startEtcd(t).members[0])
	for _, chapter := range chapters {
		both := make(chan struct{})
		go func() {
			defer close(both)
			etcds.begin(chapter.tell)
		}()
		ours.begin(chapter.tell)
		<-both
		for at := range max(len(ours.lines), len(etcds.lines)) {
			ourLine, etcdLine := line(ours, at), line(etcds, at)
			if ourLine != etcdLine {
				t.Fatalf("%s: line %d\nours: %s\netcd: %s", chapter.about, at+1, ourLine, etcdLine)
			}
		}
		if ours.failed != nil || etcds.failed != nil || ours.ctx.Err() != nil {
			t.Fatalf("%s: ours: %v, etcd: %v", chapter.about, ours.failed, etcds.failed)
		}
		t.Logf("%s\n%s", chapter.about, strings.Join(ours.lines, "\n"))
	}
}

func line(s *teller, at int) string {
	if at < len(s.lines) {
		return s.lines[at]
	}
	return "nothing"
}

// teller asks one server and writes down what it is told.
type teller struct {
	ctx      context.Context
	lock_    lpb.LockClient
	election epb.ElectionClient
	server   server
	lines    []string
	// What ended the chapter early.
	failed any
	// Leases that the server made in this chapter, in the words of its keys.
	chosen   []string
	revision int64
}

func newTeller(t *testing.T, m *member) *teller {
	t.Helper()
	target := fmt.Sprintf("127.0.0.1:%d", m.client.number)
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { connection.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	t.Cleanup(cancel)
	return &teller{
		ctx: ctx, lock_: lpb.NewLockClient(connection), election: epb.NewElectionClient(connection),
		server: connectTo(t, m),
	}
}

func (s *teller) begin(chapter func(*teller)) {
	s.lines, s.chosen, s.failed = nil, nil, nil
	defer func() { s.failed = recover() }()
	chapter(s)
}

// write takes down an answer, with the leases that the server chose by their numbers.
func (s *teller) write(what string, answer proto.Message, err error) {
	if err != nil {
		s.note(what + ": " + status.Convert(err).String())
		return
	}
	if answer, ok := answer.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		if header := answer.GetHeader(); header != nil {
			header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
			s.revision = max(s.revision, header.Revision)
		}
	}
	s.note(what + ": " + prototext.MarshalOptions{}.Format(answer))
}

func (s *teller) note(text string) {
	for at, lease := range s.chosen {
		number := fmt.Sprintf("chosen-%d", at)
		text = strings.ReplaceAll(text, lease, number)
		var id int64
		fmt.Sscanf(lease, "%x", &id)
		text = strings.ReplaceAll(text, fmt.Sprint(id), number)
	}
	text = anyLease.ReplaceAllString(text, "lease:chosen")
	s.lines = append(s.lines, spaces.ReplaceAllString(text, " "))
}

var (
	// The format puts in spaces at random.
	spaces = regexp.MustCompile(` +`)
	// A lease that the server made and did not tell.
	anyLease = regexp.MustCompile(`lease:\d{5,}`)
)

// learn finds out what lease the server chose.
func (s *teller) learn(asked int64, key []byte) {
	if asked == 0 && len(key) > 0 {
		s.chosen = append(s.chosen, string(key[strings.LastIndexByte(string(key), '/')+1:]))
	}
}

func (s *teller) ask(what string, request proto.Message) proto.Message {
	answer, err := s.server.ask(s.ctx, request)
	s.write(what, answer, err)
	return answer
}

func (s *teller) lock(name string, lease int64) {
	answer, err := s.lock_.Lock(s.ctx, &lpb.LockRequest{Name: []byte(name), Lease: lease})
	s.learn(lease, answer.GetKey())
	s.write(fmt.Sprintf("lock %.9q %d", name, lease), answer, err)
}

func (s *teller) unlock(key string) {
	answer, err := s.lock_.Unlock(s.ctx, &lpb.UnlockRequest{Key: []byte(key)})
	s.write("unlock "+key, answer, err)
}

func (s *teller) campaign(name, value string, lease int64) *epb.LeaderKey {
	answer, err := s.election.Campaign(s.ctx,
		&epb.CampaignRequest{Name: []byte(name), Value: []byte(value), Lease: lease})
	s.learn(lease, answer.GetLeader().GetKey())
	s.write(fmt.Sprintf("campaign %.9q %.9q %d", name, value, lease), answer, err)
	return answer.GetLeader()
}

func (s *teller) proclaim(leader *epb.LeaderKey, value string) {
	request := &epb.ProclaimRequest{Leader: leader, Value: []byte(value)}
	answer, err := s.election.Proclaim(s.ctx, request)
	s.write("proclaim "+value, answer, err)
}

func (s *teller) resign(leader *epb.LeaderKey) {
	answer, err := s.election.Resign(s.ctx, &epb.ResignRequest{Leader: leader})
	s.write("resign", answer, err)
}

func (s *teller) leader(name string) {
	answer, err := s.election.Leader(s.ctx, &epb.LeaderRequest{Name: []byte(name)})
	s.write("leader "+name, answer, err)
}

func (s *teller) grant(id, ttl int64) {
	s.ask(fmt.Sprint("grant ", id), &pb.LeaseGrantRequest{ID: id, TTL: ttl})
}

func (s *teller) grantAll(ids ...int64) {
	for _, id := range ids {
		s.grant(id, 1000)
	}
}

func (s *teller) revoke(id int64) {
	s.ask("revoke", &pb.LeaseRevokeRequest{ID: id})
}

func (s *teller) revokeHex(lease string) {
	var id int64
	fmt.Sscanf(lease, "%x", &id)
	s.revoke(id)
}

func (s *teller) revokeAll(ids ...int64) {
	for _, id := range ids {
		s.revoke(id)
	}
}

// revokeOthers revokes all leases and says how many there were.
func (s *teller) revokeOthers() {
	leases := must(s.server.lease.LeaseLeases(s.ctx, &pb.LeaseLeasesRequest{})).Leases
	s.note(fmt.Sprint(len(leases), " leases"))
	for _, lease := range leases {
		must(s.server.lease.LeaseRevoke(s.ctx, &pb.LeaseRevokeRequest{ID: lease.ID}))
	}
}

func (s *teller) leases() {
	leases := must(s.server.lease.LeaseLeases(s.ctx, &pb.LeaseLeasesRequest{})).Leases
	s.note(fmt.Sprint(len(leases), " leases"))
	for _, lease := range s.chosen {
		var id int64
		fmt.Sscanf(lease, "%x", &id)
		answer := must(s.server.lease.LeaseTimeToLive(s.ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}))
		answer.TTL = 0
		s.write("lease", answer, nil)
	}
}

func (s *teller) keys(prefix string) {
	end := []byte(prefix)
	if prefix == "" {
		prefix, end = "\x00", []byte{0}
	} else {
		end[len(end)-1]++
	}
	s.ask("keys", &pb.RangeRequest{Key: []byte(prefix), RangeEnd: end})
}

func (s *teller) put(key, value string, lease int64) {
	s.ask("put", &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
}

func (s *teller) delete(key string) {
	s.ask("delete", &pb.DeleteRangeRequest{Key: []byte(key)})
}

func (s *teller) txn(txn *pb.TxnRequest) { s.ask("txn", txn) }

func put(key, value string) *pb.RequestOp {
	put := &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
}

// compact leaves nothing but the present.
func (s *teller) compact() {
	s.ask("compact", &pb.CompactionRequest{Revision: s.revision, Physical: true})
}

func (s *teller) count(key string) int64 {
	answer := must(s.server.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte(key), CountOnly: true}))
	return answer.Count
}

// without waits until a key is gone.
func (s *teller) without(key string) {
	for s.count(key) > 0 {
		time.Sleep(poll)
	}
	s.note("without " + key)
}

// How long a call is watched that should go on waiting, and is likely to have come where it waits.
const patience = 200 * time.Millisecond

// call is one under way.
type call struct {
	s      *teller
	what   string
	cancel func()
	ended  chan struct{}
	answer proto.Message
	err    error
}

func (s *teller) start(what string, ask func(context.Context) (proto.Message, error)) *call {
	ctx, cancel := context.WithCancel(s.ctx)
	c := &call{s: s, what: what, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.answer, c.err = ask(ctx)
	}()
	return c
}

// beginLock asks for a lock that somebody else has, and returns when the call waits.
func (s *teller) beginLock(name string, lease int64) *call {
	c := s.start(fmt.Sprintf("lock %s %d", name, lease), func(ctx context.Context) (proto.Message, error) {
		return s.lock_.Lock(ctx, &lpb.LockRequest{Name: []byte(name), Lease: lease})
	})
	for s.count(fmt.Sprintf("%s/%x", name, lease)) == 0 {
		time.Sleep(poll)
	}
	c.pending()
	return c
}

func (s *teller) beginCampaign(name, value string, lease int64) *call {
	request := &epb.CampaignRequest{Name: []byte(name), Value: []byte(value), Lease: lease}
	c := s.start(fmt.Sprintf("campaign %s %d", name, lease), func(ctx context.Context) (proto.Message, error) {
		return s.election.Campaign(ctx, request)
	})
	for s.count(fmt.Sprintf("%s/%x", name, lease)) == 0 {
		time.Sleep(poll)
	}
	c.pending()
	return c
}

func (c *call) pending() {
	select {
	case <-c.ended:
		c.s.note(c.what + " has ended")
	case <-time.After(patience):
	}
}

func (c *call) finish() {
	<-c.ended
	c.s.write(c.what, c.answer, c.err)
	c.cancel()
}

// observer hears of the leaders of an election.
type observer struct {
	s         *teller
	cancel    func()
	responses chan proto.Message
	err       error
}

// observe returns when the server is likely to have come to look.
func (s *teller) observe(name string) *observer {
	ctx, cancel := context.WithCancel(s.ctx)
	o := &observer{s: s, cancel: cancel, responses: make(chan proto.Message)}
	stream := must(s.election.Observe(ctx, &epb.LeaderRequest{Name: []byte(name)}))
	go func() {
		defer close(o.responses)
		for {
			response, err := stream.Recv()
			if err != nil {
				o.err = err
				return
			}
			o.responses <- response
		}
	}()
	time.Sleep(patience)
	return o
}

func (o *observer) next() {
	response, open := <-o.responses
	if !open {
		o.s.note(fmt.Sprint("observed the end: ", o.err))
		return
	}
	o.s.write("observed", response, nil)
}

func (o *observer) silent() {
	select {
	case response := <-o.responses:
		o.s.note(fmt.Sprint("observed, not silent: ", response))
	case <-time.After(patience):
	}
}

func (o *observer) end() {
	o.silent()
	o.cancel()
	for range o.responses {
	}
	o.s.note(fmt.Sprint("observed the end: ", o.err))
}
