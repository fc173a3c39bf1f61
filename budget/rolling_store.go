package budget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// What a store has of a rolling row is an entry for each cell in which something was
// granted. Its Start and End are the stretch of time in which the cell's charges become
// older than the period: that of the cell itself, a period later. At End it counts no
// more. So what is kept of it afterwards goes by the width of cells, not by the period.
//
// The entry's subject ends with %= and the period, such as team=search%=1h30m, which is no
// escape of a subject's own. So limits that differ in the period alone, as after a
// change, have entries of their own although their cells may be of the same times.

// storeName is the name of a row's cells in the store, but for their times.
func (w *row) storeName(r *rolling) Key {
	k := w.storeKey()
	k.Subject += r.suffix
	return k
}

// cellKey is the name of cell n in the store.
func (h *history) cellKey(n int64) Key {
	k := h.name
	k.Start, k.End = h.leaves(n-1), h.leaves(n)
	return k
}

// isCell reports whether key is of a cell of some rolling period. Its times may be those of
// a calendar window: the cells of 1h are as long as a minute.
func isCell(key Key) bool { return strings.Contains(key.Subject, "%=") }

// cellOf is the number of the cell that key is of, and the encoded subject; false if it is
// of none, such as one from before the limit's period was changed.
func (r *rolling) cellOf(key Key) (n int64, encoded string, ok bool) {
	encoded, ok = strings.CutSuffix(key.Subject, r.suffix)
	n = r.cell(key.Start) - r.length
	return n, encoded, ok && r.leaves(n-1) == key.Start && r.leaves(n) == key.End
}

// cellDirty is dirty for a cell. The caller holds the lock.
func (w *row) cellDirty(c *cell) bool { return !w.inMemory && c.granted && c.used != c.written }

// dirtyRolling reports whether the store has to be told.
func (w *row) dirtyRolling() bool {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.cells, func(c cell) bool { return w.cellDirty(&c) })
}

// appendCells appends an entry for each cell of which the store has to be told.
func (w *row) appendCells(entries []Entry) []Entry {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.cells {
		if c := &h.cells[i]; w.cellDirty(c) {
			c.writing = true
			entries = append(entries, Entry{Key: h.cellKey(c.n), Used: c.used})
		}
	}
	return entries
}

// cellWritten says that the store has used for the cell of e, or that this is unknown.
func (w *row) cellWritten(e Entry, used int64) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	n, _, _ := h.cellOf(e.Key)
	if i, ok := h.find(n); ok {
		h.cells[i].written, h.cells[i].writing = used, false
	}
}

// learn reads from the store what is not known of the window of cell n. l.loads makes
// sure that nobody else does so for this row, or that nothing is known and the row
// is in nobody's hands yet.
func (l *Ledger) learn(ctx context.Context, w *row, n int64) error {
	h := w.history
	from, to := n-h.length, n+h.length
	h.mu.Lock()
	known := [2]int64{h.from, h.to}
	newest := h.newest.Load()
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	var read []cell
	var full error
	for m := from; m <= min(to, newest); m++ {
		if known[0] <= m && m <= known[1] {
			continue
		}
		e, ok, err := l.store.Get(ctx, h.cellKey(m))
		switch {
		case errors.Is(err, ErrFull):
			full = err // which does not matter to a counter that the store has
		case err != nil:
			return fmt.Errorf("reading the store: %w", err)
		case !ok:
		case e.Used < 0:
			return fmt.Errorf("reading the store: negative usage %d", e.Used)
		default:
			read = append(read, cell{n: m, used: e.Used, written: e.Used, granted: true})
		}
	}
	if full != nil && len(read) == 0 && !w.granted.Load() {
		return fmt.Errorf("reading the store: %w", full)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if known != [2]int64{h.from, h.to} {
		return nil // it has forgotten something meanwhile: enter tries again
	}
	for _, c := range read {
		if i, ok := h.find(c.n); !ok {
			h.cells = slices.Insert(h.cells, i, c)
		}
	}
	if newest <= to {
		to = math.MaxInt64 // what comes later, comes from here
	}
	// Ranges that do not touch are not joined, and the former one may be asked for again:
	// such a jump of the clock is rare.
	if h.from <= h.to && from-1 <= h.to && h.from-1 <= to {
		from, to = min(from, h.from), max(to, h.to)
	}
	h.from, h.to = from, to
	if len(read) > 0 {
		w.granted.Store(true)
	}
	h.at.Store(math.MinInt64) // whatever it was, it is to be summed up anew
	w.turn(n)
	return nil
}

// enter makes a row with a rolling period ready for a request that is about to be
// admitted; see row.enter. Unless the clock was set back it does no I/O.
func (l *Ledger) enter(ctx context.Context, w *row, admitted int64) error {
	for range loadAttempts {
		if w.enter(admitted) {
			return nil
		}
		done := l.loads.DoChan(w.key, func() (any, error) {
			if !l.gate.enter() {
				return nil, ErrClosed
			}
			defer l.gate.leave()
			return nil, l.learn(ctx, w, w.history.cell(admitted))
		})
		select {
		case res := <-done:
			if res.Err != nil {
				return res.Err
			}
		case <-ctx.Done():
			return fmt.Errorf("reading the store: %w", ctx.Err())
		}
	}
	return errors.New("the clock goes back and forth so fast that no window can be read; look at its synchronization")
}
