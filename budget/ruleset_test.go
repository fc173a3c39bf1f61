package budget

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// setLimits puts limits in place, or fails the test.
func setLimits(t testing.TB, l *Ledger, limits ...Limit) {
	t.Helper()
	if err := l.SetLimits(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
}

// withAndWithout runs f over a ledger in memory and over one with a store.
func withAndWithout(t *testing.T, limits []Limit, f func(*testing.T, *Ledger, *clock)) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			c := newClock()
			o := Options{Limits: limits, Now: c.now, GrowthStep: 1}
			if stored {
				o.Store = newMemStore()
			}
			f(t, open(t, o), c)
		})
	}
}

// A raised amount counts at once for a stream under way, a lowered one when it has to
// grow; its hold stays. So it is in a window that has ended meanwhile.
func TestSetAmounts(t *testing.T) {
	team := Limit{Name: "team", Unit: OutputTokens, Amount: 100, Period: Hour, Per: []string{"team"}}
	with := func(amount int64, overrides ...Override) Limit {
		l := team
		l.Amount, l.Overrides = amount, overrides
		return l
	}
	own := func(amount int64) Override { return Override{[]Identity{{"team", "a"}}, amount} }
	withAndWithout(t, []Limit{team}, func(t *testing.T, l *Ledger, c *clock) {
		r := reserve(t, l, ask(0, 98, "team", "a"))
		defer r.SettleHold()
		grow := func(to int64, want bool, amount int64) {
			t.Helper()
			d, ok := r.Spend(to)
			if ok != want || !ok && (d.Limit != "team" || d.Amount != amount) {
				t.Errorf("Spend(%d) = %+v, %v", to, d, ok)
			}
		}
		grow(99, false, 100)
		setLimits(t, l, with(200))
		grow(196, true, 0)
		grow(197, false, 200)
		setLimits(t, l, with(50))
		grow(196, true, 0) // what is held stays
		grow(197, false, 50)
		if d := r.Strictest(); d.Amount != 50 || d.Remaining != 0 {
			t.Errorf("strictest %+v", d)
		}
		if d := refused(t, l, ask(0, 1, "team", "a")); d.Amount != 50 {
			t.Errorf("refused by %+v", d)
		}
		setLimits(t, l, with(50, own(1000)))
		grow(300, true, 0)
		c.add(time.Hour)
		setLimits(t, l, with(50, own(10)))
		grow(301, false, 10)
		setLimits(t, l, with(400))
		grow(301, true, 0)
		// A new subject in the new window has the amount of now.
		if d := refused(t, l, Request{Output: 393, MinOutput: 393}); d.Amount != 400 {
			t.Errorf("refused by %+v", d)
		}
	})
}

// A limit that is gone concerns nobody who comes; who is under way stays under it. It
// finds its counters when it comes back.
func TestGoneAndBack(t *testing.T) {
	all := Limit{Name: "all", Amount: 1 << 40, Period: Day}
	team := Limit{Name: "team", Amount: 1000, Period: Day, Per: []string{"team"}, MaxSubjects: 2}
	withAndWithout(t, []Limit{all, team}, func(t *testing.T, l *Ledger, _ *clock) {
		reserve(t, l, ask(300, 1, "team", "a")).Settle(Amount{Input: 300})
		r := reserve(t, l, ask(200, 100, "team", "a"))
		setLimits(t, l, all)
		if d, ok := r.Spend(5000); ok || d.Limit != "team" {
			t.Errorf("who is under way: %+v, %v", d, ok)
		}
		reserve(t, l, ask(5000, 100, "team", "a")).Settle(Amount{Input: 5000})
		if bs := balances(t, l); len(bs) != 1 || bs[0].Limit != "all" {
			t.Errorf("balances %+v", bs)
		}
		syncNow(t, l)
		r.Settle(Amount{Input: 250})
		syncNow(t, l)
		if l.store != nil && inMemory(l) != 0 {
			t.Errorf("%d rows in memory", inMemory(l))
		}
		team := team
		team.Amount = 600
		setLimits(t, l, team, all)
		if bs := balances(t, l); len(bs) != 2 || bs[0].Limit != "team" || bs[0].Spent != 550 || bs[0].Amount != 600 || bs[1].Limit != "all" {
			t.Errorf("balances %+v", bs)
		}
		if d := refused(t, l, ask(50, 1, "team", "a")); d.Limit != "team" || d.Remaining != 50 {
			t.Errorf("refused by %+v", d)
		}
		// The subjects of before are counted.
		for _, c := range []struct{ name, counts string }{{"b", "b"}, {"c", Overflow}, {"b", "b"}} {
			if b := heldBalances(t, l, ask(1, 1, "team", c.name))[0]; b.Subject[0].Value != c.counts {
				t.Errorf("%s counts in %+v", c.name, b)
			}
		}
		team.MaxSubjects = 3
		setLimits(t, l, team, all)
		if b := heldBalances(t, l, ask(1, 1, "team", "d"))[0]; b.Subject[0].Value != "d" { // a, b and d are three
			t.Errorf("with more subjects: %+v", b)
		}
		if b := heldBalances(t, l, ask(1, 1, "team", "e"))[0]; b.Subject[0].Value != Overflow {
			t.Errorf("one too many counts in %+v", b)
		}
	})
}

