package tokens

import "unicode/utf8"

// seeds are what the merging of a short piece starts with: characters rather than bytes, wherever that comes to the
// same.
//
// By definition merging starts with bytes. A character which is a token may be taken for granted if
//
//   - the merges which put it together have no higher rank than its own,
//   - no merge of a lower rank takes a part of it across the border to the character before or behind it, and
//   - no merge of a lower rank takes the character itself.
//
// Then, until it is put together, it is its own merges or others of lower rank that come first, and these are the
// same with it and with its bytes. The first and the last are so in all but inverted merges. For the second, the
// merges that do such a thing are known beforehand, and between which bytes they do it.
type seeds struct {
	bytes [256]uint32       // the token of each byte
	pairs *[256][256]uint32 // the token that two bytes make; noToken if none
	// chars has, by code point below U+10000, the token of a character of two or three bytes; noToken if there is none.
	chars *[1 << 16]uint32
	// borders has, for the last byte of one character and the first byte of the next, the lowest rank of a merge
	// which takes a part of a character across the border between them; noToken if there is none.
	borders *[256][256]uint32
}

func (s *seeds) build(v *vocab) {
	s.pairs = new([256][256]uint32)
	s.chars = new([1 << 16]uint32)
	s.borders = new([256][256]uint32)
	for i := range s.borders {
		for j := range s.borders[i] {
			s.chars[i<<8|j], s.pairs[i][j], s.borders[i][j] = noToken, noToken, noToken
		}
	}
	for id := range uint32(256) {
		s.bytes[v.bytes(id)[0]] = id
	}
	for id := uint32(256); id < uint32(v.size()); id++ {
		b := v.bytes(id)
		if len(b) == 2 {
			s.pairs[b[0]][b[1]] = id
		}
		if r, ok := onlyChar(b); ok && (v.pairs.inverted == nil || !v.pairs.inverted[id]) {
			s.chars[r] = id
		}
		cut := v.len(v.pairs.parts[id].left)
		if !utf8.RuneStart(b[cut]) {
			continue // a merge within a character
		}
		if !utf8.RuneStart(b[0]) || endsOpen(b[cut:]) {
			lowest := &s.borders[b[cut-1]][b[cut]]
			*lowest = min(*lowest, id)
		}
	}
	if v.pairs.inverted == nil {
		return
	}
	for id, p := range v.pairs.parts {
		for _, part := range [...]uint32{p.left, p.right} {
			if r, ok := onlyChar(v.bytes(part)); ok && part > uint32(id) {
				s.chars[r] = noToken
			}
		}
	}
}

// onlyChar returns the character that b is, if it is one of two or three bytes.
func onlyChar(b []byte) (char rune, ok bool) {
	if len(b) != 2 && len(b) != 3 {
		return 0, false
	}
	char, n := utf8.DecodeRune(b)
	return char, n == len(b)
}

// endsOpen reports whether b ends within a character.
func endsOpen(b []byte) bool {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return !utf8.FullRune(b[i:])
		}
	}
	return false
}

// char returns the length of the character at b[i], which is not ASCII, and its token if it may be taken for
// granted, else noToken. b is valid UTF-8.
func (s *seeds) char(b []byte, i int) (token uint32, n int) {
	c := b[i]
	switch {
	case c < 0xe0:
		n = 2
		token = s.chars[uint16(c&0x1f)<<6|uint16(b[i+1]&0x3f)]
	case c < 0xf0:
		n = 3
		token = s.chars[uint16(c)<<12|uint16(b[i+1]&0x3f)<<6|uint16(b[i+2]&0x3f)]
	default:
		return noToken, 4
	}
	if i > 0 && s.borders[b[i-1]][c] < token || i+n < len(b) && s.borders[b[i+n-1]][b[i+n]] < token {
		return noToken, n
	}
	return token, n
}

// token returns the token of a character by itself; noToken if it is none, or one that seeds do not have.
func (s *seeds) token(char []byte) uint32 {
	if len(char) == 1 {
		return s.bytes[char[0]]
	}
	if r, ok := onlyChar(char); ok {
		return s.chars[r]
	}
	return noToken
}
