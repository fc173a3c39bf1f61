package tokens

import (
	"math/bits"
	"unicode/utf8"
)

// mergeMost is the most seeds of a piece which is encoded by merging. The work is quadratic in their number, but of
// numbers that lie side by side.
const mergeMost = 64

// The low bits of a merge are its position.
const positionBits = 6

// noMerge is above all merges.
const noMerge = noToken << positionBits

// A merger is a short piece while its pairs are merged. Tokens are at the positions where they begin, counted in
// seeds.
type merger struct {
	tokens [mergeMost]uint32
	// merges has, for each position, what the token there and the next one make, in the high bits, and the
	// position, in the low ones, so that the least of all is the merge that is next: of the lowest id, and the
	// leftmost of these.
	merges [mergeMost]uint32
	starts uint64 // the positions, as a set
}

// merge returns the number of tokens of a piece of two bytes or more, which is valid UTF-8, and appends them to dst if
// keep is set. ok is false for a piece of more than mergeMost seeds.
func (v *vocab) merge(dst []uint32, b []byte, keep bool) (out []uint32, n int, ok bool) {
	var m merger
	if n = m.seed(v, b); n == 0 {
		return dst, 0, false
	}
	m.run(v, n)
	if keep {
		for left := m.starts; left != 0; left &= left - 1 {
			dst = append(dst, m.tokens[bits.TrailingZeros64(left)])
		}
	}
	return dst, bits.OnesCount64(m.starts), true
}

// seed fills tokens and merges with what merging starts with, and returns of how many seeds; 0 if there are too many.
func (m *merger) seed(v *vocab, b []byte) int {
	n := 0
	for n < len(b) && b[n] < utf8.RuneSelf {
		if n == mergeMost {
			return 0
		}
		m.tokens[n] = v.seeds.bytes[b[n]]
		n++
	}
	for i := 1; i < n; i++ {
		m.merges[i-1] = v.seeds.pairs[b[i-1]][b[i]]<<positionBits | uint32(i-1)
	}
	ascii := n
	for i := n; i < len(b); n++ {
		if n == mergeMost {
			return 0
		}
		token, size := v.seeds.bytes[b[i]], 1
		if b[i] >= 0xc0 { // where a character begins; behind one that is not taken for granted, its other bytes follow
			if char, width := v.seeds.char(b, i); char != noToken {
				token, size = char, width
			}
		}
		m.tokens[n] = token
		i += size
	}
	for i := max(ascii, 1); i < n; i++ {
		m.merges[i-1] = v.pairs.get(m.tokens[i-1], m.tokens[i])<<positionBits | uint32(i-1)
	}
	return n
}

// run merges all that can be merged of n seeds.
func (m *merger) run(v *vocab, n int) {
	m.starts = 1<<n - 1
	for merges := m.merges[:n-1]; ; {
		least := uint32(noMerge)
		for _, x := range merges {
			least = min(least, x)
		}
		if least >= noMerge {
			return
		}
		at := least % mergeMost
		token := least >> positionBits
		gone := m.next(at)
		m.starts &^= 1 << gone
		m.tokens[at] = token
		m.merges[gone%mergeMost] = noMerge
		m.merges[at] = noMerge
		if next := m.next(at); next < mergeMost {
			m.merges[at] = v.pairs.get(token, m.tokens[next])<<positionBits | at
		}
		if at > 0 {
			before := uint32(bits.Len64(m.starts&(1<<at-1))-1) % mergeMost
			m.merges[before] = v.pairs.get(m.tokens[before], token)<<positionBits | before
		}
	}
}

// next returns the position behind at where a token begins; 64 or more if there is none.
func (m *merger) next(at uint32) uint32 {
	return at + 1 + uint32(bits.TrailingZeros64(m.starts>>(at+1)))
}
