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

// endWait notes how long the request has waited.
func (x *Exchange) endWait() {
	if x.waiting.IsZero() {
		return
	}
	x.record.Throttled = x.policy.Now().Sub(x.waiting)
	x.waiting = time.Time{}
}
