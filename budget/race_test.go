package budget

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConcurrentCeiling: 32 goroutines on one small budget. No reservation and no
// growth takes it beyond the amount less the guard, and nothing is held in the end.
func TestConcurrentCeiling(t *testing.T) {
	const amount, guard = 2000, 32
	l := open(t, Options{Now: newClock().now, GrowthStep: 20, Limits: []Limit{
		{Name: "all", Amount: amount, Period: Total},
		{Name: "user", Amount: amount / 2, Period: Total, Per: []string{"user"}},
		{Name: "out", Unit: OutputTokens, Amount: amount / 2, Period: Total},
		{Name: "calls", Unit: Requests, Amount: 1 << 20, Period: Total},
	}})
	check := func(w *row) {
		if used := w.used.Load(); used > w.ceiling.Load() || used < 0 {
			t.Errorf("%s: %d used, ceiling %d", w.rule.Name, used, w.ceiling.Load())
		}
	}
	stop := make(chan struct{})
	var watcher, workers sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			l.table.each(check)
			for _, b := range balances(t, l) {
				if b.Spent < 0 || b.Held < 0 {
					t.Errorf("negative: %+v", b)
				}
			}
		}
	})
	var spent, granted, refused, cut atomic.Int64
	for round := range 40 {
		// All are open at the same time, and want more than there is.
		rs := make([]*Reservation, 32)
		for g := range rs {
			workers.Go(func() {
				r, d, err := l.Reserve(t.Context(), ask(5, 60, "user", fmt.Sprint(g%4)))
				switch {
				case err != nil:
					t.Error(err)
				case r == nil:
					refused.Add(1)
					if d.Limit == "" || d.Allowed {
						t.Errorf("refused by %+v", d)
					}
				default:
					granted.Add(1)
					rs[g] = r
					for output := range int64(100) {
						if _, ok := r.Spend(output); !ok {
							cut.Add(1)
							break
						}
					}
				}
			})
		}
		workers.Wait()
		for g, r := range rs {
			if r == nil {
				continue
			}
			workers.Go(func() {
				a := Amount{}
				if g == round%32 { // the others were for free
					a = Amount{5, 5}
				}
				if r.Settle(a) {
					spent.Add(a.Input + a.Output)
				}
			})
		}
		workers.Wait()
	}
	close(stop)
	watcher.Wait()
	t.Logf("%d granted, %d refused, %d cut, %d spent", granted.Load(), refused.Load(), cut.Load(), spent.Load())
	if granted.Load() == 0 || refused.Load()+cut.Load() == 0 {
		t.Error("the budget was not small enough for this test")
	}
	l.table.each(func(w *row) {
		check(w)
		if w.held.Load() != 0 || w.pins.Load() != 0 {
			t.Errorf("%s: %d held and %d pins in the end", w.rule.Name, w.held.Load(), w.pins.Load())
		}
	})
	if b := balances(t, l)[0]; b.Spent != spent.Load() || b.Held != 0 || b.Spent > amount-guard {
		t.Errorf("%+v; %d were settled", b, spent.Load())
	}
}

// TestConcurrentTotals: while rows leave memory and come back, windows end and the
// store fails now and then, not one settled token is lost or counted twice.
func TestConcurrentTotals(t *testing.T) {
	for _, entries := range []int64{1, 1000} {
		t.Run(fmt.Sprintf("cache of %d", entries), func(t *testing.T) {
			c, store := newClock(), newMemStore()
			l := open(t, Options{Now: c.now, Store: store, CacheEntries: entries, Limits: []Limit{
				{Name: "all", Amount: 1 << 40, Period: Total},
				{Name: "minute", Amount: 1 << 40, Period: Minute, Per: []string{"user"}},
				{Name: "calls", Unit: Requests, Amount: 1 << 40, Period: Hour, Per: []string{"user"}},
			}})
			stop := make(chan struct{})
			var janitor, workers sync.WaitGroup
			janitor.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					store.fail(false, i%5 == 0)
					_ = l.Sync(t.Context()) // fails now and then
					if i%7 == 0 {
						c.add(20 * time.Second)
					}
				}
			})
			var tokens, calls, failed atomic.Int64
			for g := range 16 {
				workers.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(g), 2))
					for range 300 {
						r, _, err := l.Reserve(t.Context(), ask(3, 5, "user", fmt.Sprint(rnd.IntN(6))))
						if errors.Is(err, errBroken) {
							failed.Add(1)
							time.Sleep(50 * time.Microsecond) // somebody will sync
							continue
						}
						if err != nil || r == nil {
							t.Errorf("refused: %v", err)
							return
						}
						a := Amount{int64(rnd.IntN(9)), int64(rnd.IntN(9))}
						// Three settle, one of them succeeds; somebody still spends.
						var won atomic.Int64
						var race sync.WaitGroup
						for range 3 {
							race.Go(func() {
								if r.Settle(a) {
									won.Add(1)
								}
							})
						}
						r.Spend(int64(rnd.IntN(500)))
						race.Wait()
						if won.Load() != 1 {
							t.Errorf("%d of three settlements succeeded", won.Load())
						}
						tokens.Add(a.Input + a.Output)
						calls.Add(1)
					}
				})
			}
			workers.Wait()
			close(stop)
			janitor.Wait()
			store.fail(false, false)
			syncNow(t, l)
			if n := inMemory(l); n != 0 {
				t.Errorf("%d rows in memory while nothing is open", n)
			}
			sums := make(map[string]int64)
			windows := make(map[int64]bool)
			for _, e := range store.entries {
				sums[e.Key.Limit] += e.Used
				windows[e.Key.Start] = true
			}
			t.Logf("%d windows, %d reads, %d writes, %d requests failed", len(windows), store.gets, store.puts, failed.Load())
			if calls.Load() < 100 {
				t.Errorf("only %d requests were granted", calls.Load())
			}
			if sums["all"] != tokens.Load() || sums["minute"] != tokens.Load() || sums["calls"] != calls.Load() {
				t.Errorf("%v in the store, settled %d tokens in %d requests", sums, tokens.Load(), calls.Load())
			}
		})
	}
}
