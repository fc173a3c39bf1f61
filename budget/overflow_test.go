package budget

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestFlood: a million subjects within one window, fewer where each waits for the store.
// Memory stays bounded, nobody gets an error, and who was there before keeps a counter.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("a million requests")
	}
	const most = 1000
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			flood := 1_000_000
			if stored {
				flood = 200_000
			}
			var shared, told int
			o := Options{Now: newClock().now, MaxCounters: 5000, OnOverflow: func(limit string, first bool) {
				if limit != "user" {
					t.Errorf("overflow of %q", limit)
				}
				if shared++; first {
					told++
				}
			}, Limits: []Limit{
				{Name: "all", Amount: 1 << 50, Period: Day},
				{Name: "user", Amount: 1 << 40, Period: Day, Per: []string{"user"}, MaxSubjects: most,
					Overrides: []Override{{[]Identity{{"user", "known"}}, 77}}},
			}}
			store := newMemStore()
			if stored {
				o.Store = store
			}
			l := open(t, o)
			early := reserve(t, l, ask(1, 1, "user", "early"))
			early.SettleHold()
			var r Reservation
			var before, after runtime.MemStats
			for i := range flood {
				if i == flood/10 {
					syncNow(t, l)
					runtime.GC()
					runtime.ReadMemStats(&before)
				}
				d, err := l.ReserveIn(t.Context(), &r, ask(1, 1, "user", fmt.Sprint("u", i)))
				if err != nil || !d.Allowed {
					t.Fatalf("request %d: %+v, %v", i, d, err)
				}
				r.Settle(Amount{1, 1})
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
				t.Errorf("the last nine tenths of the subjects took %d bytes", grown)
			}
			if n := inMemory(l); n > most+3 {
				t.Errorf("%d counters in memory", n)
			}
			if want := flood - (most - 1); shared != want || told != 1 {
				t.Errorf("%d requests shared the bucket and it was announced %d times, want %d and once", shared, told, want)
			}
			syncNow(t, l)
			for user, want := range map[string]Decision{
				"early": {Subject: []Identity{{"user", "early"}}, Amount: 1 << 40},
				"u5":    {Subject: []Identity{{"user", "u5"}}, Amount: 1 << 40},
				"known": {Subject: []Identity{{"user", "known"}}, Amount: 77},
				"late":  {Subject: []Identity{{"user", Overflow}}, Amount: 1 << 40},
			} {
				for _, b := range heldBalances(t, l, ask(1, 1, "user", user)) {
					if b.Limit == "user" && (!slices.Equal(b.Subject, want.Subject) || b.Amount != want.Amount) {
						t.Errorf("%s counts in %+v", user, b)
					}
				}
			}
			if bs := balances(t, l); len(bs) != 1+most+2 {
				t.Errorf("%d balances", len(bs))
			}
			if !stored {
				return
			}
			// A restart does not let in as many again.
			syncNow(t, l)
			again := open(t, Options{Store: store.copied(), Now: o.Now, Limits: o.Limits})
			if d := heldBalances(t, again, ask(1, 1, "user", "after the restart")); d[1].Subject[0].Value != Overflow {
				t.Errorf("after a restart: %+v", d)
			}
			if d := heldBalances(t, again, ask(1, 1, "user", "early")); d[1].Subject[0].Value != "early" {
				t.Errorf("after a restart: %+v", d)
			}
		})
	}
}

// heldBalances are the counters that hold something for q while it is under way.
func heldBalances(t *testing.T, l *Ledger, q Request) []Balance {
	t.Helper()
	r := reserve(t, l, q)
	defer r.Settle(Amount{})
	return slices.DeleteFunc(balances(t, l), func(b Balance) bool { return b.Held == 0 })
}

