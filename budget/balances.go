package budget

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Balances returns every counter of a window that has not ended, those in memory and
// those in the store, in the order of the limits, then by subject, then by window. A
// counter exists as soon as a reservation was granted on it. Entries of the store
// which belong to no limit, or to none of its windows or subjects since it was
// changed, are left out, as Reserve does not look at them either.
//
// The numbers of one counter fit together as far as that can be had without stopping
// the requests that change them; they are never negative.
func (l *Ledger) Balances(ctx context.Context) ([]Balance, error) {
	if !l.gate.enter() {
		return nil, ErrClosed
	}
	defer l.gate.leave()
	now := l.options.Now()
	rules := l.rules.Load()
	c := &collector{now: now, seen: make(map[Key]bool)}
	// Memory before store: a counter which leaves memory in between is then found
	// in the store.
	l.table.each(func(w *row) {
		r := rules.of(w)
		switch {
		case r == nil:
		case w.history != nil:
			c.addRolling(r, w)
		case w.granted.Load():
			spent, held := w.balance()
			c.add(r, w.span, w.storeKey(), w.subject, w.amount.Load(), spent, held)
		}
	})
	if l.store != nil {
		if err := l.collectStored(ctx, rules, c); err != nil {
			return nil, err
		}
	}
	c.finishRolling()
	slices.SortFunc(c.lines, func(a, b line) int {
		return cmp.Or(
			cmp.Compare(a.order, b.order),
			cmp.Compare(a.key.Subject, b.key.Subject),
			cmp.Compare(a.key.Start, b.key.Start),
		)
	})
	out := make([]Balance, len(c.lines))
	for i := range c.lines {
		out[i] = c.lines[i].balance
	}
	return out, nil
}

// collectStored adds the counters which the store has and memory has not.
func (l *Ledger) collectStored(ctx context.Context, rules *ruleset, c *collector) error {
	var failed error
	err := l.store.Range(ctx, func(e Entry) bool {
		r := rules.counted[ruleName{e.Key.Limit, e.Key.Unit}]
		if r == nil || c.seen[e.Key] {
			return true
		}
		s, encoded := (*span)(nil), e.Key.Subject
		if r.rolling == nil {
			if !isCell(e.Key) {
				s = r.spanOf(e.Key, c.now)
			}
		} else if n, subject, ok := r.rolling.cellOf(e.Key); ok && r.rolling.near(n, r.rolling.cell(c.now.Unix())) {
			s, encoded = r.at(c.now), subject
		}
		if s == nil {
			return true
		}
		if e.Used < 0 {
			failed = fmt.Errorf("budget: limit %q: reading the store: negative usage %d", e.Key.Limit, e.Used)
			return false
		}
		subject, err := ParseSubject(encoded)
		if err != nil {
			failed = fmt.Errorf("budget: limit %q: reading the store: %w", e.Key.Limit, err)
			return false
		}
		if !r.countsPer(subject) {
			return true
		}
		if r.rolling != nil {
			c.addCell(r, encoded, subject, e)
		} else {
			c.add(r, s, e.Key, subject, r.amountOf(encoded), e.Used, 0)
		}
		return true
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("budget: reading the store: %w", err)
	}
	return nil
}

// collector gathers balances, each counter once.
type collector struct {
	now   time.Time
	seen  map[Key]bool
	lines []line

	rolling map[Key]*rollingLine // by key without Start
}

// line is a balance with what it is sorted by.
type line struct {
	order   int
	key     Key
	balance Balance
}

func (c *collector) add(r *rule, s *span, key Key, subject []Identity, amount, spent, held int64) {
	if s.ended(c.now) {
		return
	}
	c.seen[key] = true
	c.lines = append(c.lines, line{r.order, key, Balance{
		Limit:       r.Name,
		Unit:        r.Unit,
		Subject:     subject,
		WindowStart: s.Start,
		WindowEnd:   s.End,
		Amount:      amount,
		Spent:       spent,
		Held:        held,
		Parent:      r.Parent,
	}})
}
