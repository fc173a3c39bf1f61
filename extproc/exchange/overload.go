package exchange

import (
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// LimitOverload stands in [Record.Limit] for what is no limit: the server has more to do
// than it can, or holds as many bytes as it may. A budget cannot have such a name.
const LimitOverload = "(overload)"

// Shed says which requests are turned away with the next message, see [Exchange.Shed].
type Shed uint8

// The values of [Shed].
const (
	ShedNone    Shed = iota
	ShedMetered      // requests that are to be counted
	ShedAll          // those that pass unmetered, too
)

// overloadWait is when a client may try again that was turned away. It is short: load
// that is shed is gone the next moment.
const overloadWait = time.Second

// Shed has the request answered with 503 when its next message comes, in place of what
// would become of it. It concerns requests that were not forwarded yet, and no others; one
// that is refused anyway stays refused for that reason.
func (x *Exchange) Shed(s Shed) { x.shed = s }

// overloaded is the answer to a request that is shed. The official SDKs try a 503 again,
// after as long as retry-after says.
func (x *Exchange) overloaded() Ready {
	x.record.Limit = LimitOverload
	if x.observed {
		x.record.Reason = "the server is overloaded, so that the exchange is not counted"
	}
	return x.answerWith(Denied, 503, "the budget server is overloaded; nothing was forwarded, try again in a moment", retryAfter(overloadWait))
}

// Lean has the exchange keep no more of the answer than it must, since the server holds as
// many bytes as it may. A copy of an unary answer is dropped: it passes, and costs what was
// held, as one does that is too long. A stream is cut at the next message that leaves an
// unfinished event of more than a usual size. Before an answer has begun it does nothing. One
// that passes is not watched any more.
func (x *Exchange) Lean() {
	x.unwatch()
	if x.state != stateStreaming && x.state != stateUnary {
		return
	}
	x.lean = true
	if x.answer != nil {
		x.tooLong, x.answer = true, nil
	}
}

// leanEvent is what is kept of an unfinished event all the same, in bytes.
const leanEvent = 64 << 10

// tooMuch says that the unfinished event has to go.
func (x *Exchange) tooMuch() bool {
	return x.lean && (x.parser.Pending() > leanEvent || x.decoderMemory() > leanDecoder)
}

// cutLean ends a stream because its unfinished event has to go, which is estimated, and so
// is what still comes.
func (x *Exchange) cutLean(permitted []byte) Ready {
	x.guess(x.parser.Pending())
	r := x.cut(LimitOverload, permitted, false)
	x.parser.Reset(x.policy.MaxEvent)
	x.stopDecoding()
	return r
}

// Buffered is how many bytes of bodies the exchange keeps: the request's until it is
// decided on, the unfinished event of a stream, the copy of an unary answer, and the windows of
// an answer's decoder.
func (x *Exchange) Buffered() int64 {
	n := int64(cap(x.answer)) + int64(cap(x.collected)) + x.decoderMemory() + x.watchMemory()
	if x.stream != nil {
		n += int64(x.parser.Pending())
	}
	if x.state == stateReserving {
		n += x.body
	}
	return n
}

// Whole is how many bytes of a request's body are there with a message of it, or with the
// trailers behind it, and whether that is all of it, so that it is read now. What a compressed
// body will be is not known, and is taken for as much as may be.
func (x *Exchange) Whole(m *extprocv3.ProcessingRequest) (size int64, whole bool) {
	b := m.GetRequestBody()
	size = int64(len(x.collected) + len(b.GetBody()))
	if x.coded != nil {
		size = x.policy.MaxRequest
	}
	return size, b == nil || b.GetEndOfStream() || !x.can.request.pieces
}

// TurnedAway says that the exchange was shed: answered with 503, or, in observability mode, not
// counted.
func (r *Record) TurnedAway() bool {
	return r.Limit == LimitOverload && (r.Outcome == Denied || r.Outcome == Bypassed)
}

// Uploading says that the request is not here yet as a whole.
func (x *Exchange) Uploading() bool {
	return x.state == stateRequestHeaders || x.state == stateRequestBody
}
