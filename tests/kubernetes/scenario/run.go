package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	clientv3 "go.etcd.io/etcd/client/v3"

	"orrery.invalid/kubernetes/plane"
)

const (
	// Short, so that they happen while the scenario runs.
	eventTTL           = 30 * time.Second
	compactionInterval = 20 * time.Second
	// How long whatever must come about in the end may take.
	patience = 90 * time.Second
)

const startRow = "from nothing to ready nodes"

// run is the scenario on one server.
type run struct {
	name    string
	plane   *plane.Plane
	members *plane.Members
	size    sizes
	table   *table
	begun   time.Time

	// One of each for each API server.
	clients []*kubernetes.Clientset
	dynamic []*dynamic.DynamicClient
	etcd    *clientv3.Client

	// What the steps of a phase share: "calm" or "faults".
	phase string
	// Where events were written.
	eventSpaces []string

	errors *errorCounts
	// Of the writers; of the probes.
	ledger, probes *ledger

	mutex      sync.Mutex
	violations []string
}

func newRun(
	name string, started *plane.Plane, members *plane.Members, size sizes, table *table,
) (*run, error) {
	r := &run{
		name: name, plane: started, members: members, size: size, table: table, begun: time.Now(),
		errors: &errorCounts{},
	}
	r.ledger, r.probes = &ledger{begun: r.begun}, &ledger{begun: r.begun}
	// What happens at the same time as something else has a place of its own in the table.
	table.expect(startRow)
	for _, phase := range []string{"calm", "faults"} {
		for _, step := range everyStep {
			table.expect(phase + ": " + step.name)
		}
	}
	for _, kind := range everyFault {
		table.expect(kind.name + ": longest time without a write")
	}
	var err error
	if r.etcd, err = members.Connect(); err != nil {
		return nil, err
	}
	for i, server := range started.APIServers {
		client, err := started.Clientset(i)
		if err != nil {
			return nil, err
		}
		untyped, err := dynamic.NewForConfig(server.Config)
		if err != nil {
			return nil, err
		}
		r.clients, r.dynamic = append(r.clients, client), append(r.dynamic, untyped)
	}
	return r, nil
}

// say prints what happens, with the time since the nodes were ready.
func (r *run) say(format string, values ...any) {
	fmt.Printf("%s %6.1f s  %s\n", r.name, time.Since(r.begun).Seconds(), fmt.Sprintf(format, values...))
}

func (r *run) row(name, cell string) { r.table.set(r.name, name, cell) }

// violated notes what must not happen; the scenario goes on.
func (r *run) violated(format string, values ...any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	violation := fmt.Sprintf(format, values...)
	r.violations = append(r.violations, violation)
	r.say("VIOLATED: %s", violation)
}

// all is the whole scenario: the steps in calm, the steps under faults, and what must hold in the end.
func (r *run) all(ctx context.Context) error {
	if err := r.create(ctx, 0, writersNamespace); err != nil {
		return err
	}
	if err := r.makeProbes(ctx); err != nil {
		return err
	}
	seen, err := r.observe(ctx)
	if err != nil {
		return err
	}
	defer seen.stop()
	writing := r.startWriters(ctx)
	beside, enough := context.WithCancel(ctx)
	var helping sync.WaitGroup
	helping.Go(func() { r.nudge(beside) })
	helping.Go(func() { r.probe(beside) })
	defer helping.Wait()
	defer enough()

	r.steps(ctx, "calm", func() bool { return true })
	if r.size.faults {
		faults := r.startFaults(ctx)
		r.steps(ctx, "faults", faults.finished)
		faults.wait()
	}
	if ctx.Err() != nil {
		writing.stop()
		return ctx.Err()
	}
	r.say("all faults are over; what must hold now")
	writing.stop()
	// What is compared must be at rest.
	enough()
	helping.Wait()
	r.check(ctx, writing, seen)
	r.costs()
	return nil
}

// steps does every step of the scenario, and again from the first until nothing more is wanted.
func (r *run) steps(ctx context.Context, phase string, enough func() bool) {
	begun := time.Now()
	r.phase = phase
	for round := 0; ctx.Err() == nil && (round == 0 || !enough()); round++ {
		if round > 0 {
			r.phase = fmt.Sprintf("%s-%d", phase, round)
		}
		for _, step := range everyStep {
			started := time.Now()
			err := step.do(ctx, r)
			if ctx.Err() != nil {
				return
			}
			took := seconds(time.Since(started))
			switch {
			case errors.Is(err, errLate):
				took = err.Error()
			case err != nil:
				r.violated("%s, %s: %v", phase, step.name, err)
				took = "failed"
			default:
				r.say("%s: %s, %s", r.phase, step.name, took)
			}
			if round == 0 {
				r.row(phase+": "+step.name, took)
			}
		}
	}
	r.summary(phase, begun)
}

// summary adds what the writers met in a phase.
func (r *run) summary(phase string, begun time.Time) {
	since := begun.Sub(r.ledger.begun)
	acknowledged := r.ledger.count(since)
	r.row(phase+": writes acknowledged", fmt.Sprint(acknowledged))
	r.row(phase+": longest time without a write",
		milliseconds(r.probes.longestGap(since, r.probes.now())))
	r.row(phase+": longest wait of one writer", milliseconds(r.ledger.longestWait(since)))
	failed, kinds := r.errors.take()
	share := 100 * float64(failed) / float64(max(1, failed+acknowledged))
	r.row(phase+": failed requests (all were retried)", fmt.Sprintf("%d (%.2f%%)", failed, share))
	for _, kind := range kinds {
		r.say("%s: failed: %s", phase, kind)
	}
}

// costs adds what the members took.
func (r *run) costs() {
	var memory, cpu []string
	for _, usage := range r.members.Usage() {
		memory = append(memory, fmt.Sprint(usage.MemoryMiB))
		cpu = append(cpu, fmt.Sprintf("%.0f", usage.CPU.Seconds()))
	}
	r.row("members' memory at the end, MiB", strings.Join(memory, " "))
	r.row("members' CPU in all, s", strings.Join(cpu, " "))
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kwok"} {
		r.row(name+" ended and was started again", fmt.Sprint(r.plane.Restarts(name)))
	}
	r.row("violations", fmt.Sprint(len(r.violations)))
}

// note writes to standard error what does not belong into the record.
func note(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
