package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// ClockName says in a table what Clock measures.
const ClockName = "processor time, a garbage collector's included"

// Clock is the processor time of this process. Other work on the machine does not count, but what a garbage collector
// does for the code that is measured, on whichever thread, does: it is part of what allocating costs.
func Clock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err) // since Linux 2.6
	}
	return time.Duration(t.Nano())
}
