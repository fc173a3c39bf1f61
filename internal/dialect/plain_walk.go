package dialect

import (
	"encoding/binary"
	"math/bits"
)

// The functions of this file walk over JSON that nobody has checked, as the decoder of answers
// does: with any bytes in strings, and names more than once. Each takes the place where what it
// reads begins and returns the one behind it, or a negative one if that is no JSON or not
// plain; then the decoder must look. From a negative place on nothing is read.

// peek is the byte at i; 0, which begins and ends nothing, where there is none.
func peek(b []byte, i int) byte {
	if uint(i) < uint(len(b)) {
		return b[i]
	}
	return 0
}

// pastSpace returns where the white space at i ends.
func pastSpace(b []byte, i int) int {
	for i >= 0 && i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// plainOpen reads the opening brace of an object. more says whether a member follows; if not,
// the place is behind the object.
func plainOpen(b []byte, i int) (at int, more bool) {
	if peek(b, i) != '{' {
		return -1, false
	}
	if i = pastSpace(b, i+1); peek(b, i) == '}' {
		return i + 1, false
	}
	return i, true
}

// plainName reads a member's name and the colon, up to its value.
func plainName(b []byte, i int) (name []byte, at int) {
	if peek(b, i) != '"' {
		return nil, -1
	}
	end := plainRun(b, i+1)
	if peek(b, end) != '"' {
		return nil, -1
	}
	name = b[i+1 : end]
	if i = pastSpace(b, end+1); peek(b, i) != ':' {
		return nil, -1
	}
	return name, pastSpace(b, i+1)
}

// plainNext reads what follows a member's value: a comma, up to the next name, or the brace
// that closes the object.
func plainNext(b []byte, i int) (at int, more bool) {
	i = pastSpace(b, i)
	switch peek(b, i) {
	case ',':
		return pastSpace(b, i+1), true
	case '}':
		return i + 1, false
	}
	return -1, false
}

// plainOneElement reads the bracket that closes an array behind its only element.
func plainOneElement(b []byte, i int) int {
	if i = pastSpace(b, i); peek(b, i) != ']' {
		return -1
	}
	return i + 1
}

// plainValue reads any value, not deeper than depth.
func plainValue(b []byte, i, depth int) int {
	switch c := peek(b, i); c {
	case '"':
		return plainString(b, i)
	case 'n':
		return plainNull(b, i)
	case '{':
		if depth == 0 {
			return -1
		}
		i, more := plainOpen(b, i)
		for more {
			_, i = plainName(b, i)
			i, more = plainNext(b, plainValue(b, i, depth-1))
		}
		return i
	case '[':
		if depth == 0 {
			return -1
		}
		if i = pastSpace(b, i+1); peek(b, i) == ']' {
			return i + 1
		}
		for {
			i = pastSpace(b, plainValue(b, i, depth-1))
			switch peek(b, i) {
			case ',':
				i = pastSpace(b, i+1)
			case ']':
				return i + 1
			default:
				return -1
			}
		}
	case 't':
		return plainLiteral(b, i, "true")
	case 'f':
		return plainLiteral(b, i, "false")
	default:
		return plainNumber(b, i)
	}
}

func plainNull(b []byte, i int) int { return plainLiteral(b, i, "null") }

func plainLiteral(b []byte, i int, s string) int {
	if i < 0 || len(b)-i < len(s) || string(b[i:i+len(s)]) != s {
		return -1
	}
	return i + len(s)
}

// plainNumber reads a number as RFC 8259 has it.
func plainNumber(b []byte, i int) int {
	if i < 0 {
		return -1
	}
	v := plain{b: b, i: i}
	if !v.number() {
		return -1
	}
	return v.i
}

// plainIndex reads an integer below 1000.
func plainIndex(b []byte, i int) (n int64, at int) {
	start := i
	for c := peek(b, i); '0' <= c && c <= '9'; c = peek(b, i) {
		n = n*10 + int64(c-'0')
		if i++; i-start > 3 {
			return 0, -1
		}
	}
	if i == start || b[start] == '0' && i > start+1 {
		return 0, -1
	}
	return n, i
}

// plainString reads a string whose opening quote is at i. Escapes of surrogates need not come
// in pairs.
func plainString(b []byte, i int) int {
	for i = plainRun(b, i+1); peek(b, i) == '\\'; i = plainRun(b, i) {
		switch peek(b, i+1) {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			const length = len(`\uXXXX`)
			if len(b)-i < length {
				return -1
			}
			for _, c := range b[i+2 : i+length] {
				if (c < '0' || '9' < c) && (c|0x20 < 'a' || 'f' < c|0x20) {
					return -1
				}
			}
			i += length
		default:
			return -1
		}
	}
	if peek(b, i) != '"' {
		return -1
	}
	return i + 1
}

// plainRun returns where a quote, a backslash, a control character, or the end comes first from
// i on.
func plainRun(b []byte, i int) int {
	for i+wordBytes <= len(b) {
		// As in plain.text, but for bytes that are no ASCII, which need no look here.
		w := binary.LittleEndian.Uint64(b[i:])
		look := ((w - spaces) | ((w ^ quotes) - ones) | ((w ^ slashes) - ones)) &^ w & highest
		if look != 0 {
			return i + bits.TrailingZeros64(look)/8
		}
		i += wordBytes
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}
