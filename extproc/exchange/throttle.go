package exchange

import (
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tokenbudget/tokenbudget/budget"
)

// throttleSlack is how much longer than the delay Envoy is told to wait, for the
// decision behind it.
const throttleSlack = 5 * time.Second

// MaxOverride is the longest that Envoy is ever told to wait. The filter's
// max_message_timeout must allow it, else Envoy ignores what it is told.
const MaxOverride = budget.MaxDelay + throttleSlack

// Throttle is called in place of [Exchange.Reserved] if a request that d denies is to
// wait, for most at the longest. The driver then asks the ledger again, and in the end
// calls Reserved. The first time, Envoy is told to have patience beyond its
// message_timeout; it listens only once.
func (x *Exchange) Throttle(d budget.Decision, most time.Duration) Ready {
	if x.state != stateReserving {
		return x.unexpected("a delay")
	}
	x.record.ThrottledBy = d.Limit
	if !x.waiting.IsZero() {
		return Ready{}
	}
	x.waiting = x.policy.Now()
	if x.can.request.withheld {
		return Ready{} // it waits for ever
	}
	return x.send(&extprocv3.ProcessingResponse{OverrideMessageTimeout: durationpb.New(most + throttleSlack)})
}

// Waits says that the request is not decided on yet, nor answered by somebody else.
func (x *Exchange) Waits() bool { return x.state == stateReserving }

// answeredWaiting takes an answer, as answer does, that comes while the request waits: of
// Envoy, such as after a timeout of its own; or of an upstream that had the headers only
// (request_body_mode STREAMED). Nothing of the prompt was forwarded, so nothing is charged.
func (x *Exchange) answeredWaiting(answer func() Ready) Ready {
	x.endWait()
	x.record.Input, x.record.InputSource = 0, ""
	x.request.Release()
	x.answeredByOther()
	r := answer()
	if q := x.can.request; q.pieces && !q.withheld {
		// Envoy waits for what becomes of the body's last piece, and would break the answer
		// off when it has waited as long as it was told.
		r.Send = append([]*extprocv3.ProcessingResponse{clearedRequestBody}, r.Send...)
	}
	return r
}

// endWait notes how long the request has waited.
func (x *Exchange) endWait() {
	if x.waiting.IsZero() {
		return
	}
	x.record.Throttled = x.policy.Now().Sub(x.waiting)
	x.waiting = time.Time{}
}
