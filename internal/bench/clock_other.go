//go:build !linux

package bench

import "time"

// ClockName says in a table what Clock measures.
const ClockName = "ours and tiktoken-go by the wall clock, the others by their processor time"

var start = time.Now()

// Clock is the wall clock, where the processor time of a process is not at hand: measure on an idle machine.
func Clock() time.Duration { return time.Since(start) }
