package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const bigPrefix = "/registry/configmaps/"

// listing is big lists beside a watch.
type listing struct {
	objects, bytes, readers int
	writes                  float64
	window                  time.Duration
}

// Kinds of lists, with none to compare with.
var listKinds = []string{"no list", "Range, limit 10000", "RangeStream"}

func listAndWatchMode(flags *flag.FlagSet) func(context.Context, *setup) error {
	var l listing
	flags.IntVar(&l.objects, "objects", 10_000, "in the list")
	flags.IntVar(&l.bytes, "bytes", 5*1024, "of each object")
	flags.IntVar(&l.readers, "readers", 1, "lists that are read at once")
	flags.Float64Var(&l.writes, "writes", 50, "each second, of which the watch tells")
	flags.DurationVar(&l.window, "window", 30*time.Second, "for each kind of list")
	return func(ctx context.Context, s *setup) error {
		if l.objects < 1 || l.objects > listLimit || l.bytes < 64 || l.readers < 1 || l.writes <= 0 {
			return errors.New("a list is one page, of objects of 64 bytes and more")
		}
		return l.measure(ctx, s)
	}
}

// listed is what the watch was like beside one kind of list.
type listed struct {
	Server string  `json:"server"`
	Round  int     `json:"round"`
	Kind   string  `json:"list"`
	Watch  summary `json:"watch_delay"`
	Lists  summary `json:"lists"`
	CPU    float64 `json:"cpu_seconds"`
	// Of the leader, which is asked, at the end.
	Resident float64 `json:"resident_mib"`
}

func (l *listing) measure(ctx context.Context, s *setup) error {
	fmt.Printf("A watch beside lists of %d objects of %d bytes on one connection, %d at once: %s; %v\n",
		l.objects, l.bytes, l.readers, s.describe(), l.window)
	var all []*listed
	for round := range s.rounds {
		for _, of := range s.turns(round) {
			these, err := l.server(ctx, s, of)
			if err != nil {
				return fmt.Errorf("%s: %w", of.name, err)
			}
			for _, one := range these {
				one.Server, one.Round = of.name, round
				if err := s.results.write("list_and_watch", one); err != nil {
					return err
				}
			}
			all = append(all, these...)
		}
	}
	printListed(all)
	return nil
}

func (l *listing) server(ctx context.Context, s *setup, of server) ([]*listed, error) {
	c, err := s.start(ctx, of)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	leader, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	shared, err := c.client(c.members[leader].url)
	if err != nil {
		return nil, err
	}
	defer shared.Close()
	writer, err := c.client(c.members[leader].url)
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	if err := l.fill(ctx, writer); err != nil {
		return nil, err
	}
	var all []*listed
	for _, kind := range listKinds {
		one, err := l.beside(ctx, c, shared, writer, kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w%s", kind, err, c.logged())
		}
		used, err := c.members[leader].spent()
		if err != nil {
			return nil, err
		}
		one.Resident = mebibytes(used.resident)
		fmt.Fprintf(os.Stderr, "%s, %s: watch p50 %s, p99 %s, max %s ms; %d lists, p50 %s ms; "+
			"%.0f MiB\n", of.name, kind, figure(one.Watch.P50), figure(one.Watch.P99),
			figure(one.Watch.Max), one.Lists.Count, figure(one.Lists.P50), one.Resident)
		all = append(all, one)
	}
	return all, nil
}

