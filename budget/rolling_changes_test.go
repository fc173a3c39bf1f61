package budget

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

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
