package budget

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
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

// TestRollingSubjectsOnce: who comes again after the clock was set back by more than the
// period is counted once, though the cell is not known any more which was the newest.
func TestRollingSubjectsOnce(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Store: newMemStore(), Limits: []Limit{rollingLimit("user")}})
	for i, d := range []time.Duration{0, time.Hour, -time.Hour, 0, time.Minute, time.Hour, time.Hour} {
		c.add(d)
		reserve(t, l, ask(1, 1, "user", "ann")).Settle(Amount{1, 1})
		syncNow(t, l)
		if n := subjectsOf(l, c, 0); n != 1 {
			t.Errorf("step %d: ann is counted %d times", i, n)
		}
	}
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

// TestRollingConcurrentChanges: while rolling limits go, come back and change their periods
// under load, rows of the same name count in the same crowd, and at the end as many subjects
// are counted as a restart finds.
func TestRollingConcurrentChanges(t *testing.T) {
	all := Limit{Name: "all", Amount: 1 << 40, Period: Period(24 * time.Hour)}
	limit := rollingLimit("team", "user")
	limit.Amount = 1 << 40
	c, store := newClock(), newMemStore()
	l := open(t, Options{Now: c.now, Store: store, Limits: []Limit{all, limit}})
	stop := make(chan struct{})
	var others, workers sync.WaitGroup
	again := func(f func(i int)) {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	again(func(i int) {
		limits := []Limit{all, limit}
		switch i % 6 {
		case 1:
			limits[1].Location = time.FixedZone("elsewhere", 3600)
		case 3:
			limits = limits[:1]
		case 5:
			limits[1].Period = Period(time.Minute)
		}
		setLimits(t, l, limits...)
		crowds := make(map[string]*crowd)
		l.table.each(func(w *row) {
			key := w.rule.Name + w.rule.Period.String()
			if o := crowds[key]; o != nil && o != &w.span.crowd {
				t.Errorf("%s counts in two crowds", key)
			}
			crowds[key] = &w.span.crowd
		})
	})
	again(func(i int) {
		syncNow(t, l)
		if i%5 == 0 {
			c.add(7 * time.Second)
		}
		balances(t, l)
	})
	var tokens atomic.Int64
	for g := range 8 {
		workers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 5))
			var open []*Reservation
			settle := func(least int) {
				for len(open) > least {
					open[0].Settle(Amount{1, 1})
					open = open[1:]
					tokens.Add(2)
				}
			}
			for range 300 {
				r, d, err := l.Reserve(t.Context(), ask(1, 1, "team", fmt.Sprint(rnd.IntN(4)), "user", fmt.Sprint(rnd.IntN(20))))
				if r == nil {
					t.Errorf("%+v, %v", d, err)
					return
				}
				open = append(open, r)
				settle(3)
			}
			settle(0)
		})
	}
	workers.Wait()
	close(stop)
	others.Wait()
	setLimits(t, l, all, limit)
	syncNow(t, l)
	last := ask(1, 1, "team", "a", "user", "z") // its counter is new, so that others are uncounted
	reserve(t, l, last).Settle(Amount{1, 1})
	syncNow(t, l)
	restarted := open(t, Options{Now: c.now, Store: store.copied(), Limits: []Limit{all, limit}})
	if n, want := subjectsOf(l, c, 1), subjectsOf(restarted, c, 1); n != want || n < 1 {
		t.Errorf("%d subjects are counted, and %d after a restart", n, want)
	}
	if b := balances(t, l); b[0].Spent != tokens.Load()+2 || b[0].Held != 0 {
		t.Errorf("%+v; settled %d", b[0], tokens.Load())
	}
}
