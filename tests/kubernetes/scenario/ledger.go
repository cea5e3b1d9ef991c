package main

import (
	"sync"
	"time"
)

// ledger has every write that was acknowledged to the writers, in this order.
type ledger struct {
	begun time.Time

	mutex   sync.Mutex
	entries []entry
}

type entry struct {
	at       time.Duration // since the ledger was begun
	writer   int
	revision int64 // of the storage; the resourceVersion
}

func (l *ledger) now() time.Duration { return time.Since(l.begun) }

func (l *ledger) acknowledged(writer int, revision int64) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.entries = append(l.entries, entry{l.now(), writer, revision})
}

func (l *ledger) all() []entry {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.entries[:len(l.entries):len(l.entries)]
}

func (l *ledger) count(since time.Duration) int {
	count := 0
	for _, one := range l.all() {
		if one.at >= since {
			count++
		}
	}
	return count
}

// longestGap is the longest time between two times in which nobody was acknowledged anything.
func (l *ledger) longestGap(from, to time.Duration) time.Duration {
	var longest time.Duration
	last := from
	for _, one := range l.all() {
		if one.at < from || one.at > to {
			continue
		}
		longest = max(longest, one.at-last)
		last = one.at
	}
	return max(longest, to-last)
}

// longestWait is the longest time that one writer waited for its next acknowledgement.
func (l *ledger) longestWait(since time.Duration) time.Duration {
	var longest time.Duration
	last := map[int]time.Duration{}
	for _, one := range l.all() {
		if one.at < since {
			continue
		}
		if before, found := last[one.writer]; found {
			longest = max(longest, one.at-before)
		}
		last[one.writer] = one.at
	}
	return longest
}
