package budget

import (
	"testing"
	"time"
)

// A request without output needs room for its prompt only: exactly that, and none of
// limits in output, be they in debt.
func TestNoOutput(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	l, err := New(t.Context(), Options{Now: func() time.Time { return now }, Limits: []Limit{
		{Name: "all", Unit: Tokens, Amount: 10, Period: Day},
		{Name: "out", Unit: OutputTokens, Amount: 5, Period: Day},
		{Name: "each", Unit: OutputTokens, Amount: 3, PerRequest: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(t.Context()) })
	reserve := func(q Request) *Reservation {
		t.Helper()
		r, d, err := l.Reserve(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if !d.Allowed {
			return nil
		}
		return r
	}
	if r := reserve(Request{Input: 1, Output: 3, MinOutput: 1}); r == nil || !r.Settle(Amount{Input: 1, Output: 6}) {
		t.Fatal("the first request is refused")
	}
	if r := reserve(Request{Input: 1, Output: 1, MinOutput: 1}); r != nil {
		t.Error("output is granted, though its limit is in debt")
	}
	if r := reserve(Request{Input: 4}); r != nil {
		t.Error("a prompt of 4 is granted where 3 are left")
	}
	r := reserve(Request{Input: 3})
	if r == nil {
		t.Fatal("a prompt that fits is refused")
	}
	if h := r.Held(); h != (Amount{Input: 3}) {
		t.Errorf("held %+v", h)
	}
	if !r.SettleHold() {
		t.Error("it is settled already")
	}
	for _, b := range balances(t, l) {
		if want := map[string]int64{"all": 10, "out": 6}[b.Limit]; b.Spent != want || b.Held != 0 {
			t.Errorf("%s: spent %d, held %d, want %d", b.Limit, b.Spent, b.Held, want)
		}
	}
}
