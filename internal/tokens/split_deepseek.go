package tokens

import (
	"encoding/base64"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// splitDeepSeek splits for DeepSeek V3. Three patterns cut a text one after another. The first two cut out
//
//	\p{N}{1,3}
//	[一-龥぀-ゟ゠-ヿ]+
//
// and the third cuts each of the rest and of what the second one has cut out, its alternatives on lines of their own:
//
//	[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+
//	[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
//	 ?[\p{P}\p{S}]+[\r\n]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
//
// So where a number or the other kind of text begins, the third pattern sees the end of a text: that is textEnd
// here. No alternative takes a gap: a control, a private or an unassigned code point. A run of them is a piece, but
// the last one joins a letter behind it.
func splitDeepSeek(s *style, b []byte, i int) (end int, final bool) {
	k, w := s.classAt(b, i)
	p := i + w
	if k == number {
		return numberEnd(b, p, s.digits)
	}
	cjk := isCJK(b[i:])
	next, _ := s.inside(b, p, cjk)
	switch k {
	case lower:
		return lettersDeepSeek(s, b, p, cjk)
	case punct:
		if p < len(b) && w == 1 && isASCIILetter(b[p]) {
			for p < len(b) && isASCIILetter(b[p]) {
				p++
			}
			return p, p < len(b)
		}
		return punctDeepSeek(s, b, p, cjk)
	case gap, space:
		if next == lower {
			return lettersDeepSeek(s, b, p, cjk)
		}
		if next == punct && b[i] == ' ' {
			return punctDeepSeek(s, b, p, cjk)
		}
	}
	if k == gap {
		last := i
		for next == gap {
			last = p
			_, w := s.inside(b, p, cjk)
			p += w
			next, _ = s.inside(b, p, cjk)
		}
		if next == lower {
			return last, true // and not i, because the letter would have been taken above
		}
		return p, p < len(b)
	}
	end, afterNewline, last := spaceRun(b, i)
	next, _ = s.inside(b, end, cjk)
	switch {
	case next != textEnd:
		return spaceEnd(i, end, afterNewline, last), true
	case afterNewline > i:
		return afterNewline, end < len(b)
	}
	return end, end < len(b)
}

// inside is classAt for b[p], but textEnd at the end of what the third pattern sees at once.
func (s *style) inside(b []byte, p int, cjk bool) (class, int) {
	if p == len(b) {
		return textEnd, 0
	}
	k, w := s.classAt(b, p)
	if k == number || isCJK(b[p:]) != cjk {
		return textEnd, 0
	}
	return k, w
}

// lettersDeepSeek is the end of [\p{L}\p{M}]* at b[p].
func lettersDeepSeek(s *style, b []byte, p int, cjk bool) (end int, final bool) {
	for {
		k, w := s.inside(b, p, cjk)
		if k != lower {
			return p, p < len(b)
		}
		p += w
	}
}

// punctDeepSeek is the end of [\p{P}\p{S}]*[\r\n]* at b[p].
func punctDeepSeek(s *style, b []byte, p int, cjk bool) (end int, final bool) {
	for {
		k, w := s.inside(b, p, cjk)
		if k != punct {
			break
		}
		p += w
	}
	for !cjk && p < len(b) && (b[p] == '\n' || b[p] == '\r') {
		p++
	}
	return p, p < len(b)
}

func isASCIILetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isCJK reports whether b begins with one of [一-龥぀-ゟ゠-ヿ], U+4E00 to U+9FA5 and U+3040 to U+30FF.
func isCJK(b []byte) bool {
	if b[0] < 0xe3 || b[0] > 0xe9 {
		return false
	}
	r := rune(b[0]&0x0f)<<12 | rune(b[1]&0x3f)<<6 | rune(b[2]&0x3f)
	return 0x4e00 <= r && r <= 0x9fa5 || 0x3040 <= r && r <= 0x30ff
}

// isGap reports whether char, of class punct, is neither punctuation nor a symbol. loadGaps must have run.
func isGap(char []byte) bool {
	if c := char[0]; c < utf8.RuneSelf {
		return c < ' ' || c == 0x7f
	}
	r, _ := utf8.DecodeRune(char)
	return signs[r/64]>>(r%64)&1 == 0
}

// signs are the code points of \p{P} and \p{S}: a bit each.
var signs [(utf8.MaxRune + 1) / 64]uint64

// loadGaps fills signs from signRuns.
var loadGaps = sync.OnceFunc(func() {
	runs, err := base64.StdEncoding.DecodeString(signRuns)
	if err != nil {
		panic("tokens: unicode_tables.go is damaged: " + err.Error())
	}
	at, sign := uint64(0), false
	for ; len(runs) > 0; sign = !sign {
		length, n := binary.Uvarint(runs)
		runs = runs[n:]
		for c := at; sign && c < at+length; c++ {
			signs[c/64] |= 1 << (c % 64)
		}
		at += length
	}
})
