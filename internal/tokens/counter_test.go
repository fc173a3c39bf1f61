package tokens

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"
)

// stream feeds text to c in parts of 1 to most bytes, and compares every running total with that of the whole
// text so far, which it encodes in another way.
func stream(t *testing.T, e *Encoding, text []byte, r *rand.Rand, most int) {
	t.Helper()
	var c Counter
	c.Reset(e)
	floor := 0
	for at := 0; at < len(text); {
		n := min(1+r.IntN(most), len(text)-at)
		got := c.Add(text[at : at+n])
		at += n
		if got < floor || got > c.ceiling() {
			t.Fatalf("%s: after %q the count is %d, beyond the bounds %d and %d", e.Name(), text[:at], got, floor, c.ceiling())
		}
		floor = max(floor, c.floor())
		want := len(e.AppendTokens(nil, text[:at]))
		if got != want || c.Count() != want {
			t.Fatalf("%s: after %q in parts, the last one %q, Add says %d tokens and Count %d, want %d", e.Name(), text[:at], text[at-n:at], got, c.Count(), want)
		}
	}
}

func TestCounterVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for i, v := range getVectors(t) {
		for name, want := range v.counts() {
			if name == "o200k_harmony" {
				continue // the same as o200k_base
			}
			e := get(t, name)
			var c Counter
			c.Reset(e)
			got := 0
			for most, at := 1+r.IntN(60), 0; at < len(v.Text); {
				n := min(1+r.IntN(most), len(v.Text)-at)
				got = c.Add(v.Text[at : at+n])
				at += n
			}
			if got != want {
				t.Fatalf("%s, vector %d, %q: %d tokens, want %d", name, i, v.Text, got, want)
			}
			if len(v.Text) < 300 && i%16 == 0 {
				stream(t, e, v.Text, r, 1)
			}
		}
	}
}

// TestCounterRandom streams random texts, of which half have bytes that are not UTF-8.
func TestCounterRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 1500 {
		text := []byte(randomText(r, 1+r.IntN(100)))
		if r.IntN(2) == 0 {
			for range 1 + r.IntN(5) {
				text[r.IntN(len(text))] = byte(r.Uint32())
			}
		}
		for _, name := range builtin {
			stream(t, get(t, name), text, r, 1+r.IntN(8))
		}
	}
}

// TestCounterRuns puts every kind of text that may be a long piece, too long for the buffer, in front of every
// kind of ending.
func TestCounterRuns(t *testing.T) {
	starts := []string{"", " ", "  ", "!", "'", "\n", "\t", "1", "A", "中", "\u0301", " !", "\u3000"}
	bodies := []string{"a", "A", "中", "ʰ", "\u0301", "Aa", "中A", "A中", "中文ABC", "!", "/", "\n", " ", " \n", "\t", "\u3000", "\r\n", "=", "a\u0301", "\U00020000"}
	endings := []string{
		"", "a", "A", "AB", "ABc", "中", "中A", "\u0301", "1", "!", "/", " ", "  ", "\n", "\n\n", "\n/", "\n ", " x", " !", "\t!", " 1", "\u3000!", "\u3000x",
		"'", "'s", "'S", "'ſ", "'x", "''", "'r", "'re", "'rE", "'rx", "'r𠀀", "'ll", "'l", "'lx", "'v ", "'ve", "'d'd", "'\u0301", "A's", "中's", "AB'll", "AB'r",
		"\xe4\xb8", "\xff", "'\xe4", "'r\xe4", " \xe4", "\n\xf0\x9f", "A\xe4", "\xe4x",
	}
	r := rand.New(rand.NewPCG(17, 18))
	for _, name := range builtin {
		e := get(t, name)
		for _, start := range starts {
			for _, body := range bodies {
				for _, ending := range endings {
					head := start + strings.Repeat(body, (openMax+r.IntN(20))/len(body)+1)
					var c Counter
					c.Reset(e)
					c.Add([]byte(head[:len(head)/2]))
					c.Add([]byte(head[len(head)/2:]))
					for i, text := 0, ending+" z"; i < len(text); i++ {
						got, want := c.Add([]byte{text[i]}), len(e.AppendTokens(nil, []byte(head+text[:i+1])))
						if got != want {
							t.Fatalf("%s: %q and then %q byte by byte: %d tokens, want %d", name, head, text[:i+1], got, want)
						}
					}
				}
			}
		}
	}
}

// TestCounterReset reuses a counter in every state.
func TestCounterReset(t *testing.T) {
	var c Counter
	for _, left := range []string{"", "word", "word'", "\xe4\xb8", strings.Repeat("a", 100), strings.Repeat("A", 100) + "'r", strings.Repeat("中A", 100), strings.Repeat(" ", 100)} {
		for _, name := range builtin {
			e := get(t, name)
			c.Reset(e)
			c.Add([]byte(left))
			c.Reset(e)
			if n := c.Count(); n != 0 {
				t.Errorf("%d tokens after Reset", n)
			}
			const text = "Once more, don't."
			if got, want := c.Add([]byte(text)), e.CountString(text); got != want {
				t.Errorf("after %q and Reset, %q has %d tokens, want %d", left, text, got, want)
			}
		}
	}
}

func TestCounterSize(t *testing.T) {
	if size := unsafe.Sizeof(Counter{}); size > 2600 {
		t.Errorf("a Counter takes %d bytes", size)
	}
}

func FuzzCounter(f *testing.F) {
	for _, seed := range []string{
		"", "Hello, world! It's 12345 o'clock.", "中文CD's ǅ\u0301", "  \n \t\r\n/x", "don'ſ 'LL 're", "a\xe4\xb8b\xff\xf0\x9f\x8e", strings.Repeat("=", 200),
		strings.Repeat("a", 100) + "'r𠀀", strings.Repeat("中A", 40) + "b", strings.Repeat(" ", 90) + "x", strings.Repeat(" \n", 50) + " !", "<|endoftext|>",
	} {
		f.Add([]byte(seed), uint64(len(seed)), false)
		f.Add([]byte(seed), uint64(1), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, splits uint64, cl100k bool) {
		name := "o200k_base"
		if cl100k {
			name = "cl100k_base"
		}
		if len(text) > 2000 {
			t.Skip("every prefix is encoded again")
		}
		e := get(t, name)
		r := rand.New(rand.NewPCG(splits, 0))
		stream(t, e, text, r, 1+r.IntN(50))
		if cut := r.IntN(len(text) + 1); len(text) < 300 {
			checkFits(t, e, text[:cut:cut], text[cut:], r)
		}
		if got, want := e.Count(text), len(e.AppendTokens(nil, text)); got != want {
			t.Fatalf("%s: Count(%q) is %d, want %d", name, text, got, want)
		}
	})
}
