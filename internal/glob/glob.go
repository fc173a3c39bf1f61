// Package glob matches texts against patterns in which * stands for any characters,
// also none and also slashes. Every other character stands for itself; there is no
// escape for *.
package glob

import "strings"

// Pattern is a pattern made ready to be matched again and again, without an
// allocation. The zero value matches the empty text only.
type Pattern struct {
	text string // of exact and prefix, without the *
	kind kind
}

type kind uint8

const (
	exact  kind = iota // no * at all
	prefix             // one, at the end
	free               // any other
)

// Compile makes a pattern ready. Every text is a pattern.
func Compile(pattern string) Pattern {
	switch star := strings.IndexByte(pattern, '*'); star {
	case -1:
		return Pattern{pattern, exact}
	case len(pattern) - 1:
		return Pattern{pattern[:star], prefix}
	}
	return Pattern{pattern, free}
}

// Match reports what the function Match does.
func (p Pattern) Match(s string) bool {
	switch p.kind {
	case exact:
		return s == p.text
	case prefix:
		return strings.HasPrefix(s, p.text)
	}
	return Match(p.text, s)
}

// Match reports whether pattern, in which * stands for any text, matches all of s.
// It takes time proportional to len(pattern) × len(s) at most.
func Match(pattern, s string) bool {
	star, retry := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			retry++
			p, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
