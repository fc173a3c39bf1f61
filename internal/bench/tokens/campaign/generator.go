package campaign

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

// A generator makes texts in several styles. All but the first few are about what a tokenizer gets wrong: which
// class a character has, where a piece ends, how pairs merge, what is not UTF-8.
type generator struct {
	real   [][]byte
	large  [][]byte // those of real that are worth more cuts than one
	tokens [][]byte // of both vocabularies
	styles []func(*rand.Rand) []byte
}

func newGenerator(texts [][]byte) *generator {
	g := &generator{real: texts}
	for _, t := range texts {
		if len(t) > 64<<10 {
			g.large = append(g.large, t)
		}
	}
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		data, err := assets.Assets.ReadFile(name + ".tiktoken")
		if err != nil {
			panic(err) // it is embedded
		}
		for line := range bytes.Lines(data) {
			word, _, _ := bytes.Cut(line, []byte(" "))
			if token, err := base64.StdEncoding.DecodeString(string(word)); err == nil {
				g.tokens = append(g.tokens, token)
			}
		}
	}
	g.styles = []func(*rand.Rand) []byte{
		g.part, g.mutated, g.mutated, g.spliced, g.joinedTokens, g.joinedTokens, alphabetical, alphabetical, runs, runs,
		anyScript, oneScript, randomBytes, brokenUTF8, words, words, numbers, spaces,
	}
	return g
}

// texts makes n texts.
func (g *generator) texts(r *rand.Rand, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = g.styles[r.IntN(len(g.styles))](r)
	}
	return all
}

// long makes a text of n bytes by joining others, real ones more often.
func (g *generator) long(r *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		if r.IntN(3) > 0 {
			b = append(b, g.cut(r, 2000)...)
		} else {
			b = append(b, g.styles[r.IntN(len(g.styles))](r)...)
		}
	}
	return b[:n]
}

// size is a length in some unit, mostly small.
func size(r *rand.Rand) int { return 1 + r.IntN(4<<r.IntN(7)) }

// cut is a part of a real text, cut anywhere, within a character too.
func (g *generator) cut(r *rand.Rand, most int) []byte {
	from := g.real
	if len(g.large) > 0 && r.IntN(2) == 0 {
		from = g.large
	}
	t := from[r.IntN(len(from))]
	if len(t) == 0 {
		return nil
	}
	at := r.IntN(len(t))
	return t[at:min(len(t), at+1+r.IntN(most))]
}

func (g *generator) part(r *rand.Rand) []byte { return g.cut(r, size(r)) }

// mutated is a real text with a few bytes or characters changed, taken out, put in, doubled, or of the other case.
func (g *generator) mutated(r *rand.Rand) []byte {
	t := slices.Clone(g.cut(r, size(r)))
	for range 1 + r.IntN(4) {
		at := r.IntN(len(t) + 1)
		end := min(len(t), at+1+r.IntN(4))
		part := slices.Clone(t[at:end])
		switch r.IntN(7) {
		case 0:
			part = nil
		case 1:
			part = bytes.Repeat(part, 2+r.IntN(20))
		case 2:
			part = bytes.ToUpper(part)
		case 3:
			part = append(part, alphabet[r.IntN(len(alphabet))]...)
		case 4:
			part = utf8.AppendRune(nil, anyRune(r))
		case 5:
			for i := range part {
				part[i] ^= 1 << r.IntN(8)
			}
		default:
			part = []byte{byte(r.Uint32())}
		}
		t = slices.Replace(t, at, end, part...)
	}
	return t
}

// spliced is the beginning of one real text and the end of another.
func (g *generator) spliced(r *rand.Rand) []byte { return slices.Concat(g.part(r), g.part(r)) }

// joinedTokens is tokens in a row, which seldom are the tokens of what they spell.
func (g *generator) joinedTokens(r *rand.Rand) []byte {
	var b []byte
	some := g.tokens
	if r.IntN(2) == 0 { // a few of them, with more chances to merge
		at := r.IntN(len(g.tokens) - 8)
		some = g.tokens[at : at+8]
	}
	for range 1 + r.IntN(12) {
		b = append(b, some[r.IntN(len(some))]...)
	}
	return b
}

// alphabet has characters of every class that the patterns know, in one to four bytes, and all that they name.
var alphabet = strings.Split("a b A B ǅ É é ß ʰ ª 中 文 日 한 ا ש ก 𠀀 \u0301 \u0903 \u20dd \U000e0100 1 2 ² ½ Ⅷ ٣ 𝟙 ! ? / - = _ # ' ’ \" ( ) { } s S ſ t T r R e E l L v V d D m M K \u212a — … $ € 🎉 👩 \u200d \ufe0f \u200b \ufeff \ufffd \x00 \x7f \t \n \r \v \f \x1c \x85 \u0085 \u00a0 \u1680 \u2003 \u2028 \u202f \u3000 \u180e 's 'll 've <|endoftext|>", " ")

