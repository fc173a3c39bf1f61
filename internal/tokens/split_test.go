package tokens

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// alphabet has a character of every class and all that the patterns mention, in one to four bytes.
var alphabet = strings.Split("A a ǅ É é ʰ 中 𠀀 \u0301 \U000e0100 1 ² 𝟙 ! / ' s S ſ t r R e l L v d m — 🎉 \x00 \t \n \r \v \u0085 \u00a0 \u2028 \u3000", " ")

func init() { alphabet = append(alphabet, " ", " ", "'", "\n") }

func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	some := alphabet
	if r.IntN(2) == 0 { // few characters, so that runs get long
		some = nil
		for range 1 + r.IntN(4) {
			some = append(some, alphabet[r.IntN(len(alphabet))])
		}
	}
	for range n {
		b.WriteString(some[r.IntN(len(some))])
	}
	return b.String()
}

func pieces(e *Encoding, text string) []string {
	var out []string
	for i := 0; i < len(text); {
		end, _ := e.split([]byte(text), i)
		out = append(out, text[i:end])
		i = end
	}
	return out
}

// TestSplit compares the splitters with the twin: on all short texts over a few characters, and on random ones.
func TestSplit(t *testing.T) {
	twins := map[string]*twin{"o200k_base": newTwin(patternO200k), "cl100k_base": newTwin(patternCL100k), "r50k_base": newTwin(patternR50k)}
	for name, twin := range twins {
		t.Run(name, func(t *testing.T) {
			e := get(t, name)
			check := func(text string) {
				if got, want := pieces(e, text), twin.split(text); !slices.Equal(got, want) {
					t.Fatalf("%q is split %q, want %q", text, got, want)
				}
			}
			short := strings.Split("A a 中 \u0301 1 ! / ' s l \t \n", " ")
			short = append(short, " ")
			var all func(prefix string, n int)
			all = func(prefix string, n int) {
				if check(prefix); n > 0 {
					for _, c := range short {
						all(prefix+c, n-1)
					}
				}
			}
			for _, c := range short {
				all(c, 3)
			}
			r := rand.New(rand.NewPCG(1, 2))
			for range 20_000 {
				check(randomText(r, 1+r.IntN(20)))
			}
		})
	}
}

// TestFinal checks the promise a stream rests on: a final piece stays what it is, whatever follows.
func TestFinal(t *testing.T) {
	for _, name := range builtin {
		e := get(t, name)
		r := rand.New(rand.NewPCG(3, 4))
		finals := 0
		for range 50_000 {
			text := randomText(r, 1+r.IntN(8))
			end, final := e.split([]byte(text), 0)
			if !final {
				continue
			}
			finals++
			longer := text + randomText(r, 1+r.IntN(4))
			if again, still := e.split([]byte(longer), 0); again != end || !still {
				t.Fatalf("%s: the first piece of %q was said to be final, but that of %q is %q", name, text, longer, longer[:again])
			}
		}
		if finals < 10_000 {
			t.Errorf("%s: only %d texts had a final piece", name, finals)
		}
	}
}

// TestFinalEarly pins when a piece becomes final, after how many of the characters that follow the bar.
func TestFinalEarly(t *testing.T) {
	for _, c := range []struct {
		encoding, text string
		after          int
	}{
		{"o200k_base", "word| ", 1},
		{"o200k_base", "it's|", 0},
		{"o200k_base", "it'ſ|", 0},
		{"o200k_base", "it'll|", 0},
		{"o200k_base", "it|'rx", 3},
		{"o200k_base", "it|'x", 2},
		{"o200k_base", "中|AB ", 3},
		{"o200k_base", "123|", 0},
		{"o200k_base", "12|a", 1},
		{"o200k_base", "!?|a", 1},
		{"o200k_base", "!\n/|a", 1},
		{"o200k_base", " \n|  a", 3},
		{"o200k_base", "  | a", 2},
		{"cl100k_base", "'s|", 0},
		{"cl100k_base", "'ll|", 0},
		{"cl100k_base", "word|'", 1},
		{"cl100k_base", "!\n|/", 1},
		{"cl100k_base", "\n|  a", 3},
	} {
		e := get(t, c.encoding)
		head, tail, _ := strings.Cut(c.text, "|")
		for n := 0; n <= len(tail); n++ {
			text := []byte(head + tail[:n])
			end, final := e.split(text, 0)
			if final != (n >= c.after) || final && end != len(head) {
				t.Errorf("%s: of %q, the first %d bytes are said to be a piece, final: %t", c.encoding, text, end, final)
			}
		}
	}
}

// TestClasses compares the generated table with Go's, which is of an older version of Unicode: they must agree
// on what was assigned then, and characters of the new version must be there.
func TestClasses(t *testing.T) {
	loadClasses()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		b := utf8.AppendRune(nil, r)
		if k, n := classAt(b, 0); k != classOf(r) || n != len(b) {
			t.Fatalf("%U is class %d in a text, %d in the table", r, k, classOf(r))
		}
		want := punct
		switch {
		case r == '\n' || r == '\r':
			want = newline
		case unicode.IsSpace(r):
			want = space
		case unicode.In(r, unicode.Lu, unicode.Lt):
			want = upper
		case unicode.Is(unicode.Ll, r):
			want = lower
		case unicode.In(r, unicode.Lm, unicode.Lo):
			want = other
		case unicode.Is(unicode.M, r):
			want = mark
		case unicode.Is(unicode.N, r):
			want = number
		case !unicode.In(r, unicode.L, unicode.P, unicode.S, unicode.Cc, unicode.Cf, unicode.Co):
			continue // not assigned in Go's version
		}
		if classOf(r) != want {
			t.Errorf("%U is class %d, want %d", r, classOf(r), want)
		}
	}
	loadGaps()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		known := unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf, unicode.Co)
		if sign := unicode.In(r, unicode.P, unicode.S); utf8.ValidRune(r) && known && classOf(r) == punct && isGap([]byte(string(r))) == sign {
			t.Errorf("%U is a gap: %t", r, sign)
		}
	}
	if isGap([]byte("\U0001cc00")) {
		t.Error("a symbol of 16.0 is a gap")
	}
	for r, want := range map[rune]class{
		0x2ebf0: other,  // CJK extension I, of 15.1
		0xa7cb:  upper,  // LATIN CAPITAL LETTER RAMS HORN, of 16.0
		0x1c8a:  lower,  // a small letter of Cyrillic, of 16.0
		0x10d4a: other,  // a vowel letter of Garay, of 16.0
		0x10d40: number, // GARAY DIGIT ZERO, of 16.0
		0x10d69: mark,   // GARAY VOWEL SIGN E, of 16.0
		0x1cc00: punct,  // a symbol for legacy computing, of 16.0
		0x088f:  punct,  // assigned in 17.0 only
	} {
		if got := classOf(r); got != want {
			t.Errorf("%U is class %d, want %d", r, got, want)
		}
	}
}
