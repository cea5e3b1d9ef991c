package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// plan is how the requests of nodes are measured.
type plan struct {
	sizes               []int
	warm, window        time.Duration
	searchWindow        time.Duration
	searchFrom          int
	searchLimit         int
	searchFor           time.Duration
	podsPerNode         int
	maxPods, nodeBytes  int
	resources, inFlight int
	timeout, target     time.Duration
	compact             time.Duration
	seed                uint64
}

func requestsMode(flags *flag.FlagSet) func(context.Context, *setup) error {
	var p plan
	sizes := flags.String("nodes", "1000,5000", "numbers of nodes")
	flags.DurationVar(&p.warm, "warm", 10*time.Second, "load before what is counted")
	flags.DurationVar(&p.window, "window", time.Minute, "load that is counted")
	flags.DurationVar(&p.searchWindow, "search-window", 20*time.Second, "the same, in the search")
	flags.IntVar(&p.searchFrom, "search-from", 5000, "nodes of the first trial; 0: no search")
	flags.IntVar(&p.searchLimit, "search-limit", 80_000, "nodes of the last trial")
	flags.DurationVar(&p.searchFor, "search-for", 25*time.Minute, "no trial begins after that")
	flags.IntVar(&p.podsPerNode, "pods-per-node", 30, "pods stored beforehand")
	flags.IntVar(&p.maxPods, "max-pods", 150_000, "pods stored beforehand, at most")
	flags.IntVar(&p.nodeBytes, "node-bytes", 10*1024, "size of a node object")
	flags.IntVar(&p.resources, "resources", 60, "resources that each API server watches")
	flags.IntVar(&p.inFlight, "in-flight", 10_000, "requests that may wait for answers at once")
	flags.DurationVar(&p.timeout, "timeout", 10*time.Second, "for each request")
	flags.DurationVar(&p.target, "target", 500*time.Millisecond, "p99 of lease updates that passes")
	flags.DurationVar(&p.compact, "compact", 30*time.Second, "between compactions; a cluster has 5m")
	flags.Uint64Var(&p.seed, "seed", 1, "of the schedule")
	return func(ctx context.Context, s *setup) error {
		for text := range strings.SplitSeq(*sizes, ",") {
			nodes, err := strconv.Atoi(text)
			if err != nil || nodes < 1 {
				return fmt.Errorf("--nodes: %q is no number of nodes", text)
			}
			p.sizes = append(p.sizes, nodes)
		}
		if p.resources < resources {
			return fmt.Errorf("--resources: %d of them have load", resources)
		}
		if p.compact <= 0 {
			return errors.New("--compact: there are compactions, from time to time")
		}
		return p.measure(ctx, s)
	}
}

// outcome is what one server did with one load.
type outcome struct {
	Server string             `json:"server"`
	Nodes  int                `json:"nodes"`
	Round  int                `json:"round"`
	Verbs  map[string]summary `json:"verbs"`
	Watch  summary            `json:"watch_delay"`
	// Processor time of all members in the counted time, and of this program.
	CPU       float64 `json:"cpu_seconds"`
	DriverCPU float64 `json:"driver_cpu_seconds"`
	// Of the largest member, at the end.
	Resident  float64 `json:"resident_mib"`
	Anonymous float64 `json:"anonymous_mib"`
	Requests  int     `json:"requests"`
	Failed    int     `json:"failed"`
	Conflicts int64   `json:"conflicts"`
	Lateness  float64 `json:"driver_lateness_ms"`
	Filling   float64 `json:"filling_seconds"`
	// What went wrong with watches.
	WatchFault string         `json:"watch_fault,omitempty"`
	Errors     map[string]int `json:"errors,omitempty"`
}

func (o *outcome) passed(target time.Duration) bool {
	lease := o.Verbs[leaseUpdate.String()]
	return lease.Count > 0 && lease.P99 < milliseconds(target)
}

func (p *plan) measure(ctx context.Context, s *setup) error {
	fmt.Printf("Requests of kube-apiserver, open loop: %s; %v after %v\n", s.describe(), p.window, p.warm)
	var all []*outcome
	for _, nodes := range p.sizes {
		for round := range s.rounds {
			for _, of := range s.turns(round) {
				o, err := p.probe(ctx, s, of, nodes, p.window)
				if err != nil {
					return err
				}
				o.Round = round
				if err := s.results.write("requests", o); err != nil {
					return err
				}
				all = append(all, o)
			}
		}
	}
	printOutcomes(all, p.sizes)
	if p.searchFrom == 0 {
		return nil
	}
	return p.search(ctx, s)
}

