package budget

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fiveMinutes has 60 cells of five seconds.
const fiveMinutes = Period(5 * time.Minute)

func rollingLimit(per ...string) Limit {
	return Limit{Name: "r", Amount: 1000, Period: fiveMinutes, Per: per}
}

// TestRollingResets: who is refused is told when there is room, and there is some then and
// not before.
func TestRollingResets(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Limits: []Limit{{Name: "r", Unit: Requests, Amount: 3, Period: fiveMinutes}}})
	for _, wait := range []time.Duration{0, 17 * time.Second, 100 * time.Second} {
		c.add(wait)
		reserve(t, l, ask(1, 1)).Settle(Amount{1, 1})
	}
	// They leave 305, 305 + 15 and 305 + 115 seconds after noon: their last instants may have
	// been five seconds later than the first of their cells.
	for _, want := range []time.Duration{305 * time.Second, 320 * time.Second, 420 * time.Second} {
		d := refused(t, l, ask(1, 1))
		if got := d.ResetAt.Sub(noon); got != want || !d.Rolling || d.Window != 5*time.Minute || d.Remaining != 0 {
			t.Fatalf("refused until %s: %+v, want %s", got, d, want)
		}
		b := balances(t, l)[0]
		if got := b.WindowEnd.Sub(noon); got != want || !b.WindowStart.Equal(c.now().Add(-5*time.Minute)) || b.Spent != 3 {
			t.Fatalf("%+v", b)
		}
		c.add(d.ResetAt.Sub(c.now()) - 1)
		refused(t, l, ask(1, 1))
		c.add(1)
		r := reserve(t, l, ask(1, 1))
		if d := r.Strictest(); d.Remaining != 0 || d.ResetAt.Before(c.now()) {
			t.Errorf("%+v", d)
		}
		r.Settle(Amount{1, 1})
	}
	// A hold has no end that is known.
	c.add(time.Hour)
	r := reserve(t, l, ask(1, 1))
	reserve(t, l, ask(1, 1)).Settle(Amount{1, 1})
	reserve(t, l, ask(1, 1)).Settle(Amount{1, 1})
	c.add(10 * time.Minute)
	for range 2 {
		reserve(t, l, ask(1, 1)).Settle(Amount{1, 1})
	}
	if d := refused(t, l, ask(1, 1)); d.ResetAt.Sub(c.now()) > 5*time.Second || !d.ResetAt.After(c.now()) {
		t.Errorf("beside an open hold refused until %s at %s", d.ResetAt, c.now())
	}
	if b := balances(t, l)[0]; b.Held != 1 || b.Spent != 2 {
		t.Errorf("%+v", b)
	}
	r.Settle(Amount{1, 1}) // counts no more
	if b := balances(t, l)[0]; b.Held != 0 || b.Spent != 2 {
		t.Errorf("%+v", b)
	}
}

// TestRollingGrowth: a stream that was admitted a while ago must not take what the window
// at that time has not.
func TestRollingGrowth(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, GrowthStep: 1, Limits: []Limit{{Name: "r", Unit: OutputTokens, Amount: 49, Period: fiveMinutes}}})
	reserve(t, l, Request{Output: 30, MinOutput: 30}).Settle(Amount{Output: 30})
	c.add(4 * time.Minute)
	r := reserve(t, l, Request{Output: 10, MinOutput: 10})
	c.add(3 * time.Minute) // what was first has left
	if d, ok := r.Spend(20); ok {
		t.Errorf("within five minutes 30 and 20 were granted: %+v", d)
	}
	if d, ok := r.Spend(19); !ok {
		t.Errorf("refused: %+v", d)
	}
	if b := balances(t, l)[0]; b.Spent != 0 || b.Held != 19 {
		t.Errorf("%+v", b)
	}
	// What came later counts, too.
	reserve(t, l, Request{Output: 30, MinOutput: 30}).Settle(Amount{Output: 30})
	refused(t, l, Request{Output: 1, MinOutput: 1})
	r.Settle(Amount{Output: 25}) // debt
	if b := balances(t, l)[0]; b.Spent != 55 || b.Debt() != 6 {
		t.Errorf("%+v", b)
	}
	c.add(2*time.Minute + 5*time.Second) // the stream's cell leaves
	if b := balances(t, l)[0]; b.Spent != 30 {
		t.Errorf("%+v", b)
	}
}

