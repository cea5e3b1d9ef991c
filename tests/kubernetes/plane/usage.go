package plane

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// Usage is what a member takes of its machine.
type Usage struct {
	MemoryMiB int
	CPU       time.Duration
}

// Clock ticks in a second, as the kernel tells times to programs.
const ticks = 100

// Usage of each member; the CPU is that of all its processes.
func (m *Members) Usage() []Usage {
	usages := make([]Usage, len(m.list))
	for i, one := range m.list {
		folder := fmt.Sprintf("/proc/%d/", one.process.command.Process.Pid)
		// The name, which may have anything in it, ends with the last parenthesis.
		if text, err := os.ReadFile(folder + "stat"); err == nil {
			fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
			var user, system int
			if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err == nil {
				usages[i].CPU = one.spent + time.Duration(user+system)*time.Second/ticks
			}
		}
		if text, err := os.ReadFile(folder + "status"); err == nil {
			for line := range strings.Lines(string(text)) {
				if size, is := strings.CutPrefix(line, "VmRSS:"); is {
					_, _ = fmt.Sscan(size, &usages[i].MemoryMiB)
					usages[i].MemoryMiB /= 1024
				}
			}
		}
	}
	return usages
}
