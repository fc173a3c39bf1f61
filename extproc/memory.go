package extproc

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// Where Linux says how much memory there is, in the order in which they are asked: for the
// container (control groups, version 2 and 1), then of the machine.
var memoryFiles = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/proc/meminfo"}

// unknownMemory is taken for the memory where nothing says how much there is, in bytes.
const unknownMemory = 4 << 30

// MachineMemory is how much memory this process can have at most, in bytes: what its
// container may use, else what the machine has.
func MachineMemory() int64 {
	least := int64(math.MaxInt64)
	for _, name := range memoryFiles {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if n, ok := parseMemory(string(text)); ok {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return unknownMemory
	}
	return least
}

// parseMemory reads a number of bytes, or the line MemTotal of /proc/meminfo. "max", and
// what is as good as that, is none.
func parseMemory(text string) (int64, bool) {
	unit := int64(1)
	if _, after, ok := strings.Cut(text, "MemTotal:"); ok {
		if text, _, ok = strings.Cut(after, "kB"); !ok {
			return 0, false
		}
		unit = 1 << 10
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n <= 0 || n > 1<<50/unit {
		return 0, false
	}
	return n * unit, true
}

// memoryLimit is what the garbage collector keeps the process below (GOMEMLIMIT), in
// bytes, or else MachineMemory.
func memoryLimit() int64 {
	if n := debug.SetMemoryLimit(-1); n < math.MaxInt64 {
		return n
	}
	return MachineMemory()
}
