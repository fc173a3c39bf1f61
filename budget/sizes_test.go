package budget

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSizes(t *testing.T) {
	o1 := []Condition{{Property: OfModel, Any: []string{"o1*"}}}
	s, err := NewSizes([]Limit{
		{Name: "day", Amount: 1, Period: Day},
		{Name: "answer", Unit: OutputTokens, Amount: 2, PerRequest: true},
		{Name: "prompt", Unit: InputTokens, Amount: 80, PerRequest: true},
		{Name: "both", Unit: Tokens, Amount: 100, PerRequest: true},
		{Name: "again", Unit: InputTokens, Amount: 80, PerRequest: true},
		{Name: "o1", Unit: InputTokens, Amount: 10, PerRequest: true, Match: o1},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		model  string
		output int64
		room   int64
		limit  string
	}{
		{"", 1, 80, "prompt"}, {"", 20, 80, "prompt"}, {"", 21, 79, "both"}, {"", 150, -50, "both"}, {"o1-mini", 1, 10, "o1"},
	} {
		if room, limit := s.Room(&Request{Model: c.model, Input: 1000}, c.output); room != c.room || limit != c.limit {
			t.Errorf("%+v: %d, %q", c, room, limit)
		}
	}
	if s, err = NewSizes(nil); err != nil {
		t.Fatal(err)
	}
	if room, limit := s.Room(&Request{}, 1); room != maxTokens || limit != "" {
		t.Errorf("without limits: %d, %q", room, limit)
	}
	if _, err := NewSizes([]Limit{{Name: "a", PerRequest: true}}); err == nil {
		t.Error("a limit of nothing is accepted")
	}
}

// A prompt that fits into the room is one that the ledger takes, and no longer one is.
func TestSizesLikeLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var limits []Limit
		for i := range rapid.IntRange(1, 4).Draw(t, "limits") {
			l := Limit{Name: string(rune('a' + i)), Unit: rapid.SampledFrom([]Unit{Tokens, InputTokens}).Draw(t, "unit"),
				Amount: rapid.Int64Range(1, 20).Draw(t, "amount"), PerRequest: true}
			if rapid.Bool().Draw(t, "matches") {
				l.Match = []Condition{{Property: OfModel, Any: []string{rapid.SampledFrom([]string{"x", "y"}).Draw(t, "of")}}}
			}
			limits = append(limits, l)
		}
		s, err := NewSizes(limits)
		if err != nil {
			t.Fatal(err)
		}
		ledger, err := New(t.Context(), Options{Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		q := Request{Model: "x", Input: rapid.Int64Range(0, 25).Draw(t, "input"), MinOutput: rapid.Int64Range(1, 5).Draw(t, "least")}
		q.Output = q.MinOutput
		room, _ := s.Room(&q, q.MinOutput)
		r, d, err := ledger.Reserve(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if d.Allowed != (q.Input <= room) {
			t.Fatalf("%+v in a room of %d: %+v", q, room, d)
		}
		if r != nil {
			r.Settle(Amount{})
		}
		if err := ledger.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
