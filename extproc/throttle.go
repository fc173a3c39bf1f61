package extproc

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// A request that a limit throttles waits here. Nothing is held for it meanwhile, and no
// goroutine is kept: the receiver goes back to Recv, so that it notices when the client
// leaves, and the handler's alarm asks the ledger again.
//
// It does so every tenth of a second or so, since others may give back what they held at
// any time, and at the end of the window. Then all that wait would come at once; they are
// spread over a twentieth of a second, those who have waited longest first. There is no
// queue: the ledger decides in a microsecond, and a queue's head that needs much room
// would keep those behind it from room that is enough for them. Nor do those who wait
// keep others out: who comes when there is room gets it.
const (
	retryEvery  = 100 * time.Millisecond // give or take a half
	retrySpread = 50 * time.Millisecond
)

// What waits in all, on all limits. Beyond, requests are refused at once. A request that
// waits keeps its body.
const (
	maxWaiting      = 1000
	maxWaitingBytes = 256 << 20
)

// waiting counts the requests that wait.
type waiting struct{ requests, bytes atomic.Int64 }

// enter counts one more request, of so many bytes, or returns false if there are too many.
func (w *waiting) enter(size int64) bool {
	requests, bytes := w.requests.Add(1), w.bytes.Add(size)
	if requests > maxWaiting || bytes > maxWaitingBytes {
		w.leave(size)
		return false
	}
	return true
}

func (w *waiting) leave(size int64) {
	w.requests.Add(-1)
	w.bytes.Add(-size)
}

// pause is a session's request that waits. The zero value is one that does not.
type pause struct {
	request *budget.Request // to be asked for again; nil if none waits
	size    int64           // of its body, as waiting counts it
	denial  budget.Decision // the last
	since   time.Time       // of the first
	until   time.Time       // when it is given up
	next    time.Time       // when it is asked for again
}

// throttle lets a request wait that d denies, if it may. Else it returns false.
func (e *session) throttle(q *budget.Request, d budget.Decision) (exchange.Ready, bool) {
	now, w := time.Now(), &e.pause
	first := w.request == nil
	since, size := w.since, w.size
	if first {
		since, size = now, e.size
	}
	until, ok := d.WaitUntil(since)
	if !ok || e.server.isDraining() {
		return exchange.Ready{}, false
	}
	if !first && w.until.Before(until) {
		until = w.until // Envoy was told so
	}
	if e.deadline.Before(until) {
		until = e.deadline
	}
	if !now.Before(until) || !d.ResetAt.IsZero() && d.ResetAt.After(until) {
		return exchange.Ready{}, false
	}
	if first && !e.server.waiting.enter(size) {
		return exchange.Ready{}, false
	}
	if first {
		e.server.opts.Metrics.waiting.Inc()
	}
	*w = pause{request: q, size: size, denial: d, since: since, until: until, next: nextTry(now, since, until, d)}
	e.alarm.Reset(w.next.Sub(now))
	return e.x.Throttle(d, until.Sub(now)), true
}

// nextTry is when a request that waits is asked for again.
func nextTry(now, since, until time.Time, d budget.Decision) time.Time {
	next := now.Add(retryEvery/2 + rand.N(retryEvery)) //nolint:gosec // spreads load, and guards nothing
	if !d.ResetAt.IsZero() && next.After(d.ResetAt) {
		// Of all that waits, what has waited for d.MaxDelay comes first.
		waited := min(max(d.ResetAt.Sub(since), 0), d.MaxDelay)
		next = d.ResetAt.Add(time.Duration(float64(retrySpread) * (1 - float64(waited)/float64(d.MaxDelay))))
		if next.Before(now) {
			next = now
		}
	}
	if next.After(until) {
		return until
	}
	return next
}

// waits reports whether a request waits for a limit that throttles.
func (e *session) waits() bool { return e.pause.request != nil }

// endWait is called when the wait has ended, however it did.
func (e *session) endWait() {
	if e.waits() {
		e.server.waiting.leave(e.pause.size)
		e.server.opts.Metrics.waiting.Dec()
		e.pause = pause{}
	}
}

// giveUp refuses a request that waits, because the server shuts down.
func (e *session) giveUp() exchange.Ready {
	if !e.waits() {
		return exchange.Ready{}
	}
	return e.x.Reserved(nil, e.pause.denial, nil)
}

// isDraining reports whether the server shuts down.
func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}
