package budget

import (
	"math"
	"math/bits"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A rolling window is always the time up to now. So that nothing has to be remembered
// of single requests, time is cut into cells, which are numbered from the Unix epoch:
//
//	        the window at now
//	   ├───────────────────────────┤
//	 ──┼───┼───┼───┼───┼───┼───┼───┼──► time
//	     a                      now
//
// A charge belongs to the cell that admitted the request, its growth included. The
// oldest cell counts as a whole until its last instant is older than the period. Hence:
//
//   - Of the charges in any stretch of time that is as long as the period, no more than
//     the limit was granted. The price is that a charge counts longer than the period,
//     by at most the width of a cell (two widths where that does not divide the period).
//   - A hold counts until it is settled, however long ago it was admitted. Its charge
//     then counts as long as its cell does: perhaps not at all any more.
//   - Growth must fit into the present window, and into every window that has the
//     request's own cell.
//
// The clock may be set back. Then there are cells in the future; those that are as near
// as the window is long count, too, since there are stretches of that length which have
// both them and the present.
//
// A subject of a rolling limit has one row for all time. Its history has the cells in
// which something was granted, with what is spent and held in each. Its used is their sum
// over the window as of the last look at the clock, and all other holds. It changes under
// a lock, together with its cells: a balance that is changed by
// compare-and-swap, while others move the window, would have to be undone wherever a
// cell has left meanwhile. The lock is held for some instructions, or a pass over
// the cells when the window moves or a hold grows that is older than the present cell.
// Spend within a hold does not take it, as it does not look at rows at all.

// mostCells is into how many cells a rolling period is cut at most, each of whole
// seconds.
const mostCells = 60

// spareCells is how many cells a history has, beside those of a window, before it
// forgets what counts no more. A clock that goes ahead for a moment costs nothing so.
const spareCells = 8

// rolling is what a limit with a rolling period has beside others.
type rolling struct {
	width  int64  // of a cell, in seconds
	length int64  // of the period, in cells, rounded up
	spare  int64  // spareCells
	suffix string // of the subject in the store
	// newest is the number of the newest cell that there is of any subject, in memory or
	// in the store.
	newest atomic.Int64

	away away
}

// newRolling returns nil if p is no rolling period.
func newRolling(p Period) *rolling {
	if !p.Rolling() {
		return nil
	}
	seconds := int64(time.Duration(p) / time.Second)
	r := &rolling{width: (seconds + mostCells - 1) / mostCells, spare: spareCells, suffix: "%=" + p.String()}
	r.length = (seconds + r.width - 1) / r.width
	r.newest.Store(math.MinInt64)
	return r
}

// cell is the number of the cell that has the given Unix second.
func (r *rolling) cell(sec int64) int64 {
	n := sec / r.width
	if sec%r.width < 0 {
		n--
	}
	return n
}

// leaves is the Unix second at which cell n counts no more.
func (r *rolling) leaves(n int64) int64 { return (n + r.length + 1) * r.width }

// near reports whether cell n counts in the window of cell at.
func (r *rolling) near(n, at int64) bool { return at-r.length <= n && n <= at+r.length }

// saw keeps newest right.
func (r *rolling) saw(n int64) {
	for {
		old := r.newest.Load()
		if n <= old || r.newest.CompareAndSwap(old, n) {
			return
		}
	}
}

// when is the time of a request, in Unix seconds. Only rolling limits ask.
type when struct {
	admitted int64
	now      int64 // later, when a hold grows
}

// cell is what was granted to one subject in one cell of time.
type cell struct {
	n       int64 // its number
	used    int64 // spent + held
	held    int64
	written int64 // used in the store, absent or unknown
	open    int32 // reservations under way that it has admitted, or is about to
	granted bool  // it exists for reports and the store
	writing bool  // a balance is on its way to the store: it may be neither used nor written
}

// history is the past of a row with a rolling period.
type history struct {
	*rolling
	name Key          // of its cells in the store, but for their times
	at   atomic.Int64 // the cell of the last look at the clock; changed under mu

	mu    sync.Mutex
	cells []cell // by number; those between from and to that are not among them have nothing
	from  int64
	to    int64
}

// newHistory returns a history that knows nothing of what a store has; in memory there is
// nothing to be known.
func newHistory(r *rolling, inMemory bool) *history {
	h := &history{rolling: r, from: math.MaxInt64, to: math.MinInt64}
	if inMemory {
		h.from, h.to = h.to, h.from
	}
	h.at.Store(math.MinInt64)
	return h
}

// knows reports whether the window of cell n is known. The caller holds the lock, as
// that of all that follow.
func (h *history) knows(n int64) bool { return h.from <= n-h.length && h.to >= n+h.length }

// find returns where the cell n is, or would be.
func (h *history) find(n int64) (int, bool) {
	if last := len(h.cells) - 1; last >= 0 && h.cells[last].n == n { // as nearly always
		return last, true
	}
	i := sort.Search(len(h.cells), func(i int) bool { return h.cells[i].n >= n })
	return i, i < len(h.cells) && h.cells[i].n == n
}

// enter makes sure that the cell of a request about to be admitted is there until it
// leaves, and moves the window there. It returns false if the window is not known.
func (w *row) enter(admitted int64) bool {
	h := w.history
	n := h.cell(admitted)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.knows(n) {
		return false
	}
	w.turn(n)
	i, ok := h.find(n)
	if !ok {
		if w.forget() {
			i, _ = h.find(n)
		}
		h.cells = slices.Insert(h.cells, i, cell{n: n, written: absent})
		h.saw(n)
	}
	h.cells[i].open++
	return true
}

// leave ends what enter has begun.
func (w *row) leave(admitted int64) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own(admitted).open--
}

