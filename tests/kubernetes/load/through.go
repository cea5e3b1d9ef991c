package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"orrery.invalid/kubernetes/plane"
)

const (
	// Kubernetes' own objective for calls that change an object.
	writeObjective = time.Second
	// Calls of which there are fewer are told of together: a hundredth of them is no call.
	callsOfOneRow = 100
	// How long after the last is due all pods must have run and gone.
	churnPatience = 30 * time.Second
)

// through is load that comes through real API servers.
type through struct {
	binaries, home     string
	nodes, apiServers  int
	pods               float64
	life, warm, window time.Duration
}

func throughMode(flags *flag.FlagSet) func(context.Context, *setup) error {
	var t through
	flags.StringVar(&t.binaries, "binaries", "", "directory of Kubernetes' programs")
	flags.StringVar(&t.home, "home", "", "directory that keeps the control plane's logs; none by default")
	flags.IntVar(&t.nodes, "nodes", 1000, "fake nodes, each of which renews its lease every 10 s")
	flags.IntVar(&t.apiServers, "api-servers", 1, "API servers")
	flags.Float64Var(&t.pods, "pods", 10, "pods that begin each second, and as many that end")
	flags.DurationVar(&t.life, "life", 20*time.Second, "how long a pod lives")
	flags.DurationVar(&t.warm, "warm", 30*time.Second, "load before what is counted")
	flags.DurationVar(&t.window, "window", 2*time.Minute, "load that is counted")
	return func(ctx context.Context, s *setup) error {
		if t.binaries == "" || t.nodes < 1 || t.apiServers < 1 || t.pods <= 0 || t.window <= 0 {
			return errors.New("there are --binaries, nodes, API servers, pods and a window")
		}
		return t.measure(ctx, s)
	}
}

// call is what is told of requests of one kind, in milliseconds.
type call struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
}

func (h *histogram) call() call {
	return call{
		Count: int(h.count), Mean: milliseconds(h.mean()),
		P50: milliseconds(h.quantile(0.50)), P99: milliseconds(h.quantile(0.99)),
	}
}

// passage is what one server did below a control plane.
type passage struct {
	Server string `json:"server"`
	Round  int    `json:"round"`
	// From nothing to ready nodes.
	Starting float64 `json:"starting_seconds"`
	// Of the API servers' own metrics, by kind, and the kinds that came together because they are rare.
	Served  map[string]call `json:"served"`
	Storage map[string]call `json:"storage"`
	// Failed requests at the API servers, by code and kind; and this program's, by what it was told.
	Failed map[string]float64 `json:"failed"`
	Errors map[string]int     `json:"errors"`
	// What this program saw of requests of its own.
	Own map[string]summary `json:"own"`

	NotReady []string `json:"nodes_not_ready"`
	Unborn   int      `json:"pods_that_did_not_run"`
	Undead   int      `json:"pods_that_did_not_go"`
	Crashed  []string `json:"crashed"`

	CPU       float64 `json:"cpu_seconds"`
	Resident  float64 `json:"resident_mib"`
	PlaneCPU  float64 `json:"api_servers_cpu_seconds"`
	DriverCPU float64 `json:"driver_cpu_seconds"`
}

func (t *through) measure(ctx context.Context, s *setup) error {
	fmt.Printf("Through API servers: %d; nodes: %d; pods a second: %v; %s; %v after %v\n",
		t.apiServers, t.nodes, t.pods, s.describe(), t.window, t.warm)
	var all []*passage
	for round := range s.rounds {
		for _, of := range s.turns(round) {
			p, err := t.pass(ctx, s, of)
			if err != nil {
				return fmt.Errorf("%s: %w", of.name, err)
			}
			p.Server, p.Round = of.name, round
			p.tell(os.Stderr)
			if err := s.results.write("through", p); err != nil {
				return err
			}
			all = append(all, p)
		}
	}
	return printPassages(all)
}

// pass has a control plane on one server, and measures it.
func (t *through) pass(ctx context.Context, s *setup, of server) (*passage, error) {
	began := time.Now()
	c, err := s.start(ctx, of)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	home := filepath.Join(c.home, "plane")
	if t.home != "" {
		home = filepath.Join(t.home, of.name)
	}
	home, remove, err := plane.MakeHome(home)
	if err != nil {
		return nil, err
	}
	defer remove()
	started, err := plane.Start(ctx, plane.Config{
		Binaries: t.binaries, Home: home, Storage: c.storage(), APIServers: t.apiServers, Nodes: t.nodes,
	})
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, c.logged())
	}
	defer started.Stop()
	p := &passage{Starting: time.Since(began).Seconds()}
	fmt.Fprintf(os.Stderr, "%s: %d nodes are ready after %.0f s\n", of.name, t.nodes, p.Starting)
	return p, t.load(ctx, c, started, p)
}

