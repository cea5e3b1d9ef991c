package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// results is a file that takes figures, one a line; it may be none.
type results struct{ file *os.File }

func openResults(path string) (*results, error) {
	if path == "" {
		return &results{}, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &results{file}, err
}

func (r *results) write(what string, figures any) error {
	if r.file == nil {
		return nil
	}
	line, err := json.Marshal(map[string]any{what: figures})
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(line, '\n'))
	return err
}

func (r *results) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// table is printed as markdown with columns that also line up.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(to io.Writer) {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for at, cell := range row {
			widths[at] = max(widths[at], len(cell))
		}
	}
	for number, row := range t.rows {
		for at, cell := range row {
			if at == 0 {
				fmt.Fprintf(to, "| %-*s |", widths[at], cell)
			} else {
				fmt.Fprintf(to, " %*s |", widths[at], cell)
			}
		}
		fmt.Fprintln(to)
		if number == 0 {
			fmt.Fprintf(to, "| %s |", strings.Repeat("-", widths[0]))
			for _, width := range widths[1:] {
				fmt.Fprintf(to, " %s: |", strings.Repeat("-", max(width-1, 1)))
			}
			fmt.Fprintln(to)
		}
	}
}

// compared is a row: the server's and etcd's median of a quantity over rounds, and their ratio.
func compared[T any](t *table, name string, all []T, of func(T) string, quantity func(T) float64) {
	middle := func(name string) (float64, bool) {
		var values []float64
		for _, one := range all {
			if of(one) == name {
				values = append(values, quantity(one))
			}
		}
		return median(values), len(values) > 0
	}
	cells := []string{name}
	ours, haveOurs := middle(oursName)
	theirs, haveTheirs := middle(etcdName)
	for _, one := range []struct {
		value float64
		have  bool
	}{{ours, haveOurs}, {theirs, haveTheirs}} {
		if one.have {
			cells = append(cells, figure(one.value))
		} else {
			cells = append(cells, "-")
		}
	}
	t.row(append(cells, ratio(ours, theirs))...)
}

func ratio(ours, theirs float64) string {
	if theirs == 0 || ours == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", ours/theirs)
}

func serverOf(o *outcome) string { return o.Server }

// tell says in a few lines how it went.
func (o *outcome) tell(to io.Writer) {
	lease := o.Verbs[leaseUpdate.String()]
	fmt.Fprintf(to, "%s, %d nodes (filled in %.0f s): lease updates p50 %s, p99 %s, max %s ms; "+
		"%d requests, %d failed, %d conflicts; members %.1f CPU s, %.0f MiB; "+
		"driver %.1f CPU s, late by %.0f ms\n",
		o.Server, o.Nodes, o.Filling, figure(lease.P50), figure(lease.P99), figure(lease.Max),
		o.Requests, o.Failed, o.Conflicts, o.CPU, o.Resident, o.DriverCPU, o.Lateness)
	if o.WatchFault != "" {
		fmt.Fprintln(to, "  WATCHES:", o.WatchFault)
	}
	for _, text := range slices.Sorted(maps.Keys(o.Errors)) {
		fmt.Fprintf(to, "  %d times: %s\n", o.Errors[text], text)
	}
}

func printOutcomes(all []*outcome, sizes []int) {
	for _, nodes := range sizes {
		var these []*outcome
		for _, o := range all {
			if o.Nodes == nodes {
				these = append(these, o)
			}
		}
		fmt.Printf("\n%d nodes, milliseconds from when a request was due:\n\n", nodes)
		printVerbs(these)
		fmt.Println()
		printUse(these)
	}
}

func printVerbs(all []*outcome) {
	t := &table{}
	t.row("verb", "requests", "failed", "p50", "p99", "max", "etcd: failed", "p50", "p99", "max",
		"p99 ratio")
	add := func(name string, of func(*outcome) summary) {
		both := map[string]summary{}
		for _, server := range []string{oursName, etcdName} {
			both[server] = medians(all, server, of)
		}
		ours, theirs := both[oursName], both[etcdName]
		if ours.Count+theirs.Count == 0 {
			return
		}
		t.row(name, fmt.Sprint(max(ours.Count, theirs.Count)), fmt.Sprint(ours.Failed),
			figure(ours.P50), figure(ours.P99), figure(ours.Max), fmt.Sprint(theirs.Failed),
			figure(theirs.P50), figure(theirs.P99), figure(theirs.Max), ratio(ours.P99, theirs.P99))
	}
	for v := range verbs {
		add(v.String(), func(o *outcome) summary { return o.Verbs[v.String()] })
	}
	add("watch: lease update", func(o *outcome) summary { return o.Watch })
	t.print(os.Stdout)
}

func medians(all []*outcome, server string, of func(*outcome) summary) summary {
	middle := func(quantity func(summary) float64) float64 {
		var values []float64
		for _, o := range all {
			if o.Server == server {
				values = append(values, quantity(of(o)))
			}
		}
		return median(values)
	}
	return summary{
		Count:  int(middle(func(s summary) float64 { return float64(s.Count) })),
		Failed: int(middle(func(s summary) float64 { return float64(s.Failed) })),
		P50:    middle(func(s summary) float64 { return s.P50 }),
		P99:    middle(func(s summary) float64 { return s.P99 }),
		Max:    middle(func(s summary) float64 { return s.Max }),
	}
}

func printUse(all []*outcome) {
	t := &table{}
	t.row("all verbs", "orrery", "etcd", "ratio")
	add := func(name string, quantity func(*outcome) float64) {
		compared(t, name, all, serverOf, quantity)
	}
	add("CPU seconds, all members", func(o *outcome) float64 { return o.CPU })
	add("RSS of the largest member, MiB", func(o *outcome) float64 { return o.Resident })
	add("of that without files, MiB", func(o *outcome) float64 { return o.Anonymous })
	add("failed requests", func(o *outcome) float64 { return float64(o.Failed) })
	add("CPU seconds of this program", func(o *outcome) float64 { return o.DriverCPU })
	add("this program late by at most, ms", func(o *outcome) float64 { return o.Lateness })
	t.print(os.Stdout)
	for _, o := range all {
		if o.WatchFault != "" {
			fmt.Printf("%s, round %d: %s\n", o.Server, o.Round, o.WatchFault)
		}
	}
}

func printSearch(servers []server, searches map[string]*search, p *plan, complete bool) {
	fmt.Printf("\nMost nodes with a p99 of lease updates below %v, in %v:\n\n", p.target, p.searchWindow)
	t := &table{}
	t.row("", "passed", "failed")
	for _, of := range servers {
		s := searches[of.name]
		failed := "-"
		if s.failed > 0 {
			failed = fmt.Sprint(s.failed)
		}
		t.row(of.name, fmt.Sprint(s.passed), failed)
	}
	t.print(os.Stdout)
	if len(servers) == 2 {
		fmt.Printf("\nratio: %s\n", ratio(float64(searches[oursName].passed),
			float64(searches[etcdName].passed)))
	}
	if !complete {
		fmt.Println("The time for the search ended before it was done.")
	}
}