// own is the cell of a request that has entered.
func (h *history) own(admitted int64) *cell {
	i, _ := h.find(h.cell(admitted))
	return &h.cells[i]
}

// turn moves the window to the cell n, if it is known.
func (w *row) turn(n int64) {
	h := w.history
	if n == h.at.Load() || !h.knows(n) {
		return
	}
	used := int64(0)
	for i := range h.cells {
		if c := &h.cells[i]; h.near(c.n, n) {
			used = saturated(used, c.used)
		} else {
			used = saturated(used, c.held)
		}
	}
	w.used.Store(used)
	h.at.Store(n) // last: who sees it without the lock, in roomAt, may look at used
}

// forget drops cells of which nothing is lost, if there are many: those that count no
// more, nor can in a window with an open reservation's cell, and that the store has. It
// reports whether there were any. Old ones go first, then those in the future.
func (w *row) forget() bool {
	h := w.history
	before := len(h.cells)
	excess := int64(before) - h.length - h.spare
	if excess <= 0 {
		return false
	}
	at := h.at.Load()
	open, next := int64(math.MinInt64), 0 // the open cell before, and where the one after is
	kept := h.cells[:0]
	for i := range h.cells {
		c := h.cells[i]
		if c.open > 0 {
			open = c.n
		}
		next = max(next, i)
		for next < before && h.cells[next].open == 0 {
			next++
		}
		needed := c.n <= open+h.length || next < before && h.cells[next].n-h.length <= c.n
		if excess == 0 || needed || h.near(c.n, at) || !w.idleCell(&c) {
			kept = append(kept, c)
			continue
		}
		excess--
		if w.inMemory {
			continue
		}
		if c.n < at {
			h.from = max(h.from, c.n+1)
		} else {
			h.to = min(h.to, c.n-1)
		}
	}
	h.cells = kept
	return len(kept) < before
}

// idleCell reports whether nothing of a cell is only known here.
func (w *row) idleCell(c *cell) bool {
	return c.open == 0 && c.held == 0 && !c.writing && !w.cellDirty(c)
}

// look moves the window to the time now, in Unix seconds, if that is known.
func (w *row) look(now int64) {
	h := w.history
	n := h.cell(now)
	if n == h.at.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w.turn(n)
}

