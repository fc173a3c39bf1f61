package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// ClockName says in a table what Clock measures.
const ClockName = "processor time of the thread that counts"

// Clock is the processor time of this thread, to which the goroutine must be locked. Other work on the machine
// does not count, nor what a garbage collector does on other threads.
func Clock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // since Linux 2.6
	}
	return time.Duration(t.Nano())
}
