package tokens

import "math/bits"

// The encoder of one piece. The reference merges pairs by rank, which costs the square of the length. What it
// arrives at has a property that allows a linear method, which GitHub published with its Rust crate bpe ("So
// many tokens, so little time", 2024): a sequence of tokens is the encoding of its text if and only if each two
// neighbours in it are the encoding of theirs. Hence there is one such sequence, and any search that finds one
// has found the encoding.

const (
	// shortWide takes the place of shortPiece for characters of three bytes or more, which take many merges and,
	// with a wide trie, few steps of the search.
	shortWide = 12
	// reach is how many bytes of a longer piece the search holds in view. Tokens further back are settled; that
	// one of them must be taken back is not known to happen, but if so, encodeForward does the work.
	reach = 512
)

// count returns the number of tokens of a piece.
func (v *vocab) count(b []byte) int {
	if len(b) == 1 {
		return 1
	}
	_, n := v.encode(nil, b, false)
	return n
}

// encode returns the number of tokens of a piece, and appends them to dst if keep is set.
func (v *vocab) encode(dst []uint32, b []byte, keep bool) ([]uint32, int) {
	if id, ok := v.find(b); ok {
		if keep {
			dst = append(dst, id)
		}
		return dst, 1
	}
	if len(b) <= shortPiece && (b[0] < 0xe0 || len(b) <= shortWide) {
		var m merger
		m.run(v, b)
		if keep {
			for left := m.starts; left != 0; left &= left - 1 {
				dst = append(dst, m.tokens[bits.TrailingZeros64(left)])
			}
		}
		return dst, bits.OnesCount64(m.starts)
	}
	var (
		stack [reach]uint32
		dead  [reach/64 + 1]uint64
	)
	s := search{vocab: v, text: b, stack: stack[:], dead: dead[:]}
	if out, n, ok := s.run(dst, keep); ok {
		return out, n
	}
	return v.encodeForward(dst, b, keep)
}

// encodeForward does the same with an appender: slower, but without anything to take back.
func (v *vocab) encodeForward(dst []uint32, b []byte, keep bool) ([]uint32, int) {
	var a appender
	a.reset()
	if !keep {
		a.appendAll(v, b)
		return dst, a.total
	}
	last := make([]uint32, len(b)+1)
	for i, c := range b {
		a.append(v, c)
		last[i+1] = a.last()
	}
	dst = append(dst, make([]uint32, a.total)...)
	for i, at := len(dst)-1, len(b); at > 0; i-- {
		dst[i] = last[at]
		at -= v.len(last[at])
	}
	return dst, a.total
}
