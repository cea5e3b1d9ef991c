package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// summary is what is told of many latencies.
type summary struct {
	Count  int     `json:"count"`
	Failed int     `json:"failed"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// latencies are those of requests of one kind, from when each was due to its answer.
type latencies struct {
	guard    sync.Mutex
	answered []time.Duration
	failed   []time.Duration
}

func (l *latencies) answer(latency time.Duration) {
	l.guard.Lock()
	defer l.guard.Unlock()
	l.answered = append(l.answered, latency)
}

// fail notes a request without an answer, which is worse than any answer: it counts as the longest
// that one could have waited.
func (l *latencies) fail(atLeast time.Duration) {
	l.guard.Lock()
	defer l.guard.Unlock()
	l.failed = append(l.failed, atLeast)
}

func (l *latencies) summary() summary {
	l.guard.Lock()
	defer l.guard.Unlock()
	all := slices.Concat(l.answered, l.failed)
	slices.Sort(all)
	return summary{
		Count: len(all), Failed: len(l.failed),
		P50: milliseconds(quantile(all, 0.50)),
		P99: milliseconds(quantile(all, 0.99)),
		Max: milliseconds(quantile(all, 1)),
	}
}

// quantile is the smallest value that at least that share of the sorted values does not exceed; zero
// of none.
func quantile[T any](sorted []T, share float64) T {
	if len(sorted) == 0 {
		var none T
		return none
	}
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median of few values: the mean of the two in the middle where there is none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// figure is a number for a table, with as many digits as it deserves.
func figure(value float64) string {
	switch size := math.Abs(value); {
	case size == 0:
		return "0"
	case size < 1:
		return fmt.Sprintf("%.2f", value)
	case size < 10:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.0f", value)
	}
}
