package tokens

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// pairs knows the merges: which two tokens make which third one. A token has exactly one pair it is made of,
// because merging by rank is deterministic, and a pair of neighbours which merging arrives at is always that
// pair. So one entry for each token is enough, where there may be many ways to cut its bytes in two tokens.
type pairs struct {
	parts []pair // of a token; a single byte has itself twice
	slots []uint64
	shift uint8

	// maybe has a bit for each value of the hash's high bits, set if there is a pair with these. Most pairs
	// that are asked for do not exist, and this says so from the processor's near cache, where slots do not fit.
	maybe *[1 << maybeBits / 64]uint64

	// inverted marks the tokens in whose making a merge comes after one of higher rank; nil if there are none.
	inverted []bool
	// answers are those of stableInverted, for pairs with such tokens: l and r as in pairKey, and in the lowest bit
	// whether they are stable. An entry is overwritten by the next pair that belongs there.
	answers []atomic.Uint64
}

// answerBits makes 2^answerBits answers, 512 KB.
const answerBits = 16

const maybeBits = 21

type pair struct{ left, right uint32 }

func pairKey(l, r uint32) uint64 { return uint64(l)<<idBits | uint64(r) }

// build fills the tables from parts.
func (p *pairs) build() error {
	logSize := bits.Len(uint(len(p.parts)*2 - 1))
	p.slots = make([]uint64, 1<<logSize)
	p.shift = uint8(64 - logSize)
	p.maybe = new([1 << maybeBits / 64]uint64)
	for id := uint32(256); id < uint32(len(p.parts)); id++ {
		key := pairKey(p.parts[id].left, p.parts[id].right)
		h := key * golden
		p.maybe[h>>(64-maybeBits)/64] |= 1 << (h >> (64 - maybeBits) % 64)
		i := h >> p.shift
		for p.slots[i] != 0 {
			i = (i + 1) & uint64(len(p.slots)-1)
		}
		if far(i, h>>p.shift, len(p.slots)) {
			return errCollide
		}
		p.slots[i] = key<<idBits | uint64(id)
	}
	p.findInverted()
	return nil
}

// merge returns the token that l and r make, if they make one.
func (p *pairs) merge(l, r uint32) (id uint32, ok bool) {
	key := pairKey(l, r)
	h := key * golden
	if p.maybe[h>>(64-maybeBits)/64]>>(h>>(64-maybeBits)%64)&1 == 0 {
		return noToken, false
	}
	return p.lookUp(key)
}

// get is merge, with noToken for a pair that makes none.
func (p *pairs) get(l, r uint32) uint32 {
	id, _ := p.merge(l, r)
	return id
}

// lookUp is merge without the filter.
func (p *pairs) lookUp(key uint64) (id uint32, ok bool) {
	for i := key * golden >> p.shift; ; i = (i + 1) & uint64(len(p.slots)-1) {
		e := p.slots[i]
		if e == 0 {
			return noToken, false
		}
		if e>>idBits == key {
			return uint32(e) & noToken, true
		}
	}
}

// stable reports whether l and r stay as they are when the text they stand for is encoded: that is, whether no
// merge ever reaches across the border between them.
//
// It undoes the merges beside the border, the last one first: the later of two merges is the one of higher
// rank, and of two equal ones the right one. What touches the border then would have been merged across it if
// its rank is lower than that of the merge just undone, or the same and further left.
func (p *pairs) stable(l, r uint32) bool {
	if p.inverted != nil && (p.inverted[l] || p.inverted[r]) {
		return p.stableInverted(l, r)
	}
	limit := uint32(math.MaxUint32)
	for {
		if id, ok := p.merge(l, r); ok && id < limit {
			return false
		}
		if l > r {
			if l < 256 {
				return true
			}
			limit = l
			l = p.parts[l].right
		} else {
			if r < 256 {
				return true
			}
			limit = r + 1
			r = p.parts[r].left
		}
	}
}
