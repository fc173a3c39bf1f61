package budget

import (
	"context"
	"fmt"
	"time"
)

// syncTimeout is the longest that Run waits for one write to the store.
const syncTimeout = 30 * time.Second

func (l *Ledger) syncWithin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	return l.Sync(ctx)
}

// Sync writes the balances that changed since they were last written, in one step,
// and then lets the counters without open reservations leave memory. What could not
// be written stays, for the next call. Without a store it only frees the memory of
// counters whose window has ended.
func (l *Ledger) Sync(ctx context.Context) error {
	if !l.gate.enter() {
		return ErrClosed
	}
	defer l.gate.leave()
	release, err := l.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	err = l.write(ctx)
	l.table.evict(l.options.Now(), l.keep)
	return err
}

// acquire waits until nobody else writes to the store, or ctx ends.
func (l *Ledger) acquire(ctx context.Context) (release func(), err error) {
	select {
	case l.syncing <- struct{}{}:
		return func() { <-l.syncing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("budget: waiting for another sync: %w", ctx.Err())
	}
}

func (l *Ledger) keep(w *row, generation uint64) {
	if l.store != nil {
		l.cache.keep(w, generation)
	}
}

// write puts all dirty rows into the store. The caller holds the token of
// acquire.
func (l *Ledger) write(ctx context.Context) error {
	var rows []*row
	var entries []Entry
	l.table.each(func(w *row) {
		if used := w.used.Load(); w.dirty(used) {
			rows = append(rows, w)
			entries = append(entries, Entry{Key: w.storeKey(), End: w.span.end, Used: used})
		}
	})
	if len(entries) == 0 {
		return nil
	}
	if err := l.store.Put(ctx, entries); err != nil {
		return fmt.Errorf("budget: writing %d balances: %w", len(entries), err)
	}
	for i, w := range rows {
		w.written = entries[i].Used
	}
	return nil
}
