//go:build !linux

package bench

import "math"

// CPU would be the processor time of a process in seconds; it is known on Linux only.
func CPU(int) float64 { return math.NaN() }

// RSS would be the memory of a process in bytes; it is known on Linux only.
func RSS(int) float64 { return math.NaN() }