// TestRollingGrowthForgets: what an open stream's window needs is not forgotten, though it
// left the present window long ago.
func TestRollingGrowthForgets(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Store: newMemStore(), GrowthStep: 1, Limits: []Limit{{Name: "r", Unit: OutputTokens, Amount: 49, Period: Period(2 * time.Second)}}})
	reserve(t, l, Request{Output: 30, MinOutput: 30}).Settle(Amount{Output: 30})
	c.add(2 * time.Second)
	r := reserve(t, l, Request{Output: 10, MinOutput: 10})
	for range 100 {
		c.add(3 * time.Second)
		other := reserve(t, l, Request{Output: 1, MinOutput: 1})
		other.Settle(Amount{Output: 1})
		if err := other.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.layers[0].history.cells); n > 20 {
		t.Errorf("%d cells", n)
	}
	if d, ok := r.Spend(20); ok {
		t.Errorf("within two seconds 30 and 20 were granted: %+v", d)
	}
	if d, ok := r.Spend(19); !ok {
		t.Errorf("refused: %+v", d)
	}
	r.SettleHold()
}

// TestRollingGrowthUnread: a stream grows after the clock was set back and right again, when
// nothing but its own window is known of that time.
func TestRollingGrowthUnread(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Store: newMemStore(), GrowthStep: 1, Limits: []Limit{{Name: "r", Unit: OutputTokens, Amount: 1000, Period: Period(time.Second)}}})
	stream := reserve(t, l, Request{Output: 10, MinOutput: 10})
	other := reserve(t, l, Request{Output: 500, MinOutput: 500})
	c.add(-5 * time.Second)
	reserve(t, l, Request{Output: 1, MinOutput: 1}).SettleHold()
	other.SettleHold()
	c.add(5 * time.Second)
	if d, ok := stream.Spend(481); ok {
		t.Errorf("within a second 500 and 481 were granted: %+v", d)
	}
	if d, ok := stream.Spend(468); !ok {
		t.Errorf("refused: %+v", d)
	}
	stream.SettleHold()
}

// secondly is a ledger with a store and a limit of a second, whose row forgets what it can.
func secondly(t *testing.T) (*Ledger, *clock, *memStore) {
	c, store := newClock(), newMemStore()
	l := open(t, Options{Now: c.now, Store: store, Limits: []Limit{{Name: "r", Amount: 1000, Period: Period(time.Second)}}})
	l.rules.Load().rules[0].rolling.spare = 0
	return l, c, store
}

