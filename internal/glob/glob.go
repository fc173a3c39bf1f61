// Package glob matches texts against patterns in which * stands for any characters,
// also none and also slashes. Every other character stands for itself; there is no
// escape for *.
package glob

import "strings"

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