// search finds the most nodes for each server, in turns.
func (p *plan) search(ctx context.Context, s *setup) error {
	began := time.Now()
	searches := map[string]*search{}
	for _, of := range s.servers {
		searches[of.name] = &search{first: p.searchFrom, limit: p.searchLimit}
	}
	complete := true
	for round, more := 0, true; more; round++ {
		more = false
		for _, of := range s.turns(round) {
			nodes, open := searches[of.name].next()
			if !open {
				continue
			}
			if time.Since(began) > p.searchFor {
				complete = false
				continue
			}
			more = true
			o, err := p.probe(ctx, s, of, nodes, p.searchWindow)
			if err != nil {
				return err
			}
			o.Round = round
			if err := s.results.write("search", o); err != nil {
				return err
			}
			searches[of.name].tried(nodes, o.passed(p.target))
		}
	}
	printSearch(s.servers, searches, p, complete)
	return nil
}

// probe gives a new cluster of a server the load of so many nodes.
func (p *plan) probe(
	ctx context.Context, s *setup, of server, nodes int, window time.Duration,
) (*outcome, error) {
	stored := size{nodes, min(nodes*p.podsPerNode, p.maxPods), p.nodeBytes, p.resources}
	all := schedule(demand{
		nodes: nodes, duration: p.warm + window, resources: p.resources, compact: p.compact,
		pods: stored.pods, seed: p.seed,
	})
	births, deaths := 0, 0
	for _, one := range all {
		switch one.verb {
		case podCreate:
			births++
		case podGet:
			deaths++
		}
	}
	if deaths > stored.pods {
		return nil, fmt.Errorf("%d pods are too few: %d end", stored.pods, deaths)
	}
	c, err := s.start(ctx, of)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	w, err := newWorld(c, stored, births)
	if err != nil {
		return nil, err
	}
	defer w.close()
	o, err := p.load(ctx, w, all, window)
	if err != nil {
		return nil, fmt.Errorf("%s with %d nodes: %w%s", of.name, nodes, err, c.logged())
	}
	o.Server, o.Nodes = of.name, nodes
	o.tell(os.Stderr)
	return o, nil
}

func (p *plan) load(
	ctx context.Context, w *world, all []arrival, window time.Duration,
) (*outcome, error) {
	o := &outcome{Verbs: map[string]summary{}}
	began := time.Now()
	if err := w.fill(ctx); err != nil {
		return nil, err
	}
	o.Filling = time.Since(began).Seconds()
	watching, endWatching := context.WithCancel(ctx)
	defer endWatching()
	watches, err := w.watch(watching)
	if err != nil {
		return nil, err
	}
	var before, after []spent
	var errBefore, errAfter error
	var own time.Duration
	loop := openLoop{inFlight: p.inFlight, timeout: p.timeout, counted: p.warm, send: w.send}
	r, err := loop.run(ctx, all, p.warm+window, func() {
		watches.counting.Store(true)
		before, errBefore = w.cluster.spent()
		own = ownCPU()
	}, func() {
		watches.counting.Store(false)
		after, errAfter = w.cluster.spent()
		own = ownCPU() - own
	})
	if err != nil {
		return nil, err
	}
	for _, err := range []error{errBefore, errAfter} {
		if err != nil {
			return nil, err
		}
	}
	if err := watches.settle(ctx, w); err != nil {
		o.WatchFault = err.Error()
	}
	o.count(r, watches, w)
	o.use(before, after, own)
	endWatching()
	watches.running.Wait()
	return o, ctx.Err()
}

func (o *outcome) count(r *record, watches *watches, w *world) {
	for v := range r.verbs {
		of := r.verbs[v].summary()
		if of.Count == 0 {
			continue
		}
		o.Verbs[verb(v).String()] = of
		o.Requests += of.Count
		o.Failed += of.Failed
	}
	o.Watch = watches.delays.summary()
	o.Conflicts = w.conflicts.Load()
	o.Errors = r.errors
	o.Lateness = milliseconds(r.lateness)
}

func (o *outcome) use(before, after []spent, own time.Duration) {
	for at := range after {
		o.CPU += (after[at].cpu - before[at].cpu).Seconds()
		o.Resident = max(o.Resident, mebibytes(after[at].resident))
		o.Anonymous = max(o.Anonymous, mebibytes(after[at].anonymous))
	}
	o.DriverCPU = own.Seconds()
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