// TestRollingJumps: what was forgotten, or never read, is read when the clock comes to it.
func TestRollingJumps(t *testing.T) {
	use := func(t *testing.T, l *Ledger, n int64) {
		t.Helper()
		r := reserve(t, l, ask(n-1, 1))
		r.SettleHold()
		if err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("forgotten in the future", func(t *testing.T) {
		l, c, _ := secondly(t)
		use(t, l, 1)
		c.add(10 * time.Second)
		use(t, l, 100)
		c.add(-11 * time.Second)
		use(t, l, 1)
		c.add(11 * time.Second)
		if d := refused(t, l, ask(2000, 1)); d.Remaining != 900 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("between two jumps", func(t *testing.T) {
		l, c, _ := secondly(t)
		c.add(50 * time.Second)
		use(t, l, 100)
		syncNow(t, l)
		c.add(-50 * time.Second)
		use(t, l, 1)
		c.add(100 * time.Second)
		use(t, l, 1)
		c.add(-50 * time.Second)
		if d := refused(t, l, ask(2000, 1)); d.Remaining != 900 {
			t.Errorf("%+v", d)
		}
	})
}

// TestRollingForgetsNothingOnItsWay: a cell whose balance has come back to the written one
// stays, while another is on its way to the store.
func TestRollingForgetsNothingOnItsWay(t *testing.T) {
	l, c, store := secondly(t)
	a, b := reserve(t, l, ask(14, 1)), reserve(t, l, ask(1, 1))
	entered, gate := make(chan struct{}, 100), make(chan struct{})
	store.onPut = func() {
		entered <- struct{}{}
		<-gate
	}
	a.Settle(Amount{10, 0})
	<-entered              // with 12
	b.Settle(Amount{7, 0}) // 17 again
	row := a.layers[0]
	var later sync.WaitGroup
	for range 4 {
		c.add(3 * time.Second)
		n := row.history.cell(c.now().Unix())
		later.Go(func() {
			r, _, err := l.Reserve(context.Background(), ask(1, 1))
			if err != nil || r == nil {
				t.Errorf("%v, %v", r, err)
				return
			}
			r.Settle(Amount{})
		})
		until(t, "it has its cell", func() bool {
			row.history.mu.Lock()
			defer row.history.mu.Unlock()
			_, ok := row.history.find(n)
			return ok
		})
	}
	close(gate)
	later.Wait()
	syncNow(t, l)
	if e := store.entries[row.history.cellKey(row.history.cell(noon.Unix()))]; e.Used != 17 {
		t.Errorf("the store has %+v", e)
	}
}

// TestRollingStored: a restart, a crash, a read-only look and a store that fails.
func TestRollingStored(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	o := Options{Now: c.now, Limits: []Limit{rollingLimit("user")}}
	start := func() *Ledger {
		o.Store = openStore(t, dir, WithClock(c.now))
		return open(t, o)
	}
	l := start()
	for i := range 30 {
		reserve(t, l, ask(int64(i), 1, "user", "ann")).Settle(Amount{int64(i), 1})
		c.add(7 * time.Second)
	}
	r := reserve(t, l, ask(50, 50, "user", "ann")) // is open when the process ends
	has := func(l *Ledger, spent, held int64) {
		t.Helper()
		bs := balances(t, l)
		if len(bs) != 1 || bs[0].Spent != spent || bs[0].Held != held || bs[0].Subject[0].Value != "ann" {
			t.Fatalf("%+v, want %d spent and %d held", bs, spent, held)
		}
	}
	const all = 29*30/2 + 30
	has(l, all, 100)
	syncNow(t, l)
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range content(t, dir) {
		if e.Key.End-e.Key.Start != 5 || e.Key.Start%5 != 0 || e.Key.Start < noon.Unix()+300 {
			t.Errorf("%+v", e)
		}
	}

	read, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	ro := o
	ro.Store = read
	looked := open(t, ro)
	has(looked, all+100, 0)
	if err := looked.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	l = start()
	has(l, all+100, 0)
	if d := refused(t, l, ask(500, 1, "user", "ann")); d.Remaining != 1000-all-100 {
		t.Errorf("%+v", d)
	}
	has(l, all+100, 0)
	// Cell after cell leaves, also in a row that comes from the store each time.
	left := int64(all + 100)
	c.add(noon.Add(5*time.Minute + 5*time.Second).Sub(c.now()))
	for i := range 30 {
		left -= int64(i) + 1
		has(l, left, 0)
		if i%3 == 0 {
			syncNow(t, l)
			refused(t, l, ask(2000, 1, "user", "ann"))
		}
		c.add(noon.Add(time.Duration(7*(i+1)) * time.Second).Truncate(5 * time.Second).Add(305 * time.Second).Sub(c.now()))
	}
	if bs := balances(t, l); len(bs) != 0 {
		t.Errorf("all have left: %+v", bs)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Cells of another period are none.
	c.add(-time.Minute)
	o.Limits[0].Period = Period(10 * time.Minute)
	l = start()
	if bs := balances(t, l); len(bs) != 0 {
		t.Errorf("of another period: %+v", bs)
	}
	reserve(t, l, ask(1, 1, "user", "bob")).Settle(Amount{})
	reserve(t, l, ask(970, 1, "user", "ann")).Settle(Amount{})
}

// TestRollingUnread: a window that cannot be read is an error, also where only a part of it
// is missing because the clock was set back.
func TestRollingUnread(t *testing.T) {
	c, store := newClock(), newMemStore()
	l := open(t, Options{Now: c.now, Store: store, Limits: []Limit{rollingLimit()}})
	reserve(t, l, ask(10, 1)).Settle(Amount{10, 1})
	store.fail(true, false)
	c.add(10 * time.Second)
	reserve(t, l, ask(10, 1)).Settle(Amount{10, 1}) // in memory
	c.add(-time.Hour)
	if _, _, err := l.Reserve(t.Context(), ask(1, 1)); !errors.Is(err, errBroken) {
		t.Errorf("with a window that is not known: %v", err)
	}
	store.fail(false, false)
	reserve(t, l, ask(1, 1)).Settle(Amount{1, 1})
	c.add(time.Hour)
	if d := refused(t, l, ask(2000, 1)); d.Remaining != 1000-22 {
		t.Errorf("%+v", d)
	}
	store.fail(true, false)
	syncNow(t, l)
	if _, _, err := l.Reserve(t.Context(), ask(1, 1)); !errors.Is(err, errBroken) {
		t.Errorf("with a counter that is not known: %v", err)
	}
	store.fail(false, false)
	for k, e := range store.entries {
		e.Used = -1
		store.entries[k] = e
	}
	if _, _, err := l.Reserve(t.Context(), ask(1, 1)); err == nil {
		t.Error("a negative balance was taken")
	}
	if _, err := l.Balances(t.Context()); err == nil {
		t.Error("a negative balance was shown")
	}
}

// TestRollingFullStore: in a full store a counter that it has goes on, and a new one has to
// wait until some have left.
func TestRollingFullStore(t *testing.T) {
	c := newClock()
	s := openStore(t, t.TempDir(), WithClock(c.now))
	s.most, s.sweepEvery = 4, 0
	l := open(t, Options{Now: c.now, Store: s, Limits: []Limit{rollingLimit("user")}})
	for range s.most {
		reserve(t, l, ask(1, 1, "user", "ann")).Settle(Amount{1, 1})
		c.add(5 * time.Second)
	}
	syncNow(t, l)
	reserve(t, l, ask(1, 1, "user", "ann")).Settle(Amount{1, 1})
	if _, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "new")); !errors.Is(err, ErrFull) {
		t.Errorf("in a full store: %v", err)
	}
	c.add(15 * time.Minute)
	until(t, "there is room", func() bool {
		r, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "new"))
		return err == nil && r != nil
	})
}

