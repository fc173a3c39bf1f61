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
	at     int64                       // the cell of the last look at the clock
	newest map[int64]map[string]bucket // by number of the newest cell; by encoded subject, what bounds it
}

// left says that a row has left memory, at cell at. The caller holds its shard's lock.
func (r *rolling) left(w *row, at int64) {
	newest, ok := w.newestCell()
	if !ok || w.inMemory || newest < at-r.length {
		w.span.crowd.leave(w)
		return
	}
	r.away.count(newest, w.encoded, w.bucket)
}

// count counts one more.
func (a *away) count(newest int64, encoded string, b bucket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.newest == nil {
		a.newest = make(map[int64]map[string]bucket)
	}
	rows := a.newest[newest]
	if rows == nil {
		rows = make(map[string]bucket)
		a.newest[newest] = rows
	}
	rows[encoded] = b
}

// back says that a row which the store has enters memory.
func (r *rolling) back(w *row) {
	newest, _ := w.newestCell()
	r.away.mu.Lock()
	defer r.away.mu.Unlock()
	if _, ok := r.away.newest[newest][w.encoded]; !ok {
		for n, rows := range r.away.newest {
			if _, ok := rows[w.encoded]; ok { // the clock was set back, and the row does not know that cell
				newest = n
			}
		}
	}
	if b, ok := r.away.newest[newest][w.encoded]; ok {
		w.bucket = b // whatever the limit would say of it now: it is counted as that
		delete(r.away.newest[newest], w.encoded)
		return
	}
	// The clock was ahead, and it seemed to have ceased. It keeps its counter.
	w.span.crowd.add(w.bucket, w.encoded, w.subject, 1)
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
		if n >= at-r.length {
			continue
		}
		for encoded, b := range rows {
			if subject, err := ParseSubject(encoded); err == nil { // as when it was counted
				c.add(b, encoded, subject, -1)
			}
		}
		delete(r.away.newest, n)
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
type newestCells map[Key]newestCell // by key without Start and End

type newestCell struct {
	rule    *rule
	subject []Identity
	n       int64
}

// add adds the key of a cell of a rolling limit.
func (m newestCells) add(r *rule, key Key, now time.Time) {
	n, encoded, ok := r.rolling.cellOf(key)
	if !ok {
		return
	}
	r.rolling.saw(n)
	if len(r.Per) == 0 || n < r.rolling.cell(now.Unix())-r.rolling.length {
		return
	}
	key.Subject, key.Start, key.End = encoded, 0, 0
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
		c.rule.at(now).crowd.add(b, key.Subject, c.subject, 1)
		c.rule.rolling.away.count(c.n, key.Subject, b)
	}
}
