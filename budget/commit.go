package budget

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// putTimeout is the longest that one write to the store may wait for another.
	putTimeout = 30 * time.Second
	// commitTimeout is the longest that a caller waits for its change to be written.
	commitTimeout = 15 * time.Second
	// endTimeout is the longest that stop waits for the goroutine once flush has
	// returned: it writes a last time what came meanwhile.
	endTimeout = 5 * time.Second
)

// commits brings changed rows to the store, many in one write.
//
// Whoever has changed rows marks them, and may then wait for the batch which he
// got. One goroutine takes batch after batch, reads the balances of its rows as they
// are then, and puts them. So:
//
//   - A batch that is written has, of each of its rows, a balance that was read after
//     the changes of all who marked the row for it: none of them is missing.
//   - A later write of the same row was read later. The store's balance of a row never
//     goes back to an older one.
//   - However many change one row while a write is under way, the next has it once.
//
// After a write has failed, nothing is tried until flush is called; callers learn of
// the failure at once. A write that takes longer than callers wait counts as failed until it
// ends.
type commits struct {
	store  Store
	report func(error)
	kick   chan struct{} // holds one token while there may be something to write
	quit   chan struct{} // closed by stop
	ended  chan struct{} // closed by run

	failure atomic.Pointer[error] // of the last write; nil if it succeeded
	hung    *time.Timer           // sets failure if a write does not end
	retry   atomic.Bool           // asks for a write in spite of a failure

	timers sync.Pool // of *time.Timer, stopped: each wait needs one

	mu      sync.Mutex // held for a few instructions
	current *batch     // is being collected

	entries []Entry // belongs to run
	dirty   []*row  // belongs to run; the row of each entry
}

// batch is what one write has.
type batch struct {
	rows    []*row        // in the order of their marks; guarded by commits.mu until it is taken
	done    chan struct{} // closed when it is written, or not
	written atomic.Bool
	err     error // valid once done is closed
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// newCommits starts the goroutine that writes. It runs until stop, whatever becomes of ctx.
func newCommits(ctx context.Context, store Store, report func(error)) *commits {
	c := &commits{
		store:   store,
		report:  report,
		kick:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		current: newBatch(),
	}
	c.hung = time.AfterFunc(commitTimeout, c.tellHung)
	c.hung.Stop()
	go c.run(context.WithoutCancel(ctx))
	return c
}

func (c *commits) tellHung() {
	err := fmt.Errorf("the store has been writing for %s: look at its disk", commitTimeout)
	c.failure.Store(&err)
	c.report(err)
}

// mark says that rows have changed, and returns the batch which will have them, or nil
// if none of them is for the store. The caller has pinned the rows. It does not wait.
func (c *commits) mark(rows layers) *batch {
	var b *batch
	c.mu.Lock()
	for i := range rows {
		if w := rows[i].row; !w.inMemory {
			b = c.current
			b.add(w)
		}
	}
	c.mu.Unlock()
	if b != nil {
		c.wake()
	}
	return b
}

// add pins w until the batch is done. Else a row could leave memory whose balance has
// gone back to the written one while another is on its way to the store, and that
// would be what the next reads.
func (b *batch) add(w *row) {
	if w.batch != b {
		w.batch = b
		w.pins.Add(1)
		b.rows = append(b.rows, w)
	}
}

func (c *commits) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// err is why the last write failed; nil if it did not.
func (c *commits) err() error {
	if p := c.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// wait waits until b is written. An error means that it is not, or that this is not
// known.
func (c *commits) wait(ctx context.Context, b *batch) error {
	if b.written.Load() {
		return nil
	}
	if err := c.err(); err != nil {
		return err
	}
	return c.await(ctx, b, commitTimeout)
}

func (c *commits) await(ctx context.Context, b *batch, atMost time.Duration) error {
	t, ok := c.timers.Get().(*time.Timer)
	if ok {
		t.Reset(atMost)
	} else {
		t = time.NewTimer(atMost)
	}
	defer func() {
		t.Stop()
		c.timers.Put(t)
	}()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the store: %w", ctx.Err())
	case <-t.C:
		return fmt.Errorf("the store has not written for %s: look at its disk", atMost)
	}
}

// flush writes all that is marked, also after a failure, and waits for it.
func (c *commits) flush(ctx context.Context) error {
	c.mu.Lock()
	b := c.current
	c.mu.Unlock()
	c.retry.Store(true)
	c.wake()
	return c.await(ctx, b, putTimeout)
}

// stop writes a last time and ends the goroutine. What is marked later is not written. It
// returns false if the goroutine still writes; the store must not be closed then. It is
// to be called once.
func (c *commits) stop(ctx context.Context) (ended bool, err error) {
	err = c.flush(ctx)
	close(c.quit)
	t := time.NewTimer(endTimeout)
	defer t.Stop()
	select {
	case <-c.ended:
	case <-t.C:
		return false, errors.Join(err, errors.New("the store has been writing for too long: look at its disk"))
	}
	closed := ErrClosed
	c.failure.Store(&closed)
	return true, err
}

func (c *commits) run(ctx context.Context) {
	defer close(c.ended)
	for {
		select {
		case <-c.kick:
			// Whoever is about to mark something may do so first: one write has it all.
			runtime.Gosched()
			c.write(ctx)
		case <-c.quit:
			c.write(ctx)
			return
		}
	}
}

// write puts the batch that was collected.
func (c *commits) write(ctx context.Context) {
	failed := c.failure.Load() != nil
	if !c.retry.Swap(false) && failed {
		return
	}
	c.mu.Lock()
	b := c.current
	c.current = newBatch()
	c.mu.Unlock()

	c.entries, c.dirty = c.entries[:0], c.dirty[:0]
	for _, w := range b.rows {
		if w.history != nil {
			c.entries = w.appendCells(c.entries)
			for len(c.dirty) < len(c.entries) {
				c.dirty = append(c.dirty, w)
			}
		} else if used := w.used.Load(); w.dirty(used) {
			c.entries = append(c.entries, Entry{Key: w.storeKey(), Used: used})
			c.dirty = append(c.dirty, w)
		}
	}
	if err := c.put(ctx); err != nil {
		b.err = fmt.Errorf("writing %d balances: %w", len(c.entries), err)
		for i, w := range c.dirty {
			w.stored(c.entries[i], unknown)
		}
		c.mu.Lock()
		for _, w := range c.dirty {
			c.current.add(w)
		}
		c.mu.Unlock()
		c.failure.Store(&b.err)
		c.report(b.err)
	} else {
		for i, w := range c.dirty {
			w.stored(c.entries[i], c.entries[i].Used)
		}
		b.written.Store(true)
		if c.failure.Swap(nil) != nil {
			c.wake() // for those who marked meanwhile
		}
	}
	for _, w := range b.rows {
		w.unpin()
	}
	b.rows = nil // reservations keep batches
	close(b.done)
}

func (c *commits) put(ctx context.Context) error {
	if len(c.entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	c.hung.Reset(commitTimeout)
	defer c.hung.Stop()
	return c.store.Put(ctx, c.entries)
}