// TestRollingSubjects: max_subjects bounds subjects, however many cells they have, in memory
// and in the store, over restarts; and those that have left make room.
func TestRollingSubjects(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%t", stored), func(t *testing.T) {
			c, store := newClock(), newMemStore()
			limit := rollingLimit("user")
			limit.MaxSubjects = 2
			limit.Overrides = []Override{{[]Identity{{"user", "known"}}, 77}}
			o := Options{Now: c.now, Limits: []Limit{limit}}
			if stored {
				o.Store = store
			}
			l := open(t, o)
			use := func(user, want string) {
				t.Helper()
				r := reserve(t, l, ask(1, 1, "user", user))
				d := r.Strictest()
				r.Settle(Amount{1, 1})
				if d.Subject[0].Value != want || (want == "known") != (d.Amount == 77) {
					t.Errorf("%s counts in %+v", user, d)
				}
				syncNow(t, l)
			}
			for range 10 {
				use("ann", "ann")
				c.add(5 * time.Second)
				use("bob", "bob")
				use("known", "known")
				use("late", Overflow)
			}
			if stored {
				if err := l.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				o.Store = store.copied()
				l = open(t, o)
				use("late", Overflow)
			}
			c.add(4 * time.Minute)
			use("ann", "ann") // stays
			use("late", Overflow)
			c.add(70 * time.Second) // bob leaves
			syncNow(t, l)
			use("new", "new")
			use("bob", Overflow)
			use("ann", "ann")
			c.add(time.Hour)
			syncNow(t, l)
			use("late", "late")
			use("bob", "bob")
			use("ann", Overflow)
			for _, r := range l.rules.Load().rules {
				if n := r.at(c.now()).crowd.own.rows; n != 2 {
					t.Errorf("%d subjects are counted", n)
				}
			}
		})
	}
}