// Subjects of a parent share that parent's bucket; when there are too many parents,
// too, one bucket is left for the rest.
func TestFloodOfPairs(t *testing.T) {
	l := open(t, Options{Limits: []Limit{{Name: "x", Amount: 1000, Period: Day, Per: []string{"team", "user"}, MaxSubjects: 4}}})
	for i, want := range []string{"a u0", "a u1", "a (overflow)", "a (overflow)"} { // as many as are free are left
		check(t, l, "a", fmt.Sprint("u", i), want)
	}
	check(t, l, "b", "u0", "b u0")
	check(t, l, "b", "u1", "b (overflow)")
	check(t, l, "c", "u0", "c u0")
	check(t, l, "d", "u0", "d (overflow)") // no room at all
	check(t, l, "e", "u0", "e (overflow)")
	check(t, l, "f", "u0", "(overflow) (overflow)")
	check(t, l, "a", "u1", "a u1")
	check(t, l, "a", "u9", "a (overflow)")
	check(t, l, Overflow, "me", "(overflow) (overflow)")
	check(t, l, "g", Overflow, "(overflow) (overflow)")
	if bs := balances(t, l); len(bs) != 4+4+1 {
		t.Errorf("%+v", bs)
	}
}

func check(t *testing.T, l *Ledger, team, user, want string) {
	t.Helper()
	b := heldBalances(t, l, ask(1, 1, "team", team, "user", user))
	if got := b[0].Subject[0].Value + " " + b[0].Subject[1].Value; got != want {
		t.Errorf("%s and %s count in %q, want %q", team, user, got, want)
	}
}

// Counters that exist no more make room: those of ended windows, of requests that were
// refused, and of streams that have ended.
func TestOverflowMakesRoom(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Limits: []Limit{
		{Name: "x", Amount: 10, Period: Minute, Per: []string{"user"}, MaxSubjects: 1},
	}})
	subject := func(user string) string {
		return heldBalances(t, l, ask(1, 1, "user", user))[0].Subject[0].Value
	}
	refused(t, l, ask(50, 1, "user", "greedy"))
	if got := subject("a"); got != Overflow {
		t.Errorf("while a refused one is in memory: %s", got)
	}
	syncNow(t, l)
	if got := subject("a"); got != "a" {
		t.Errorf("after a refused one has left: %s", got)
	}
	if got := subject("b"); got != Overflow {
		t.Errorf("the second: %s", got)
	}
	c.add(time.Minute)
	if got := subject("b"); got != "b" {
		t.Errorf("in the next minute: %s", got)
	}
	c.add(-time.Minute) // the same window again
	if got := subject("b"); got != Overflow {
		t.Errorf("in the minute before: %s", got)
	}

	s := open(t, Options{Limits: []Limit{{Name: "s", Unit: Streams, Amount: 5, Per: []string{"user"}, MaxSubjects: 1}}, Store: newMemStore()})
	a := reserve(t, s, ask(1, 1, "user", "a"))
	if d := reserve(t, s, ask(1, 1, "user", "b")).Strictest(); d.Subject[0].Value != Overflow {
		t.Errorf("the second: %+v", d)
	}
	a.SettleHold()
	syncNow(t, s)
	if d := reserve(t, s, ask(1, 1, "user", "c")).Strictest(); d.Subject[0].Value != "c" {
		t.Errorf("after the first has ended: %+v", d)
	}
}

// The bound holds exactly, also if all come at once.
func TestOverflowParallel(t *testing.T) {
	const most = 50
	l := open(t, Options{Store: newMemStore(), Limits: []Limit{{Name: "x", Amount: 1 << 40, Period: Day, Per: []string{"user"}, MaxSubjects: most}}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				r, _, err := l.Reserve(t.Context(), ask(1, 1, "user", fmt.Sprint(i*7%200, g%2)))
				if err != nil || r == nil {
					t.Errorf("%v, %v", r, err)
					return
				}
				r.Settle(Amount{1, 1})
				if i%50 == 0 {
					_ = l.Sync(t.Context())
				}
			}
		})
	}
	wg.Wait()
	spent := int64(0)
	bs := balances(t, l)
	for _, b := range bs {
		spent += b.Spent
	}
	if len(bs) != most+1 || spent != 8*200*2 {
		t.Errorf("%d balances, %d spent; want %d and %d", len(bs), spent, most+1, 8*200*2)
	}
}

