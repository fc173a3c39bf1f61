package tokens

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// letters returns n letters or more that a word may grow by, in front of them perhaps a space: tokens side by side,
// characters whose parts are merged with what is beside them, anything.
func letters(e *Encoding, r *rand.Rand, n int) []byte {
	var b []byte
	if r.IntN(3) == 0 {
		b = append(b, ' ')
	}
	for have := 0; have < n; {
		var next string
		switch r.IntN(3) {
		case 0:
			next = completed(string(e.vocab.bytes(uint32(r.IntN(e.vocab.size())))), r)
		case 1:
			next = string(rune(0x4e00 + r.IntN(600)))
		default:
			next = string(rune(0x80 + r.IntN(0x3000)))
		}
		for _, c := range next {
			char := utf8.AppendRune(nil, c)
			if k, _ := e.style.classAt(char, 0); k.grows() && k != mark {
				b = append(b, char...)
				have++
			}
		}
	}
	return b
}

// TestWord lets words grow, and compares their tokens with those of the piece as a whole.
func TestWord(t *testing.T) {
	for _, name := range builtin {
		t.Run(name, func(t *testing.T) {
			e := get(t, name)
			r := rand.New(rand.NewPCG(31, 32))
			grown, ended := 0, 0
			for range 3000 {
				text := letters(e, r, 1+r.IntN(30))
				var w word
				on := false
				for at := 0; at < len(text); {
					_, size := utf8.DecodeRune(text[at:])
					now := text[:at+size]
					switch {
					case on:
						if on = w.grow(e.vocab, now, at); on {
							grown++
						} else {
							ended++
						}
					default:
						end, _ := e.split(now, 0)
						on = end == len(now) && w.begin(e, now)
					}
					if want := e.vocab.encode(nil, now); on && !slices.Equal(w.tokens[:w.n], want) {
						t.Fatalf("%q is %v, want %v", now, w.tokens[:w.n], want)
					}
					if !on && w.n != 0 {
						t.Fatalf("%q is no word, but has %d tokens", now, w.n)
					}
					at += size
				}
			}
			if grown < 10_000 || ended == 0 {
				t.Errorf("%d words grew by a letter, %d became too long: too few to tell", grown, ended)
			}
		})
	}
}

// TestWordBegins knows what is a word.
func TestWordBegins(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // for o200k_base and for cl100k_base
		{"中文", "yes yes"},
		{" 中文", "yes yes"},
		{"été", "yes yes"},
		{"abcé", "yes yes"},
		{"été\u0301", "no no"}, // marks are in punctuation, too
		{"été'", "no no"},
		{"'é", "yes yes"},
		{"'r", "no no"}, // perhaps a contraction
		{"中É", "no yes"},
		{"ÉÉ", "no yes"},
		{"a", "no no"},
		{"。", "no no"},
		{"中。中", "no no"},
		{"１", "no no"},
	} {
		got := ""
		for _, name := range []string{"o200k_base", "cl100k_base"} {
			var w word
			e := get(t, name)
			if end, _ := e.split([]byte(c.text), 0); end == len(c.text) && w.begin(e, []byte(c.text)) {
				got += " yes"
			} else {
				got += " no"
			}
		}
		if got[1:] != c.want {
			t.Errorf("%q: %s, want %s", c.text, got[1:], c.want)
		}
	}
}

// TestCounterWords streams words, short and too long, with every kind of character behind them.
func TestCounterWords(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	endings := []string{"", "A", "É", "é", "'", "'s", "'ſ", "1", "１", " ", "\n", "，", "\u0301", "!", "\xe4", "A中", "Éé", "\U00020000"}
	for _, name := range builtin {
		e := get(t, name)
		for range 300 {
			var text strings.Builder
			for range 1 + r.IntN(3) {
				text.Write(letters(e, r, 1+r.IntN(60)))
				text.WriteString(endings[r.IntN(len(endings))])
			}
			stream(t, e, []byte(text.String()), r, 1+r.IntN(20))
		}
	}
}
