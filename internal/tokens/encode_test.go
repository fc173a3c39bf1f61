package tokens

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// ids looks up what mergePairs returns.
func ids(ranks map[string]int, parts []string) []uint32 {
	var out []uint32
	for _, p := range parts {
		out = append(out, uint32(ranks[p]))
	}
	return out
}

// randomPiece returns text which exercises the encoder: bytes from a small set, repeated patterns, tokens side
// by side, anything.
func randomPiece(r *rand.Rand, v *vocab, n int) string {
	var b strings.Builder
	switch r.IntN(4) {
	case 0:
		set := []string{"ab", "=", " \t", "aAbB", "=-*#", "in", "\n ", "\xe4\xb8\xad\x80"}
		s := set[r.IntN(len(set))]
		for b.Len() < n {
			b.WriteByte(s[r.IntN(len(s))])
		}
	case 1:
		period := randomText(r, 1+r.IntN(4))
		for b.Len() < n {
			b.WriteString(strings.Repeat(period, 1+r.IntN(20)))
		}
	case 2:
		for b.Len() < n {
			b.Write(v.bytes(uint32(r.IntN(v.size()))))
		}
	default:
		for b.Len() < n {
			b.WriteByte(byte(r.Uint32()))
		}
	}
	return b.String()
}

// TestEncode compares the encoder of pieces and the appender with plain merging.
func TestEncode(t *testing.T) {
	for _, name := range builtin {
		t.Run(name, func(t *testing.T) {
			ranks := oracleRanks(t, name)
			v := get(t, name).vocab
			r := rand.New(rand.NewPCG(7, 8))
			for range 1500 {
				n := 1 + r.IntN(mergeMost+16)
				if r.IntN(50) == 0 {
					n = 600
				}
				text := randomPiece(r, v, n)
				want := ids(ranks, mergePairs(ranks, text, 1))
				if got, n := v.encodeLong(nil, []byte(text), true); !slices.Equal(got, want) || n != len(want) {
					t.Fatalf("%q is %v, want %v", text, got, want)
				}
				if got, _ := v.encodeForward(nil, []byte(text), true); !slices.Equal(got, want) {
					t.Fatalf("%q is %v forward, want %v", text, got, want)
				}
				var a appender
				a.reset()
				for i := range len(text) {
					a.append(v, text[i])
					if _, want := v.encodeLong(nil, []byte(text[:i+1]), false); a.total != want {
						t.Fatalf("%q: %d tokens in an appender, want %d", text[:i+1], a.total, want)
					}
				}

				text = strings.ToValidUTF8(text, "\uFFFD")
				want = ids(ranks, mergePairs(ranks, text, 1))
				if got := v.encode(nil, []byte(text)); !slices.Equal(got, want) {
					t.Fatalf("%q is %v, want %v", text, got, want)
				}
				if got := v.count([]byte(text)); got != len(want) {
					t.Fatalf("%q: %d tokens, want %d", text, got, len(want))
				}
			}
		})
	}
}

// TestSeeds compares merging from seeds with merging from bytes where seeds matter: next to characters whose parts
// are merged with what is beside them, which the vocabulary itself has most of.
func TestSeeds(t *testing.T) {
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		t.Run(name, func(t *testing.T) {
			ranks := oracleRanks(t, name)
			v := get(t, name).vocab
			var across []uint32 // tokens which begin or end within a character
			for id := range uint32(v.size()) {
				if id >= 256 && !utf8.Valid(v.bytes(id)) {
					across = append(across, id)
				}
			}
			if len(across) < 100 {
				t.Fatalf("only %d tokens begin or end within a character", len(across))
			}
			var chars []string
			for r := range rune(1 << 16) {
				if s := string(r); len(s) > 1 && r != utf8.RuneError && v.seeds.chars[r] != noToken {
					chars = append(chars, s)
				}
			}
			r := rand.New(rand.NewPCG(21, 22))
			merged, whole := 0, 0
			for range 40_000 {
				var b strings.Builder
				for range 1 + r.IntN(6) {
					switch r.IntN(3) {
					case 0:
						b.Write(v.bytes(across[r.IntN(len(across))]))
					case 1:
						b.WriteString(chars[r.IntN(len(chars))])
					default:
						b.WriteString(alphabet[r.IntN(len(alphabet))])
					}
				}
				text := completed(b.String(), r)
				want := ids(ranks, mergePairs(ranks, text, 1))
				got, n, ok := v.merge(nil, []byte(text), true)
				if !ok {
					continue
				}
				if !slices.Equal(got, want) || n != len(want) {
					t.Fatalf("%q is %v, want %v", text, got, want)
				}
				merged++
				var m merger
				if m.seed(v, []byte(text)) == utf8.RuneCountInString(text) {
					whole++
				}
			}
			if merged < 10_000 || whole == merged || whole == 0 {
				t.Errorf("of %d texts %d had a seed for every character; want many of both kinds", merged, whole)
			}
		})
	}
}

