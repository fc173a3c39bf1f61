package extproc

import (
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// unknownMemory is taken for the memory where nothing says how much there is, in bytes.
const unknownMemory = 4 << 30

// MachineMemory is how much memory this process can have at most, in bytes: what its
// container may use, else what the machine has.
func MachineMemory() int64 {
	least := int64(math.MaxInt64)
	groups, _ := os.ReadFile("/proc/self/cgroup") // elsewhere than on Linux there are none
	for _, name := range append(groupFiles(string(groups)), "/proc/meminfo") {
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

// groupFiles are the files which say how much memory the control groups may use that this
// process is in, of version 2 and 1, and those around them; cgroups is what
// /proc/self/cgroup says (cgroups(7)). In a container its own is the outermost that can be
// seen; a service of systemd is within others.
func groupFiles(cgroups string) (names []string) {
	for line := range strings.Lines(cgroups) {
		_, line, _ = strings.Cut(line, ":")
		controllers, group, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		dir, file := "/sys/fs/cgroup", "memory.max"
		switch {
		case !ok:
			continue
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			dir, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case controllers != "":
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			names = append(names, path.Join(dir, group, file))
			if group == "/" {
				break
			}
		}
	}
	return names
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
