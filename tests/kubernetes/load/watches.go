package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// How long after the load a watch may still be behind.
const watchDeadline = 20 * time.Second

// watches are those of all API servers.
type watches struct {
	running sync.WaitGroup
	// From when a lease update was sent to when an API server had it.
	delays latencies
	// Set while the load is counted.
	counting atomic.Bool
	received [apiServers][resources]atomic.Int64

	guard    sync.Mutex
	failures []error
}

func (w *watches) fail(err error) {
	w.guard.Lock()
	defer w.guard.Unlock()
	w.failures = append(w.failures, err)
}

// watch opens all watches and comes back when all are there; they end with the context.
func (w *world) watch(ctx context.Context) (*watches, error) {
	all := &watches{}
	ctx = clientv3.WithRequireLeader(ctx)
	for at, server := range w.servers {
		now, err := server.own.Client.Get(ctx, "/registry/health", clientv3.WithLimit(1))
		if err != nil {
			return nil, err
		}
		from := now.Header.Revision + 1
		for of, client := range server.clients {
			if of != events {
				channel := watchPrefix(ctx, client.Client, prefixes[of], from)
				all.running.Go(func() { all.follow(ctx, channel, at, of) })
			}
		}
		for other, client := range server.idle {
			prefix := fmt.Sprintf("/registry/resource-%03d/", other)
			channel := watchPrefix(ctx, client.Client, prefix, from)
			all.running.Go(func() { all.expectSilence(ctx, channel) })
		}
		channel := server.own.Watch(ctx, compactKey, clientv3.WithRev(from), clientv3.WithPrevKV())
		all.running.Go(func() {
			for range channel {
			}
		})
	}
	return all, nil
}

func watchPrefix(
	ctx context.Context, client *clientv3.Client, prefix string, from int64,
) clientv3.WatchChan {
	return client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from),
		clientv3.WithPrevKV(), clientv3.WithProgressNotify())
}

func (w *watches) follow(ctx context.Context, channel clientv3.WatchChan, at, of int) {
	last := int64(0)
	for response := range channel {
		if err := response.Err(); err != nil {
			w.fail(err)
			return
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision <= last {
				w.fail(fmt.Errorf("revision %d comes after %d", event.Kv.ModRevision, last))
			}
			last = event.Kv.ModRevision
			if !event.IsCreate() && event.PrevKv == nil {
				w.fail(fmt.Errorf("no previous value of %s", event.Kv.Key))
			}
			if of == leases && w.counting.Load() {
				if at, ok := sent(event.Kv.Value); ok {
					w.delays.answer(time.Since(at))
				}
			}
		}
		w.received[at][of].Add(int64(len(response.Events)))
	}
	if ctx.Err() == nil {
		w.fail(fmt.Errorf("the watch of %s ended", prefixes[of]))
	}
}

func (w *watches) expectSilence(ctx context.Context, channel clientv3.WatchChan) {
	for response := range channel {
		if err := response.Err(); err != nil {
			w.fail(err)
		} else if len(response.Events) > 0 {
			w.fail(fmt.Errorf("an event of nobody's: %s", response.Events[0].Kv.Key))
		}
	}
	if ctx.Err() == nil {
		w.fail(fmt.Errorf("a watch ended"))
	}
}

// settle waits until each watch told of all that was acknowledged.
func (w *watches) settle(ctx context.Context, world *world) error {
	ctx, cancel := context.WithTimeout(ctx, watchDeadline)
	defer cancel()
	for at := range w.received {
		for of := range w.received[at] {
			for of != events && w.received[at][of].Load() < world.resources[of].changes.Load() {
				if err := w.failure(); err != nil {
					return err
				}
				if pause(ctx, 10*time.Millisecond) != nil {
					return fmt.Errorf("a watch of %s has %d of %d changes", prefixes[of],
						w.received[at][of].Load(), world.resources[of].changes.Load())
				}
			}
		}
	}
	return w.failure()
}

func (w *watches) failure() error {
	w.guard.Lock()
	defer w.guard.Unlock()
	if len(w.failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d faults of watches, the first: %w", len(w.failures), w.failures[0])
}