// OnOverflow announces a limit once a minute.
func TestOverflowTold(t *testing.T) {
	c := newClock()
	var told []bool
	l := open(t, Options{Now: c.now, OnOverflow: func(_ string, first bool) { told = append(told, first) },
		Limits: []Limit{{Name: "x", Amount: 1000, Period: Day, Per: []string{"user"}, MaxSubjects: 1}}})
	for i, wait := range []time.Duration{0, 0, 59 * time.Second, time.Second, time.Second} {
		c.add(wait)
		reserve(t, l, ask(1, 1, "user", fmt.Sprint(i))).SettleHold()
	}
	if want := []bool{true, false, true, false}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// TestOverflowCounts: in any order of requests, refusals, syncs and restarts, a subject
// that has a counter keeps it, there are never more than may be, and none is refused a
// counter while there is room.
func TestOverflowCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 5).Draw(t, "most")
		var store *memStore
		o := Options{Now: newClock().now, CacheEntries: 1, Limits: []Limit{
			{Name: "x", Amount: 1000, Period: Day, Per: []string{"user"}, MaxSubjects: int64(most),
				Overrides: []Override{{[]Identity{{"user", "named"}}, 500}}},
		}}
		if rapid.Bool().Draw(t, "stored") {
			store = newMemStore()
			o.Store = store
		}
		l, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		own := make(map[string]bool)     // those with a counter
		refused := make(map[string]bool) // those whose row is in memory, though nothing was granted
		user := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "named"})
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				u := user.Draw(t, "user")
				r, _, err := l.Reserve(t.Context(), ask(1, 1, "user", u))
				if err != nil || r == nil {
					t.Fatal(r, err)
				}
				r.Settle(Amount{})
				got := r.layers[0].subject[0].Value
				switch {
				case u == "named":
					if got != u {
						t.Fatalf("a named subject counts in %s", got)
					}
				case own[u] || refused[u]:
					if got != u {
						t.Fatalf("%s has a counter and counts in %s", u, got)
					}
					own[u] = true
					delete(refused, u)
				case got == u:
					own[u] = true
					if n := len(own) + len(refused); n > most {
						t.Fatalf("%s has counter %d of %d", u, n, most)
					}
				case got != Overflow || len(own)+len(refused) < most:
					t.Fatalf("%s counts in %s; %v and %v have counters, of %d", u, got, own, refused, most)
				}
			},
			"refusal": func(t *rapid.T) {
				u := user.Draw(t, "user")
				r, d, err := l.Reserve(t.Context(), ask(5000, 1, "user", u))
				if err != nil || r != nil {
					t.Fatal(r, err)
				}
				if d.Subject[0].Value == u && u != "named" && !own[u] {
					refused[u] = true
				}
			},
			"sync": func(t *rapid.T) {
				if err := l.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				clear(refused)
			},
			"restart": func(t *rapid.T) {
				if store == nil {
					t.Skip("no store")
				}
				if err := l.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				o.Store = store.copied()
				store = o.Store.(*memStore)
				if l, err = New(t.Context(), o); err != nil {
					t.Fatal(err)
				}
				clear(refused)
			},
		})
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// An override for the bucket that all share makes it no less the last resort.
func TestOverflowOverride(t *testing.T) {
	limit := Limit{Name: "user", Amount: 100, Period: Total, Per: []string{"user"}}
	limit.Overrides = []Override{{Subject: []Identity{{"user", Overflow}}, Amount: 50}}
	l := open(t, Options{MaxCounters: 1, Limits: []Limit{limit}})
	reserve(t, l, ask(1, 1, "user", "ann"))
	r, d, err := l.Reserve(t.Context(), ask(1, 1, "user", "bob"))
	if err != nil || r == nil || d.Amount != 50 {
		t.Errorf("Reserve = %+v, %v", d, err)
	}
}
