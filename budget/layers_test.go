package budget

import (
	"testing"

	"pgregory.net/rapid"
)

// drawLayers draws rows with something used already.
func drawLayers(t *rapid.T) (ls layers, before []int64) {
	for range rapid.IntRange(1, 5).Draw(t, "layers") {
		l := Limit{
			Unit:   rapid.SampledFrom([]Unit{Tokens, InputTokens, OutputTokens, Requests, Streams}).Draw(t, "unit"),
			Amount: rapid.Int64Range(1, 300).Draw(t, "amount"),
			Action: rapid.SampledFrom([]Action{ActionCut, ActionCut, ActionRefuse, ActionThrottle, ActionShadow}).Draw(t, "action"),
			Period: Hour,
		}
		if countsOutput(l.Unit) {
			l.Admission = rapid.SampledFrom([]Admission{AdmitPredict, AdmitPredict, AdmitFull, AdmitNone}).Draw(t, "admission")
		}
		w := &row{rule: &rule{Limit: l}, span: newSpan(Total.Window(noon, nil))}
		w.setAmount(l.Amount)
		w.used.Store(rapid.Int64Range(0, l.Amount+10).Draw(t, "used"))
		ls = append(ls, layer{row: w, rule: w.rule})
		before = append(before, w.used.Load())
	}
	return ls, before
}

// TestHoldAfterOthersTook: hold is given more than fits, as happens when others took
// from the layers after fit had looked. It must end with what fits, or with nothing.
func TestHoldAfterOthersTook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls, before := drawLayers(t)
		c := charge{
			input:    rapid.Int64Range(0, 60).Draw(t, "input"),
			requests: rapid.Int64Range(0, 1).Draw(t, "requests"),
		}
		want := rapid.Int64Range(1, 400).Draw(t, "want")
		least := rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, want)).Draw(t, "least")
		d := demand{least: least, want: want, full: want + rapid.Int64Range(0, 100).Draw(t, "more")}

		fits, misfit := ls.fit(c, d)
		output, refused := ls.hold(c, d, want)
		if (misfit == nil) != (refused == nil) {
			t.Fatalf("fit says %v, hold says %v", misfit, refused)
		}
		if refused == nil && output != fits {
			t.Fatalf("held %d of output, %d fits", output, fits)
		}
		for i := range ls {
			w, room := &ls[i], ls[i].ceiling.Load()-before[i]
			held := int64(0)
			if refused == nil {
				held = c.of(w.rule.Unit)
				if countsOutput(w.rule.Unit) {
					first := map[Admission]int64{AdmitPredict: output, AdmitFull: d.full}[w.rule.Admission]
					if w.rule.Action != ActionCut {
						first = max(0, min(first, room-held))
					}
					held += first
				}
			}
			if w.held.Load() != held || w.used.Load() != before[i]+held {
				t.Fatalf("layer %d in %s: %d held and %d used, want %d and %d",
					i, w.rule.Unit, w.held.Load(), w.used.Load(), held, before[i]+held)
			}
			if held > max(0, room) && w.rule.Action != ActionShadow {
				t.Fatalf("layer %d: %d used, ceiling %d", i, w.used.Load(), w.ceiling.Load())
			}
		}
		if refused != nil {
			return
		}
		ls.release(c, 0)
		for i := range ls {
			if ls[i].held.Load() != 0 || ls[i].used.Load() != before[i] {
				t.Fatalf("layer %d: %d held after the release", i, ls[i].held.Load())
			}
		}
	})
}

// TestGrowthAfterOthersTook is the same for growth.
func TestGrowthAfterOthersTook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls, before := drawLayers(t)
		from := rapid.Int64Range(0, 50).Draw(t, "from")
		for i := range ls {
			if countsOutput(ls[i].rule.Unit) {
				ls[i].first = from + rapid.Int64Range(0, 80).Draw(t, "first")
			}
		}
		least := from + rapid.Int64Range(1, 100).Draw(t, "least")
		want := least + rapid.Int64Range(0, 100).Draw(t, "want")
		fits, misfit := ls.fitGrowth(when{}, from, least, want)
		level, refused := ls.holdGrowth(when{}, from, least, want)
		if (misfit == nil) != (refused == nil) {
			t.Fatalf("fit says %v, hold says %v", misfit, refused)
		}
		if refused == nil && (level != fits || level < least) {
			t.Fatalf("grown to %d, %d fits", level, fits)
		}
		for i := range ls {
			w := &ls[i]
			more := int64(0)
			if refused == nil && countsOutput(w.rule.Unit) {
				more = max(w.first, level) - w.first
			}
			if w.held.Load() != more || w.used.Load() != before[i]+more {
				t.Fatalf("layer %d: %d more held, want %d", i, w.held.Load(), more)
			}
			if more > 0 && w.rule.Action == ActionCut && w.used.Load() > w.ceiling.Load() {
				t.Fatalf("layer %d: %d used, ceiling %d", i, w.used.Load(), w.ceiling.Load())
			}
		}
	})
}

// A limit that holds enough already refuses no growth, though others have brought it into
// debt since fit looked; it holds no more than before.
func TestGrowthWithinHold(t *testing.T) {
	limit := func(h Admission) *row {
		w := &row{rule: &rule{Limit: Limit{Amount: 100, Period: Hour, Admission: h}}, span: newSpan(Total.Window(noon, nil))}
		w.setAmount(100)
		return w
	}
	narrow, wide := limit(AdmitPredict), limit(AdmitFull)
	ls := layers{{row: narrow, rule: narrow.rule, first: 10}, {row: wide, rule: wide.rule, first: 40}}
	ls[0].force(when{}, 10)
	ls[1].force(when{}, 110) // 40 of it is ours
	for _, c := range []struct {
		least, level int64
		refused      *layer
	}{{30, 40, nil}, {41, 0, &ls[1]}} {
		level, refused := ls.holdGrowth(when{}, 10, c.least, 60)
		if level != c.level || refused != c.refused {
			t.Errorf("from 10 to at least %d: %d, %v", c.least, level, refused)
		}
		if held := ls[0].held.Load(); held != max(10, c.level) || ls[1].held.Load() != 110 {
			t.Errorf("%d and %d are held", held, ls[1].held.Load())
		}
		ls[:1].shrink(when{}, level, 10)
	}
}