// completed makes b valid: the halves of characters in it get another half.
func completed(b string, r *rand.Rand) string {
	var out []byte
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			out = append(out, b[i])
			i++
			continue
		}
		if _, n := utf8.DecodeRuneInString(b[i:]); n > 1 {
			out = append(out, b[i:i+n]...)
			i += n
			continue
		}
		// A first byte or a second one, at least, is kept.
		var char []byte
		for range 200 {
			char = utf8.AppendRune(nil, rune(r.IntN(1<<16)))
			if utf8.RuneStart(b[i]) {
				char[0] = b[i]
			} else {
				char[len(char)-1] = b[i]
			}
			if utf8.Valid(char) {
				break
			}
		}
		if utf8.Valid(char) {
			out = append(out, char...)
		}
		i++
	}
	return string(out)
}

// TestSearchWindow lets the search forget early: it may fail then, but must not be wrong.
func TestSearchWindow(t *testing.T) {
	v := get(t, "o200k_base").vocab
	r := rand.New(rand.NewPCG(9, 10))
	failed, passed := 0, 0
	for range 3000 {
		text := []byte(randomPiece(r, v, 300+r.IntN(300)))
		want, _ := v.encodeForward([]uint32{1, 2}, text, true)
		s := search{vocab: v, text: text, stack: make([]uint32, maxTokenLen+1+r.IntN(40)), dead: make([]uint64, 5)}
		switch got, n, ok := s.run([]uint32{1, 2}, true); {
		case !ok && slices.Equal(got, []uint32{1, 2}):
			failed++
		case ok && slices.Equal(got, want) && n == len(want)-2:
			passed++
		default:
			t.Fatalf("%q is %v, want %v", text, got, want)
		}
	}
	if failed == 0 || passed == 0 {
		t.Errorf("%d searches failed and %d passed, want some of each", failed, passed)
	}
}

// TestSearchReach shows that with the usual view the search does not fail.
func TestSearchReach(t *testing.T) {
	for _, name := range builtin {
		v := get(t, name).vocab
		r := rand.New(rand.NewPCG(19, 20))
		for range 1000 {
			text := []byte(randomPiece(r, v, reach+1+r.IntN(3*reach)))
			s := search{vocab: v, text: text, stack: make([]uint32, reach), dead: make([]uint64, reach/64+1)}
			if _, _, ok := s.run(nil, false); !ok {
				t.Fatalf("%s: the search fails for %q", name, text)
			}
		}
	}
}

// TestStable checks the border test, on which all rests, on pairs of tokens, likely and unlikely ones.
func TestStable(t *testing.T) {
	ranks := oracleRanks(t, "o200k_base")
	v := get(t, "o200k_base").vocab
	random := rand.New(rand.NewPCG(11, 12))
	stable := 0
	const pairs = 10_000
	for range pairs {
		l, r := uint32(random.IntN(v.size())), uint32(random.IntN(v.size()))
		if l%2 == 0 { // cut a token in two: often not what merging would do
			b := v.bytes(l)
			cut := 1 + int(r)%len(b)
			left, ok := v.find(b[:cut])
			if right := b[cut:]; ok && len(right) > 0 {
				if id, ok := v.find(right); ok {
					l, r = left, id
				}
			}
		}
		text := string(v.bytes(l)) + string(v.bytes(r))
		want := slices.Equal(ids(ranks, mergePairs(ranks, text, 1)), []uint32{l, r})
		if got := v.pairs.stable(l, r); got != want {
			t.Fatalf("stable(%q, %q) = %t, want %t", v.bytes(l), v.bytes(r), got, want)
		}
		if want {
			stable++
		}
	}
	if stable < pairs/10 || stable > pairs*9/10 {
		t.Errorf("%d of %d pairs are stable: too few or too many to tell", stable, pairs)
	}
}

