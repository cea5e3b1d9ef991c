package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func number(all []arrival, of verb) int {
	found := 0
	for _, one := range all {
		if one.verb == of {
			found++
		}
	}
	return found
}

func between(t *testing.T, what string, got, least, most int) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: got %d, want %d to %d", what, got, least, most)
	}
}

var thousandNodes = demand{
	nodes: 1000, duration: time.Minute, resources: 60, compact: 30 * time.Second, pods: 30_000, seed: 7,
}

func TestScheduleIsTheClusterModel(t *testing.T) {
	all := schedule(thousandNodes)
	between(t, "lease updates", number(all, leaseUpdate), 6000, 6000)
	between(t, "node status updates", number(all, nodeStatus), 160, 240)
	between(t, "pods that begin", number(all, podCreate), 500, 700)
	between(t, "pods that end", number(all, podGet), 500, 700)
	between(t, "events", number(all, eventCreate), 2500, 3500)
	between(t, "reads", number(all, consistentRead), 1300, 1680)
	between(t, "counts", number(all, count), 180, 181)
	between(t, "lists", number(all, listPage)+number(all, listStream), 4, 4)
	between(t, "API servers' own leases", number(all, masterLease), 18, 18)
	between(t, "compactions tried", number(all, compactTxn), 6, 6)
	for v := range verbs {
		// The two that others entail.
		entailed := v == leaseGrant || v == compact
		if entailed != (number(all, v) == 0) {
			t.Errorf("%v: %d", v, number(all, v))
		}
	}
}

func TestScheduleIsInOrderAndEndsInTime(t *testing.T) {
	all := schedule(thousandNodes)
	if !slices.IsSortedFunc(all, func(one, other arrival) int { return int(one.at - other.at) }) {
		t.Error("not in the order of time")
	}
	if last := all[len(all)-1].at; last >= thousandNodes.duration {
		t.Errorf("the last is due at %v", last)
	}
}

func TestScheduleDependsOnItsSeed(t *testing.T) {
	other := thousandNodes
	other.seed++
	one := schedule(thousandNodes)
	if !slices.Equal(one, schedule(thousandNodes)) || slices.Equal(one, schedule(other)) {
		t.Error("the same seed gives another schedule, or another seed the same")
	}
}

func TestEachNodeRenewsItsLeaseEveryTenSeconds(t *testing.T) {
	last := map[int]time.Duration{}
	for _, one := range schedule(thousandNodes) {
		if one.verb != leaseUpdate {
			continue
		}
		if before, known := last[one.subject]; known && one.at-before != leasePeriod {
			t.Fatalf("node %d after %v", one.subject, one.at-before)
		}
		last[one.subject] = one.at
	}
	between(t, "nodes", len(last), 1000, 1000)
}

func TestWhatHappensToAPodHappensInOrder(t *testing.T) {
	steps := map[int]int{}
	for _, one := range schedule(thousandNodes) {
		switch one.verb {
		case podCreate, podBind, podStatus, podMark, podDelete, podGet:
			if one.step != steps[one.subject] {
				t.Fatalf("%v of pod %d is step %d", one.verb, one.subject, one.step)
			}
			if one.step == 0 && (one.verb == podCreate) != (one.subject >= thousandNodes.pods) {
				t.Fatalf("%v is the first of pod %d", one.verb, one.subject)
			}
			steps[one.subject]++
		}
	}
	between(t, "pods", len(steps), 1000, 1400)
}

func TestQuantileIsAValueThatTheShareDoesNotExceed(t *testing.T) {
	hundred := make([]int, 100)
	for at := range hundred {
		hundred[at] = at + 1
	}
	for _, one := range []struct {
		values []int
		share  float64
		want   int
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]int{7}, 0.99, 7}, {[]int{1, 2}, 0.5, 1}, {[]int{1, 2, 3}, 0.5, 2}, {nil, 0.5, 0},
	} {
		if got := quantile(one.values, one.share); got != one.want {
			t.Errorf("%v of %d values: got %d, want %d", one.share, len(one.values), got, one.want)
		}
	}
}

func TestAFailedRequestIsWorseThanAllAnswers(t *testing.T) {
	var l latencies
	for range 97 {
		l.answer(time.Millisecond)
	}
	l.fail(10 * time.Second)
	l.fail(10 * time.Second)
	got := l.summary()
	want := summary{Count: 99, Failed: 2, P50: 1, P99: 10_000, Max: 10_000}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestMedian(t *testing.T) {
	for _, one := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(one.values); got != one.want {
			t.Errorf("%v: got %v, want %v", one.values, got, one.want)
		}
	}
}

