package budget

import (
	"testing"

	"pgregory.net/rapid"
)

func TestPerRequest(t *testing.T) {
	each := func(u Unit, n int64, cs ...Condition) Limit {
		return Limit{Name: u.String(), Unit: u, Amount: n, PerRequest: true, Match: cs}
	}
	l := open(t, Options{Limits: []Limit{
		{Name: "day", Amount: 100_000, Period: Day},
		each(InputTokens, 80), each(OutputTokens, 200), each(Tokens, 250),
		{Name: "o1", Unit: OutputTokens, Amount: 3, PerRequest: true, Match: []Condition{{Property: OfModel, Any: []string{"o1"}}}},
	}})
	for _, c := range []struct {
		q       Request
		granted int64
		cap     int64
		refused string
	}{
		{Request{Input: 10, Output: 100, MinOutput: 1}, 100, 200, ""},
		{Request{Input: 10, Output: 900, MinOutput: 1}, 200, 200, ""},
		{Request{Input: 80, Output: 900, MinOutput: 1}, 170, 170, ""},
		{Request{Input: 81, Output: 1, MinOutput: 1}, 0, 0, "input_tokens"},
		{Request{Input: 10, Output: 900, MinOutput: 201}, 0, 0, "output_tokens"},
		{Request{Input: 80, Output: 900, MinOutput: 171}, 0, 0, "tokens"},
		{Request{Input: 1, Output: 900, MinOutput: 1, Model: "o1"}, 3, 3, ""},
	} {
		if c.refused != "" {
			d := refused(t, l, c.q)
			if d.Limit != c.refused || !d.PerRequest || d.Remaining != d.Amount || !d.ResetAt.IsZero() || len(d.Subject) > 0 {
				t.Errorf("%+v is refused by %+v", c.q, d)
			}
			continue
		}
		r := reserve(t, l, c.q)
		if r.Held().Output != c.granted || r.OutputCap() != c.cap {
			t.Errorf("%+v: granted %d, cap %d", c.q, r.Held().Output, r.OutputCap())
		}
		if d := r.Strictest(); d.Limit != "day" {
			t.Errorf("strictest: %+v", d)
		}
		if _, ok := r.Spend(c.cap); !ok {
			t.Errorf("%+v: refused at its cap", c.q)
		}
		if d, ok := r.Spend(c.cap + 1); ok || !d.PerRequest || d.Limit == "day" {
			t.Errorf("%+v beyond its cap: %+v, %v", c.q, d, ok)
		}
		r.Settle(Amount{})
	}
	if b := balances(t, l); len(b) != 1 {
		t.Errorf("a limit per request has a counter: %+v", b)
	}
	plain := open(t, Options{Limits: []Limit{{Name: "day", Amount: 100_000, Period: Day}}})
	if n := reserve(t, plain, ask(1, 1)).OutputCap(); n != 0 {
		t.Errorf("a cap of %d out of nowhere", n)
	}
}

// A hold never exceeds the limit per request, however it grows.
func TestPerRequestHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(1, 300).Draw(t, "cap")
		l, err := New(t.Context(), Options{GrowthStep: rapid.Int64Range(1, 200).Draw(t, "step"), Limits: []Limit{
			{Name: "day", Amount: 1 << 40, Period: Day},
			{Name: "each", Unit: OutputTokens, Amount: most, PerRequest: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := l.Reserve(t.Context(), ask(0, rapid.Int64Range(1, 400).Draw(t, "first")))
		if err != nil || r == nil {
			t.Fatal("refused")
		}
		for range 5 {
			n := rapid.Int64Range(0, 400).Draw(t, "output")
			if _, ok := r.Spend(n); ok != (n <= most) {
				t.Fatalf("Spend(%d) is %v under a cap of %d", n, ok, most)
			}
			if h := r.Held().Output; h > most || h < 1 {
				t.Fatalf("holds %d under a cap of %d", h, most)
			}
		}
	})
}
