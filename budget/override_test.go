package budget

import (
	"context"
	"testing"
)

func TestOverrides(t *testing.T) {
	store := newMemStore()
	limits := []Limit{
		{Name: "team", Amount: 100, Period: Day, Per: []string{"team"}, Overrides: []Override{
			{[]Identity{{"team", "search"}}, 1000}, {[]Identity{{"team", None}}, 10}}},
		{Name: "pair", Amount: 5000, Period: Day, Per: []string{"team", ByModel}, Overrides: []Override{
			{[]Identity{{"model", "o1"}, {"team", "a&b"}}, 50}}},
	}
	l := open(t, Options{Limits: limits, Store: store})
	with := func(team, model string) Request {
		q := ask(1, 1<<20, "team", team)
		q.Model = model
		return q
	}
	for _, c := range []struct {
		team, model string
		held        int64
	}{
		{"search", "o1", 980}, {"other", "o1", 98}, {"a&b", "o1", 49}, {"a&b", "o3", 49}, {"", "", 10},
	} {
		r := reserve(t, l, with(c.team, c.model))
		if h := r.Held(); h.Input+h.Output != c.held {
			t.Errorf("team %q with %s holds %+v, want %d", c.team, c.model, h, c.held)
		}
		r.SettleHold()
	}
	amounts := func() map[string]int64 {
		m := make(map[string]int64)
		for _, b := range balances(t, l) {
			s := b.Limit
			for _, id := range b.Subject {
				s += " " + id.Value
			}
			m[s] = b.Amount
		}
		return m
	}
	want := map[string]int64{"team search": 1000, "team other": 100, "team a&b": 100, "team (none)": 10,
		"pair search o1": 5000, "pair other o1": 5000, "pair a&b o1": 50, "pair a&b o3": 5000, "pair (none) (none)": 5000}
	for i, where := range []string{"memory", "store"} {
		got := amounts()
		for s, n := range want {
			if got[s] != n {
				t.Errorf("in %s %s may use %d, want %d", where, s, got[s], n)
			}
		}
		if i == 0 {
			syncNow(t, l) // moves them out of memory
			if n := inMemory(l); n != 0 {
				t.Fatalf("%d counters in memory", n)
			}
		}
	}
}

// TestAmountChanges: an amount may change while its row is in use. A raised one
// counts at once, a lowered one at the next growth.
func TestAmountChanges(t *testing.T) {
	l := open(t, Options{GrowthStep: 1, Limits: []Limit{{Name: "x", Unit: OutputTokens, Amount: 40, Period: Day}}})
	r := reserve(t, l, ask(0, 40))
	if _, ok := r.Spend(41); ok {
		t.Fatal("above the limit")
	}
	set := func(n int64) { l.table.each(func(w *row) { w.setAmount(n) }) }
	set(60)
	if _, ok := r.Spend(45); !ok {
		t.Error("a raised amount does not count")
	}
	set(30)
	if _, ok := r.Spend(45); !ok {
		t.Error("what is held was taken away")
	}
	d, ok := r.Spend(46)
	if ok || d.Amount != 30 || d.Remaining != 0 || d.Ceiling() != 30 {
		t.Errorf("growth above a lowered amount: %+v, %v", d, ok)
	}
	if b := balances(t, l); b[0].Amount != 30 || b[0].Held != 45 {
		t.Errorf("%+v", b)
	}
	r.Settle(Amount{0, 46})
	if b := balances(t, l); b[0].Debt() != 16 {
		t.Errorf("%+v", b)
	}
	if _, _, err := l.Reserve(context.Background(), ask(0, 1)); err != nil {
		t.Error(err)
	}
}