// TestRollingSubjectsAhead: subjects that seemed to have left, because the clock was ahead,
// are counted again.
func TestRollingSubjectsAhead(t *testing.T) {
	c := newClock()
	limit := rollingLimit("user")
	limit.MaxSubjects = 2
	l := open(t, Options{Now: c.now, Store: newMemStore(), Limits: []Limit{limit}})
	use := func(user, want string) {
		t.Helper()
		r := reserve(t, l, ask(1, 1, "user", user))
		d := r.Strictest()
		r.Settle(Amount{1, 1})
		if d.Subject[0].Value != want {
			t.Errorf("%s counts in %+v", user, d)
		}
		syncNow(t, l)
	}
	use("ann", "ann")
	use("bob", "bob")
	c.add(time.Hour)
	use("early", "early")
	c.add(-time.Hour)
	use("ann", "ann")
	use("bob", "bob")
	use("late", Overflow)
	c.add(2 * time.Hour)
	use("late", "late") // all have left, and each is uncounted once
	if n := l.rules.Load().rules[0].at(c.now()).crowd.own.rows; n != 1 {
		t.Errorf("%d subjects are counted", n)
	}
}

// TestRollingUnknown: until a window is known, because the clock was set back, a row tells
// of the one before, and not that nothing is used.
func TestRollingUnknown(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, Store: newMemStore(), Limits: []Limit{rollingLimit()}})
	reserve(t, l, ask(299, 1)).Settle(Amount{299, 1})
	syncNow(t, l)
	c.add(time.Hour)
	reserve(t, l, ask(99, 1)).Settle(Amount{99, 1})
	r := reserve(t, l, ask(9, 1))
	c.add(-time.Hour)
	if d := r.Strictest(); d.Remaining != 1000-110 {
		t.Errorf("%+v", d)
	}
	if d := refused(t, l, ask(2000, 1)); d.Remaining != 1000-310 {
		t.Errorf("%+v", d)
	}
	if d := r.Strictest(); d.Remaining != 1000-310 {
		t.Errorf("%+v", d)
	}
	r.SettleHold()
}

// TestRollingConcurrent: on 16 goroutines, while the clock goes on and back, rows leave memory and
// the store fails now and then, no token is lost, none is counted twice, and the ceiling holds.
func TestRollingConcurrent(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%t", stored), func(t *testing.T) {
			const amount = 2000
			c, store := newClock(), newMemStore()
			o := Options{Now: c.now, GrowthStep: 20, Limits: []Limit{
				{Name: "much", Amount: 1 << 40, Period: Period(24 * time.Hour)},
				{Name: "tight", Amount: amount, Period: Period(10 * time.Second)},
				{Name: "user", Unit: Requests, Amount: 1 << 40, Period: Period(24 * time.Hour), Per: []string{"user"}},
			}}
			if stored {
				o.Store = store
			}
			l := open(t, o)
			l.rules.Load().rules[1].rolling.spare = 0
			stop := make(chan struct{})
			var janitor, workers sync.WaitGroup
			janitor.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if stored {
						store.fail(false, i%5 == 0)
						_ = l.Sync(context.Background()) // fails now and then
					}
					if stored {
						c.add([]time.Duration{time.Second, 3 * time.Second, -time.Second, time.Second, -20 * time.Second, 20 * time.Second}[i%6])
					} else {
						c.add(time.Second)
					}
					l.table.each(func(w *row) {
						h := w.history
						h.mu.Lock()
						defer h.mu.Unlock()
						for i := range h.cells {
							if n := h.fullest(h.cells[i].n); w.used.Load() < 0 || w.rule.Name == "tight" && n > amount-32 {
								t.Errorf("%s: a window has %d", w.rule.Name, n)
							}
						}
					})
					for _, b := range balances(t, l) {
						if b.Spent < 0 || b.Held < 0 {
							t.Errorf("negative: %+v", b)
						}
					}
					time.Sleep(50 * time.Microsecond)
				}
			})
			var tokens, calls, refusals atomic.Int64
			for g := range 16 {
				workers.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(g), 3))
					for range 200 {
						r, d, err := l.Reserve(t.Context(), ask(3, 40, "user", fmt.Sprint(rnd.IntN(5))))
						if errors.Is(err, errBroken) {
							time.Sleep(50 * time.Microsecond) // somebody will sync
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						if r == nil {
							time.Sleep(50 * time.Microsecond) // the clock goes on
							refusals.Add(1)
							if d.Limit != "tight" {
								t.Errorf("refused by %+v", d)
							}
							continue
						}
						r.Spend(int64(rnd.IntN(100)))
						a := Amount{3, rnd.Int64N(r.Held().Output + 1)}
						r.Settle(a)
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
			sums := make(map[string]int64)
			for _, b := range balances(t, l) {
				sums[b.Limit] += b.Spent
				if b.Held != 0 {
					t.Errorf("%+v", b)
				}
			}
			if sums["much"] != tokens.Load() || sums["user"] != calls.Load() || calls.Load() < 100 {
				t.Errorf("%v; settled %d tokens in %d requests, %d refused", sums, tokens.Load(), calls.Load(), refusals.Load())
			}
		})
	}
}