// On the 1st, a Monday, minute, hour, day, week, month, quarter and year may begin together. They
// are counters of their own, in memory and in the store, also at the same time.
func TestSameStart(t *testing.T) {
	withAndWithout(t, nil, func(t *testing.T, l *Ledger, c *clock) {
		c.t = time.Date(2035, 1, 1, 0, 0, 30, 0, time.UTC) // a Monday
		open := make(map[Period]*Reservation)
		periods := []Period{Minute, Hour, Day, Week, Month, Quarter, Year}
		for i, p := range periods {
			setLimits(t, l, Limit{Name: "x", Amount: 1000, Period: p})
			if bs := balances(t, l); len(bs) != 0 {
				t.Fatalf("%s has %+v", p, bs)
			}
			open[p] = reserve(t, l, ask(int64(i)+1, 1))
			if i%2 == 0 {
				syncNow(t, l)
			}
		}
		for _, p := range periods {
			open[p].SettleHold()
		}
		syncNow(t, l)
		for i, p := range periods {
			setLimits(t, l, Limit{Name: "x", Amount: 1000, Period: p})
			if bs := balances(t, l); len(bs) != 1 || bs[0].Spent != int64(i)+2 {
				t.Errorf("%s has %+v", p, bs)
			}
			if r := reserve(t, l, ask(1, 1)); r.Strictest().Remaining != 1000-(int64(i)+2)-2 {
				t.Errorf("%s has %+v", p, r.Strictest())
			} else {
				r.Settle(Amount{})
			}
		}
	})
}

// A limit in the middle of the others leaves their counters and holds as they are, and is
// taken from in its place.
func TestLimitInTheMiddle(t *testing.T) {
	a, b, c := Limit{Name: "a", Amount: 1000, Period: Day}, Limit{Name: "b", Amount: 500, Period: Day, Per: []string{"team"}}, Limit{Name: "c", Amount: 700, Period: Day}
	withAndWithout(t, []Limit{a, c}, func(t *testing.T, l *Ledger, _ *clock) {
		early := reserve(t, l, ask(100, 1, "team", "x"))
		setLimits(t, l, a, b, c)
		late := reserve(t, l, ask(100, 1, "team", "x"))
		if names := layerNames(late); !slices.Equal(names, []string{"a", "b", "c"}) {
			t.Errorf("layers %q", names)
		}
		setLimits(t, l, c, a)
		if names := layerNames(early); !slices.Equal(names, []string{"a", "c"}) {
			t.Errorf("layers %q", names)
		}
		early.Settle(Amount{Input: 10})
		late.Settle(Amount{Input: 20})
		setLimits(t, l, b, c, a)
		var got []string
		for _, b := range balances(t, l) {
			got = append(got, fmt.Sprint(b.Limit, " ", b.Spent, " ", b.Held))
		}
		if !slices.Equal(got, []string{"b 20 0", "c 30 0", "a 30 0"}) {
			t.Errorf("balances %q", got)
		}
	})
}

func layerNames(r *Reservation) (names []string) {
	for _, w := range r.layers {
		names = append(names, w.rule.Name)
	}
	return names
}

// A limit per request binds who comes from now on.
func TestPerRequestChanges(t *testing.T) {
	size := Limit{Name: "size", Unit: OutputTokens, Amount: 100, PerRequest: true}
	l := open(t, Options{Limits: []Limit{size}})
	early := reserve(t, l, ask(1, 10))
	size.Amount = 50
	setLimits(t, l, size)
	late := reserve(t, l, ask(1, 10))
	if early.OutputCap() != 100 || late.OutputCap() != 50 {
		t.Errorf("caps %d and %d", early.OutputCap(), late.OutputCap())
	}
	setLimits(t, l)
	if r := reserve(t, l, ask(1, 10)); r.OutputCap() != 0 {
		t.Errorf("cap %d", r.OutputCap())
	}
}

func TestSetLimitsErrors(t *testing.T) {
	good := Limit{Name: "x", Amount: 10, Period: Day}
	store := newMemStore()
	l := open(t, Options{Limits: []Limit{good}, Store: store})
	unchanged := func() {
		t.Helper()
		if d := refused(t, l, ask(11, 1)); d.Limit != "x" || d.Amount != 10 {
			t.Errorf("refused by %+v", d)
		}
	}
	err := l.SetLimits(t.Context(), []Limit{{Name: "x", Amount: -1, Period: Day}, {Amount: 1, Period: Day}})
	if err == nil || !strings.Contains(err.Error(), `limit 1 ("x")`) || !strings.Contains(err.Error(), `limit 2 ("")`) {
		t.Errorf("mistakes: %v", err)
	}
	unchanged()
	store.fail(true, false)
	if err := l.SetLimits(t.Context(), []Limit{{Name: "y", Amount: 1, Period: Day, Per: []string{"team"}}}); !errors.Is(err, errBroken) {
		t.Errorf("a store that cannot be read: %v", err)
	}
	// What has its counters needs no store.
	setLimits(t, l, Limit{Name: "x", Amount: 10, Period: Day})
	store.fail(false, false)
	unchanged()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.SetLimits(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed ledger: %v", err)
	}
}