func TestShiftDown(t *testing.T) {
	for n := range 200 {
		set := []uint64{0x8000_0000_0000_0001, 0xdead_beef, 0x8000_0000_0000_0000}
		var want [3]uint64
		for i := n; i < 192; i++ {
			if set[i/64]>>(i%64)&1 != 0 {
				want[(i-n)/64] |= 1 << ((i - n) % 64)
			}
		}
		if shiftDown(set, n); [3]uint64(set) != want {
			t.Errorf("shifted by %d: %x, want %x", n, set, want)
		}
	}
}

func TestVocabFind(t *testing.T) {
	for _, name := range builtin {
		v := get(t, name).vocab
		for id := range uint32(v.size()) {
			b := v.bytes(id)
			if got, ok := v.find(b); !ok || got != id {
				t.Fatalf("%q is token %d, %t, want %d", b, got, ok, id)
			}
			if got, n := v.trie.longest(b); got != id || n != len(b) {
				t.Fatalf("the longest token that %q begins with is %d, want %d", b, got, id)
			}
		}
		if _, ok := v.find([]byte(strings.Repeat("x", maxTokenLen+1))); ok {
			t.Error("found a token longer than the longest")
		}
	}
}

func TestParseErrors(t *testing.T) {
	bytes256 := func() string {
		var b strings.Builder
		for i := range 256 {
			fmt.Fprintf(&b, "%s %d\n", base64Of(string([]byte{byte(i)})), i)
		}
		return b.String()
	}()
	for _, c := range []struct{ data, want string }{
		{"", "0 tokens, want 256 to 262142"},
		{"IQ==\n", "line 1: no rank"},
		{"IQ== 0\n??== 1\n", "line 2: illegal base64 data at input byte 0"},
		{"IQ== 2\n", `line 1: rank "2", want 0`},
		{"IQ== x\n", `line 1: rank "x", want 0`},
		{" 0\n", "line 1: a token of 0 bytes, want 1 to 128"},
		{"ISE= 0\n", "line 1: the first 256 tokens, and only they, must be single bytes"},
		{bytes256 + "IQ== 256\n", "line 257: the first 256 tokens, and only they, must be single bytes"},
		{bytes256 + base64Of(strings.Repeat("x", 129)) + " 256\n", "line 257: a token of 129 bytes, want 1 to 128"},
		{bytes256 + "\nISE= 256", ""},
	} {
		got := ""
		if err := new(vocab).parse([]byte(c.data)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("error %q, want %q", got, c.want)
		}
	}
	v := &vocab{}
	if err := v.parse([]byte(bytes256 + "ISE= 256\n")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cuts []byte
		want string
	}{
		{nil, "cuts of 0 tokens, want 1"},
		{[]byte{0}, "token 256 has 2 bytes and is cut after 0"},
		{[]byte{2}, "token 256 has 2 bytes and is cut after 2"},
		{[]byte{1}, ""},
	} {
		got := ""
		if err := v.index(c.cuts); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("error %q, want %q", got, c.want)
		}
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestLongest compares the trie with looking up every prefix.
func TestLongest(t *testing.T) {
	for _, name := range builtin {
		v := get(t, name).vocab
		r := rand.New(rand.NewPCG(21, 22))
		for range 20_000 {
			var text []byte
			for range 1 + r.IntN(6) {
				b := v.bytes(uint32(r.IntN(v.size())))
				text = append(text, b[:1+r.IntN(len(b))]...)
			}
			if r.IntN(4) == 0 {
				text[r.IntN(len(text))] = byte(r.Uint32())
			}
			var want uint32
			size := 0
			for n := 1; n <= len(text); n++ {
				if id, ok := v.find(text[:n]); ok {
					want, size = id, n
				}
			}
			if got, n := v.trie.longest(text); got != want || n != size {
				t.Fatalf("%s: the longest token %q begins with is %d of %d bytes, want %d of %d", name, text, got, n, want, size)
			}
		}
	}
}

// TestAppenderRuns appends long runs of one byte, in which an appender does not walk the trie, with others between.
func TestAppenderRuns(t *testing.T) {
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		v := get(t, name).vocab
		r := rand.New(rand.NewPCG(25, 26))
		for range 10 {
			var a appender
			a.reset()
			var text []byte
			for len(text) < 1200 {
				c := " =-\n\ta*_"[r.IntN(8)]
				for range 1 + r.IntN(400)*r.IntN(2) {
					text = append(text, c)
					a.append(v, c)
					if want := v.count(text); a.total != want {
						t.Fatalf("%s: %q: %d tokens in an appender, want %d", name, text, a.total, want)
					}
				}
			}
		}
	}
}
