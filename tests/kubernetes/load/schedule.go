package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// verb is what a request is for.
type verb int

const (
	leaseUpdate verb = iota
	nodeStatus
	podCreate
	podBind
	podStatus
	podMark
	podDelete
	podGet
	eventCreate
	sliceUpdate
	consistentRead
	count
	listPage
	listStream
	leaseGrant
	masterLease
	compactTxn
	compact
	verbs
)

var verbNames = [verbs]string{
	leaseUpdate:    "lease update",
	nodeStatus:     "node status update",
	podCreate:      "pod create",
	podBind:        "pod bind",
	podStatus:      "pod status update",
	podMark:        "pod deletion mark",
	podDelete:      "pod delete",
	podGet:         "pod get",
	eventCreate:    "event create",
	sliceUpdate:    "endpoint slice update",
	consistentRead: "consistent read (limit 1)",
	count:          "count",
	listPage:       "list page (limit 10000)",
	listStream:     "list by RangeStream",
	leaseGrant:     "lease grant",
	masterLease:    "API server lease",
	compactTxn:     "compaction txn",
	compact:        "compact",
}

func (v verb) String() string { return verbNames[v] }

const (
	apiServers = 3

	leasePeriod      = 10 * time.Second
	nodeStatusPeriod = 5 * time.Minute
	// Each API server renews its own lease with a new lease of etcd's.
	masterLeasePeriod = 10 * time.Second
	// Of each of the resources that API servers keep, the number of objects.
	countPeriod = time.Minute
	// What API servers compare with their caches: each lists all resources in some six minutes, and
	// here it is the four biggest in turn.
	listPeriod = 15 * time.Second
)

// One pod begins and one ends each second for so many nodes: of the cluster models in the reference
// it is 10 pods a second at 1,000 nodes and 50 at 5,000.
const nodesPerPodEachSecond = 100

// One uncached read each second for so many nodes, besides those of the API servers themselves.
const nodesPerReadEachSecond = 50

const readsOfAnAPIServer = 1.6

// arrival is a request that is due, whether or not earlier ones have been answered.
type arrival struct {
	at      time.Duration
	verb    verb
	subject int
	// Of what happens to one pod: the place, since each waits for the one before it, as controllers do.
	step int
}

// What happens to a pod after it was created: 13 Txns and a Range from its birth to its end.
var birth = []arrival{
	{0, podCreate, 0, 0},
	{100 * time.Millisecond, podBind, 0, 1},
	{100 * time.Millisecond, eventCreate, 0, 0},
	{500 * time.Millisecond, podStatus, 0, 2},
	{700 * time.Millisecond, eventCreate, 0, 0},
	{900 * time.Millisecond, eventCreate, 0, 0},
	{1000 * time.Millisecond, eventCreate, 0, 0},
	{1500 * time.Millisecond, podStatus, 0, 3},
	{1700 * time.Millisecond, sliceUpdate, 0, 0},
}

var death = []arrival{
	{0, podGet, 0, 0},
	{50 * time.Millisecond, podMark, 0, 1},
	{150 * time.Millisecond, eventCreate, 0, 0},
	{1000 * time.Millisecond, podStatus, 0, 2},
	{1300 * time.Millisecond, podDelete, 0, 3},
}

// How much of what: all that the schedule depends on.
type demand struct {
	nodes    int
	duration time.Duration
	// Resources that each API server keeps.
	resources int
	// Between compactions.
	compact time.Duration
	// The pods that are there at the beginning; they are the first to end, and others are added.
	pods int
	seed uint64
}

// schedule is all requests in the order in which they are due. It is the same for the same demand.
func schedule(d demand) []arrival {
	random := rand.New(rand.NewPCG(d.seed, 0))
	var all []arrival
	step := func(at time.Duration, v verb, subject, step int) {
		if at < d.duration {
			all = append(all, arrival{at, v, subject, step})
		}
	}
	add := func(at time.Duration, v verb, subject int) { step(at, v, subject, 0) }
	for node := range d.nodes {
		// Nodes keep their own time: some seconds have more renewals than others.
		for at := phase(random, leasePeriod); at < d.duration; at += leasePeriod {
			add(at, leaseUpdate, node)
		}
		for at := phase(random, nodeStatusPeriod); at < d.duration; at += nodeStatusPeriod {
			add(at, nodeStatus, node)
		}
	}
	perSecond := float64(d.nodes) / nodesPerPodEachSecond
	for pod, at := range poisson(random, perSecond, d.duration) {
		for _, of := range birth {
			step(at+of.at, of.verb, d.pods+pod, of.step)
		}
	}
	for pod, at := range poisson(random, perSecond, d.duration) {
		for _, of := range death {
			step(at+of.at, of.verb, pod, of.step)
		}
	}
	reads := apiServers*readsOfAnAPIServer + float64(d.nodes)/nodesPerReadEachSecond
	for read, at := range poisson(random, reads, d.duration) {
		add(at, consistentRead, read)
	}
	regular := func(v verb, first, period time.Duration) {
		for at, turn := first, 0; at < d.duration; at, turn = at+period, turn+1 {
			add(at, v, turn)
		}
	}
	regular(count, 0, countPeriod/time.Duration(apiServers*max(d.resources, 1)))
	regular(listPage, listPeriod/4, 2*listPeriod)
	regular(listStream, listPeriod+listPeriod/4, 2*listPeriod)
	for server := range apiServers {
		for at := phase(random, masterLeasePeriod); at < d.duration; at += masterLeasePeriod {
			add(at, masterLease, server)
		}
		// All try, and one wins. Only from the second time on it knows how far to compact.
		first := d.compact/6 + phase(random, 100*time.Millisecond)
		for at := first; at < d.duration; at += d.compact {
			add(at, compactTxn, server)
		}
	}
	slices.SortStableFunc(all, func(one, other arrival) int { return cmp.Compare(one.at, other.at) })
	return all
}

func phase(random *rand.Rand, period time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(period)))
}

// poisson is when independent things happen that happen so often.
func poisson(random *rand.Rand, perSecond float64, duration time.Duration) []time.Duration {
	var all []time.Duration
	if perSecond <= 0 {
		return all
	}
	for at := 0.0; ; {
		at += random.ExpFloat64() / perSecond
		if at >= duration.Seconds() {
			return all
		}
		all = append(all, time.Duration(at*float64(time.Second)))
	}
}
