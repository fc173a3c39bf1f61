package campaign

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

// worker compares texts. It has a Python process of its own.
type worker struct {
	oracle  *python.Oracle
	engines []Engine
	ids     []uint32 // to be used again
	totals  []int    // too
	tally   *tally   // of the stage
}

// batch compares the texts of a batch in all encodings, and then streams them.
func (w *worker) batch(s stage, batch int, r *rand.Rand) error {
	texts := s.texts(batch, r)
	for _, e := range w.engines {
		want, err := w.oracle.Encode(e.Name(), texts)
		if err != nil {
			return err
		}
		for i, text := range texts {
			if !w.agrees(e, text, want[i]) {
				w.tally.differ(func() string { return w.example(e, text) })
			}
		}
	}
	if s.streams == nil {
		w.tally.checked.Add(int64(len(texts)))
		return nil
	}
	seed := r.Uint64() // the same splits in each encoding
	for i, e := range w.engines {
		r := newRand(seed, 0, 0)
		for _, text := range texts {
			if n := s.streams(w, e, text, r); i == 0 {
				w.tally.checked.Add(int64(n))
			}
		}
	}
	return nil
}

func (w *worker) agrees(e Engine, text []byte, want []uint32) bool {
	w.ids = e.AppendTokens(w.ids[:0], text)
	return slices.Equal(w.ids, want) && e.Count(text) == len(want)
}

// example makes a text on which the two differ minimal, and tells what they say of it.
func (w *worker) example(e Engine, text []byte) string {
	text = minimal(text, func(t []byte) bool {
		want, err := w.oracle.Encode(e.Name(), [][]byte{t})
		return err == nil && !w.agrees(e, t, want[0])
	})
	want, err := w.oracle.Encode(e.Name(), [][]byte{text})
	if err != nil {
		return fmt.Sprintf("%s: %q differs; no minimal text, because %v", e.Name(), text, err)
	}
	return fmt.Sprintf("%s: %q is %v with count %d, want %v", e.Name(), text, e.AppendTokens(nil, text), e.Count(text), want[0])
}

// splitEverywhere streams text in two parts, split at every byte, and byte by byte.
func (w *worker) splitEverywhere(e Engine, text []byte, _ *rand.Rand) (splits int) {
	want := w.totals[:0]
	for n := range len(text) + 1 {
		w.ids = e.AppendTokens(w.ids[:0], text[:n])
		want = append(want, len(w.ids))
	}
	w.totals = want
	each := e.NewStream()
	for at := range text {
		if each(text[at:at+1]) != want[at+1] {
			w.tally.differ(func() string { return streamExample(e, text, at) })
			break
		}
	}
	for at := range text {
		add := e.NewStream()
		if add(text[:at]) != want[at] || add(text[at:]) != want[len(text)] {
			w.tally.differ(func() string { return streamExample(e, text, at) })
		}
	}
	return len(text)
}

// splitAtRandom streams text in random parts. It compares the total at the end, and at some points before,
// which costs an encoding of the text so far for each.
func (w *worker) splitAtRandom(e Engine, text []byte, r *rand.Rand) (parts int) {
	most := 1 << (1 + r.IntN(9))
	checks := 1 + len(text)/2048
	add := e.NewStream()
	for at := 0; at < len(text); {
		n := min(1+r.IntN(most), len(text)-at)
		got := add(text[at : at+n])
		at += n
		parts++
		if at < len(text) && r.IntN(len(text)/n+1) >= checks {
			continue
		}
		w.ids = e.AppendTokens(w.ids[:0], text[:at])
		if got != len(w.ids) {
			w.tally.differ(func() string { return streamExample(e, text[:at], at-n) })
			break
		}
	}
	return parts
}

// streams reports whether the running totals of text, split at these bytes, are right.
func streams(e Engine, text []byte, ends []int) bool {
	add := e.NewStream()
	at := 0
	for _, end := range ends {
		if add(text[at:end]) != len(e.AppendTokens(nil, text[:end])) {
			return false
		}
		at = end
	}
	return true
}

// streamExample tells of a text that is wrong when it is streamed: a short one, if one can be found.
func streamExample(e Engine, text []byte, at int) string {
	bad := func(t []byte) bool {
		ends := make([]int, len(t))
		for i := range t {
			ends[i] = i + 1
			if !streams(e, t, []int{i, len(t)}) {
				return true
			}
		}
		return !streams(e, t, ends)
	}
	const enough = 1024
	end := text[max(0, len(text)-enough):]
	if !bad(end) {
		return fmt.Sprintf("%s: a stream of %d bytes is wrong, with the last split at %d; its end is %q", e.Name(), len(text), at, end)
	}
	end = minimal(end, bad)
	return fmt.Sprintf("%s: %q has %d tokens, but not in parts", e.Name(), end, len(e.AppendTokens(nil, end)))
}
