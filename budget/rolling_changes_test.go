package budget

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

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
