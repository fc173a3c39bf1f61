package budget

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// subjectsOf is how many subjects of a limit are counted.
func subjectsOf(l *Ledger, c *clock, i int) int64 {
	crowd := &l.rules.Load().rules[i].at(c.now()).crowd
	crowd.mu.Lock()
	defer crowd.mu.Unlock()
	return crowd.own.rows
}

// TestRollingSubjectsBack: a rolling limit that goes and comes back while requests are
// under way knows how many subjects it has, then and when they have left memory.
func TestRollingSubjectsBack(t *testing.T) {
	limit := rollingLimit("user")
	limit.MaxSubjects = 4
	withAndWithout(t, []Limit{limit}, func(t *testing.T, l *Ledger, c *clock) {
		check := func(when string, want int64) {
			t.Helper()
			if n := subjectsOf(l, c, 0); n != want {
				t.Errorf("%s: %d subjects are counted, not %d", when, n, want)
			}
		}
		reserve(t, l, ask(1, 1, "user", "bob")).Settle(Amount{1, 1})
		r := reserve(t, l, ask(1, 1, "user", "ann"))
		syncNow(t, l)
		setLimits(t, l)
		setLimits(t, l, limit)
		check("back", 2)
		c.add(4 * time.Minute)
		reserve(t, l, ask(1, 1, "user", "ann")).Settle(Amount{1, 1})
		check("used again", 2)
		c.add(90 * time.Second)
		syncNow(t, l) // bob has left
		reserve(t, l, ask(1, 1, "user", "cid")).Settle(Amount{1, 1})
		check("ann and cid", 2)
		r.Settle(Amount{1, 1})
		syncNow(t, l)
		reserve(t, l, ask(1, 1, "user", "ann")).Settle(Amount{1, 1})
		check("ann again", 2)
		c.add(time.Hour)
		syncNow(t, l)
		reserve(t, l, ask(1, 1, "user", "dan")).Settle(Amount{1, 1})
		check("dan", 1)
	})
}

// TestRollingSubjectsOfPeriods: rows of another period which are still in memory do not
// hide the subjects that the store has of this one.
func TestRollingSubjectsOfPeriods(t *testing.T) {
	for _, other := range []Period{Period(10 * time.Minute), Total} {
		limit := rollingLimit("user")
		limit.MaxSubjects = 4
		changed := limit
		changed.Period = other
		c := newClock()
		l := open(t, Options{Now: c.now, Store: newMemStore(), Limits: []Limit{limit}})
		for _, user := range []string{"ann", "bob"} {
			reserve(t, l, ask(1, 1, "user", user)).Settle(Amount{1, 1})
		}
		syncNow(t, l)
		setLimits(t, l, changed)
		r := reserve(t, l, ask(1, 1, "user", "ann"))
		setLimits(t, l, limit)
		if n := subjectsOf(l, c, 0); n != 2 {
			t.Errorf("%s: %d subjects are counted", other, n)
		}
		r.Settle(Amount{1, 1})
	}
}

// TestRollingBecomesCalendar: cells whose times are those of calendar windows are none.
func TestRollingBecomesCalendar(t *testing.T) {
	for period, width := range map[Period]Period{
		Period(time.Hour): Minute, Period(60 * time.Hour): Hour, Period(60 * 24 * time.Hour): Day,
	} {
		for _, per := range [][]string{nil, {"user"}} {
			t.Run(fmt.Sprint(period, width, per), func(t *testing.T) {
				c := newClock()
				limit := Limit{Name: "a", Amount: 1000, Period: period, Per: per}
				l := open(t, Options{Now: c.now, Store: newMemStore(), Limits: []Limit{limit}})
				reserve(t, l, ask(1, 1, "user", "ann")).Settle(Amount{1, 1})
				syncNow(t, l)
				limit.Period = width
				setLimits(t, l, limit)
				if b := balances(t, l); len(b) != 0 {
					t.Errorf("%+v", b)
				}
			})
		}
	}
}

// TestRollingTurnsAtOnce: who comes while others move the window is not refused by what
// has left it.
func TestRollingTurnsAtOnce(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Limits: []Limit{rollingLimit()}})
	var w *row
	for range 60 {
		r := reserve(t, l, ask(0, 16))
		w = r.layers[0].row
		r.Settle(Amount{0, 16})
		c.add(5 * time.Second)
	}
	n := w.history.at.Load()
	later := when{(n + 200) * 5, (n + 200) * 5}
	for range 10_000 {
		w.look(n * 5)
		var turning sync.WaitGroup
		turning.Go(func() { w.look(later.now) })
		for w.history.at.Load() == n {
			runtime.Gosched()
		}
		if left := w.left(later); left != 980 {
			t.Fatalf("%d are left", left)
		}
		turning.Wait()
	}
}
