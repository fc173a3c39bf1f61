package bench

import (
	"bytes"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// CPU is the processor time that a process has used so far, in user and kernel mode and on all its threads, in
// seconds; NaN if there is no such process. It is exact to well below a millisecond, unlike the ticks of 10 ms in
// /proc/PID/stat: the clock of another process is the complement of its id, shifted, with the bits of
// CPUCLOCK_SCHED (clock_getcpuclockid(3); MAKE_PROCESS_CPUCLOCK in Linux's posix-timers.h).
func CPU(pid int) float64 {
	const sched = 2
	var t unix.Timespec
	if pid <= 0 || unix.ClockGettime(int32(^pid<<3|sched), &t) != nil {
		return math.NaN()
	}
	return float64(t.Nano()) / 1e9
}

// RSS is the memory of a process that is in RAM now, in bytes, files that it has mapped included; NaN if that
// is not known. It adds up the pages (proc(5), smaps_rollup); the figure in /proc/PID/status may lag.
func RSS(pid int) float64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return math.NaN()
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == "Rss:" {
			if kb, err := strconv.ParseFloat(string(fields[1]), 64); err == nil {
				return kb * 1024
			}
		}
	}
	return math.NaN()
}
