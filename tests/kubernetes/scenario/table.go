package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// table has a row for each thing that was seen and a column for each server.
type table struct {
	mutex   sync.Mutex
	columns []string
	rows    []string
	cells   map[[2]string]string
}

func (t *table) set(column, row, cell string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.cells == nil {
		t.cells = map[[2]string]string{}
	}
	if !slices.Contains(t.columns, column) {
		t.columns = append(t.columns, column)
	}
	t.place(row)
	t.cells[[2]string{row, column}] = cell
}

// expect gives a row its place before anything is known of it.
func (t *table) expect(row string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.place(row)
}

func (t *table) place(row string) {
	if !slices.Contains(t.rows, row) {
		t.rows = append(t.rows, row)
	}
}

func (t *table) String() string {
	var text strings.Builder
	aligned := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(aligned, "\t%s\n", strings.Join(t.columns, "\t"))
	for _, row := range t.rows {
		line := row
		for _, column := range t.columns {
			line += "\t" + t.cells[[2]string{row, column}]
		}
		fmt.Fprintln(aligned, line)
	}
	_ = aligned.Flush()
	return text.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
