package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Connections that are opened at once.
const dialers = 32

// How long the opening of all may take, and of one.
const (
	holdDeadline = 5 * time.Minute
	dialDeadline = time.Minute
)

// holding is what members hold, and for how long it is measured.
type holding struct {
	watches, idle, nodes int
	spread               bool
	window               time.Duration
}

func connectionsMode(flags *flag.FlagSet) func(context.Context, *setup) error {
	var h holding
	flags.IntVar(&h.watches, "watches", 603, "watch streams, each on a connection of its own")
	flags.IntVar(&h.idle, "idle", 2500, "connections besides, on which nothing happens")
	flags.BoolVar(&h.spread, "spread", false, "so many on all members together, not on each")
	flags.IntVar(&h.nodes, "nodes", 1000, "nodes that renew their leases meanwhile")
	flags.DurationVar(&h.window, "window", time.Minute, "what is measured")
	return func(ctx context.Context, s *setup) error {
		if h.watches < apiServers || h.idle < 0 || h.nodes < 1 {
			return errors.New("each API server has a watch, and some node a lease")
		}
		return h.measure(ctx, s)
	}
}

// held is what a member used.
type held struct {
	Server string `json:"server"`
	Round  int    `json:"round"`
	Member int    `json:"member"`
	Leader bool   `json:"leader"`
	// Before the first connection, and after a minute with all.
	ResidentBefore float64 `json:"resident_mib_before"`
	Resident       float64 `json:"resident_mib"`
	Anonymous      float64 `json:"anonymous_mib"`
	CPU            float64 `json:"cpu_seconds"`
	// Of all members, until everything was open.
	Opening float64 `json:"opening_seconds"`
	// What all members spent until everything was open.
	OpeningCPU float64 `json:"opening_cpu_seconds"`
	Lease      summary `json:"lease_updates"`
	Watch      summary `json:"watch_delay"`
}

func (h *holding) measure(ctx context.Context, s *setup) error {
	where := "on each member"
	if h.spread {
		where = "on all members together"
	}
	fmt.Printf("%d watch streams and %d idle connections %s, %d nodes: %s; %v\n",
		h.watches, h.idle, where, h.nodes, s.describe(), h.window)
	var all []*held
	for round := range s.rounds {
		for _, of := range s.turns(round) {
			members, err := h.hold(ctx, s, of)
			if err != nil {
				return fmt.Errorf("%s: %w", of.name, err)
			}
			for _, m := range members {
				m.Server, m.Round = of.name, round
				if err := s.results.write("connections", m); err != nil {
					return err
				}
			}
			all = append(all, members...)
		}
	}
	printHeld(all)
	return nil
}

func (h *holding) hold(ctx context.Context, s *setup, of server) ([]*held, error) {
	c, err := s.start(ctx, of)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	w, err := newWorld(c, size{nodes: h.nodes, nodeBytes: 10 * 1024, resources: resources}, 0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.fill(ctx); err != nil {
		return nil, err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	empty, err := c.spent()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	watching, endWatching := context.WithCancel(ctx)
	defer endWatching()
	holds, err := h.open(watching, c)
	if holds != nil {
		defer holds.close()
	}
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, c.logged())
	}
	opening := time.Since(began).Seconds()
	opened, err := c.spent()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%s holds all after %.0f s\n", of.name, opening)
	all, err := h.light(ctx, w, holds)
	if err != nil {
		return nil, err
	}
	for at, m := range all {
		m.Leader = at == leader
		m.ResidentBefore = mebibytes(empty[at].resident)
		m.Opening = opening
		for at := range opened {
			m.OpeningCPU += (opened[at].cpu - empty[at].cpu).Seconds()
		}
	}
	return all, nil
}

