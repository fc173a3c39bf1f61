package extproc

import (
	"fmt"
	"math/rand/v2"
	"sync"
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

// waiting counts the requests that wait. Those of one counter get a place only while they
// have fewer than are free: half of all, if no others wait. So a flood of one user's leaves
// room for others.
type waiting struct {
	mu   sync.Mutex
	all  places
	each map[string]places // by counter; only those of which requests wait
}

// places are those that requests have taken.
type places struct{ requests, bytes int64 }

func (p places) plus(requests, bytes int64) places {
	return places{p.requests + requests, p.bytes + bytes}
}

// enter counts one more request of so many bytes, which waits for a counter, or returns
// false if there are too many.
func (w *waiting) enter(counter string, size int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	mine := w.each[counter].plus(1, size)
	if mine.requests > maxWaiting-w.all.requests || mine.bytes > maxWaitingBytes-w.all.bytes {
		return false
	}
	if w.each == nil {
		w.each = make(map[string]places)
	}
	w.all, w.each[counter] = w.all.plus(1, size), mine
	return true
}

func (w *waiting) leave(counter string, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all, w.each[counter] = w.all.plus(-1, -size), w.each[counter].plus(-1, -size)
	if w.each[counter].requests == 0 {
		delete(w.each, counter)
	}
}

// pause is a session's request that waits. The zero value is one that does not.
type pause struct {
	request *budget.Request // to be asked for again; nil if none waits
	denial  budget.Decision // the last
	counter string          // whose place it has: that of the first denial
	size    int64           // bytes of its body
	since   time.Time       // of the first
	until   time.Time       // when it is given up
	next    time.Time       // when it is asked for again
}

// throttle lets a request wait that d denies, if it may. Else it returns false.
func (e *session) throttle(q *budget.Request, d budget.Decision) (exchange.Ready, bool) {
	now, w := time.Now(), &e.pause
	first := w.request == nil
	since := w.since
	if first {
		since = now
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
	if first {
		counter := fmt.Sprintf("%q", append([]budget.Identity{{Name: d.Limit}}, d.Subject...))
		if !e.server.waiting.enter(counter, e.size) {
			return exchange.Ready{}, false
		}
		e.server.opts.Metrics.waiting.Inc()
		w.counter, w.size = counter, e.size
	}
	w.request, w.denial, w.since, w.until, w.next = q, d, since, until, nextTry(now, since, until, d)
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
		e.server.waiting.leave(e.pause.counter, e.pause.size)
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
