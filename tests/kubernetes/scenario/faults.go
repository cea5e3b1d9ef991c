package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fault is something that happens to the cluster below the API servers, and how it ends.
type fault struct {
	name string
	// Whether it is the leader that it happens to; one of the others by turns if not.
	leader bool
	begin  func(ctx context.Context, r *run, member int) error
	end    func(ctx context.Context, r *run, member int) error
}

var everyFault = []fault{
	{"a follower is killed", false, kill, restart},
	{"the leader is killed", true, kill, restart},
	{"a follower is paused", false, stall, resume},
	{"the leader is paused", true, stall, resume},
	{"a follower is cut off", false, cutOff, heal},
	{"the leader is cut off", true, cutOff, heal},
	{"everything is compacted", false, compact, compact},
	{"a member is replaced", false, remove, add},
	{"the leader is replaced", true, remove, add},
}

func kill(_ context.Context, r *run, member int) error {
	r.members.Kill(member)
	return nil
}

func restart(ctx context.Context, r *run, member int) error { return r.members.Restart(ctx, member) }

func stall(_ context.Context, r *run, member int) error {
	r.members.Pause(member)
	return nil
}

func resume(ctx context.Context, r *run, member int) error { return r.members.Resume(ctx, member) }

func cutOff(_ context.Context, r *run, member int) error {
	r.members.CutOff(member)
	return nil
}

func heal(ctx context.Context, r *run, member int) error { return r.members.Heal(ctx, member) }

func remove(ctx context.Context, r *run, member int) error { return r.members.Remove(ctx, member) }

func add(ctx context.Context, r *run, member int) error { return r.members.Add(ctx, member) }

// compact leaves no history at all, which the API servers rely on for some minutes.
func compact(ctx context.Context, r *run, _ int) error {
	return eventually(ctx, patience, func() error {
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		now, err := r.etcd.Get(limited, "none")
		if err != nil {
			return err
		}
		_, err = r.etcd.Compact(limited, now.Header.Revision, clientv3.WithCompactPhysical())
		return err
	})
}

// faults happen one after the other for as long as the steps take, and each of them at least once.
type faults struct {
	enough context.CancelFunc
	until  time.Time
	ended  sync.WaitGroup

	mutex sync.Mutex
	round int
}

func (r *run) startFaults(ctx context.Context) *faults {
	going, enough := context.WithCancel(ctx)
	f := &faults{enough: enough, until: time.Now().Add(r.size.lasting)}
	f.ended.Go(func() {
		for turn := 0; going.Err() == nil; turn++ {
			kind := everyFault[turn%len(everyFault)]
			first := turn < len(everyFault)
			if err := r.inflict(ctx, kind, turn, first); err != nil && ctx.Err() == nil {
				r.violated("%s: %v", kind.name, err)
			}
			f.mutex.Lock()
			f.round = (turn + 1) / len(everyFault)
			f.mutex.Unlock()
		}
	})
	return f
}

// finished tells whether each fault has happened, and it has been going on for long enough.
func (f *faults) finished() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.round > 0 && time.Now().After(f.until)
}

// wait lets the last fault end.
func (f *faults) wait() {
	f.enough()
	f.ended.Wait()
}

// inflict has one fault happen, and says how long nothing was acknowledged because of it.
func (r *run) inflict(ctx context.Context, kind fault, turn int, first bool) error {
	leader, err := r.members.Leader(ctx)
	if err != nil {
		return err
	}
	member := leader
	if !kind.leader {
		member = (leader + 1 + turn%2) % 3
	}
	begun := r.probes.now()
	r.say("%s (%s)", kind.name, r.members.Name(member))
	if err := kind.begin(ctx, r, member); err != nil {
		return err
	}
	pause(ctx, r.size.hold)
	if err := kind.end(ctx, r, member); err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	back := r.probes.now()
	pause(ctx, r.size.settle)
	longest := r.probes.longestGap(begun, r.probes.now())
	r.say("%s: nothing was acknowledged for %s at the longest; over after %s", kind.name,
		milliseconds(longest), seconds(back-begun))
	if first {
		r.row(kind.name+": longest time without a write", milliseconds(longest))
	}
	return nil
}
