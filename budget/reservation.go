package budget

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// inlineLayers is for how many limits a reservation needs no second allocation.
const inlineLayers = 8

// settled is the output of a reservation that is settled. It is below every amount
// of output, so that the one comparison of Spend's fast path sees it, too.
const settled = -1

// Reservation is the hold of one request on every limit that concerns it. Its
// methods may be called at the same time. Whoever gets one must settle it, on
// every path, with [Reservation.Settle] or [Reservation.SettleHold]; otherwise its
// hold stays until the process ends.
type Reservation struct {
	commits *commits // nil without a store
	layers  layers
	charge  charge
	cap     outputCap
	sizes   []watchedSize
	granted int64            // output, at admission
	watched bool             // some of the layers only watch
	step    int64            // of growth
	now     func() time.Time // the clock; nil if no rolling limit is among the layers

	output atomic.Int64          // how much output is held at least on each limit, or settled
	quick  atomic.Int64          // of it, what Spend grants without a look at any limit, or settled
	batch  atomic.Pointer[batch] // has what was changed last
	mu     sync.Mutex            // for whoever changes output; nothing under it waits

	inline [inlineLayers]layer
}

// begin makes r ready for a request, which it brings into the ranges that its fields
// state.
func (r *Reservation) begin(q *Request) {
	q.clamp()
	r.hold(settled, settled)
	if r.batch.Load() != nil { // reading is cheaper
		r.batch.Store(nil)
	}
	r.charge, r.granted = charge{input: q.Input, requests: 1}, 0
	r.now, r.watched = nil, false
	if r.layers == nil {
		r.layers = r.inline[:]
	}
	r.layers = r.layers[:0]
}

// hold sets how much output is held, and how much of it Spend grants by itself.
func (r *Reservation) hold(output, quick int64) {
	r.output.Store(output)
	r.quick.Store(quick)
}

// Held returns what is held now: the input as asked, and the output as granted and
// grown. At admission as much is granted of what was asked for as every limit can give
// that cuts and holds it; an answer that cannot be cut should not become longer. Limits
// with [AdmitFull] hold more, and those with [AdmitNone] less, until the answer has grown
// to it; limits that do not cut hold what they have. After settlement that is nothing.
func (r *Reservation) Held() Amount {
	output := r.output.Load()
	if output == settled {
		return Amount{}
	}
	return Amount{Input: r.charge.input, Output: max(r.granted, output)}
}

// Cuttable returns how long the answer could become, in tokens of output, before a limit
// with a counter cuts it, if no other request took from that limit; 0 if none ever does.
func (r *Reservation) Cuttable() int64 {
	level := r.output.Load()
	if level == settled {
		return 0
	}
	if n := r.layers.cuttable(level); n < maxTokens {
		return max(1, n)
	}
	return 0
}

// Spend asks whether the answer may be of output tokens in all, and is to be called
// before they are forwarded. It does no I/O; what it granted is written when Wait
// returns.
//
// It returns true if the hold covers them. If it does not, the hold is grown on
// every limit, by what is missing or by [Options.GrowthStep] if that is more; where a
// limit that cuts has less than that left, by what is left if that covers the answer.
// Otherwise Spend returns false, the hold stays as it is, and the Decision names the
// limit to wait for, or the limit per request that is reached. After settlement it returns false and an empty Decision.
//
// The total may go down from call to call; the hold does not shrink. While Spend
// returns true the Decision says no more than that: see [Reservation.Strictest].
func (r *Reservation) Spend(output int64) (Decision, bool) {
	if quick := r.quick.Load(); output <= quick && quick != settled {
		return Decision{Allowed: true}, true
	}
	return r.grow(output)
}

func (r *Reservation) grow(output int64) (Decision, bool) {
	output = clampTokens(output)
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.output.Load()
	if held == settled {
		return Decision{}, false
	}
	t := r.charge.when
	if r.now != nil {
		t.now = r.now().Unix()
	}
	if output <= held {
		r.quick.Store(r.watch(t, output, held))
		return Decision{Allowed: true}, true
	}
	if output > r.cap.most {
		return r.cap.rule.refusal(nil), false
	}
	level, refused, undone := r.layers.grow(t, held, output, min(max(output, held+r.step), r.cap.most))
	if refused != nil {
		if undone {
			r.mark()
		}
		return refused.decision(output - refused.output(held)), false
	}
	r.mark() // first: who sees the new hold may go on, and call Wait
	r.hold(level, r.watch(t, output, level))
	return Decision{Allowed: true}, true
}

