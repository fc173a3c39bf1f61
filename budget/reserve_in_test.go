package budget

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// TestReserveInAgain: whatever becomes of a request, the Reservation of its caller is
// good for the next one, and holds and pins nothing of the one before.
func TestReserveInAgain(t *testing.T) {
	store := newMemStore()
	l := open(t, Options{Now: newClock().now, Store: store, Limits: []Limit{
		{Name: "all", Amount: 10_000, Period: Total},
		{Name: "calls", Unit: Requests, Amount: 100, Period: Day, Per: []string{"user"}},
		{Name: "one", Unit: Streams, Amount: 1, Per: []string{"user"}},
		{Name: "size", Unit: InputTokens, Amount: 5000, PerRequest: true},
	}})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	written := make(chan struct{}) // closed when the store may go on
	var r Reservation
	for _, c := range []struct {
		name    string
		ctx     context.Context
		fail    bool // the store
		input   int64
		limit   string // that decides
		want    error
		granted bool
	}{
		{name: "granted", input: 100, limit: "calls", granted: true},
		{name: "not written", input: 100, fail: true, want: errBroken},
		{name: "beside a failed store", input: 100, fail: true, want: errBroken},
		{name: "too large beside a failed store", input: 6000, fail: true, want: errBroken},
		{name: "granted", input: 100, limit: "all", granted: true},
		{name: "too large", input: 6000, limit: "size"},
		{name: "granted", input: 4900, limit: "all", granted: true},
		{name: "refused", input: 4950, limit: "all"},
		{name: "given up", input: 100, ctx: gone, want: context.Canceled},
		{name: "granted", input: 100, limit: "all", granted: true},
	} {
		store.fail(false, c.fail)
		if !c.fail {
			syncNow(t, l)
		}
		ctx := c.ctx
		if ctx == nil {
			ctx = t.Context()
		} else { // the counters are in memory already, and the store is slow
			reserve(t, l, ask(0, 1, "user", "ann")).Settle(Amount{})
			syncNow(t, l)
			store.onPut = func() { <-written }
		}
		d, err := l.ReserveIn(ctx, &r, ask(c.input, 1, "user", "ann"))
		if c.ctx != nil {
			close(written)
			syncNow(t, l)
			store.onPut = nil
		}
		if !errors.Is(err, c.want) || d.Allowed != c.granted || c.granted && d.Limit != "all" || !c.granted && d.Limit != c.limit {
			t.Fatalf("%s: %+v, %v", c.name, d, err)
		}
		if c.granted {
			if h := r.Held(); h != (Amount{c.input, 1}) {
				t.Errorf("%s: holds %+v", c.name, h)
			}
			if !r.Settle(Amount{c.input, 1}) || r.Wait(t.Context()) != nil {
				t.Errorf("%s: it could not be settled", c.name)
			}
		}
		if d, ok := r.Spend(1); ok || r.Held() != (Amount{}) || r.SettleHold() {
			t.Errorf("%s: something is left: %+v", c.name, d)
		}
		for _, b := range balances(t, l) {
			if b.Held != 0 {
				t.Errorf("%s: %+v", c.name, b)
			}
		}
		if !c.fail {
			syncNow(t, l)
			if n := inMemory(l); n != 0 {
				t.Errorf("%s: %d counters are pinned", c.name, n)
			}
		}
	}
	var spent int64
	for _, b := range balances(t, l) {
		if b.Limit == "all" {
			spent = b.Spent
		}
	}
	if want := int64(3*101 + 4901); spent != want {
		t.Errorf("%d spent, want %d", spent, want)
	}
}

// TestStreamsAreNotWritten: a request that only limits without a place in the store
// concern does not wait for it.
func TestStreamsAreNotWritten(t *testing.T) {
	store := newMemStore()
	l := open(t, Options{Store: store, Limits: []Limit{
		{Name: "one", Unit: Streams, Amount: 1, Per: []string{"user"}},
		{Name: "size", Amount: 5000, PerRequest: true},
	}})
	for range 3 {
		r := reserve(t, l, ask(1, 1, "user", "ann"))
		if _, ok := r.Spend(2000); !ok {
			t.Error("refused")
		}
		r.Settle(Amount{1, 2000})
		if b := r.batch.Load(); b != nil {
			t.Error("it was marked for the store")
		}
		if err := r.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	syncNow(t, l)
	if store.gets+store.puts != 0 || len(store.entries) != 0 {
		t.Errorf("%d reads and %d writes; the store has %+v", store.gets, store.puts, store.entries)
	}
}

// TestOverflowAfterCrash: what the snapshot and the journal of a dead process have of a
// window counts towards its most subjects.
func TestOverflowAfterCrash(t *testing.T) {
	c, dir, copied := newClock(), t.TempDir(), t.TempDir()
	limits := []Limit{{Name: "user", Amount: 1 << 40, Period: Day, Per: []string{"user"}, MaxSubjects: 3}}
	s := openStore(t, dir, WithClock(c.now))
	s.full = 1 // so that there is a snapshot
	l := open(t, Options{Now: c.now, Store: s, Limits: limits})
	reserve(t, l, ask(1, 1, "user", "yesterday")).Settle(Amount{1, 1})
	c.add(24 * time.Hour)
	reserve(t, l, ask(1, 1, "user", "a")).Settle(Amount{1, 1})
	waitSnapshot(s)
	for _, user := range []string{"b", "c"} {
		r := reserve(t, l, ask(1, 1, "user", user))
		r.Settle(Amount{1, 1})
		if err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, Options{Now: c.now, Store: openStore(t, copied, WithClock(c.now)), Limits: limits})
	for user, want := range map[string]string{"a": "a", "b": "b", "c": "c", "d": Overflow} {
		if bs := heldBalances(t, again, ask(1, 1, "user", user)); len(bs) != 1 || bs[0].Subject[0].Value != want {
			t.Errorf("%s counts in %+v", user, bs)
		}
	}
	c.add(24 * time.Hour)
	if bs := heldBalances(t, again, ask(1, 1, "user", "d")); bs[0].Subject[0].Value != "d" {
		t.Errorf("the day after: %+v", bs)
	}
}

// TestGrowthIsMarkedFirst: who is told by Spend that the hold suffices, while another call
// grows it, must not find that Wait has nothing to wait for.
func TestGrowthIsMarkedFirst(t *testing.T) {
	l := open(t, Options{Store: newMemStore(), Limits: []Limit{{Name: "x", Unit: OutputTokens, Amount: 1000, Period: Total}}})
	r := reserve(t, l, ask(10, 10))
	row := r.layers[0]
	l.commits.mu.Lock() // so that nothing can be marked
	grown := make(chan bool)
	go func() {
		_, ok := r.Spend(500)
		grown <- ok
	}()
	for row.used.Load() < 500 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	if got := r.Held().Output; got != 10 {
		t.Errorf("%d are held, and the store's writer has not heard of it", got)
	}
	l.commits.mu.Unlock()
	if !<-grown {
		t.Error("not granted")
	}
	r.SettleHold()
}