func TestSearchFindsTheLargestThatPasses(t *testing.T) {
	for _, one := range []struct{ capacity, first, limit, least, most int }{
		{12_345, 5000, 80_000, 10_900, 12_345},
		{5000, 5000, 80_000, 4400, 5000},
		{1000, 5000, 80_000, 750, 1000},
		{100, 5000, 80_000, 0, 0},
		{1_000_000, 5000, 80_000, 80_000, 80_000},
		{1_000_000, 5000, 30_000, 30_000, 30_000},
	} {
		s := search{first: one.first, limit: one.limit}
		trials := 0
		for nodes, open := s.next(); open; nodes, open = s.next() {
			s.tried(nodes, nodes <= one.capacity)
			if trials++; trials > 12 {
				t.Fatalf("%d trials for a capacity of %d", trials, one.capacity)
			}
		}
		between(t, "the largest", s.passed, one.least, one.most)
	}
}

// The clock begins when a request is due, not when there is room for it.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	const slow = 30 * time.Millisecond
	loop := openLoop{inFlight: 10, timeout: time.Second, send: func(context.Context, arrival, note) error {
		time.Sleep(slow)
		return nil
	}}
	all := make([]arrival, 5)
	r, err := loop.run(t.Context(), all, 0, func() {}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	got := r.verbs[leaseUpdate].summary()
	between(t, "requests", got.Count, 5, 5)
	if got.P50 < milliseconds(slow) {
		t.Errorf("an answer after %v ms", got.P50)
	}
}

func TestOpenLoopFailsWhatFindsNoRoom(t *testing.T) {
	release := make(chan struct{})
	loop := openLoop{inFlight: 2, timeout: time.Minute, send: func(context.Context, arrival, note) error {
		<-release
		return nil
	}}
	r, err := loop.run(t.Context(), make([]arrival, 5), 0, func() {}, func() { close(release) })
	if err != nil {
		t.Fatal(err)
	}
	got := r.verbs[leaseUpdate].summary()
	between(t, "failed", got.Failed, 3, 3)
	between(t, "all", got.Count, 5, 5)
	if got.Max != milliseconds(time.Minute) {
		t.Errorf("the worst took %v ms", got.Max)
	}
	between(t, "told of", r.errors["lease update: too many requests in flight"], 3, 3)
}

func TestOpenLoopDoesNotCountWhatComesBefore(t *testing.T) {
	begun := false
	loop := openLoop{
		inFlight: 10, timeout: time.Second, counted: time.Millisecond,
		send: func(_ context.Context, a arrival, also note) error {
			also(leaseGrant, time.Now(), nil)
			return errors.New("no")
		},
	}
	all := []arrival{{verb: leaseUpdate}, {at: 2 * time.Millisecond, verb: nodeStatus}}
	r, err := loop.run(t.Context(), all, 0, func() { begun = true }, func() {})
	if err != nil || !begun {
		t.Fatal(err, begun)
	}
	between(t, "before", r.verbs[leaseUpdate].summary().Count, 0, 0)
	between(t, "counted", r.verbs[nodeStatus].summary().Failed, 1, 1)
	between(t, "entailed", r.verbs[leaseGrant].summary().Count, 1, 1)
}

func TestAValueTellsWhenItWasSent(t *testing.T) {
	value := make([]byte, leaseBytes)
	before := time.Now()
	stamp(value)
	at, ok := sent(value)
	if !ok || at.Before(before.Truncate(0)) || at.After(time.Now()) {
		t.Errorf("%v, %v", at, ok)
	}
	for _, text := range []string{"", "1234", strings.Repeat("x", 40)} {
		if _, ok := sent([]byte(text)); ok {
			t.Errorf("%q tells a time", text)
		}
	}
}

func TestReadSpent(t *testing.T) {
	stat := "12 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 0 0 0\n"
	status := "Name:\ta\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\n"
	got, err := readSpent(stat, status)
	want := spent{cpu: 3 * time.Second, resident: 2 << 20, anonymous: 1 << 20}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, one := range [][2]string{{"", status}, {stat, "Name:\ta\n"}, {"1 (a) S 1", status}} {
		if _, err := readSpent(one[0], one[1]); err == nil {
			t.Errorf("%q is read", one)
		}
	}
}