// light is a minute with the renewals of nodes, of which some watches hear.
func (h *holding) light(ctx context.Context, w *world, open *open) ([]*held, error) {
	var all []arrival
	warm := leasePeriod
	for _, one := range schedule(demand{
		nodes: h.nodes, duration: warm + h.window, compact: h.window, seed: 1,
	}) {
		if one.verb == leaseUpdate || one.verb == consistentRead {
			all = append(all, one)
		}
	}
	var before, after []spent
	var errBefore, errAfter error
	loop := openLoop{inFlight: 10_000, timeout: 10 * time.Second, counted: warm, send: w.send}
	r, err := loop.run(ctx, all, warm+h.window, func() {
		open.counting.Store(true)
		before, errBefore = w.cluster.spent()
	}, func() {
		open.counting.Store(false)
		after, errAfter = w.cluster.spent()
	})
	if err := errors.Join(err, errBefore, errAfter); err != nil {
		return nil, err
	}
	if err := open.settle(ctx, w); err != nil {
		return nil, err
	}
	var members []*held
	for at := range after {
		members = append(members, &held{
			Member:    at,
			Resident:  mebibytes(after[at].resident),
			Anonymous: mebibytes(after[at].anonymous),
			CPU:       (after[at].cpu - before[at].cpu).Seconds(),
			Lease:     r.verbs[leaseUpdate].summary(),
			Watch:     open.delays.summary(),
		})
	}
	return members, nil
}

// open is connections and watches.
type open struct {
	guard    sync.Mutex
	closers  []func() error
	counting atomic.Bool
	delays   latencies
	// How many watches hear of lease updates, and what all of them heard.
	hearing  int64
	received atomic.Int64
	failed   atomic.Pointer[string]
}

func (o *open) keep(closer func() error) {
	o.guard.Lock()
	defer o.guard.Unlock()
	o.closers = append(o.closers, closer)
}

func (o *open) close() {
	o.guard.Lock()
	defer o.guard.Unlock()
	for _, one := range o.closers {
		one()
	}
}

// settle waits until all watches of leases heard of all updates.
func (o *open) settle(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeout(ctx, watchDeadline)
	defer cancel()
	expected := w.resources[leases].changes.Load() * o.hearing
	for o.received.Load() < expected {
		if pause(ctx, 10*time.Millisecond) != nil {
			return fmt.Errorf("watches heard %d of %d updates", o.received.Load(), expected)
		}
	}
	if text := o.failed.Load(); text != nil {
		return errors.New(*text)
	}
	return nil
}

// open makes all connections and watches, and gives what it has even when it fails.
func (h *holding) open(ctx context.Context, c *cluster) (*open, error) {
	o := &open{}
	opening, cancel := context.WithTimeoutCause(ctx, holdDeadline, errors.New("opening takes too long"))
	defer cancel()
	opening, fail := context.WithCancelCause(opening)
	defer fail(nil)
	slots := make(chan struct{}, dialers)
	var dialing sync.WaitGroup
	start := func(what func() error) {
		slots <- struct{}{}
		dialing.Go(func() {
			defer func() { <-slots }()
			if opening.Err() == nil {
				if err := what(); err != nil {
					fail(err)
				}
			}
		})
	}
	for at := range c.members {
		for number := range share(h.watches, at, len(c.members), h.spread) {
			// Each API server watches the leases on each member; nothing happens to the rest.
			prefix := prefixes[leases]
			if number >= apiServers {
				prefix = fmt.Sprintf("/registry/resource-%03d/", number)
			} else {
				o.hearing++
			}
			start(func() error { return o.watch(opening, ctx, c, at, prefix) })
		}
		for range share(h.idle, at, len(c.members), h.spread) {
			start(func() error { return o.idle(opening, c, at) })
		}
	}
	dialing.Wait()
	return o, context.Cause(opening)
}

// share is how many of so many things a member has.
func share(all, member, members int, spread bool) int {
	if !spread {
		return all
	}
	some := all / members
	if member < all%members {
		some++
	}
	return some
}

