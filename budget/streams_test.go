package budget

import "testing"

// TestStreams: requests under way are held and never spent.
func TestStreams(t *testing.T) {
	for _, stored := range []bool{false, true} {
		c := newClock()
		o := Options{Now: c.now, Limits: []Limit{
			{Name: "ever", Amount: 1000, Period: Total},
			{Name: "streams", Unit: Streams, Amount: 2, Per: []string{"user"}},
		}}
		store := newMemStore()
		if stored {
			o.Store = store
		}
		l := open(t, o)
		a := reserve(t, l, ask(1, 1, "user", "ann"))
		b := reserve(t, l, ask(1, 1, "user", "ann"))
		d := refused(t, l, ask(1, 1, "user", "ann"))
		if d.Limit != "streams" || d.Unit != Streams || d.Amount != 2 || d.Remaining != 0 || d.Available() != 0 || !d.ResetAt.IsZero() {
			t.Errorf("the third: %+v", d)
		}
		bob := reserve(t, l, ask(1, 1, "user", "bob"))
		if s := bob.Strictest(); s.Limit != "ever" {
			t.Errorf("strictest: %+v", s)
		}
		// Who cannot have tokens anyway is not told to come back when a stream ends.
		if d := refused(t, l, ask(5000, 1, "user", "ann")); d.Limit != "ever" {
			t.Errorf("refused by %+v", d)
		}
		if _, ok := a.Spend(100); !ok {
			t.Error("a stream needs no other one to grow")
		}
		bs := balances(t, l)
		if len(bs) != 3 || bs[1].Unit != Streams || bs[1].Held != 2 || bs[1].Spent != 0 || bs[1].Remaining() != 0 || !bs[1].WindowEnd.IsZero() {
			t.Errorf("under way: %+v", bs)
		}
		syncNow(t, l)
		for k := range store.copied().entries {
			if k.Unit == Streams {
				t.Errorf("the store has %+v", k)
			}
		}
		a.Settle(Amount{500, 500})
		refusedByDebt := refused(t, l, ask(1, 1, "user", "ann"))
		if refusedByDebt.Limit != "ever" {
			t.Errorf("after a settlement: %+v", refusedByDebt)
		}
		b.SettleHold()
		bob.Settle(Amount{})
		for _, b := range balances(t, l) {
			if b.Unit == Streams && (b.Held != 0 || b.Spent != 0) {
				t.Errorf("after all: %+v", b)
			}
		}
		syncNow(t, l)
		l.table.each(func(w *row) {
			if w.rule.Unit == Streams {
				t.Errorf("an idle counter of streams stays: %+v", w.storeKey())
			}
		})
	}
}

// A stream that may end at any moment is no reason to send a client away for a day.
func TestStreamsWaitShortest(t *testing.T) {
	l := open(t, Options{Limits: []Limit{
		{Name: "minute", Unit: Requests, Amount: 1, Period: Minute},
		{Name: "streams", Unit: Streams, Amount: 1},
	}})
	r := reserve(t, l, ask(1, 1))
	if d := refused(t, l, ask(1, 1)); d.Limit != "minute" {
		t.Errorf("refused by %+v", d)
	}
	r.SettleHold()
}
