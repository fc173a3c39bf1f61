package budget

import (
	"testing"

	"pgregory.net/rapid"
)

// TestHoldAfterOthersTook: hold is given more than fits, as happens when others took
// from the layers after fit had looked. It must end with what fits, or with nothing.
func TestHoldAfterOthersTook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ls layers
		var before []int64
		for range rapid.IntRange(1, 5).Draw(t, "layers") {
			l := Limit{
				Unit:   rapid.SampledFrom([]Unit{Tokens, InputTokens, OutputTokens, Requests, Streams}).Draw(t, "unit"),
				Amount: rapid.Int64Range(1, 300).Draw(t, "amount"),
				Period: Total,
			}
			w := &row{rule: &rule{Limit: l}, span: newSpan(Total.Window(noon, nil))}
			w.setAmount(l.Amount)
			w.used.Store(rapid.Int64Range(0, l.Amount+10).Draw(t, "used"))
			ls = append(ls, w)
			before = append(before, w.used.Load())
		}
		c := charge{
			input:    rapid.Int64Range(0, 60).Draw(t, "input"),
			requests: rapid.Int64Range(0, 1).Draw(t, "requests"),
		}
		want := rapid.Int64Range(1, 400).Draw(t, "want")
		least := rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, want)).Draw(t, "least")

		fits, misfit := ls.fit(c, least, want)
		output, refused := ls.hold(c, least, want)
		if (misfit == nil) != (refused == nil) {
			t.Fatalf("fit says %v, hold says %v", misfit, refused)
		}
		if refused == nil && output != fits {
			t.Fatalf("held %d of output, %d fits", output, fits)
		}
		for i, w := range ls {
			held := int64(0)
			if refused == nil {
				held = c.of(w.rule.Unit)
				if countsOutput(w.rule.Unit) {
					held += output
				}
			}
			if w.held.Load() != held || w.used.Load() != before[i]+held {
				t.Fatalf("layer %d in %s: %d held and %d used, want %d and %d",
					i, w.rule.Unit, w.held.Load(), w.used.Load(), held, before[i]+held)
			}
			if held > 0 && w.used.Load() > w.ceiling.Load() {
				t.Fatalf("layer %d: %d used, ceiling %d", i, w.used.Load(), w.ceiling.Load())
			}
		}
	})
}