func (o *open) watch(opening, ctx context.Context, c *cluster, at int, prefix string) error {
	client, err := c.client(c.members[at].url)
	if err != nil {
		return err
	}
	o.keep(client.Close)
	opening, cancel := context.WithTimeout(opening, dialDeadline)
	defer cancel()
	now, err := client.Get(opening, "/registry/health", clientv3.WithLimit(1))
	if err != nil {
		return fmt.Errorf("a connection to member %d: %w", at, err)
	}
	ctx = clientv3.WithRequireLeader(ctx)
	channel := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithRev(now.Header.Revision+1), clientv3.WithProgressNotify(),
		clientv3.WithCreatedNotify())
	select {
	case response := <-channel:
		if !response.Created {
			return fmt.Errorf("no watch of %s: %w", prefix, response.Err())
		}
	case <-opening.Done():
		return fmt.Errorf("no watch of %s in time", prefix)
	}
	go o.follow(channel)
	return nil
}

func (o *open) follow(channel clientv3.WatchChan) {
	for response := range channel {
		if err := response.Err(); err != nil && !errors.Is(err, context.Canceled) {
			text := err.Error()
			o.failed.Store(&text)
		}
		for _, event := range response.Events {
			if at, ok := sent(event.Kv.Value); ok && o.counting.Load() {
				o.delays.answer(time.Since(at))
			}
		}
		o.received.Add(int64(len(response.Events)))
	}
}

// idle is a connection as grpc-go has it when nothing is asked: its handshakes are done.
func (o *open) idle(ctx context.Context, c *cluster, at int) error {
	security := insecure.NewCredentials()
	if c.tls != nil {
		security = credentials.NewTLS(c.tls)
	}
	_, address, _ := strings.Cut(c.members[at].url, "://")
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(security),
		// Of this side's memory, which is not what is measured.
		grpc.WithReadBufferSize(4096), grpc.WithWriteBufferSize(4096), grpc.WithIdleTimeout(0))
	if err != nil {
		return err
	}
	o.keep(connection.Close)
	ctx, cancel := context.WithTimeout(ctx, dialDeadline)
	defer cancel()
	connection.Connect()
	for state := connection.GetState(); state != connectivity.Ready; state = connection.GetState() {
		if state == connectivity.TransientFailure || !connection.WaitForStateChange(ctx, state) {
			return fmt.Errorf("an idle connection to member %d is %v", at, state)
		}
	}
	return nil
}

func printHeld(all []*held) {
	fmt.Print("\nBy member:\n\n")
	t := &table{}
	t.row("member", "round", "RSS before, MiB", "RSS, MiB", "without files, MiB", "CPU s",
		"leases p99 ms", "watch p99 ms")
	for _, m := range all {
		name := fmt.Sprintf("%s m%d", m.Server, m.Member)
		if m.Leader {
			name += " (leader)"
		}
		t.row(name, fmt.Sprint(m.Round), figure(m.ResidentBefore), figure(m.Resident),
			figure(m.Anonymous), figure(m.CPU), figure(m.Lease.P99), figure(m.Watch.P99))
	}
	t.print(os.Stdout)
	fmt.Print("\nMedian of members and rounds:\n\n")
	t = &table{}
	t.row("a member", "orrery", "etcd", "ratio")
	of := func(m *held) string { return m.Server }
	add := func(name string, quantity func(*held) float64) { compared(t, name, all, of, quantity) }
	add("RSS, MiB", func(m *held) float64 { return m.Resident })
	add("of that for what it holds, MiB", func(m *held) float64 { return m.Resident - m.ResidentBefore })
	add("without files, MiB", func(m *held) float64 { return m.Anonymous })
	add("CPU seconds", func(m *held) float64 { return m.CPU })
	add("CPU seconds of all members to open everything", func(m *held) float64 { return m.OpeningCPU })
	add("lease update p99, ms", func(m *held) float64 { return m.Lease.P99 })
	add("watch delay p99, ms", func(m *held) float64 { return m.Watch.P99 })
	t.print(os.Stdout)
}
