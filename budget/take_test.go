package budget

import (
	"sync"
	"testing"
)

// TestTakeIsAtomic: what many take and give back at once adds up, to the last token. It looks
// at one counter in a tight loop, since a step that is not atomic goes wrong within nanoseconds,
// or not at all.
func TestTakeIsAtomic(t *testing.T) {
	const workers, times = 8, 2_000_000
	l := open(t, Options{Now: newClock().now, Limits: []Limit{{Name: "all", Amount: 1 << 40, Period: Total}}})
	r := reserve(t, l, ask(1, 1))
	w := r.layers[0].row
	before := w.used.Load()
	var g sync.WaitGroup
	for range workers {
		g.Go(func() {
			for i := range times {
				n, ok := w.take(when{}, 1, 1, 2)
				if !ok || n != 2 {
					t.Errorf("took %d, %v", n, ok)
					return
				}
				if i%2 == 0 {
					w.release(when{}, 3)
				}
			}
		})
	}
	g.Wait()
	if used, want := w.used.Load()-before, int64(workers*times/2*3); used != want {
		t.Errorf("%d are used, want %d", used, want)
	}
	w.release(when{}, workers*times/2*3)
	r.Settle(Amount{})
}