// roomAt is what a request may still take.
func (w *row) roomAt(t when) int64 {
	h := w.history
	if n := h.cell(t.admitted); n == h.cell(t.now) && n == h.at.Load() {
		return w.room(w.used.Load())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return w.roomLocked(t)
}

// overAt is over.
func (w *row) overAt(t when) int64 {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	return max(0, w.usedLocked(t)-w.ceiling.Load())
}

func (w *row) roomLocked(t when) int64 { return w.room(w.usedLocked(t)) }

// usedLocked is the most that is used in a window which the request has part in: that of
// now, and those that have its own cell.
func (w *row) usedLocked(t when) int64 {
	h := w.history
	w.turn(h.cell(t.now))
	used := w.used.Load()
	if own := h.cell(t.admitted); own != h.at.Load() {
		used = max(used, h.fullest(own))
	}
	return used
}

// fullest is the most that is used in any window that has the cell n.
func (h *history) fullest(n int64) (most int64) {
	var low, high, first = uint64(0), uint64(0), 0 // the sum of the cells from first on has 128 bits
	for i := range h.cells {
		c := &h.cells[i]
		if c.n > n+h.length {
			break
		}
		var carry uint64
		low, carry = bits.Add64(low, uint64(c.used), 0)
		high += carry
		end := max(c.n, n) // of the window
		for ; h.cells[first].n < end-h.length; first++ {
			low, carry = bits.Sub64(low, uint64(h.cells[first].used), 0)
			high -= carry
			if first == i {
				first++
				break
			}
		}
		if high > 0 || low > math.MaxInt64 {
			return math.MaxInt64
		}
		most = max(most, int64(low))
	}
	return most
}

// takeRolling is take.
func (w *row) takeRolling(t when, fixed, need, want int64) (int64, bool) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	room := w.roomLocked(t) - fixed
	if room < need {
		return 0, false
	}
	got := min(want, room)
	c := h.own(t.admitted)
	c.held += fixed + got
	c.used += fixed + got
	w.held.Add(fixed + got)
	w.used.Add(fixed + got)
	return got, true
}

// forceRolling is force.
func (w *row) forceRolling(t when, n int64) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	w.turn(h.cell(t.now))
	c := h.own(t.admitted)
	c.held += n
	c.used = saturated(c.used, n)
	w.held.Add(n)
	w.used.Store(saturated(w.used.Load(), n))
}

// releaseRolling is release.
func (w *row) releaseRolling(t when, n int64) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.own(t.admitted)
	c.held -= n
	c.used -= n
	w.held.Add(-n)
	w.used.Add(-n)
}

// settleRolling is settle, and leave.
func (w *row) settleRolling(t when, held, charged int64) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.own(t.admitted)
	c.held -= held
	c.used = saturated(c.used-held, charged)
	c.open--
	w.held.Add(-held)
	used := w.used.Load() - held
	if h.near(c.n, h.at.Load()) {
		used = saturated(used, charged)
	}
	w.used.Store(used)
}

// grantRolling makes the cell exist for reports and the store.
func (w *row) grantRolling(t when) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own(t.admitted).granted = true
}

// saturated is a + b ≥ 0, or the end of the number range, where debts stay.
func saturated(a, b int64) int64 { return min(a, math.MaxInt64-b) + b }

// waits is the Unix second at which needs more have room, if nobody asks for any until
// then, and what is held is charged. What is held since before the window is taken to
// be settled soon. With needs 0 it is when the first of what counts leaves, and not in
// the future if nothing does.
func (w *row) waits(needs int64) int64 {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.at.Load()
	leaves, missing := at*h.width, int64(1)
	if needs > 0 {
		missing = saturated(w.used.Load(), needs) - w.ceiling.Load()
		for i := range h.cells {
			if c := &h.cells[i]; !h.near(c.n, at) {
				missing -= c.held
			}
		}
		if missing <= 0 {
			return leaves + h.width
		}
	}
	for i := range h.cells {
		c := &h.cells[i]
		if c.used == 0 || !h.near(c.n, at) {
			continue
		}
		leaves = h.leaves(c.n)
		if missing -= c.used; missing <= 0 {
			break
		}
	}
	return leaves
}
