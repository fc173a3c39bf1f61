package budget

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// TestConcurrentActions: whatever limits do, and hold at first, those that cut stay within
// their amount, and nothing is held in the end.
func TestConcurrentActions(t *testing.T) {
	limits := []Limit{
		{Name: "cut", Amount: 3000, Period: Total},
		{Name: "full", Unit: OutputTokens, Amount: 3000, Period: Total, Admission: AdmitFull},
		{Name: "none", Amount: 2500, Period: Total, Admission: AdmitNone},
		{Name: "refuse", Amount: 500, Period: Total, Action: ActionRefuse},
		{Name: "throttle", Unit: OutputTokens, Amount: 500, Period: Day, Action: ActionThrottle, Admission: AdmitNone},
		{Name: "shadow", Amount: 100, Period: Total, Action: ActionShadow, Admission: AdmitFull},
		{Name: "each", Unit: OutputTokens, Amount: 40, PerRequest: true, Action: ActionShadow},
	}
	l := open(t, Options{Now: newClock().now, GrowthStep: 7, Limits: limits})
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for range 300 {
				r, _, err := l.Reserve(t.Context(), Request{Input: rand.Int64N(20), Output: 10, MinOutput: 1, FullOutput: 100})
				if err != nil {
					t.Error(err)
				}
				if r == nil {
					continue
				}
				for output := range rand.Int64N(120) {
					if _, ok := r.Spend(output); !ok {
						break
					}
				}
				r.Shadows(1)
				r.Cuttable()
				r.Settle(Amount{})
			}
		})
		workers.Go(func() {
			for range 300 {
				l.table.each(func(w *row) {
					if used := w.used.Load(); used < 0 || w.rule.Action == ActionCut && used > w.ceiling.Load() {
						t.Errorf("%s: %d used, ceiling %d", w.rule.Name, used, w.ceiling.Load())
					}
				})
			}
		})
	}
	workers.Wait()
	for _, b := range balances(t, l) {
		if b.Held != 0 || b.Spent != 0 {
			t.Errorf("%+v", b)
		}
	}
}
