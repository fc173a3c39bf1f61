package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Defaults of [Options].
const (
	DefaultSyncInterval = time.Second
	DefaultCacheEntries = 100_000
	DefaultGrowthStep   = 128
	DefaultMaxCounters  = 1_000_000
)

// Options say how a [Ledger] works. Zero values stand for the defaults.
type Options struct {
	// Limits are the budgets, the broadest first: all users before one team before
	// one user.
	Limits []Limit
	// Store keeps balances over restarts. Without one they live in memory only.
	// The ledger owns the store and closes it.
	Store Store
	// SyncInterval is how often Run lets idle counters leave memory, and tries again
	// what could not be written.
	SyncInterval time.Duration
	// Now is the clock of the windows, [time.Now] by default.
	Now func() time.Time
	// CacheEntries is how many balances of idle counters are kept in memory besides
	// the store.
	CacheEntries int64
	// GrowthStep is by how many tokens of output a hold grows at least.
	GrowthStep int64
	// MaxCounters bounds the counters in memory: those with open reservations or
	// unwritten changes; without a store, all of running windows. At the bound, new
	// subjects share a bucket (see [Overflow]), and requests that need a counter
	// which only the store has fail with [ErrFull].
	MaxCounters int64
	// OnOverflow, if set, is called for each request that counts in a bucket of
	// [Overflow]; first says that it is the first one of this limit for a minute. It
	// may be called at the same time, must be quick and must not call the ledger.
	OnOverflow func(limit string, first bool)
	// OnStoreError is called when balances could not be written. They stay in memory,
	// and what waits for them fails; see [Ledger.Err]. It must not call the ledger.
	OnStoreError func(error)
}

// withDefaults returns o with defaults for zero values.
func (o Options) withDefaults() Options {
	setDefault(&o.SyncInterval, DefaultSyncInterval)
	setDefault(&o.CacheEntries, DefaultCacheEntries)
	setDefault(&o.GrowthStep, DefaultGrowthStep)
	setDefault(&o.MaxCounters, DefaultMaxCounters)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnStoreError == nil {
		o.OnStoreError = func(error) {}
	}
	return o
}

