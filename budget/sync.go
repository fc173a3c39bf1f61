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

// Sync waits until all balances that have changed are written, those that could not
// be written before included, and then lets the counters without open reservations
// leave memory. What could not be written stays, for the next call. Without a store
// it only frees the memory of counters whose window has ended.
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
	if l.store != nil {
		if err = l.commits.flush(ctx); err != nil {
			err = fmt.Errorf("budget: %w", err)
		}
	}
	l.table.evict(l.options.Now(), l.keep)
	return err
}

// acquire waits until nobody else syncs or closes, or ctx ends.
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
