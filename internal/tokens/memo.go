package tokens

import "encoding/binary"

const (
	memoBits = 8  // a memo has 2^memoBits entries, 8 KB in all
	memoMost = 24 // the length of the longest pieces it has, in bytes
	// memoWorth is the length of the shortest text that a memo is made for, in bytes: to clear it takes as long as to
	// count some ten words.
	memoWorth = 1024
)

// A memo has the pieces of more than shortToken bytes that were counted last in one text. Many have been in it before,
// and to find them here is quicker than in the tables of all tokens, and much quicker than to merge them again.
//
// It lies on the stack of who counts, so that nothing is shared. An entry is overwritten by the next piece that belongs
// there.
type memo [1 << memoBits]counted

// counted is a piece and its number of tokens. The words are its bytes: the first eight, the next eight as far as there
// are so many, and the last eight.
type counted struct {
	words  [3]uint64
	size   uint32 // of the piece, in bytes; 0 for no piece
	tokens uint32
}

// count returns the number of tokens of a piece, which is valid UTF-8, and remembers it.
func (m *memo) count(v *vocab, b []byte) int {
	n := len(b)
	if n <= shortToken || n > memoMost {
		return v.count(b)
	}
	words := [...]uint64{
		binary.LittleEndian.Uint64(b),
		binary.LittleEndian.Uint64(b[min(8, n-8):]),
		binary.LittleEndian.Uint64(b[n-8:]),
	}
	h := hash(b)
	e := &m[h>>(64-memoBits)]
	if e.size == uint32(n) && e.words == words {
		return int(e.tokens)
	}
	tokens := 1
	if _, ok := v.findHashed(b, h); !ok {
		_, tokens = v.encodeParts(nil, b, false)
	}
	*e = counted{words: words, size: uint32(n), tokens: uint32(tokens)}
	return tokens
}
