package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// record is what came of a schedule.
type record struct {
	verbs [verbs]latencies

	guard sync.Mutex
	// How often each error was met.
	errors map[string]int
	// How late this program itself was at most: it shares the machine.
	lateness time.Duration
}

var errTooMany = errors.New("too many requests in flight")

// How many different errors are told of; servers put numbers into some.
const errorTexts = 20

func (r *record) failed(v verb, err error) {
	r.guard.Lock()
	defer r.guard.Unlock()
	text := fmt.Sprintf("%v: %v", v, err)
	if r.errors == nil {
		r.errors = make(map[string]int)
	}
	if _, known := r.errors[text]; !known && len(r.errors) >= errorTexts {
		text = "others"
	}
	r.errors[text]++
}

// openLoop is requests that are sent when they are due, not when earlier ones are answered.
type openLoop struct {
	// Requests that may wait for answers at once; what is due beyond that has failed.
	inFlight int
	timeout  time.Duration
	// What is due earlier is sent and not counted.
	counted time.Duration
	send    func(context.Context, arrival, note) error
}

// note takes what came of a request that another one entails.
type note func(v verb, began time.Time, err error)

// run sends all, waits for the answers, and calls begun when the counted part begins, ended when all of
// it has been sent.
func (o *openLoop) run(
	ctx context.Context, all []arrival, duration time.Duration, begun, ended func(),
) (*record, error) {
	r := &record{}
	slots := make(chan struct{}, o.inFlight)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	begin, counting := time.Now(), false
	for _, one := range all {
		if !counting && one.at >= o.counted {
			counting = true
			if err := pauseUntil(ctx, begin.Add(o.counted)); err != nil {
				return nil, err
			}
			begun()
		}
		due := begin.Add(one.at)
		if err := pauseUntil(ctx, due); err != nil {
			return nil, err
		}
		r.late(time.Since(due), counting)
		select {
		case slots <- struct{}{}:
		default:
			if counting {
				r.verbs[one.verb].fail(o.timeout)
				r.failed(one.verb, errTooMany)
			}
			continue
		}
		counted := counting
		waiting.Go(func() {
			defer func() { <-slots }()
			o.one(ctx, r, one, due, counted)
		})
	}
	if err := pauseUntil(ctx, begin.Add(duration)); err != nil {
		return nil, err
	}
	ended()
	waiting.Wait()
	return r, ctx.Err()
}

func (o *openLoop) one(ctx context.Context, r *record, a arrival, due time.Time, counted bool) {
	ctx, cancel := context.WithDeadline(ctx, due.Add(o.timeout))
	defer cancel()
	took := func(v verb, due time.Time, err error) {
		latency := time.Since(due)
		switch {
		case !counted:
		case err != nil:
			r.verbs[v].fail(max(latency, o.timeout))
			r.failed(v, err)
		default:
			r.verbs[v].answer(latency)
		}
	}
	took(a.verb, due, o.send(ctx, a, took))
}

func (r *record) late(by time.Duration, counted bool) {
	if counted {
		r.lateness = max(r.lateness, by)
	}
}

func pauseUntil(ctx context.Context, due time.Time) error {
	if wait := time.Until(due); wait > 0 {
		return pause(ctx, wait)
	}
	return nil
}