func (l *listing) fill(ctx context.Context, client *clientv3.Client) error {
	value := filler(rand.New(rand.NewPCG(1, 1)), l.bytes)
	for at := 0; at < l.objects; {
		var puts []clientv3.Op
		for ; at < l.objects && len(puts) < loadedAtOnce; at++ {
			key := fmt.Sprintf(bigPrefix+"default/map-%05d", at)
			copy(value, key)
			puts = append(puts, clientv3.OpPut(key, string(value)))
		}
		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// beside writes and watches while lists of one kind are read.
func (l *listing) beside(
	ctx context.Context, c *cluster, shared, writer *clientv3.Client, kind string,
) (*listed, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var lists latencies
	var done atomic.Bool
	var reading sync.WaitGroup
	defer reading.Wait()
	defer done.Store(true)
	watching := clientv3.WithRequireLeader(ctx)
	channel := shared.Watch(watching, prefixes[leases], clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	if first := <-channel; !first.Created {
		return nil, fmt.Errorf("no watch: %w", first.Err())
	}
	if kind != listKinds[0] {
		for range l.readers {
			reading.Go(func() {
				for !done.Load() {
					if err := l.list(ctx, shared, kind, &lists); err != nil {
						cancel(err)
						return
					}
				}
			})
		}
	}
	before, err := c.spent()
	if err != nil {
		return nil, err
	}
	delays, err := l.writeAndWatch(ctx, writer, channel)
	if err != nil {
		return nil, err
	}
	after, err := c.spent()
	if err != nil {
		return nil, err
	}
	one := &listed{Kind: kind, Watch: delays.summary(), Lists: lists.summary()}
	for at := range after {
		one.CPU += (after[at].cpu - before[at].cpu).Seconds()
	}
	return one, nil
}

func (l *listing) list(
	ctx context.Context, client *clientv3.Client, kind string, lists *latencies,
) error {
	began := time.Now()
	found := 0
	if kind == listKinds[2] {
		objects, err := stream(ctx, client, bigPrefix)
		if err != nil {
			return err
		}
		found = objects
	} else {
		page, err := client.Get(ctx, bigPrefix, clientv3.WithPrefix(), clientv3.WithLimit(listLimit))
		if err != nil {
			return err
		}
		found = len(page.Kvs)
	}
	if found != l.objects {
		return fmt.Errorf("a list has %d of %d objects", found, l.objects)
	}
	lists.answer(time.Since(began))
	return nil
}

// writeAndWatch writes on a schedule, and gives how late the watch told of each write.
func (l *listing) writeAndWatch(
	ctx context.Context, writer *clientv3.Client, channel clientv3.WatchChan,
) (*latencies, error) {
	delays := &latencies{}
	random := rand.New(rand.NewPCG(1, 2))
	times := poisson(random, l.writes, l.window)
	text := filler(random, leaseBytes)
	var writing sync.WaitGroup
	defer writing.Wait()
	var failure atomic.Pointer[error]
	writing.Go(func() {
		begin := time.Now()
		for number, at := range times {
			if pauseUntil(ctx, begin.Add(at)) != nil {
				return
			}
			writing.Go(func() {
				key := fmt.Sprintf(prefixes[leases]+"node-%03d", number%100)
				value := append([]byte{}, text...)
				stamp(value)
				if _, err := writer.Put(ctx, key, string(value)); err != nil {
					failure.Store(&err)
				}
			})
		}
	})
	late := time.After(l.window + watchDeadline)
	for heard := 0; heard < len(times); {
		select {
		case response, open := <-channel:
			if err := response.Err(); err != nil || !open {
				return nil, fmt.Errorf("the watch ended: %w", errors.Join(err, context.Cause(ctx)))
			}
			for _, event := range response.Events {
				if at, ok := sent(event.Kv.Value); ok {
					delays.answer(time.Since(at))
				}
				heard++
			}
		case <-late:
			if err := failure.Load(); err != nil {
				return nil, *err
			}
			return nil, fmt.Errorf("the watch told of %d of %d writes", heard, len(times))
		}
	}
	return delays, nil
}

func printListed(all []*listed) {
	for _, kind := range listKinds {
		var these []*listed
		for _, one := range all {
			if one.Kind == kind {
				these = append(these, one)
			}
		}
		fmt.Println()
		t := &table{}
		t.row(kind, "orrery", "etcd", "ratio")
		of := func(one *listed) string { return one.Server }
		add := func(name string, quantity func(*listed) float64) {
			compared(t, name, these, of, quantity)
		}
		add("watch delay p50, ms", func(one *listed) float64 { return one.Watch.P50 })
		add("watch delay p99, ms", func(one *listed) float64 { return one.Watch.P99 })
		add("watch delay max, ms", func(one *listed) float64 { return one.Watch.Max })
		add("events", func(one *listed) float64 { return float64(one.Watch.Count) })
		if kind != listKinds[0] {
			add("lists", func(one *listed) float64 { return float64(one.Lists.Count) })
			add("list p50, ms", func(one *listed) float64 { return one.Lists.P50 })
		}
		add("CPU seconds, all members", func(one *listed) float64 { return one.CPU })
		add("RSS of the leader, MiB", func(one *listed) float64 { return one.Resident })
		t.print(os.Stdout)
	}
}
