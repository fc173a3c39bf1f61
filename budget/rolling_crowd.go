package budget

import (
	"sync"
	"time"
)

// The rows of a calendar window exist until it ends, and the next one counts its own.
// Those of a rolling limit have one span, so its crowd has to be told when a subject
// ceases to exist: when its newest cell counts no more. Of a row in memory its eviction
// tells. The others, which only the store has, are counted here by their newest cell.

// away counts the subjects of a rolling limit that exist in the store only.
type away struct {
	mu     sync.Mutex
	at     int64               // the cell of the last look at the clock
	newest map[int64]*awayRows // by number of the newest cell; no more than there are rows
}

// awayRows are counted as a crowd counts them.
type awayRows [2]int64

// kindOf tells which of them b is; false if nobody counts it.
func kindOf(b bucket) (int, bool) {
	switch b {
	case ownBucket:
		return 0, true
	case parentBucket:
		return 1, true
	}
	return 0, false
}

// left says that a row has left memory, at cell at. The caller holds its shard's lock.
func (r *rolling) left(w *row, at int64) {
	newest, ok := w.newestCell()
	if !ok || w.inMemory || newest < at-r.length {
		w.span.crowd.leave(w.bucket)
		return
	}
	r.away.count(newest, w.bucket)
}

// count counts one more.
func (a *away) count(newest int64, b bucket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind, ok := kindOf(b)
	if !ok {
		return
	}
	if a.newest == nil {
		a.newest = make(map[int64]*awayRows)
	}
	rows := a.newest[newest]
	if rows == nil {
		rows = new(awayRows)
		a.newest[newest] = rows
	}
	rows[kind]++
}

// back says that a row which the store has enters memory.
func (r *rolling) back(w *row) {
	kind, ok := kindOf(w.bucket)
	if !ok {
		return
	}
	newest, _ := w.newestCell()
	r.away.mu.Lock()
	defer r.away.mu.Unlock()
	if rows := r.away.newest[newest]; rows != nil && rows[kind] > 0 {
		rows[kind]--
		return
	}
	// The clock was ahead, and it seemed to have ceased. It keeps its counter. (Others of
	// the same cell may take its place when they come back, so that after such a jump more
	// subjects may get in: at most as many as there were.)
	w.span.crowd.of(w.bucket).Add(1)
}

// drain uncounts the subjects that have ceased to exist at cell at.
func (r *rolling) drain(c *crowd, at int64) {
	r.away.mu.Lock()
	defer r.away.mu.Unlock()
	if at == r.away.at {
		return
	}
	r.away.at = at
	for n, rows := range r.away.newest {
		if n < at-r.length {
			c.subjects.Add(-rows[0])
			c.parents.Add(-rows[1])
			delete(r.away.newest, n)
		}
	}
}

// newestCell is the number of the newest cell in which something was granted; false if
// there is none.
func (w *row) newestCell() (int64, bool) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.cells) - 1; i >= 0; i-- {
		if h.cells[i].granted {
			return h.cells[i].n, true
		}
	}
	return 0, false
}

// endedRolling is whether nothing of the row counts at cell at, nor will.
func (w *row) endedRolling(at int64) bool {
	newest, ok := w.newestCell()
	return !ok || newest < at-w.history.length
}

// newestCells has, of each counter in a store that still counts, the number of its
// newest cell.
type newestCells map[Key]newestCell // by key without Start

type newestCell struct {
	rule    *rule
	subject []Identity
	n       int64
}

// add adds an entry of a rolling limit.
func (m newestCells) add(r *rule, e Entry, now time.Time) {
	n, ok := r.rolling.cellOf(e)
	if !ok {
		return
	}
	r.rolling.saw(n)
	if len(r.Per) == 0 || n < r.rolling.cell(now.Unix())-r.rolling.length {
		return
	}
	key := e.Key
	key.Start = 0
	if old, ok := m[key]; ok {
		old.n = max(old.n, n)
		m[key] = old
		return
	}
	// What cannot be parsed is no counter of this limit; Balances reports it.
	if subject, err := ParseSubject(key.Subject); err == nil && r.countsPer(subject) {
		m[key] = newestCell{r, subject, n}
	}
}

// count makes each counter one that only the store has.
func (m newestCells) count(now time.Time) {
	for key, c := range m {
		b := c.rule.bucketOf(key.Subject, c.subject)
		if n := c.rule.at(now).crowd.of(b); n != nil {
			n.Add(1)
			c.rule.rolling.away.count(c.n, b)
		}
	}
}
