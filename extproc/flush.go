package extproc

import (
	"time"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// When more messages of a stream have come than were read, which is so whenever the
// machine is busy, one message answers several of them: that is less work for this server,
// and even less for Envoy. gRPC does not say whether there are more. But a Recv that took
// no time shows that its message was there before, and then others probably are. Such a
// piece of an answer is deferred, and the receiver goes on. So that it leaves even if
// nothing follows, another goroutine is woken at once, and sends what there is by the time
// it gets a processor: when the receiver waits for the next message, or before that if a
// processor has nothing else to do. There is no timer, and a message that the receiver had
// to wait for is answered directly.

// atHand is the longest that Recv takes for a message that was there, or is just being
// taken from a piece that was read of the connection.
const atHand = 10 * time.Microsecond

// deferPiece defers what r sends, if that may be.
func (e *session) deferPiece(r exchange.Ready) bool {
	if !e.x.Defer(r) {
		return false
	}
	if !e.flushing {
		e.flushing = true
		e.server.receivers.do(job{e, taskFlush})
	}
	return true
}

// flush sends what is deferred.
func (e *session) flush() {
	e.step(func() exchange.Ready {
		e.flushing = false
		return e.x.Flush()
	})
}

// flushAfter sends what is deferred after a panic: it may leave, whatever has happened to
// what came behind it.
func (e *session) flushAfter() {
	defer func() { _ = recover() }() // it may be what panicked
	if e.ended {
		return
	}
	r := e.x.Flush()
	if e.written(r) != nil {
		return
	}
	for _, m := range r.Send {
		_ = e.stream.Send(m) // the stream ends with an error in any case
	}
}
