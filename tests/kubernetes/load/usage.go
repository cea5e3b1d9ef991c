package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Ticks per second in /proc/PID/stat; Linux shows user space this number on every machine.
const clockTicksPerSecond = 100

// spent is what a process has used so far, and what it holds.
type spent struct {
	cpu time.Duration
	// Resident, and of that what no file backs, both in bytes.
	resident, anonymous int64
}

func (m *member) spent() (spent, error) {
	pid := m.process.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return spent{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return spent{}, err
	}
	return readSpent(string(stat), string(status))
}

// readSpent reads the files stat and status of /proc/PID.
func readSpent(stat, status string) (spent, error) {
	// The second field is the name in parentheses and may hold spaces; utime is field 14.
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 13 {
		return spent{}, fmt.Errorf("unexpected /proc/PID/stat: %q", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		one, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return spent{}, err
		}
		ticks += one
	}
	s := spent{cpu: time.Duration(ticks) * time.Second / clockTicksPerSecond}
	for name, to := range map[string]*int64{"VmRSS:": &s.resident, "RssAnon:": &s.anonymous} {
		_, rest, found := strings.Cut(status, "\n"+name)
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			return spent{}, fmt.Errorf("/proc/PID/status has no %s", name)
		}
		kib, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return spent{}, err
		}
		*to = kib * 1024
	}
	return s, nil
}

// spent is what each member has used so far.
func (c *cluster) spent() ([]spent, error) {
	var all []spent
	for _, m := range c.members {
		one, err := m.spent()
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", c.of.name, m.url, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// ownCPU is the processor time of this program so far: it has a share of the machine, too.
func ownCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
