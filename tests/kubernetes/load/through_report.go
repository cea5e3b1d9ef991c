package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Rows of several kinds.
const (
	allWrites   = "all writes"
	allReads    = "all reads"
	otherWrites = "rare writes"
	otherReads  = "rare reads"
)

// What this program does itself, and sees of it.
const (
	ownLeases  = "lease update"
	ownCreates = "pod create"
	ownDeletes = "pod delete"
	ownRuns    = "pod: from create to running"
)

// kindNamed is the kind of a row, if it is of one.
func kindNamed(row string) kind {
	verb, resource, _ := strings.Cut(row, " ")
	return kind{verb, resource}
}

// tell says in a few lines how it went.
func (p *passage) tell(to io.Writer) {
	lease := p.Served["PUT leases"]
	fmt.Fprintf(to, "%s: %d lease updates, p99 %s ms; %d writes, p99 %s ms; members %.1f CPU s, %.0f MiB; %s\n",
		p.Server, lease.Count, figure(lease.P99), p.Served[allWrites].Count,
		figure(p.Served[allWrites].P99), p.CPU, p.Resident, p.verdict())
	for _, text := range slices.Sorted(maps.Keys(p.Errors)) {
		fmt.Fprintf(to, "  %d times: %s\n", p.Errors[text], text)
	}
	for _, text := range slices.Sorted(maps.Keys(p.Failed)) {
		fmt.Fprintf(to, "  answered %.0f times: %s\n", p.Failed[text], text)
	}
}

func (p *passage) verdict() string {
	if faults := p.faults(); len(faults) > 0 {
		return "NOT PASSED: " + strings.Join(faults, "; ")
	}
	return "passed"
}

// printPassages fails when ours has not passed.
func printPassages(all []*passage) error {
	fmt.Print("\nAt the API servers, by their own metrics, whose first bound is 5 ms (milliseconds):\n\n")
	printCalls(all, func(p *passage) map[string]call { return p.Served })
	fmt.Print("\nWhat they asked of the members, likewise:\n\n")
	printCalls(all, func(p *passage) map[string]call { return p.Storage })
	fmt.Print("\nRequests of this program, from when each was due (milliseconds):\n\n")
	printOwn(all)
	fmt.Println()
	printTotals(all)
	fmt.Println()
	var err error
	for _, p := range all {
		fmt.Printf("%s, round %d: %s\n", p.Server, p.Round, p.verdict())
		if p.Server == oursName && len(p.faults()) > 0 {
			err = errors.New("not passed")
		}
	}
	return err
}

func printCalls(all []*passage, of func(*passage) map[string]call) {
	t := &table{}
	t.row("", "calls", "mean", "p50", "p99", "etcd: calls", "mean", "p50", "p99", "ratio of means", "of p99")
	names := map[string]bool{}
	for _, p := range all {
		for name := range of(p) {
			names[name] = true
		}
	}
	sorted := slices.SortedFunc(maps.Keys(names), func(one, other string) int {
		return slices.Compare([]string{kindNamed(one).resource, one}, []string{kindNamed(other).resource, other})
	})
	for _, name := range sorted {
		cells := []string{name}
		both := map[string]call{}
		for _, server := range []string{oursName, etcdName} {
			middle := func(quantity func(call) float64) float64 {
				var values []float64
				for _, p := range all {
					if p.Server == server {
						values = append(values, quantity(of(p)[name]))
					}
				}
				return median(values)
			}
			row := call{
				Count: int(middle(func(c call) float64 { return float64(c.Count) })),
				Mean:  middle(func(c call) float64 { return c.Mean }),
				P50:   middle(func(c call) float64 { return c.P50 }),
				P99:   middle(func(c call) float64 { return c.P99 }),
			}
			both[server] = row
			cells = append(cells, fmt.Sprint(row.Count), figure(row.Mean), figure(row.P50), figure(row.P99))
		}
		ours, theirs := both[oursName], both[etcdName]
		t.row(append(cells, ratio(ours.Mean, theirs.Mean), ratio(ours.P99, theirs.P99))...)
	}
	t.print(os.Stdout)
}

func passageOf(p *passage) string { return p.Server }

func printOwn(all []*passage) {
	t := &table{}
	t.row("", "orrery", "etcd", "ratio")
	for _, name := range []string{ownLeases, ownCreates, ownDeletes, ownRuns} {
		for _, one := range []struct {
			name string
			of   func(summary) float64
		}{
			{"p50", func(s summary) float64 { return s.P50 }},
			{"p99", func(s summary) float64 { return s.P99 }},
			{"max", func(s summary) float64 { return s.Max }},
		} {
			quantity := func(p *passage) float64 { return one.of(p.Own[name]) }
			compared(t, name+", "+one.name, all, passageOf, quantity)
		}
	}
	t.print(os.Stdout)
}

func printTotals(all []*passage) {
	t := &table{}
	t.row("all", "orrery", "etcd", "ratio")
	add := func(name string, quantity func(*passage) float64) {
		compared(t, name, all, passageOf, quantity)
	}
	// 404 and 409 are answers that controllers count on.
	coded := func(prefixes ...string) func(*passage) float64 {
		return func(p *passage) (sum float64) {
			for name, count := range p.Failed {
				if slices.ContainsFunc(prefixes, func(one string) bool { return strings.HasPrefix(name, one) }) {
					sum += count
				}
			}
			return sum
		}
	}
	add("seconds from nothing to ready nodes", func(p *passage) float64 { return p.Starting })
	add("answers 500 and above", coded("5"))
	add("answers 429 (too many requests)", coded("429"))
	add("answers 409 (conflict)", coded("409"))
	add("other answers of 400 to 499", func(p *passage) float64 {
		return coded("4")(p) - coded("409", "429")(p)
	})
	add("failed requests of this program", func(p *passage) (sum float64) {
		for _, count := range p.Errors {
			sum += float64(count)
		}
		return sum
	})
	add("nodes that were not ready", func(p *passage) float64 { return float64(len(p.NotReady)) })
	add("pods that did not run", func(p *passage) float64 { return float64(p.Unborn) })
	add("pods that did not go", func(p *passage) float64 { return float64(p.Undead) })
	add("CPU seconds, all members", func(p *passage) float64 { return p.CPU })
	add("RSS of the largest member, MiB", func(p *passage) float64 { return p.Resident })
	add("CPU seconds of the API servers", func(p *passage) float64 { return p.PlaneCPU })
	add("CPU seconds of this program", func(p *passage) float64 { return p.DriverCPU })
	t.print(os.Stdout)
}
