package tokens

import "unicode/utf8"

// Text that is not UTF-8 counts as the text that Python's bytes.decode(errors="replace") makes of it: each
// maximal subpart of an ill-formed sequence becomes one U+FFFD (The Unicode Standard, section 3.9, "U+FFFD
// Substitution of Maximal Subparts"; the WHATWG decoder does the same). Go's own conversions replace each byte
// instead.

const replacement = string(utf8.RuneError)

// replaceInvalid returns a copy of text as valid UTF-8.
func replaceInvalid(text []byte) []byte {
	out := make([]byte, 0, len(text)+len(text)/8+8)
	for len(text) > 0 {
		n := validPrefix(text)
		out = append(out, text[:n]...)
		if text = text[n:]; len(text) > 0 {
			n, _ := subpart(text)
			out = append(out, replacement...)
			text = text[n:]
		}
	}
	return out
}

// validPrefix returns the length of the longest prefix of b that is valid UTF-8.
func validPrefix(b []byte) int {
	if utf8.Valid(b) {
		return len(b)
	}
	for i := 0; ; {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
}

// subpart returns the length of the maximal subpart at the beginning of b, where there is no valid character,
// and whether it ends with b, so that more bytes could complete it.
func subpart(b []byte) (n int, open bool) {
	lo, hi := byte(0x80), byte(0xbf) // of the second byte (table 3-7 of the standard)
	var need int
	switch c := b[0]; {
	case 0xc2 <= c && c <= 0xdf:
		need = 2
	case 0xe0 <= c && c <= 0xef:
		need = 3
		switch c {
		case 0xe0:
			lo = 0xa0
		case 0xed:
			hi = 0x9f
		}
	case 0xf0 <= c && c <= 0xf4:
		need = 4
		switch c {
		case 0xf0:
			lo = 0x90
		case 0xf4:
			hi = 0x8f
		}
	default:
		return 1, false
	}
	for n = 1; n < need; n++ {
		if n == len(b) {
			return n, true
		}
		if b[n] < lo || hi < b[n] {
			return n, false
		}
		lo, hi = 0x80, 0xbf
	}
	return n, false
}