// rolled is layered with rolling limits.
func rolled(t testing.TB, s Store, now func() time.Time) (*Ledger, Request) {
	limits := []Limit{
		{Name: "org", Amount: 1 << 50, Period: Period(30 * 24 * time.Hour)},
		{Name: "team", Amount: 1 << 50, Period: Period(24 * time.Hour), Per: []string{"team"}},
		{Name: "user", Unit: OutputTokens, Amount: 1 << 50, Period: fiveMinutes, Per: []string{"team", "user"}},
		{Name: "calls", Unit: Requests, Amount: 1 << 50, Period: Period(10 * time.Second), Per: []string{"user"}},
	}
	l := open(t, Options{Now: now, Store: s, Limits: limits})
	q := ask(1000, 500, "team", "search", "user", "ann@example.com")
	return l, q
}

func TestRollingAllocations(t *testing.T) {
	c := newClock()
	l, q := rolled(t, nil, c.now)
	var r Reservation
	use := func() {
		if d, err := l.ReserveIn(t.Context(), &r, q); err != nil || !d.Allowed {
			t.Fatal("refused")
		}
		if _, ok := r.Spend(1000); !ok {
			t.Fatal("cut")
		}
		r.Settle(Amount{1000, 1000})
	}
	for range 200 {
		use()
		c.add(5 * time.Second)
	}
	if n := testing.AllocsPerRun(1000, use); n != 0 {
		t.Errorf("Reserve, growth and Settle make %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() { c.add(5 * time.Second); use() }); n != 0 {
		t.Errorf("in the next cell they make %v allocations", n)
	}
	// A row has no more cells than a window and some.
	for _, w := range slices.Clone(r.layers) {
		if n := len(w.history.cells); n > mostCells+spareCells+1 {
			t.Errorf("%s has %d cells", w.rule.Name, n)
		}
	}
}

// BenchmarkRolling is reserve and settle of four warm layers, in one cell, and with all cells
// in use and the window moving every time; with calendar layers for comparison.
func BenchmarkRolling(b *testing.B) {
	now := func() time.Time { return noon }
	run := func(b *testing.B, l *Ledger, q Request, tick func()) {
		var r Reservation
		b.ReportAllocs()
		for b.Loop() {
			tick()
			if d, err := l.ReserveIn(b.Context(), &r, q); err != nil || !d.Allowed {
				b.Fatal("refused")
			}
			r.Settle(Amount{1000, 100})
		}
	}
	b.Run("calendar", func(b *testing.B) {
		l, q := layered(b)
		run(b, l, q, func() {})
	})
	b.Run("rolling", func(b *testing.B) {
		l, q := rolled(b, nil, now)
		run(b, l, q, func() {})
	})
	b.Run("moving", func(b *testing.B) {
		at := noon
		l, q := rolled(b, nil, func() time.Time { return at })
		run(b, l, q, func() { at = at.Add(5 * time.Second) })
	})
	b.Run("cold", func(b *testing.B) { // from a file store with all its cells
		c := newClock()
		l, q := rolled(b, openStore(b, b.TempDir(), WithFsync(FsyncOS), WithClock(c.now)), c.now)
		for range 61 {
			reserve(b, l, q).Settle(Amount{1, 1})
			c.add(5 * time.Second)
		}
		ctx := b.Context()
		w := reserve(b, l, q).layers[2]
		for b.Loop() {
			fresh, err := newRow(w.rule, w.span, w.key, w.hash, false)
			if err != nil {
				b.Fatal(err)
			}
			if err := l.learn(ctx, fresh, w.history.cell(c.now().Unix())); err != nil || len(fresh.history.cells) < 60 {
				b.Fatal(err, len(fresh.history.cells))
			}
		}
	})
}