// A request whose counter is being read while the limits change goes by the new ones.
func TestChangeDuringLoad(t *testing.T) {
	team := Limit{Name: "team", Amount: 1000, Period: Day, Per: []string{"team"}}
	lower := team
	lower.Amount = 200
	for _, c := range []struct {
		name   string
		after  []Limit
		amount int64 // 0: it is not limited
	}{{"lowered", []Limit{lower}, 200}, {"gone", nil, 0}} {
		t.Run(c.name, func(t *testing.T) {
			store := newMemStore()
			l := open(t, Options{Limits: []Limit{team}, Store: store, Now: newClock().now})
			var once sync.Once
			change := func() { setLimits(t, l, c.after...) }
			store.onGet = func(_ context.Context) { once.Do(change) }
			r := reserve(t, l, ask(1, 1, "team", "a"))
			defer r.SettleHold()
			if d := r.Strictest(); d.Amount != c.amount || len(r.layers) != len(c.after) {
				t.Errorf("admitted by %+v", d)
			}
			if n := inMemory(l); n != int64(len(c.after)) {
				t.Errorf("%d rows in memory", n)
			}
		})
	}
}

// TestConcurrentChanges: limits go, come, rise, fall and change their windows, rows leave
// memory, windows end, while many reserve, grow and settle. No token is lost, no hold
// stays, and no counter is in memory twice.
func TestConcurrentChanges(t *testing.T) {
	for _, entries := range []int64{1, 1000} {
		t.Run(fmt.Sprintf("cache of %d", entries), func(t *testing.T) {
			all := Limit{Name: "all", Amount: 1 << 40, Period: Total}
			calls := Limit{Name: "calls", Unit: Requests, Amount: 1 << 40, Period: Hour, Per: []string{"user"}}
			c, store := newClock(), newMemStore()
			l := open(t, Options{Now: c.now, Store: store, CacheEntries: entries, GrowthStep: 16, Limits: []Limit{all, calls}})
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
			changes := 0
			again(func(i int) {
				rnd := rand.New(rand.NewPCG(uint64(i), 3))
				limits := []Limit{all, calls}
				for _, name := range []string{"x", "y"} {
					if rnd.IntN(3) > 0 {
						limits = slices.Insert(limits, rnd.IntN(len(limits)+1), Limit{
							Name: name, Amount: 1 + int64(rnd.IntN(4000)), Per: []string{"user"},
							Period: []Period{Minute, Hour, Day, Month}[rnd.IntN(4)], MaxSubjects: 1 + int64(rnd.IntN(8)),
						})
					}
				}
				if err := l.SetLimits(t.Context(), limits); err != nil {
					t.Error(err)
				}
				changes++
				keys := make(map[Key]bool)
				l.table.each(func(w *row) {
					if keys[w.storeKey()] {
						t.Errorf("%+v is there twice", w.storeKey())
					}
					keys[w.storeKey()] = true
				})
			})
			again(func(i int) {
				_ = l.Sync(t.Context())
				if i%7 == 0 {
					c.add(20 * time.Second)
				}
				balances(t, l)
			})
			var tokens, requests, refusals atomic.Int64
			for g := range 12 {
				workers.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(g), 4))
					for range 400 {
						r, d, err := l.Reserve(t.Context(), ask(int64(rnd.IntN(40)), 5, "user", fmt.Sprint(rnd.IntN(6))))
						if err != nil {
							t.Error(err)
							return
						}
						if r == nil {
							if d.Limit != "x" && d.Limit != "y" {
								t.Errorf("refused by %+v", d)
							}
							refusals.Add(1)
							continue
						}
						for range 4 {
							if d, ok := r.Spend(int64(rnd.IntN(300))); !ok && d.Limit != "x" && d.Limit != "y" {
								t.Errorf("no growth: %+v", d)
							}
						}
						a := Amount{int64(rnd.IntN(9)), int64(rnd.IntN(9))}
						if !r.Settle(a) {
							t.Error("not settled")
						}
						tokens.Add(a.Input + a.Output)
						requests.Add(1)
					}
				})
			}
			workers.Wait()
			close(stop)
			others.Wait()
			syncNow(t, l)
			if n := inMemory(l); n != 0 {
				t.Errorf("%d rows in memory while nothing is open", n)
			}
			sums := make(map[string]int64)
			for _, e := range store.entries {
				sums[e.Key.Limit] += e.Used
			}
			t.Logf("%d changes, %d granted, %d refused", changes, requests.Load(), refusals.Load())
			if changes < 10 || requests.Load() < 100 {
				t.Error("too little happened for this test")
			}
			if sums["all"] != tokens.Load() || sums["calls"] != requests.Load() {
				t.Errorf("%v in the store; settled %d tokens in %d requests", sums, tokens.Load(), requests.Load())
			}
		})
	}
}
