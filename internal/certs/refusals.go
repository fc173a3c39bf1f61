package certs

import (
	"sync/atomic"
	"time"
)

// refusalInterval is how often a listener's refusals are told. Strangers can cause as
// many as they like.
const refusalInterval = time.Minute

// Refusals counts connections that a listener has refused in the TLS handshake, and
// says which are worth a line in the log. The zero value is ready.
type Refusals struct {
	next  atomic.Int64 // Unix time in nanoseconds from when the next one is told
	since atomic.Int64 // refused since the last one that was told
}

// Tell counts a refusal at a time. ok says whether to tell it, which is at most once a
// minute; n is how many there were since the last one that was told, this one included.
func (r *Refusals) Tell(now time.Time) (n int64, ok bool) {
	n = r.since.Add(1)
	next := r.next.Load()
	if now.UnixNano() < next || !r.next.CompareAndSwap(next, now.Add(refusalInterval).UnixNano()) {
		return 0, false
	}
	r.since.Add(-n)
	return n, true
}
