package budget

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"
	"sync"
)

// DefaultMaxSubjects is [Limit.MaxSubjects] where it is 0.
const DefaultMaxSubjects = 100_000

// Overflow is the value of subjects that have come too late to get a counter of
// their own.
//
// Clients may choose who they say they are, so the counters of one limit and window
// are bounded by [Limit.MaxSubjects]. Whoever has a counter keeps it, in memory or in
// the store, and so does everybody whom an override names. New subjects beyond share
// one bucket, with the limit's amount.
//
// If the limit is counted per several names, a flood from one parent, such as the users
// of one team, must not use up the room of the others. So a subject gets a counter of its own
// only while its parent has fewer than are still free. Hence one parent alone gets half
// of MaxSubjects, two that flood at the same time get a third each, and as much stays
// free. It is the rule by which switches share a buffer (Choudhury and Hahne, Dynamic Queue
// Length Thresholds for Shared-Memory Packet Switches, 1998), and needs no further
// number. Of three names the first is bounded so, and the first two together by what
// is free less what the first has: one team gets a third, and all teams of its org half.
//
// The bucket is first that of the subject's parent, such as team=search&user=(overflow),
// so that newcomers share with those of their own team only. The same rule bounds the
// buckets, which there are MaxSubjects of at most; beyond, further names are replaced, to
// the left, until a single bucket is for all.
const Overflow = "(overflow)"

// errCrowded means that a new row has to share a bucket.
var errCrowded = errors.New("budget: too many subjects")

// bucket says for whom a row is.
type bucket uint8

const (
	ownBucket    bucket = iota // one subject
	parentBucket               // those of a parent that came too late
	lastBucket                 // all that came too late; or simply all
	namedBucket                // a subject that the configuration names
)

// bucketOf tells what kind of row a subject has. Clients can call themselves
// (overflow); they then share that bucket.
func (r *rule) bucketOf(key string, subject []Identity) bucket {
	n := kept(subject)
	if n == 0 {
		return lastBucket // also with an amount of its own
	}
	if _, named := r.amounts[key]; named {
		return namedBucket
	}
	if n == len(subject) {
		return ownBucket
	}
	return parentBucket
}

// kept is how many values of a subject come before those which are Overflow to its end.
func kept(subject []Identity) int {
	n := len(subject)
	for n > 0 && subject[n-1].Value == Overflow {
		n--
	}
	return n
}

// crowd counts the rows of a limit and window which exist, in memory or in the
// store, by what they are bounded by. Its lock is taken only when a row begins or
// ceases to exist.
type crowd struct {
	mu          sync.Mutex
	own, shared group
}

// group is what one MaxSubjects bounds.
type group struct {
	rows int64
	// under has how many of the rows are under a parent, by the hash of the parent. There
	// is no parent without a row, so that the bound of the rows is one of the parents, too:
	// each row has as many as it has names, less one. Parents whose hashes are the same,
	// which nobody can bring about, count as one.
	under map[uint64]int64
}

// parentSeed makes the hashes of parents unpredictable.
var parentSeed = maphash.MakeSeed()

// parents yields the hashes of the beginnings of an encoded subject that are parents of
// the row: of its values but the last one that is kept.
func parents(key string, subject []Identity) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		end := 0
		for range kept(subject) - 1 {
			end += strings.IndexByte(key[end:], '&') // each value is followed by one, and has none
			if !yield(maphash.String(parentSeed, key[:end])) {
				return
			}
			end++
		}
	}
}

func (c *crowd) of(b bucket) *group {
	switch b {
	case ownBucket:
		return &c.own
	case parentBucket:
		return &c.shared
	}
	return nil // bounded by the configuration
}

// join counts a new row, or returns false if there are too many, all in all or under
// one of its parents.
func (c *crowd) join(w *row) bool {
	g := c.of(w.bucket)
	if g == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	free := w.rule.MaxSubjects - g.rows
	if free <= 0 {
		return false
	}
	for p := range parents(w.encoded, w.subject) {
		if free -= g.under[p]; free <= 0 {
			return false
		}
	}
	g.add(w.encoded, w.subject, 1)
	return true
}