func init() { alphabet = append(alphabet, " ", " ", " ", "'", "\n") }

func pick(r *rand.Rand, from []string, n int) []byte {
	var b []byte
	for range n {
		b = append(b, from[r.IntN(len(from))]...)
	}
	return b
}

func alphabetical(r *rand.Rand) []byte { return pick(r, alphabet, size(r)) }

// runs is long runs of a few characters, each with others behind it.
func runs(r *rand.Rand) []byte {
	var b []byte
	for range 1 + r.IntN(4) {
		some := make([]string, 1+r.IntN(3))
		for i := range some {
			some[i] = alphabet[r.IntN(len(alphabet))]
		}
		b = append(b, pick(r, some, size(r))...)
	}
	return b
}

func anyRune(r *rand.Rand) rune {
	for {
		// Three of four are of the first planes' scripts, where most letters are.
		if c := rune(r.IntN([]int{0x800, 0x3400, 0x20000, utf8.MaxRune + 1}[r.IntN(4)])); utf8.ValidRune(c) {
			return c
		}
	}
}

func anyScript(r *rand.Rand) []byte {
	var b []byte
	for range size(r) {
		b = utf8.AppendRune(b, anyRune(r))
	}
	return b
}

// oneScript is characters that are near each other, with spaces.
func oneScript(r *rand.Rand) []byte {
	var b []byte
	base := anyRune(r) &^ 0x3f
	for range size(r) {
		if c := base + rune(r.IntN(80)); r.IntN(6) == 0 || !utf8.ValidRune(c) {
			b = append(b, ' ')
		} else {
			b = utf8.AppendRune(b, c)
		}
	}
	return b
}

func randomBytes(r *rand.Rand) []byte {
	b := make([]byte, size(r))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// brokenUTF8 is the beginnings and ends of characters, overlong forms, surrogates and what is beyond Unicode.
func brokenUTF8(r *rand.Rand) []byte {
	broken := []string{
		"\xc0\x80", "\xc1\xbf", "\xc2", "\xdf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe0\xa0", "\xe4\xb8", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\x9f", "\xef\xbf",
		"\xf0\x80\x80\x80", "\xf0\x8f", "\xf0\x90\x80", "\xf0\x9f\x8e", "\xf4\x8f\xbf", "\xf4\x90\x80\x80", "\xf5\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff", "\x80", "\xbf", "\xc5", "'\xc5",
	}
	var b []byte
	for range size(r) {
		if r.IntN(2) == 0 {
			b = append(b, broken[r.IntN(len(broken))]...)
		} else {
			b = append(b, alphabet[r.IntN(len(alphabet))]...)
		}
	}
	return b
}

// words is text as programs and people write it: words in several cases, contractions, signs.
func words(r *rand.Rand) []byte {
	cases := []func(string) string{strings.ToLower, strings.ToUpper, strings.Clone, func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }}
	stems := strings.Fields("it don what we i can http json url the quick id straße naïve привет ΣΊΣΥΦΟΣ ǆungla 東京タワー 한국어 שלום नमस्ते สวัสดี مرحبا")
	tails := []string{"", "", "", "'s", "'S", "'ſ", "'t", "'re", "'RE", "'ve", "'m", "'ll", "'lL", "'d", "’s", "'", "''s", "_x", "-y", "123", "()", ".", ",", "://", "/", "\u0301"}
	var b []byte
	for range size(r) {
		stem := stems[r.IntN(len(stems))]
		if stem[0] < utf8.RuneSelf {
			stem = cases[r.IntN(len(cases))](stem)
		}
		b = append(b, stem...)
		b = append(b, tails[r.IntN(len(tails))]...)
		b = append(b, []string{" ", " ", " ", "", "\n", "  ", "\t", "\r\n"}[r.IntN(8)]...)
	}
	return b
}

func numbers(r *rand.Rand) []byte {
	var b []byte
	for range size(r) {
		b = fmt.Appendf(b, []string{"%d", "%d.", "%x,", "-%d", "%d ", "0x%X", "%d٣", "%d²\n", "$%d.00", "%09d"}[r.IntN(10)], r.Uint64()>>r.IntN(64))
	}
	return b
}

// spaces is all kinds of white space with a little between.
func spaces(r *rand.Rand) []byte {
	white := []string{" ", " ", " ", " ", "\n", "\n", "\t", "\r", "\r\n", "\v", "\f", "\u0085", "\u00a0", "\u2003", "\u2028", "\u3000", "\u180e", "\u200b"}
	var b []byte
	for range size(r) {
		if r.IntN(10) == 0 {
			b = append(b, alphabet[r.IntN(len(alphabet))]...)
		}
		b = append(b, white[r.IntN(len(white))]...)
	}
	return b
}
