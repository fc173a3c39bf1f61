package budget

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
)

// DefaultMaxSubjects is [Limit.MaxSubjects] where it is 0.
const DefaultMaxSubjects = 100_000

// Overflow is the value of subjects that have come too late to get a counter of
// their own.
//
// Clients may choose who they say they are, so the counters of one limit and window
// are bounded by [Limit.MaxSubjects]. Whoever has a counter keeps it, in memory or in
// the store, and so does everybody whom an override names. New subjects beyond share
// one bucket, with the limit's amount. If the limit is counted per several names, the
// bucket is first that of the subject's parent, such as team=search&user=(overflow),
// so that newcomers share with those of their own team only; when there are
// MaxSubjects of such buckets, too, the rest shares a single one.
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
	if _, named := r.amounts[key]; named {
		return namedBucket
	}
	switch slices.IndexFunc(subject, func(id Identity) bool { return id.Value == Overflow }) {
	case 0:
		if !slices.ContainsFunc(subject, func(id Identity) bool { return id.Value != Overflow }) {
			return lastBucket
		}
	case -1:
		if len(subject) == 0 {
			return lastBucket
		}
	case len(subject) - 1:
		return parentBucket
	}
	return ownBucket
}

// crowd counts the rows of a limit and window which exist, in memory or in the
// store, by what they are bounded by.
type crowd struct{ subjects, parents atomic.Int64 }

func (c *crowd) of(b bucket) *atomic.Int64 {
	switch b {
	case ownBucket:
		return &c.subjects
	case parentBucket:
		return &c.parents
	}
	return nil // bounded by the configuration
}

// join counts a new row, or returns false if there are too many.
func (c *crowd) join(b bucket, most int64) bool {
	n := c.of(b)
	if n == nil {
		return true
	}
	if n.Add(1) > most {
		n.Add(-1)
		return false
	}
	return true
}

// leave uncounts a row that ceased to exist.
func (c *crowd) leave(b bucket) {
	if n := c.of(b); n != nil {
		n.Add(-1)
	}
}

// pinShared pins a bucket for a subject that has come too late.
func (l *Ledger) pinShared(ctx context.Context, r *rule, s *span, q *Request) (*row, error) {
	keep := [2]int{len(r.per) - 1, 0} // how many names keep their value: the parent's, then none
	for i, n := range keep {
		if i > 0 && n == keep[0] {
			break
		}
		var buf [keyBuffer]byte
		key := r.appendSharedKey(buf[:0], s, q, n)
		hash := l.table.hash(key)
		w := l.table.pin(hash, key)
		if w == nil {
			var err error
			if w, err = l.pinAbsent(ctx, r, s, string(key), hash); errors.Is(err, errCrowded) {
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

// countStored counts the subjects which the store has in the windows of now, so
// that a restart does not let in as many again. It fails if the store cannot be read.
func (l *Ledger) countStored(ctx context.Context) error {
	rules := l.byName()
	now := l.options.Now()
	newest := make(newestCells)
	defer newest.count(now)
	return l.store.Range(ctx, func(e Entry) bool {
		r := rules[ruleName{e.Key.Limit, e.Key.Unit}]
		if r != nil && r.rolling != nil {
			newest.add(r, e, now)
			return true
		}
		if r == nil || len(r.Per) == 0 {
			return true
		}
		s := r.at(now)
		if e.Key.Start != s.start {
			return true
		}
		// What cannot be parsed is no counter of this limit; Balances reports it.
		if subject, err := ParseSubject(e.Key.Subject); err == nil && r.countsPer(subject) {
			if n := s.crowd.of(r.bucketOf(e.Key.Subject, subject)); n != nil {
				n.Add(1)
			}
		}
		return true
	})
}
