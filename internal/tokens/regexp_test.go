package tokens

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// The split patterns as Python tiktoken 0.14 has them (tiktoken_ext/openai_public.py).
const (
	patternO200k = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternR50k   = `'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s`
	patternCL100k = `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s`
)

// A twin is what the splitters are tested against: a plain backtracking matcher for as much of the language of
// regular expressions as the patterns use. It is slow and follows the patterns to the letter. Its character
// classes are those of the package, which TestClasses checks.
type twin struct {
	src  string
	root node
}

// A node matches text at a position and hands every end it finds to more, in order of preference, until that
// returns true.
type node func(text []rune, at int, more func(end int) bool) bool

func newTwin(pattern string) *twin {
	t := &twin{src: pattern}
	t.root = t.alternatives(false)
	if t.src != "" {
		panic("left over: " + t.src)
	}
	return t
}

// split returns the pieces of text.
func (t *twin) split(text string) []string {
	var out []string
	rest := []rune(text)
	for at := 0; at < len(rest); {
		end := -1
		t.root(rest, at, func(e int) bool { end = e; return true })
		if end <= at {
			panic(fmt.Sprintf("no match at %d of %q", at, text))
		}
		out = append(out, string(rest[at:end]))
		at = end
	}
	return out
}

// eat removes prefix from the pattern if it is there.
func (t *twin) eat(prefix string) bool {
	rest, ok := strings.CutPrefix(t.src, prefix)
	t.src = rest
	return ok
}

func (t *twin) char() rune {
	r, n := utf8.DecodeRuneInString(t.src)
	t.src = t.src[n:]
	return r
}

func (t *twin) alternatives(fold bool) node {
	all := []node{t.sequence(fold)}
	for t.eat("|") {
		all = append(all, t.sequence(fold))
	}
	return func(text []rune, at int, more func(int) bool) bool {
		return slices.ContainsFunc(all, func(n node) bool { return n(text, at, more) })
	}
}

func (t *twin) sequence(fold bool) node {
	match := node(func(_ []rune, at int, more func(int) bool) bool { return more(at) })
	for t.src != "" && t.src[0] != '|' && t.src[0] != ')' {
		first, second := match, t.repeated(fold)
		match = func(text []rune, at int, more func(int) bool) bool {
			return first(text, at, func(mid int) bool { return second(text, mid, more) })
		}
	}
	return match
}

func (t *twin) repeated(fold bool) node {
	one := t.atom(fold)
	lo, hi := 1, 1
	switch {
	case t.eat("?"):
		lo = 0
	case t.eat("*"):
		lo, hi = 0, 1<<30
	case t.eat("+"):
		hi = 1 << 30
	case t.eat("{1,3}"):
		hi = 3
	default:
		return one
	}
	var greedy func(n int, text []rune, at int, more func(int) bool) bool
	greedy = func(n int, text []rune, at int, more func(int) bool) bool {
		if n < hi && one(text, at, func(end int) bool { return greedy(n+1, text, end, more) }) {
			return true
		}
		return n >= lo && more(at)
	}
	if !t.eat("+") {
		return func(text []rune, at int, more func(int) bool) bool { return greedy(0, text, at, more) }
	}
	return func(text []rune, at int, more func(int) bool) bool {
		end := -1
		return greedy(0, text, at, func(e int) bool { end = e; return true }) && more(end)
	}
}

func (t *twin) atom(fold bool) node {
	switch {
	case t.eat("(?i:"):
		n := t.alternatives(true)
		t.eat(")")
		return n
	case t.eat("(?:"):
		n := t.alternatives(fold)
		t.eat(")")
		return n
	case t.eat(`(?!\S)`):
		return func(text []rune, at int, more func(int) bool) bool {
			return (at == len(text) || isSpace(text[at])) && more(at)
		}
	case t.eat("$"):
		return func(text []rune, at int, more func(int) bool) bool { return at == len(text) && more(at) }
	}
	var in func(rune) bool
	if t.eat("[") {
		not := t.eat("^")
		var sets []func(rune) bool
		for !t.eat("]") {
			sets = append(sets, t.set(fold))
		}
		in = func(r rune) bool {
			return not != slices.ContainsFunc(sets, func(set func(rune) bool) bool { return set(r) })
		}
	} else {
		in = t.set(fold)
	}
	return func(text []rune, at int, more func(int) bool) bool {
		return at < len(text) && in(text[at]) && more(at+1)
	}
}

// set parses one character or escape.
func (t *twin) set(fold bool) func(rune) bool {
	switch {
	case t.eat(`\s`):
		return isSpace
	case t.eat(`\r`):
		return func(r rune) bool { return r == '\r' }
	case t.eat(`\n`):
		return func(r rune) bool { return r == '\n' }
	case t.eat(`\p{`):
		name, rest, _ := strings.Cut(t.src, "}")
		t.src = rest
		classes := map[string][]class{
			"L": {upper, lower, other}, "Lu": {upper}, "Lt": {upper}, "Ll": {lower}, "Lm": {other}, "Lo": {other}, "M": {mark}, "N": {number},
		}[name]
		return func(r rune) bool { return slices.Contains(classes, classOf(r)) }
	}
	c := t.char()
	return func(r rune) bool {
		if !fold {
			return r == c
		}
		for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
			if f == r {
				return true
			}
		}
		return r == c
	}
}

func isSpace(r rune) bool { return classOf(r) >= space }

func TestTwin(t *testing.T) {
	loadClasses()
	for _, c := range []struct{ pattern, text, want string }{
		{patternO200k, "It's HTTPServer's 12345\n\n  x", "It's| HTTPServer's| |123|45|\n\n| | x"},
		{patternO200k, "中文CD don'ſ a/\n/b", "中文|CD| don'ſ| a|/\n/|b"},
		{patternCL100k, "It's DON'T 中文CD \n ", "It|'s| DON|'T| 中文CD| \n "},
		{patternCL100k, "a \n b\u0301", "a| \n| b|\u0301"},
	} {
		if got := strings.Join(newTwin(c.pattern).split(c.text), "|"); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
