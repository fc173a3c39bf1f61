//go:build !linux

package bench

import "time"

// Now is the time in nanoseconds on a clock that all processes of the machine share: the one on the wall, where
// a monotonic one that they share is not at hand.
func Now() int64 { return time.Now().UnixNano() }