func TestShare(t *testing.T) {
	for _, one := range []struct {
		all, member, members int
		spread               bool
		want                 int
	}{{2500, 0, 3, false, 2500}, {2500, 0, 3, true, 834}, {2500, 2, 3, true, 833}, {7, 0, 1, true, 7}} {
		if got := share(one.all, one.member, one.members, one.spread); got != one.want {
			t.Errorf("%+v: got %d", one, got)
		}
	}
}

const told = `# TYPE apiserver_request_duration_seconds histogram
apiserver_request_duration_seconds_bucket{verb="PUT",resource="leases",subresource="",scope="resource",le="0.005"} %d
apiserver_request_duration_seconds_bucket{verb="PUT",resource="leases",subresource="",scope="resource",le="0.025"} %d
apiserver_request_duration_seconds_bucket{verb="PUT",resource="leases",subresource="",scope="resource",le="+Inf"} %d
apiserver_request_duration_seconds_sum{verb="PUT",resource="leases",subresource="",scope="resource"} %v
apiserver_request_duration_seconds_count{verb="PUT",resource="leases",subresource="",scope="resource"} %d
# TYPE apiserver_request_total counter
apiserver_request_total{verb="PUT",resource="pods",subresource="status",code="409"} %d
apiserver_request_total{verb="PUT",resource="pods",subresource="status",code="200"} 7
`

func TestMetricsAreThoseOfTheWindow(t *testing.T) {
	read := func(atMost5, atMost25, all int, sum float64, conflicts int) *metrics {
		m := newMetrics()
		text := fmt.Sprintf(told, atMost5, atMost25, all, sum, all, conflicts)
		if err := m.read([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return m
	}
	window := read(150, 210, 210, 1.4, 5).since(read(50, 60, 60, 0.4, 2))
	leases := window.served[kind{"PUT", "leases"}]
	if leases == nil {
		t.Fatalf("no leases in %v", window.served)
	}
	for _, one := range []struct {
		what      string
		got, want float64
	}{
		{"requests", leases.count, 150},
		{"mean", milliseconds(leases.mean()), 1000.0 / 150},
		{"p50", milliseconds(leases.quantile(0.5)), 3.75},
		{"p80", milliseconds(leases.quantile(0.8)), 13},
		{"conflicts", window.failed["409 PUT pods/status"], 3},
		{"kinds of failures", float64(len(window.failed)), 1},
	} {
		if math.Abs(one.got-one.want) > 1e-4 {
			t.Errorf("%s: %v, want %v", one.what, one.got, one.want)
		}
	}
	if again := read(1, 1, 1, 1, 1); len(again.since(again).served) > 0 {
		t.Error("what was not asked has a row")
	}
}

func TestQuantileBeyondTheLastBound(t *testing.T) {
	long := histogram{count: 10, upTo: map[float64]float64{1: 5, 60: 9, math.Inf(1): 10}}
	if got := long.quantile(0.99); got != time.Minute {
		t.Errorf("got %v", got)
	}
	if got := (&histogram{}).quantile(0.99); got != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestPassageIsJudged(t *testing.T) {
	well := func() *passage {
		return &passage{Served: map[string]call{
			"PUT leases": {Count: 1000, P99: 20}, "LIST pods": {Count: 100, P99: 5000},
			otherReads: {Count: 3, P99: 5000}, otherWrites: {Count: 3, P99: 999},
		}}
	}
	if faults := well().faults(); len(faults) > 0 {
		t.Errorf("all is well, but %v", faults)
	}
	for what, spoil := range map[string]func(*passage){
		"a slow kind":       func(p *passage) { p.Served["POST pods"] = call{Count: 100, P99: 1000} },
		"rare slow ones":    func(p *passage) { p.Served[otherWrites] = call{Count: 3, P99: 1500} },
		"a node":            func(p *passage) { p.NotReady = []string{"node-0001"} },
		"a pod":             func(p *passage) { p.Unborn = 1 },
		"a pod that stays":  func(p *passage) { p.Undead = 1 },
		"own requests":      func(p *passage) { p.Own = map[string]summary{ownLeases: {Count: 9, Failed: 1}} },
		"a panic":           func(p *passage) { p.Crashed = []string{"kube-apiserver-1: panic"} },
		"nothing was asked": func(p *passage) { p.Served = nil },
	} {
		p := well()
		spoil(p)
		if faults := p.faults(); len(faults) != 1 {
			t.Errorf("%s: %v", what, faults)
		}
	}
}
