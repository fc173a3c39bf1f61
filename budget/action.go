package budget

import (
	"fmt"
	"time"
)

// Action is what a limit does once it is used up.
type Action uint8

// The actions, with the names they have in the configuration.
const (
	ActionCut      Action = iota // cut: new requests are refused, running streams are cut
	ActionRefuse                 // refuse: new requests are refused, running ones finish, into debt
	ActionThrottle               // throttle: new requests wait, up to Limit.MaxDelay; running ones finish, into debt
	ActionShadow                 // shadow: nothing is refused or cut; what would have been is told by [Reservation.Shadows]
)

// String returns the action's name in the configuration.
func (a Action) String() string {
	if a > ActionShadow {
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
	return [...]string{"cut", "refuse", "throttle", "shadow"}[a]
}

// Admission is how much of the answer a limit holds when a request is admitted.
type Admission uint8

// The admissions, with the names they have in the configuration.
const (
	AdmitPredict Admission = iota // predict: Request.Output, or what is left of it
	AdmitFull                     // full: Request.FullOutput, or the request is refused
	AdmitNone                     // none: nothing; there must be room for MinOutput all the same
)

// String returns the admission's name in the configuration.
func (a Admission) String() string {
	if a > AdmitNone {
		return fmt.Sprintf("Admission(%d)", uint8(a))
	}
	return [...]string{"predict", "full", "none"}[a]
}

// DefaultMaxDelay is [Limit.MaxDelay] where it is 0. MaxDelay is the greatest, since
// whoever has sent the request, and each proxy before this server, waits as well.
const (
	DefaultMaxDelay = 10 * time.Second
	MaxDelay        = time.Minute
)

// checkAction tells bad what does not fit together in action, admission and delay.
func (l Limit) checkAction(bad func(format string, args ...any)) {
	switch {
	case l.Action > ActionShadow:
		bad("unknown action %s: use ActionCut, ActionRefuse, ActionThrottle or ActionShadow", l.Action)
	case l.PerRequest && l.Action == ActionRefuse:
		bad("a limit per request has no counter that could go into debt: use ActionCut or ActionShadow")
	case l.PerRequest && l.Action == ActionThrottle:
		bad("waiting makes no request smaller: a limit per request cannot throttle")
	case l.Action == ActionThrottle && l.Period == Total && l.Unit != Streams:
		bad("a total never starts again, so that waiting for it is in vain: it cannot throttle")
	}
	switch {
	case l.Admission > AdmitNone:
		bad("unknown admission %s: use AdmitPredict, AdmitFull or AdmitNone", l.Admission)
	case l.Admission != AdmitPredict && l.PerRequest:
		bad("a limit per request holds nothing: it has no admission")
	case l.Admission != AdmitPredict && !countsOutput(l.Unit):
		bad("a limit in %s holds nothing of the answer: it has no admission", l.Unit)
	}
	switch {
	case l.MaxDelay < 0 || l.MaxDelay > MaxDelay:
		bad("MaxDelay is %v: it must lie between 0 and %v", l.MaxDelay, MaxDelay)
	case l.MaxDelay > 0 && l.Action != ActionThrottle:
		bad("MaxDelay is for ActionThrottle only")
	}
}

// enforces reports whether the limit ever refuses or cuts.
func (r *rule) enforces() bool { return r.Action != ActionShadow }

// bounds reports whether what the limit has left at admission bounds the first hold of
// the whole request, and thus the cap of an answer that cannot be cut.
func (r *rule) bounds() bool { return r.Action == ActionCut && r.Admission == AdmitPredict }

// demand is how much output a request asks for at admission, in tokens.
type demand struct {
	least int64 // without room for it the request is refused
	want  int64 // the first hold
	full  int64 // all that it may get
	whole bool  // less than want will not do; see Request.Whole
}

// none says that there will be no output, so that limits in output are not concerned.
func (d demand) none() bool { return d.full == 0 }

// on is what a limit with such an admission needs and holds, if part of want will do.
func (d demand) on(a Admission) (need, hold int64) {
	switch a {
	case AdmitFull:
		return d.full, d.full
	case AdmitNone:
		return d.least, 0
	}
	return d.least, d.want
}

// of is what a limit needs to have room for, and what it holds at most.
func (d demand) of(r *rule) (need, hold int64) {
	need, hold = d.on(r.Admission)
	if d.whole && r.bounds() {
		need = max(need, d.want)
	}
	return need, hold
}

// needs is what the limit needs at least for a request.
func (w *layer) needs(c charge, d demand) int64 {
	n := c.of(w.rule.Unit)
	if countsOutput(w.rule.Unit) {
		need, _ := d.of(w.rule)
		n += need
	}
	return n
}

// decides reports whether w rather than o is the limit to tell of, if both refuse, and
// both will have so much room some day, at these times in Unix seconds, or neither. A
// request that one of them refuses for good need not wait for the other.
func (w *layer) decides(at int64, o *layer, other int64) bool {
	if a, b := w.rule.Action == ActionThrottle, o.rule.Action == ActionThrottle; a != b {
		return b
	}
	return at > other
}

// refusal tells of a row that refuses a request.
func (w *layer) refusal(c charge, d demand) Decision {
	needs := w.needs(c, d)
	out := w.decision(needs)
	out.Needed = needs
	if w.rule.Action == ActionThrottle {
		out.MaxDelay = w.rule.MaxDelay
	}
	return out
}

// WaitUntil says until when a request that was refused, for the first time at since, may
// wait for room; false if it is not to wait: the limit does not throttle, or never
// has so much room, or its window ends too late. A limit in streams has no window;
// any request that is under way may end in time.
func (d Decision) WaitUntil(since time.Time) (time.Time, bool) {
	until := since.Add(d.MaxDelay)
	switch {
	case d.Allowed || d.MaxDelay == 0 || d.Needed > d.Ceiling():
		return time.Time{}, false
	case d.Unit == Streams:
		return until, true
	}
	return until, !d.ResetAt.IsZero() && !d.ResetAt.After(until)
}
