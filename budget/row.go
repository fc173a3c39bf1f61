package budget

import (
	"math"
	"sync/atomic"
	"time"
)

// maxTokens bounds each number of tokens that callers pass in, so that no sum of
// two of them overflows. It is far beyond what any model can produce.
const maxTokens = 1 << 60

// row is one counter: a rule, a subject, a window. The row in the table is the
// authority on its balance.
//
// A row stays in the table while it is pinned or dirty (see table). Whoever has
// pinned it may change used and held; nobody else does.
type row struct {
	rule     *rule // that it was made for; another one of its name and unit may have come since
	span     *span
	key      string     // in the table: the prefix of the span, and encoded
	encoded  string     // the subject, as in Key
	hash     uint64     // of key
	next     *row       // in the table, of the same hash
	subject  []Identity // decoded; immutable, handed out in decisions
	bucket   bucket     // for whom it is
	inMemory bool       // the row is the only copy of its balance: no store, or a limit in streams

	amount  atomic.Int64 // the limit, or the subject's own; changed by setAmount, at any time
	ceiling atomic.Int64 // up to where reservations and growth may take used: amount less the guard
	used    atomic.Int64 // spent + held; never negative
	held    atomic.Int64 // of it, what open reservations hold
	pins    atomic.Int64 // open reservations, calls under way, batches

	granted atomic.Bool  // a reservation was granted: the counter exists for reports and the store
	written atomic.Int64 // used in the store, absent or unknown; changed by commits.write only
	batch   *batch       // the last that the row was marked for; guarded by commits.mu

	history *history // of a rolling limit; used and held are summed up from it. Else nil
}

const (
	absent  = -1 // the balance of a counter that the store does not have
	unknown = -2 // that of a counter whose last write failed
)

// newRow returns a row that is not in the store.
func newRow(r *rule, s *span, key string, hash uint64, inMemory bool) (*row, error) {
	encoded := key[len(s.prefix):]
	subject, err := ParseSubject(encoded)
	if err != nil {
		return nil, err
	}
	w := &row{rule: r, span: s, key: key, encoded: encoded, hash: hash, subject: subject, inMemory: inMemory}
	if r.rolling != nil {
		w.history = newHistory(r.rolling, inMemory)
		w.history.name = w.storeName(r.rolling)
	}
	w.written.Store(absent)
	w.bucket = r.bucketOf(encoded, subject)
	w.setAmount(r.amountOf(encoded))
	return w, nil
}

// setAmount changes the amount. A raised one counts at once. If it is lowered, what is
// held stays, and the next reservation or growth sees it.
func (w *row) setAmount(n int64) {
	w.amount.Store(n)
	w.ceiling.Store(n - guardOf(w.rule.Unit, n))
}

// restore sets the balance to the one in the store, or absent, before the row is in
// use.
func (w *row) restore(stored int64) {
	w.written.Store(stored)
	if stored != absent {
		w.used.Store(stored)
		w.granted.Store(true)
	}
}

// storeKey is the row's name in the store.
func (w *row) storeKey() Key {
	return Key{Limit: w.rule.Name, Unit: w.rule.Unit, Subject: w.encoded, Start: w.span.start, End: w.span.end}
}

// room is what reservations and growth may still take when used is used up. Beyond
// the ceiling it is -1, however far, so that no difference from it overflows.
func (w *row) room(used int64) int64 { return max(-1, w.ceiling.Load()-used) }

// resets is the Unix second at which a client that needs so much has room. A stream may
// end at any moment; a window that never ends outlasts all others.
func (w *row) resets(needs int64) int64 {
	switch {
	case w.rule.Unit == Streams:
		return math.MinInt64
	case w.history != nil:
		return w.waits(needs)
	case w.span.end == 0:
		return math.MaxInt64
	}
	return w.span.end
}

// left is room at the time t.
func (w *row) left(t when) int64 {
	if w.history != nil {
		return w.roomAt(t)
	}
	return w.room(w.used.Load())
}

// over is how far what is used exceeds what reservations may take, at the time t.
func (w *row) over(t when) int64 {
	if w.history != nil {
		return w.overAt(t)
	}
	return max(0, w.used.Load()-w.ceiling.Load())
}