// leave uncounts a row that ceased to exist.
func (c *crowd) leave(w *row) { c.add(w.bucket, w.encoded, w.subject, -1) }

// add counts n rows of a subject, whether they are too many or not.
func (c *crowd) add(b bucket, key string, subject []Identity, n int64) {
	if g := c.of(b); g != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		g.add(key, subject, n)
	}
}

func (g *group) add(key string, subject []Identity, n int64) {
	g.rows += n
	for p := range parents(key, subject) {
		if g.under == nil {
			g.under = make(map[uint64]int64)
		}
		if g.under[p] += n; g.under[p] == 0 {
			delete(g.under, p)
		}
	}
}

// pinShared pins a bucket for a subject that has come too late.
func (l *Ledger) pinShared(ctx context.Context, r *rule, s *span, q *Request) (*row, error) {
	for keep := len(r.per) - 1; keep >= 0; keep-- { // how many names keep their value
		var buf [keyBuffer]byte
		subject := r.appendShared(buf[:0], q, keep)
		hash := s.hash(subject)
		w := l.table.pin(hash, s, subject)
		if w == nil {
			var err error
			if w, err = l.pinAbsent(ctx, r, s, s.prefix+string(subject), hash); errors.Is(err, errCrowded) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		l.tellOverflow(r)
		return w, nil
	}
	return nil, ErrFull // the last bucket is never crowded
}

// tellOverflow calls OnOverflow; the first time in a minute it says so.
func (l *Ledger) tellOverflow(r *rule) {
	if l.options.OnOverflow == nil {
		return
	}
	now, last := l.options.Now().Unix(), r.told.Load()
	first := (last == 0 || now-last >= 60 || now < last) && r.told.CompareAndSwap(last, now)
	l.options.OnOverflow(r.Name, first)
}

// countSubjects counts the subjects which the limits have in the windows of now, in
// memory and in the store, so that a restart, or a limit that comes back, does not let
// in as many again. Nothing has joined their crowds yet. Rolling limits of which there
// are rows have their windows, and are taken out of rules. It fails if the store cannot be read.
func (l *Ledger) countSubjects(ctx context.Context, rules map[ruleName]*rule) error {
	now := l.options.Now()
	seen := make(map[Key]bool)
	newest := make(newestCells)
	defer func() { newest.count(now) }()
	count := func(key Key) {
		r := rules[ruleName{key.Limit, key.Unit}]
		switch {
		case r == nil || r.Unit == Streams: // who is under way leaves soon, and another crowd
			return
		case r.rolling != nil:
			newest.add(r, key, now)
			return
		case len(r.Per) == 0 || seen[key]:
			return
		}
		s := r.at(now)
		if key.Start != s.start || key.End != s.end {
			return
		}
		// What cannot be parsed is no counter of this limit; Balances reports it.
		if subject, err := ParseSubject(key.Subject); err == nil && r.countsPer(subject) {
			s.crowd.add(r.bucketOf(key.Subject, subject), key.Subject, subject, 1)
		}
	}
	l.table.each(func(w *row) {
		switch {
		case w.history != nil:
			// The rows that a rolling limit finds when it comes back tell the windows that they
			// were made for when they leave. Those have counted all there is, and go on.
			name := ruleName{w.rule.Name, w.rule.Unit}
			if r := rules[name]; r != nil && r.Period == w.rule.Period && r.countsPer(w.subject) {
				r.windows = w.rule.windows
				delete(rules, name)
			}
		case w.granted.Load():
			count(w.storeKey())
			seen[w.storeKey()] = true
		}
	})
	if l.store == nil {
		return nil
	}
	err := l.store.Range(ctx, func(e Entry) bool {
		count(e.Key)
		return true
	})
	if err != nil {
		return fmt.Errorf("budget: reading the store: %w", err)
	}
	return nil
}
