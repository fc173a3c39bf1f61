package tokens

import "math/bits"

// shortPiece is the length of the pieces that are merged as the definition has it, in bytes: nearly all. The work
// is quadratic in the length, but of numbers that lie side by side.
const shortPiece = 32

// A merger is a short piece while its pairs are merged. Tokens are at the positions where they begin.
type merger struct {
	tokens [shortPiece]uint32
	// merges has, for each position, what the token there and the next one make, in the high bits, and the
	// position, in the low ones, so that the least of all is the merge that is next: of the lowest id, and the
	// leftmost of these.
	merges [shortPiece]uint32
	starts uint64 // the positions, as a set
}

// The low bits of a merge are its position.
const positionBits = 5

// noMerge is above all merges.
const noMerge = noToken << positionBits

// run merges all that can be merged in b, of which there are 2 to shortPiece bytes.
func (m *merger) run(v *vocab, b []byte) {
	last := len(b) - 1
	for i, c := range b[:last] {
		m.tokens[i] = v.trie.bytes[c]
		m.merges[i] = v.trie.roots[c][b[i+1]].token()<<positionBits | uint32(i)
	}
	m.tokens[last] = v.trie.bytes[b[last]]
	m.starts = 2<<last - 1
	for merges := m.merges[:last]; ; {
		least := uint32(noMerge)
		for _, x := range merges {
			least = min(least, x)
		}
		if least >= noMerge {
			return
		}
		at := least % shortPiece
		token := least >> positionBits
		gone := m.next(at)
		m.starts &^= 1 << gone
		m.tokens[at] = token
		m.merges[gone] = noMerge
		m.merges[at] = noMerge
		if next := m.next(at); next < shortPiece {
			id, _ := v.pairs.merge(token, m.tokens[next])
			m.merges[at] = id<<positionBits | at
		}
		if at > 0 {
			before := uint32(bits.Len64(m.starts&(1<<at-1))) - 1
			id, _ := v.pairs.merge(m.tokens[before%shortPiece], token)
			m.merges[before%shortPiece] = id<<positionBits | before
		}
	}
}

// next returns the position behind at where a token begins; 64 or more if there is none.
func (m *merger) next(at uint32) uint32 {
	return at + 1 + uint32(bits.TrailingZeros64(m.starts>>(at+1)))
}
