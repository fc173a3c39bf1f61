package tokens

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestMemo counts pieces that differ in their length only, or in a few bytes, with one memo: many belong in the place
// of another that is like them.
func TestMemo(t *testing.T) {
	for _, name := range builtin {
		v := get(t, name).vocab
		r := rand.New(rand.NewPCG(41, 42))
		var m memo
		check := func(piece string) {
			b := []byte(piece)
			want := v.count(b)
			for range 2 {
				if got := m.count(v, b); got != want {
					t.Fatalf("%s: %q: %d tokens, want %d", name, piece, got, want)
				}
			}
		}
		for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-=_*" {
			for n := 1; n <= memoMost+8; n++ {
				check(strings.Repeat(string(c), n))
			}
		}
		random := func(n int) string {
			b := make([]byte, n)
			for i := range b {
				b[i] = "etaoinshr"[r.IntN(9)]
			}
			return string(b)
		}
		for range 4000 {
			first, middle, last := "overture", "interest", "national"
			switch r.IntN(3) {
			case 0:
				first = random(8)
			case 1:
				middle = random(8)
			default:
				last = random(8)
			}
			check(first + middle + last)
		}
	}
}

// TestMemoRemembers changes what a memo has, to see that it is asked.
func TestMemoRemembers(t *testing.T) {
	v := get(t, "o200k_base").vocab
	for _, c := range []struct {
		piece string
		want  bool
	}{
		{"abcdefg", false},
		{"unbelievably", true},
		{" неожиданность", false},
		{" неожиданно", true},
		{strings.Repeat("a", memoMost), true},
		{strings.Repeat("a", memoMost+1), false},
	} {
		var m memo
		m.count(v, []byte(c.piece))
		for i := range m {
			m[i].tokens = 99
		}
		if got := m.count(v, []byte(c.piece)) == 99; got != c.want {
			t.Errorf("%q is remembered: %t, want %t", c.piece, got, c.want)
		}
	}
}

// TestMemoInText counts texts in which pieces come again.
func TestMemoInText(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 44))
	for _, name := range builtin {
		e := get(t, name)
		for range 200 {
			var words []string
			for range 1 + r.IntN(200) {
				words = append(words, randomText(r, 1+r.IntN(12)))
			}
			var b bytes.Buffer
			for b.Len() < memoWorth+r.IntN(3*memoWorth) {
				b.WriteString(words[r.IntN(len(words))])
			}
			text := b.Bytes()
			if got, want := e.Count(text), len(e.AppendTokens(nil, text)); got != want {
				t.Fatalf("%s: %q: %d tokens, want %d", name, text, got, want)
			}
		}
	}
}
