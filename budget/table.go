package budget

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	shardCount = 64   // a power of two
	slotCount  = 1024 // of generations in a shard; a power of two
)

// table holds the rows that are the authority on their balance: those with open
// reservations or with a balance that the store has not. It may lose none of them,
// which is why it is no cache. Clean and idle rows are moved out by evict.
type table struct {
	max     int64 // rows
	count   atomic.Int64
	current func(*rule) bool // whether a rule still is one of the ledger's
	shards  [shardCount]shard
}

// shard is a part of the table. Its lock is held for map operations only, never
// during I/O.
type shard struct {
	mu sync.RWMutex
	// rows are found by the hash of their keys, which is thus reckoned once only. Rows
	// whose hashes are the same follow each other by next.
	rows map[uint64]*row
	// generations counts, by slots of hashes, how often a row entered the table. A
	// balance that was cached when a row left is right as long as the row's slot
	// has still the generation of that moment, because only rows in the table
	// change. Rows that share a slot cost each other no more than a read.
	generations [slotCount]uint64
}

func newTable(limit int64, current func(*rule) bool) *table {
	t := &table{max: limit, current: current}
	for i := range t.shards {
		t.shards[i].rows = make(map[uint64]*row)
	}
	return t
}

func (t *table) shard(hash uint64) *shard { return &t.shards[hash%shardCount] }

func slot(hash uint64) uint64 { return hash / shardCount % slotCount }

// pin returns the row of an encoded subject in a window with one more pin, or nil if it is
// not in memory. It may have been made for an earlier rule, with a span of its own for the
// same window.
func (t *table) pin(hash uint64, window *span, subject []byte) *row {
	s := t.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for w := s.rows[hash]; w != nil; w = w.next {
		if w.encoded == string(subject) && (w.span == window || w.span.prefix == window.prefix) {
			w.pins.Add(1)
			return w
		}
	}
	return nil
}

// has reports whether there is a row of key. The caller holds the lock.
func (s *shard) has(hash uint64, key string) bool {
	for w := s.rows[hash]; w != nil; w = w.next {
		if w.key == key {
			return true
		}
	}
	return false
}

// look reports whether key is in memory, and the generation of its slot.
func (t *table) look(hash uint64, key string) (present bool, generation uint64) {
	s := t.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.has(hash, key), s.generations[slot(hash)]
}

// insert adds w unless its key is there already. It returns errChanged if w was made for
// a limit that has changed meanwhile, errCrowded if w is new and has to share a bucket,
// and [ErrFull] if the table has no room. A last bucket always gets in: there are no
// more of them than limits.
func (t *table) insert(w *row) error {
	s := t.shard(w.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has(w.hash, w.key) {
		return nil
	}
	// Under the lock: whoever changes the limits has done so, or will come by.
	if !t.current(w.rule) {
		return errChanged
	}
	fresh := !w.granted.Load()
	if w.history != nil && !w.inMemory {
		w.history.drain(&w.span.crowd, w.history.at.Load())
	}
	if fresh && !w.span.crowd.join(w) {
		return errCrowded
	}
	if t.count.Add(1) > t.max && w.bucket != lastBucket {
		t.count.Add(-1)
		if !fresh {
			return ErrFull
		}
		w.span.crowd.leave(w)
		return errCrowded
	}
	if !fresh && w.history != nil {
		w.history.back(w)
	}
	s.generations[slot(w.hash)]++
	w.next = s.rows[w.hash]
	s.rows[w.hash] = w
	return nil
}

// each calls f for every row, in no order, under the read lock of its shard.
func (t *table) each(f func(*row)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, w := range s.rows {
			for ; w != nil; w = w.next {
				f(w)
			}
		}
		s.mu.RUnlock()
	}
}

// evict removes every row that may leave memory at time now. For those whose window
// still runs it calls keep, without a lock, with the generation under which the
// row's balance may be cached.
func (t *table) evict(now time.Time, keep func(w *row, generation uint64)) {
	type left struct {
		row        *row
		generation uint64
	}
	var gone []left
	for i := range t.shards {
		s := &t.shards[i]
		if !s.hasIdle(now) {
			continue
		}
		gone = gone[:0]
		s.mu.Lock()
		for hash, w := range s.rows {
			var stay *row
			for next := w; next != nil; {
				w, next = next, next.next
				ended := w.ended(now)
				if !w.idle(ended) {
					w.next, stay = stay, w
					continue
				}
				t.count.Add(-1)
				if w.history != nil {
					w.history.left(w, w.history.cell(now.Unix()))
					continue // the cache has no use for it
				}
				if w.gone() {
					w.span.crowd.leave(w)
				}
				if !ended && !w.inMemory {
					gone = append(gone, left{w, s.generations[slot(w.hash)]})
				}
			}
			if stay == nil {
				delete(s.rows, hash)
			} else {
				s.rows[hash] = stay
			}
		}
		s.mu.Unlock()
		for _, g := range gone {
			keep(g.row, g.generation)
		}
	}
}

// hasIdle spares a shard without idle rows the write lock.
func (s *shard) hasIdle(now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, w := range s.rows {
		for ; w != nil; w = w.next {
			if w.idle(w.ended(now)) {
				return true
			}
		}
	}
	return false
}