// watch is layers.watchGrowth, if there is anything to be noted.
func (r *Reservation) watch(t when, output, level int64) int64 {
	if !r.watched {
		return level
	}
	return r.layers.watchGrowth(t, output, level)
}

// mark hands the rows, which were changed, to the store's writer.
func (r *Reservation) mark() {
	if r.commits != nil {
		r.batch.Store(r.commits.mark(r.layers))
	}
}

// Wait waits until the store has all that the reservation has done before the call:
// its hold, its growth, its settlement. It is to be called before the text leaves
// that Spend has granted, and before the end of an answer does. While the hold has
// not grown since the last call it does not wait.
//
// An error means that the store has failed, or has not written in time, or that ctx
// has ended: after a crash, what was done since the last success may be missing.
func (r *Reservation) Wait(ctx context.Context) error {
	b := r.batch.Load()
	if b == nil || b.written.Load() {
		return nil
	}
	if err := r.commits.wait(ctx, b); err != nil {
		return fmt.Errorf("budget: %w", err)
	}
	return nil
}

// abandon undoes a hold that could not be written.
func (r *Reservation) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layers.release(r.charge, r.output.Load())
	r.hold(settled, settled)
	r.mark()
	r.unpin()
}

// unpin gives up the rows of what was not settled: those without pins may leave memory.
func (r *Reservation) unpin() {
	if r.now != nil {
		r.layers.leave(r.charge.when)
	}
	r.layers.unpin()
}

// Strictest returns the state of the limit that is nearest to its end, for the
// headers of the answer: of the limits in tokens, whatever the unit, the one with
// the least remaining; if there is none, of those in requests. What this
// reservation holds counts as held. If no limit concerns the request, the Decision
// names none. After settlement the numbers may lag behind.
func (r *Reservation) Strictest() (d Decision) {
	r.strictest(&d)
	return d
}

// strictest is Strictest, without the copies of a large struct.
func (r *Reservation) strictest(d *Decision) {
	if r.now != nil {
		r.layers.look(r.now().Unix())
	}
	d.Allowed = true
	if w := r.layers.strictest(); w != nil {
		w.tell(d, 0)
	}
}

// Settle charges a, and one request, to the windows that admitted the request, and
// gives back the rest of the hold. A charge above the hold is booked even where it
// exceeds the limit: that is debt. Negative amounts count as 0. It does no I/O; the
// charge is written when Wait returns.
//
// It returns true the first time. Every later call, of SettleHold also, changes
// nothing and returns false.
func (r *Reservation) Settle(a Amount) bool {
	return r.settle(func(level int64) { r.layers.settle(r.charge, level, a.clamped()) })
}

// SettleHold charges what is held on each limit, and at least what [Reservation.Held]
// says, for a request whose cost is unknown. It returns what Settle returns.
func (r *Reservation) SettleHold() bool {
	return r.settle(func(level int64) { r.layers.settleHold(r.charge, level, r.granted) })
}

func (r *Reservation) settle(charge func(level int64)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	level := r.output.Load()
	if level == settled {
		return false
	}
	r.hold(settled, settled)
	charge(level)
	r.mark()
	r.layers.unpin() // last; the settlement has left
	return true
}

func clampTokens(n int64) int64 { return min(max(n, 0), maxTokens) }

func (a Amount) clamped() Amount {
	return Amount{Input: clampTokens(a.Input), Output: clampTokens(a.Output)}
}

// clamp brings the numbers into the ranges that the fields state.
func (q *Request) clamp() {
	q.Input = clampTokens(q.Input)
	if q.Output < 0 {
		q.Output = 1
	}
	q.Output = clampTokens(q.Output)
	q.MinOutput = min(max(q.MinOutput, 1), q.Output)
	q.LeastSize = clampTokens(q.LeastSize)
	q.FullOutput = max(q.Output, clampTokens(q.FullOutput))
}
