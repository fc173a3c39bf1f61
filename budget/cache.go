package budget

import (
	"fmt"

	"github.com/dgraph-io/ristretto/v2"
)

// cache keeps the balances of clean rows that left the table, but for those of rolling
// limits, which the store has in cells. Losing any of them costs one read from the
// store: ristretto may drop what it is given, show it late or evict it at any time. What it must not do is to show an old balance as the
// present one, and since it may apply writes late, each is stamped with the
// generation of its slot in the table and is void when that has moved on.
type cache struct {
	entries *ristretto.Cache[string, *cached]
}

// cached is immutable.
type cached struct {
	key        string // compared, so that a collision of hashes is a miss
	stored     int64  // the balance in the store, or absent
	generation uint64
}

// newCache returns a cache of size entries, or one that never has anything if size
// is 0. It runs a goroutine until close.
func newCache(size int64) (*cache, error) {
	if size == 0 {
		return &cache{}, nil
	}
	c, err := ristretto.NewCache(&ristretto.Config[string, *cached]{
		NumCounters:        10 * size,
		MaxCost:            size,
		BufferItems:        64,
		IgnoreInternalCost: true, // the cost of an entry is 1
	})
	if err != nil {
		return nil, fmt.Errorf("budget: making a cache of %d entries: %w", size, err)
	}
	return &cache{entries: c}, nil
}

// get returns the balance that was kept for key under the given generation.
func (c *cache) get(key string, generation uint64) (stored int64, ok bool) {
	v, ok := c.entries.Get(key)
	if !ok || v.key != key || v.generation != generation {
		return 0, false
	}
	return v.stored, true
}

// keep remembers the balance of a row that has left the table.
func (c *cache) keep(w *row, generation uint64) {
	c.entries.Set(w.key, &cached{key: w.key, stored: w.written.Load(), generation: generation}, 1)
}

// close ends the cache's goroutine. The cache must not be in use.
func (c *cache) close() { c.entries.Close() }
