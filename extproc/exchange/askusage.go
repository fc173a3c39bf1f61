package exchange

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// IncludeUsage is a setting of [Policy].
type IncludeUsage uint8

// The values of [IncludeUsage].
const (
	UsageAuto   IncludeUsage = iota // streams are asked for their usage, until an upstream rejects that
	UsageAlways                     // also then
	UsageNever                      // only if the client itself asks
)

// Rejected knows the upstreams that reject stream_options, for a time. An upstream is what
// the authority, the path and the model of a request lead to: Envoy may route by each of
// them. It is safe for concurrent use.
//
// What it knows costs accuracy, since hidden reasoning is in the reported usage only. So a
// complaint counts only if it can be about nothing that the client wrote.
type Rejected struct {
	mu    sync.Mutex
	seed  maphash.Seed // clients must not be able to make two upstreams one
	since map[uint64]time.Time
}

const (
	maxRejected = 1024           // upstreams; the one that was learned first makes room
	rejectedFor = 24 * time.Hour // then it is tried again: upstreams are updated
	maxComplain = 16 << 10       // bytes of a complaint; what is longer repeats the request
)

// NewRejected returns one that knows nothing.
func NewRejected() *Rejected {
	return &Rejected{seed: maphash.MakeSeed(), since: make(map[uint64]time.Time)}
}

// key stands for an upstream.
func (r *Rejected) key(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for _, p := range parts {
		_, _ = h.WriteString(p) // which never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (r *Rejected) has(key uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.since[key]
	if ok && now.Sub(at) > rejectedFor {
		delete(r.since, key)
		return false
	}
	return ok
}

func (r *Rejected) add(key uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.since) >= maxRejected {
		oldest := key
		for k, at := range r.since {
			if o, ok := r.since[oldest]; !ok || at.Before(o) {
				oldest = k
			}
		}
		delete(r.since, oldest)
	}
	r.since[key] = now
}

// askForUsage decides whether the upstream is asked for the usage of a stream.
func (x *Exchange) askForUsage() {
	if !x.request.AsksForUsage() || x.policy.IncludeUsage == UsageAlways {
		return
	}
	if x.policy.IncludeUsage == UsageNever {
		x.request.LeaveUsage()
		return
	}
	r := x.policy.Rejected
	x.asked = r.key(x.authority, x.path, strings.ToLower(x.request.Model))
	switch {
	case r.has(x.asked, x.policy.Now()):
		x.request.LeaveUsage()
		x.asked = 0
	case !x.request.OnlyAskedHere():
		x.asked = 0 // a complaint could be about what the client wrote
	}
}

// complains says that an answer may be the upstream's complaint about what was asked for.
func (x *Exchange) complains(status int) bool {
	return x.asked != 0 && (status == 400 || status == 422)
}

// keepComplaint keeps such an answer, and reads it at the end. One that is too long teaches
// nothing: its beginning may end within what it repeats.
func (x *Exchange) keepComplaint(body []byte, eos bool) {
	if x.complaint == nil {
		return
	}
	x.complaint = append(x.complaint, body[:min(len(body), maxComplain+1-len(x.complaint))]...)
	if eos && len(x.complaint) <= maxComplain && dialect.RejectsStreamOptions(x.complaint) {
		x.policy.Rejected.add(x.asked, x.policy.Now())
		x.record.Reason = "the upstream rejects stream_options: its streams are no longer asked for their usage"
	}
}
