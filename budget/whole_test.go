package budget

import "testing"

// Who cannot be told to ask for less gets all that is asked for, or a refusal that says
// how much that is.
func TestWhole(t *testing.T) {
	l := open(t, Options{Limits: []Limit{
		{Name: "day", Amount: 1000, Period: Day},                       // of which 980 can be taken
		{Name: "soft", Amount: 600, Period: Day, Action: ActionRefuse}, // never bounds an answer
		{Name: "each", Unit: OutputTokens, Amount: 700, PerRequest: true},
	}})
	for _, c := range []struct {
		q       Request
		granted int64
		limit   string // that refuses
		needed  int64
	}{
		{Request{Input: 10, Output: 600, MinOutput: 1, Whole: true}, 600, "", 0},
		{Request{Input: 80, Output: 650, MinOutput: 1, LeastSize: 650, Whole: true}, 650, "", 0},
		{Request{Input: 10, Output: 100, MinOutput: 1, LeastSize: 701}, 0, "each", 701},
		{Request{Input: 10, Output: 100, MinOutput: 1, LeastSize: 700}, 100, "", 0},
	} {
		if c.limit != "" {
			if d := refused(t, l, c.q); d.Limit != c.limit || d.Needed != c.needed {
				t.Errorf("%+v is refused by %+v", c.q, d)
			}
			continue
		}
		r := reserve(t, l, c.q)
		if n := r.Held().Output; n != c.granted {
			t.Errorf("%+v: granted %d", c.q, n)
		}
		r.Settle(Amount{})
	}

	// Half of the day is gone: a part would do for others.
	used := reserve(t, l, ask(10, 10))
	defer used.Settle(Amount{})
	if _, ok := used.Spend(500); !ok {
		t.Fatal("refused")
	}
	q := Request{Input: 10, Output: 600, MinOutput: 1, LeastSize: 600}
	if r := reserve(t, l, q); r.Held().Output >= 600 {
		t.Errorf("granted %+v", r.Held())
	} else {
		r.Settle(Amount{})
	}
	q.Whole = true
	if d := refused(t, l, q); d.Limit != "day" || d.Needed != 610 {
		t.Errorf("refused by %+v", d)
	}
}
