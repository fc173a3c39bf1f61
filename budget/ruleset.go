package budget

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ruleset is what a ledger's limits are at one time. It does not change; when the limits
// do, another one takes its place.
type ruleset struct {
	rules   []*rule // those with counters, in their order
	singles []*rule // those per request
	counted map[ruleName]*rule
}

// errChanged means that a row was to be made for a limit which has changed since the
// request looked at it.
var errChanged = errors.New("the limits change all the time")

// newRuleset checks limits and makes them ready. The error names every mistake.
func newRuleset(limits []Limit) (*ruleset, error) {
	rules, err := newRules(limits)
	if err != nil {
		return nil, err
	}
	s := &ruleset{counted: make(map[ruleName]*rule, len(rules))}
	for _, r := range rules {
		if r.PerRequest {
			s.singles = append(s.singles, r)
			continue
		}
		s.rules = append(s.rules, r)
		s.counted[ruleName{r.Name, r.Unit}] = r
	}
	return s, nil
}

// has reports whether r is one of these rules, not one of the same name.
func (s *ruleset) has(r *rule) bool { return s.counted[ruleName{r.Name, r.Unit}] == r }

// of returns the rule that w counts for: that of its name and unit, unless this is
// counted per something else by now, or in other windows.
func (s *ruleset) of(w *row) *rule {
	r := s.counted[ruleName{w.rule.Name, w.rule.Unit}]
	switch {
	case r == nil || r == w.rule:
		return r
	case !r.countsPer(w.subject):
		return nil
	case r.current.Load() == w.span:
		return r
	case r.rolling != nil || w.history != nil:
		if r.Period != w.rule.Period {
			return nil
		}
		return r
	}
	if s := newSpan(r.Period.Window(w.span.Start, r.Location)); s.start != w.span.start || s.end != w.span.end {
		return nil
	}
	return r
}

// adopt takes over the windows of those limits in old that have the same ones. It
// returns the others that have counters of several subjects, or cells.
func (s *ruleset) adopt(old *ruleset, now time.Time) map[ruleName]*rule {
	fresh := maps.Clone(s.counted)
	maps.DeleteFunc(fresh, func(_ ruleName, r *rule) bool { return len(r.Per) == 0 && r.rolling == nil })
	for name, r := range s.counted {
		o := old.counted[name]
		// Zones are loaded anew each time, and have no equality. Of the same name and with
		// the same window now, they are the same.
		if o == nil || o.Period != r.Period || !slices.Equal(o.Per, r.Per) ||
			r.rolling == nil && o.Location.String() != r.Location.String() {
			continue
		}
		if s := r.newSpan(now); s.start != o.at(now).start || s.end != o.at(now).end {
			continue
		}
		r.windows = o.windows
		delete(fresh, name)
	}
	return fresh
}

// SetLimits puts limits in the place of those that the ledger has, for the requests that
// come and, as far as amounts go, for those under way:
//
//   - A limit that stays what it is, by name, unit, Per, period and zone, keeps its
//     counters. Its amount, overrides, conditions and MaxSubjects may be others. A raised
//     amount counts at once. A lowered one stops a stream when its hold has to grow; what
//     is held stays.
//   - A limit that is gone concerns no new request. Those under way stay under it as it was,
//     and are settled as ever. If it comes back, it finds its counters.
//   - A limit whose Per, period or zone is another has counters of its own. Those from
//     before are of no effect, unless what they were comes back.
//   - A limit per request binds a request as it was when that was admitted.
//
// Requests that come after it has returned are decided by the new limits; those meanwhile, by
// the old or the new ones. Without a store, the counters of a limit that is gone stay in
// memory until their windows have ended.
//
// An error names every mistake in limits, as that of [New] does, or says that the store
// could not be read, or is [ErrClosed]. Nothing has changed then.
func (l *Ledger) SetLimits(ctx context.Context, limits []Limit) error {
	if !l.gate.enter() {
		return ErrClosed
	}
	defer l.gate.leave()
	rules, err := newRuleset(limits)
	if err != nil {
		return fmt.Errorf("budget: %w", err)
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	now := l.options.Now()
	if fresh := rules.adopt(l.rules.Load(), now); len(fresh) > 0 {
		if err := l.countSubjects(ctx, fresh); err != nil {
			return err
		}
	}
	l.rules.Store(rules)
	// Rows that come into the table from now on are made for the new rules: insert sees
	// to that under the lock which each takes here.
	l.table.each(func(w *row) {
		if r := rules.of(w); r != nil {
			w.setAmount(r.amountOf(w.encoded))
		}
	})
	return nil
}

// changedAttempts bounds how often a request begins again because the limits have
// changed under it. Once is rare.
const changedAttempts = 100

// pinAll pins the rows of all limits that concern q, in their order, as the layers of r,
// whose cap it sets. If a limit per request refuses q, it returns that one; then, and
// after an error, nothing is pinned.
func (l *Ledger) pinAll(ctx context.Context, r *Reservation, q *Request) (tooLarge *rule, err error) {
	var buf [keyBuffer]byte
	now := l.options.Now()
	r.charge.when = when{now.Unix(), now.Unix()}
	for range changedAttempts {
		rules := l.rules.Load()
		if r.cap, r.sizes, tooLarge = rules.perRequest(q, r.sizes[:0]); tooLarge != nil {
			return tooLarge, nil
		}
		err = nil
		for _, rule := range rules.rules {
			if !rule.concerns(q) {
				continue
			}
			w, pinErr := l.pin(ctx, rule, rule.at(now), q, buf[:])
			if pinErr == nil && w.history != nil {
				r.now = l.options.Now
				if pinErr = l.enter(ctx, w, r.charge.when.admitted); pinErr != nil {
					w.unpin()
				}
			}
			if q.Watch {
				rule = rule.watching()
			}
			if pinErr != nil {
				if errors.Is(pinErr, ErrFull) && !rule.enforces() {
					continue // it refuses nothing, not even for want of room for its counter
				}
				err = fmt.Errorf("budget: limit %q: %w", rule.Name, pinErr)
				break
			}
			r.watched = r.watched || !rule.enforces()
			r.layers = r.layers.add(w, rule)
		}
		if err == nil {
			return nil, nil
		}
		r.unpin()
		r.layers = r.layers[:0]
		if !errors.Is(err, errChanged) {
			break
		}
	}
	return nil, err
}