// load is what happens while all runs.
func (t *through) load(ctx context.Context, c *cluster, started *plane.Plane, p *passage) error {
	var clients []*kubernetes.Clientset
	for at := range started.APIServers {
		client, err := started.Clientset(at)
		if err != nil {
			return err
		}
		clients = append(clients, client)
	}
	watching, end := context.WithCancel(ctx)
	defer end()
	churn := churn{client: clients[0], rate: t.pods, life: t.life}
	if err := churn.start(watching); err != nil {
		return err
	}
	var before, after *metrics
	var spentBefore, spentAfter []spent
	var own time.Duration
	err := churn.run(ctx, t.warm, t.window, churnPatience, func() (err error) {
		own = ownCPU()
		if spentBefore, err = c.spent(); err == nil {
			before, err = scrape(ctx, clients)
		}
		return err
	}, func() (err error) {
		own = ownCPU() - own
		if spentAfter, err = c.spent(); err == nil {
			after, err = scrape(ctx, clients)
		}
		return err
	})
	if err != nil {
		return err
	}
	p.take(after.since(before))
	p.DriverCPU = own.Seconds()
	for at := range spentAfter {
		p.CPU += (spentAfter[at].cpu - spentBefore[at].cpu).Seconds()
		p.Resident = max(p.Resident, mebibytes(spentAfter[at].resident))
	}
	p.Crashed = started.Failed()
	p.saw(&churn)
	return nil
}

// take has what the API servers told of, rare kinds together.
func (p *passage) take(told *metrics) {
	p.Served, p.Storage, p.Failed = map[string]call{}, map[string]call{}, told.failed
	p.PlaneCPU = told.cpu
	rows := map[string]*histogram{}
	add := func(name string, of *histogram) {
		if rows[name] == nil {
			rows[name] = &histogram{}
		}
		rows[name].add(of, 1)
	}
	for of, one := range told.served {
		switch {
		case of.lasts():
			continue
		case of.writes():
			add(allWrites, one)
		default:
			add(allReads, one)
		}
		switch {
		case one.count >= callsOfOneRow:
			add(of.String(), one)
		case of.writes():
			add(otherWrites, one)
		default:
			add(otherReads, one)
		}
	}
	for name, one := range rows {
		p.Served[name] = one.call()
	}
	rows = map[string]*histogram{}
	for of, one := range told.storage {
		add(of.verb, one)
		if of.resource == "leases" {
			add(of.String(), one)
		}
	}
	for name, one := range rows {
		p.Storage[name] = one.call()
	}
}

func (p *passage) saw(churn *churn) {
	p.Unborn, p.Undead = churn.left()
	churn.guard.Lock()
	defer churn.guard.Unlock()
	p.Errors = maps.Clone(churn.errors)
	p.NotReady = slices.Sorted(maps.Keys(churn.notReady))
	p.Own = map[string]summary{
		ownCreates: churn.creates.summary(), ownDeletes: churn.deletes.summary(),
		ownLeases: churn.renewals.summary(), ownRuns: churn.runs.summary(),
	}
}

// faults are why it has not passed.
func (p *passage) faults() (all []string) {
	for _, name := range slices.Sorted(maps.Keys(p.Served)) {
		row := p.Served[name]
		verb := kindNamed(name)
		if (verb.writes() || name == otherWrites) && row.P99 >= milliseconds(writeObjective) {
			all = append(all, fmt.Sprintf("p99 of %s is %s ms", name, figure(row.P99)))
		}
	}
	if len(p.NotReady) > 0 {
		all = append(all, fmt.Sprintf("%d nodes were not ready", len(p.NotReady)))
	}
	if p.Unborn > 0 {
		all = append(all, fmt.Sprintf("%d pods did not run", p.Unborn))
	}
	if p.Undead > 0 {
		all = append(all, fmt.Sprintf("%d pods did not go", p.Undead))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Own)) {
		if failed := p.Own[name].Failed; failed > 0 {
			all = append(all, fmt.Sprintf("%s failed %d times", name, failed))
		}
	}
	if p.Served["PUT leases"].Count == 0 {
		all = append(all, "no lease was renewed")
	}
	return append(all, p.Crashed...)
}
