package campaign

import (
	"math/rand/v2"
	"slices"
	"unicode/utf8"
)

const (
	// batchTexts and batchBytes are about the size of a batch of short texts and of long ones: some tenths of a
	// second's work.
	batchTexts = 5000
	batchBytes = 256 << 10
)

// stages are the parts of the campaign, in order.
func stages(o Options) []stage {
	g := newGenerator(o.Real)
	return []stage{
		{
			name: "vectors", what: "texts", batches: 1,
			texts: func(int, *rand.Rand) [][]byte { return o.Vectors },
		},
		codePoints(o.CodePoints),
		{
			name: "fuzz", what: "texts", batches: batches(o.Fuzz, batchTexts),
			texts: func(batch int, r *rand.Rand) [][]byte { return g.texts(r, inBatch(batch, o.Fuzz, batchTexts)) },
		},
		{
			name: "every split", what: "splits", batches: batches(o.SplitTexts, splitBatch),
			texts: func(batch int, r *rand.Rand) [][]byte {
				texts := g.texts(r, inBatch(batch, o.SplitTexts, splitBatch))
				for i, t := range texts {
					texts[i] = t[:min(len(t), splitMost)]
				}
				return texts
			},
			streams: (*worker).splitEverywhere,
		},
		{
			name: "streams", what: "parts", batches: batches(o.SplitBytes, batchBytes),
			texts: func(batch int, r *rand.Rand) [][]byte {
				var texts [][]byte
				for left := inBatch(batch, o.SplitBytes, batchBytes); left > 0; {
					t := g.long(r, min(left, 256<<r.IntN(7)))
					left -= len(t)
					texts = append(texts, t)
				}
				return texts
			},
			streams: (*worker).splitAtRandom,
		},
	}
}

const (
	splitBatch = 200 // texts that are split everywhere, of a batch
	splitMost  = 300 // bytes of such a text: the work is quadratic
)

// batches is how many batches of that size a number of things takes.
func batches(things, size int) int { return max(1, (things+size-1)/size) }

// inBatch is how many of them are in one batch.
func inBatch(batch, things, size int) int { return max(0, min(size, things-batch*size)) }

// codePoints tries every code point, assigned or not, alone, between letters, after a space and after a
// newline. The surrogates are no text.
func codePoints(step int) stage {
	const perBatch = batchTexts / 4
	all := (utf8.MaxRune + step) / step
	return stage{
		name: "code points", what: "texts", batches: batches(all, perBatch),
		texts: func(batch int, _ *rand.Rand) [][]byte {
			var texts [][]byte
			for i := range inBatch(batch, all, perBatch) {
				c := rune((batch*perBatch + i) * step)
				if !utf8.ValidRune(c) {
					continue
				}
				s := utf8.AppendRune(nil, c)
				texts = append(texts, s, slices.Concat([]byte("a"), s, []byte("b")), slices.Concat([]byte(" "), s), slices.Concat([]byte("\n"), s))
			}
			return texts
		},
	}
}
