//go:build !linux

package main

import "time"

const clockName = "ours and tiktoken-go by the wall clock, the others by their thread's processor time"

var start = time.Now()

// clock is the wall clock, where the processor time of a thread is not at hand: measure on an idle machine.
func clock() time.Duration { return time.Since(start) }
