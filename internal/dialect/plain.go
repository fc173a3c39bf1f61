package dialect

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Bounds of what plainlyValid takes for plain.
const (
	plainDepth   = 32  // values within each other
	plainMembers = 32  // of an object, each of which is compared with those before it
	plainNames   = 128 // of all objects that a value is in
)

// plainlyValid says that body surely is one JSON value (RFC 8259) in valid UTF-8, without
// duplicate names. If it is false, that is not known: the decoder must look. It may also
// be false for what is rare: escapes in names, surrogates, objects with very many
// members, and deep nesting. It takes a third of the decoder's time in some texts, and
// about as long in those where every few bytes another kind begins (BenchmarkValidate).
func plainlyValid(body []byte) bool {
	v := plain{b: body}
	v.space()
	if !v.value(0) {
		return false
	}
	v.space()
	return v.i == len(body)
}

// plain reads JSON at i. Its methods return false for what is not plain, and leave i
// behind what they have read otherwise.
type plain struct {
	b     []byte
	i     int
	names [plainNames]span // of the members so far of the objects that i is in
	n     int              // how many there are
}

// peek is the next byte; 0, which begins and ends nothing, after the last.
func (v *plain) peek() byte {
	if v.i < len(v.b) {
		return v.b[v.i]
	}
	return 0
}

// take takes the next byte if it is c.
func (v *plain) take(c byte) bool {
	if v.peek() != c {
		return false
	}
	v.i++
	return true
}

func (v *plain) space() {
	for {
		switch v.peek() {
		case ' ', '\t', '\n', '\r':
			v.i++
		default:
			return
		}
	}
}

func (v *plain) value(depth int) bool {
	if depth == plainDepth {
		return false
	}
	switch v.peek() {
	case '"':
		_, ok := v.text()
		return ok
	case '{':
		return v.object(depth)
	case '[':
		return v.array(depth)
	case 't':
		return v.literal("true")
	case 'f':
		return v.literal("false")
	case 'n':
		return v.literal("null")
	}
	return v.number()
}

func (v *plain) literal(s string) bool {
	if !bytes.HasPrefix(v.b[v.i:], []byte(s)) {
		return false
	}
	v.i += len(s)
	return true
}

func (v *plain) array(depth int) bool {
	v.i++
	if v.space(); v.take(']') {
		return true
	}
	for {
		if v.space(); !v.value(depth + 1) {
			return false
		}
		if v.space(); v.take(']') {
			return true
		}
		if !v.take(',') {
			return false
		}
	}
}

func (v *plain) object(depth int) bool {
	first := v.n
	v.i++
	if v.space(); v.take('}') {
		return true
	}
	for {
		if v.space(); !v.name(first) {
			return false
		}
		if v.space(); !v.take(':') {
			return false
		}
		if v.space(); !v.value(depth + 1) {
			return false
		}
		if v.space(); v.take('}') {
			v.n = first
			return true
		}
		if !v.take(',') {
			return false
		}
	}
}

// name reads a name that none of the object's other ones is equal to; they are in names
// from first on.
func (v *plain) name(first int) bool {
	start := v.i
	if v.peek() != '"' || v.n == plainNames || v.n-first == plainMembers {
		return false
	}
	escaped, ok := v.text()
	if !ok || escaped {
		return false
	}
	name := span{start, v.i}
	for _, other := range v.names[first:v.n] {
		if bytes.Equal(other.of(v.b), name.of(v.b)) {
			return false
		}
	}
	v.names[v.n] = name
	v.n++
	return true
}

// Eight equal bytes.
const (
	ones      = 0x0101010101010101
	spaces    = ' ' * ones
	quotes    = '"' * ones
	slashes   = '\\' * ones
	highest   = 0x80 * ones
	wordBytes = 8
)

// text reads a string whose opening quote comes next.
func (v *plain) text() (escaped, ok bool) {
	b, i := v.b, v.i+1
	for {
		// Over what needs no look. The lowest of the bits is that of the first byte which
		// does: a control character, a quote, a backslash, or no ASCII. The subtractions
		// borrow from bytes behind that one only.
		for i+wordBytes <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			look := ((w - spaces) | ((w ^ quotes) - ones) | ((w ^ slashes) - ones) | w) & highest
			if look != 0 {
				i += bits.TrailingZeros64(look) / 8
				break
			}
			i += wordBytes
		}
		if i >= len(b) {
			return false, false
		}
		switch c := b[i]; {
		case c == '"':
			v.i = i + 1
			return escaped, true
		case c == '\\':
			n := escapeLength(b[i:])
			if n == 0 {
				return false, false
			}
			escaped = true
			i += n
		case c < ' ':
			return false, false
		case c < utf8.RuneSelf:
			i++ // one of the last few bytes
		default:
			if i = pastRunes(b, i); i < 0 {
				return false, false
			}
		}
	}
}

// pastRunes is where the characters end that are no ASCII, of which b[i] begins the first;
// negative if there is one that is no valid UTF-8. In most languages many follow each other.
func pastRunes(b []byte, i int) int {
	for i < len(b) && b[i] >= utf8.RuneSelf {
		c := b[i]
		switch rest := b[i+1:]; {
		case 0xC2 <= c && c <= 0xDF && len(rest) >= 1 && rest[0]>>6 == 2:
			i += 2
		case 0xE1 <= c && c <= 0xEF && c != 0xED && len(rest) >= 2 && rest[0]>>6 == 2 && rest[1]>>6 == 2:
			i += 3
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return -1
			}
			i += n
		}
	}
	return i
}

// escapeLength is the length of the escape that b begins with; 0 if it is none, or one
// of a surrogate, which may be half a character.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		return 0
	}
	const length = len(`\uXXXX`)
	if len(b) < length {
		return 0
	}
	var r rune
	for _, c := range b[2:length] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0
		}
	}
	if 0xD800 <= r && r <= 0xDFFF {
		return 0
	}
	return length
}

func (v *plain) number() bool {
	v.take('-')
	if !v.take('0') && !v.digits() {
		return false
	}
	if v.take('.') && !v.digits() {
		return false
	}
	if c := v.peek(); c != 'e' && c != 'E' {
		return true
	}
	v.i++
	if !v.take('+') {
		v.take('-')
	}
	return v.digits()
}

// digits reads at least one digit. A number that begins with 0 has been told apart.
func (v *plain) digits() bool {
	start := v.i
	for c := v.peek(); '0' <= c && c <= '9'; c = v.peek() {
		v.i++
	}
	return v.i > start
}