func setDefault[T ~int64](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// check returns an error that names every mistake besides those in the limits.
func (o Options) check() error {
	var errs []error
	positive := func(name string, v, most int64) {
		if v < 1 || v > most {
			errs = append(errs, fmt.Errorf("%s is %d: it must lie between 1 and %d", name, v, most))
		}
	}
	positive("SyncInterval", int64(o.SyncInterval), int64(24*time.Hour))
	positive("CacheEntries", o.CacheEntries, 1<<30)
	positive("GrowthStep", o.GrowthStep, maxTokens)
	positive("MaxCounters", o.MaxCounters, 1<<40)
	return errors.Join(errs...)
}

// Ledger is the authority on all balances in this process. Its methods may be
// called at the same time.
type Ledger struct {
	rules    atomic.Pointer[ruleset]
	changing sync.Mutex // for who changes rules
	store    Store      // nil: memory only
	options  Options    // but for the limits

	table   *table
	cache   *cache
	commits *commits           // nil without a store
	loads   singleflight.Group // by row key; the only way into the table if there is a store

	gate    gate
	syncing chan struct{} // holds one token while somebody writes to the store
	closed  bool          // the store is closed; belongs to the holder of the token
}

// New returns a ledger. It makes sure that the store can be read, and fails if not,
// or if the options or limits have mistakes, all of which the error names. After
// success it owns the store.
func New(ctx context.Context, o Options) (*Ledger, error) {
	o = o.withDefaults()
	rules, err := newRuleset(o.Limits)
	if err := errors.Join(o.check(), err); err != nil {
		return nil, fmt.Errorf("budget: %w", err)
	}
	o.Limits = nil
	l := &Ledger{
		store:   o.Store,
		options: o,
		syncing: make(chan struct{}, 1),
	}
	l.rules.Store(rules)
	l.table = newTable(o.MaxCounters, func(r *rule) bool { return l.rules.Load().has(r) })
	size := int64(0)
	if l.store != nil {
		size = o.CacheEntries
	}
	if err := l.countSubjects(ctx, rules.counted); err != nil {
		return nil, err
	}
	if l.cache, err = newCache(size); err != nil {
		return nil, err
	}
	if l.store != nil {
		l.commits = newCommits(ctx, l.store, o.OnStoreError)
	}
	return l, nil
}

// Err is why nothing can be reserved at the moment: the store has failed, or the
// last write to it. It is nil while all is well.
func (l *Ledger) Err() error {
	if l.store == nil {
		return nil
	}
	if err := l.commits.err(); err != nil {
		return fmt.Errorf("budget: %w", err)
	}
	return l.store.Err()
}

// Reserve holds what q may cost on every limit that concerns it, or on none.
//
// The output granted is the greatest between MinOutput and Output which every limit
// can give that cuts; see [Reservation.Held]. What is held of it on a limit is a
// matter of its [Admission]. Numbers outside the ranges that [Request] states
// are brought into them. The Decision is that of [Reservation.Strictest].
//
// If a limit has not enough, the Reservation is nil and the Decision is of the limit
// that the client has to wait for: of those that refuse, the one which resets last,
// and one that throttles only if all of them do; see [Decision.WaitUntil]. One that never
// has so much room comes before all others, since waiting for those is in vain. A request
// that is too large for a limit per request is refused before that.
//
// When it returns, the store has the hold.
//
// An error means that a balance could not be read, or the hold not be written, in
// time or at all; that there is no room for a further counter ([ErrFull]), unless its
// limit only watches; or that the ledger is closed ([ErrClosed]). Nothing is held then,
// and the balance is unknown, not zero.
func (l *Ledger) Reserve(ctx context.Context, q Request) (*Reservation, Decision, error) {
	r := new(Reservation)
	d, err := l.ReserveIn(ctx, r, q)
	if !d.Allowed || err != nil {
		return nil, d, err
	}
	return r, d, nil
}

// ReserveIn is Reserve into a Reservation of the caller's, which spares an
// allocation. r must be new, or settled and used by nobody else any more. If nothing
// is granted, r is as if it were settled.
func (l *Ledger) ReserveIn(ctx context.Context, r *Reservation, q Request) (d Decision, err error) {
	r.begin(&q)
	if l.gate.shut.Load() {
		return Decision{}, ErrClosed
	}
	if err := l.Err(); err != nil {
		return Decision{}, err
	}
	tooLarge, err := l.pinAll(ctx, r, &q)
	if err != nil {
		return Decision{}, err
	}
	if tooLarge != nil {
		return tooLarge.refusal(&q), nil
	}
	r.commits = l.commits
	asked := demand{least: q.MinOutput, want: min(q.Output, r.cap.most), full: min(q.FullOutput, r.cap.most), whole: q.Whole}
	granted, refused, undone := r.layers.take(r.charge, asked)
	if refused != nil {
		d = refused.refusal(r.charge, asked)
		if undone {
			r.mark()
		}
		r.unpin()
		return d, nil
	}
	r.step = l.options.GrowthStep
	r.layers.markGranted(r.charge.when)
	r.granted = granted
	covered := r.layers.covered(granted)
	r.hold(covered, covered) // from now on it is to be settled
	r.mark()
	if err := r.Wait(ctx); err != nil {
		r.abandon()
		return Decision{}, err
	}
	r.strictest(&d)
	return d, nil
}

// Run calls Sync every [Options.SyncInterval] until ctx ends. Then it does so a last
// time and returns the error of that. It returns nil if the ledger is closed meanwhile.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(l.options.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			err := l.syncWithin(context.WithoutCancel(ctx))
			if errors.Is(err, ErrClosed) {
				return nil
			}
			return err
		case <-tick.C:
			// Other errors are told to OnStoreError; the next round tries again.
			if err := l.syncWithin(ctx); errors.Is(err, ErrClosed) {
				return nil
			}
		}
	}
}

// Close writes changed balances a last time and closes the store. It is to be called
// after the last settlement: what is settled later is not written. If calls are
// still at work when ctx ends, it returns an error and may be called again. If the
// last write fails, the store is closed nevertheless and the error says so; if it does not
// end in time, the store stays open, and its lock with the process. After
// Close, Reserve, Sync and Balances return [ErrClosed], and Close returns nil.
func (l *Ledger) Close(ctx context.Context) error {
	if err := l.gate.close(ctx); err != nil {
		return fmt.Errorf("budget: closing: waiting for calls under way: %w", err)
	}
	release, err := l.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.store == nil {
		return nil
	}
	defer l.cache.close()
	ended, err := l.commits.stop(ctx)
	if err != nil {
		err = fmt.Errorf("budget: %w", err)
	}
	if !ended {
		return err
	}
	return errors.Join(err, l.closeStore())
}

// closeStore closes the store, but does not wait for a disk that hangs: the process is
// about to end.
func (l *Ledger) closeStore() error {
	done := make(chan error, 1)
	go func() { done <- l.store.Close() }()
	t := time.NewTimer(putTimeout)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("budget: the store has not been closed for %s: look at its disk", putTimeout)
	}
}