// take holds fixed and as much of want as there is room for, and returns how much of
// want that is; or, if there is no room for need beside fixed, holds nothing and
// returns false.
func (w *row) take(t when, fixed, need, want int64) (int64, bool) {
	if w.history != nil {
		return w.takeRolling(t, fixed, need, want)
	}
	for {
		used := w.used.Load()
		room := w.room(used) - fixed
		if room < need {
			return 0, false
		}
		got := min(want, room)
		if w.used.CompareAndSwap(used, used+fixed+got) {
			w.held.Add(fixed + got)
			return got, true
		}
	}
}

// release gives back n of what is held.
func (w *row) release(t when, n int64) {
	if w.history != nil {
		w.releaseRolling(t, n)
		return
	}
	w.held.Add(-n)
	w.used.Add(-n)
}

// settle turns a hold of held into a charge of charged.
func (w *row) settle(t when, held, charged int64) {
	if w.history != nil {
		w.settleRolling(t, held, charged)
		return
	}
	w.held.Add(-held)
	if charged <= held {
		w.used.Add(charged - held)
		return
	}
	// Debt may add up without limit. At the end of the number range it stays there.
	more := charged - held
	for {
		used := w.used.Load()
		if w.used.CompareAndSwap(used, min(used, math.MaxInt64-more)+more) {
			return
		}
	}
}

func (w *row) unpin() { w.pins.Add(-1) }

// balance returns what is spent and held. The two counters are not changed in one
// step; neither result is ever negative.
func (w *row) balance() (spent, held int64) {
	// Two equal readings of held around used belong together, save for changes that
	// cancel out. Under steady change the last reading has to do.
	var used int64
	for range 4 {
		held, used = w.held.Load(), w.used.Load()
		if held <= used && w.held.Load() == held {
			break
		}
	}
	held = min(held, used)
	return used - held, held
}

// decision tells the row's state to who is refused and needs so much.
func (w *row) decision(needs int64) (d Decision) {
	w.tell(&d, needs)
	return d
}

// tell puts the row's state into d, which has nothing else of it, for who needs so much; 0
// if that is no more.
func (w *row) tell(d *Decision, needs int64) {
	amount := w.amount.Load()
	d.Limit = w.rule.Name
	d.Subject = w.subject
	d.Unit = w.rule.Unit
	d.Amount = amount
	d.Remaining = max(0, amount-w.used.Load())
	d.Window = w.span.lasts
	d.ResetAt = w.span.End
	if w.history != nil {
		d.Rolling = true
		d.ResetAt = time.Unix(w.waits(needs), 0).In(w.rule.Location)
	}
}

// remaining is the amount less spent and held, never negative.
func (w *row) remaining() int64 { return max(0, w.amount.Load()-w.used.Load()) }

// dirty reports whether the store has to be told. A row that was only looked at, or
// refused, is of no interest to it.
func (w *row) dirty(used int64) bool {
	if w.history != nil {
		return w.dirtyRolling()
	}
	return !w.inMemory && w.granted.Load() && used != w.written.Load()
}

// stored says that the store has used in the row's entry e, or that this is unknown.
func (w *row) stored(e Entry, used int64) {
	if w.history != nil {
		w.cellWritten(e, used)
		return
	}
	w.written.Store(used)
}

// gone reports whether the row, once out of memory, exists no more: the store has
// not heard of it.
func (w *row) gone() bool { return !w.granted.Load() || w.rule.Unit == Streams }

// ended reports whether the row counts nothing any more at time t.
func (w *row) ended(t time.Time) bool {
	if w.history != nil {
		return w.endedRolling(w.history.cell(t.Unix()))
	}
	return w.span.ended(t)
}

// idle reports whether the row may leave memory at a time when its window has
// ended or not. The caller holds the lock of its shard, so no pin can be added.
func (w *row) idle(ended bool) bool {
	switch {
	case w.pins.Load() != 0:
		return false
	case w.rule.Unit == Streams:
		return true // without pins nothing is under way
	case w.inMemory:
		return ended || !w.granted.Load()
	default:
		return !w.dirty(w.used.Load())
	}
}
