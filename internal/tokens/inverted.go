package tokens

import "sync/atomic"

// A merge is inverted if its rank is lower than that of a merge which makes one of its parts. A trained vocabulary
// has none, but Llama 3 has 81: its list of merges was worked out from the tokens. Such a merge comes at once after
// the part is there, and not when its rank says, so that ranks do not tell what was merged first in its token or in
// a token which is made of that.

// findInverted fills inverted. A token that is no inverted merge itself is made of tokens before it, so one pass in
// the order of ranks is enough.
func (p *pairs) findInverted() {
	p.inverted = nil
	for id := uint32(256); id < uint32(len(p.parts)); id++ {
		l, r := p.parts[id].left, p.parts[id].right
		if l < id && r < id && (p.inverted == nil || !p.inverted[l] && !p.inverted[r]) {
			continue
		}
		if p.inverted == nil {
			p.inverted = make([]bool, len(p.parts))
			p.answers = make([]atomic.Uint64, 1<<answerBits)
		}
		p.inverted[id] = true
	}
}

// stableInverted is stable for a pair with a token that is marked. Merging takes microseconds, and in a run of one
// letter an appender may ask about a hundred pairs a byte, so answers are kept: most texts ask about the same pairs
// again and again. An entry is one word, so that it need no lock.
func (p *pairs) stableInverted(l, r uint32) bool {
	key := pairKey(l, r) // not zero, since single bytes are not marked
	entry := &p.answers[key*golden>>(64-answerBits)&uint64(len(p.answers)-1)]
	if e := entry.Load(); e>>1 == key {
		return e&1 != 0
	}
	if !p.stableByMerging(l, r) {
		entry.Store(key << 1)
		return false
	}
	entry.Store(key<<1 | 1)
	return true
}

// stableByMerging is stable for any two tokens, by the definition: it merges the bytes of both until a merge reaches
// across the border or none is left. Its work is bounded by the square of twice maxTokenLen.
func (p *pairs) stableByMerging(l, r uint32) bool {
	var (
		parts  [2 * maxTokenLen]uint32
		merges [2 * maxTokenLen]uint32 // merges[i] is what parts[i] and parts[i+1] make, or noToken
	)
	border := p.spell(parts[:0], l)
	n := border + p.spell(parts[border:border], r)
	at := func(i int) uint32 {
		if i+1 < n {
			if id, ok := p.merge(parts[i], parts[i+1]); ok {
				return id
			}
		}
		return noToken
	}
	for i := range n {
		merges[i] = at(i)
	}
	for {
		best := 0
		for i := range n {
			if merges[i] < merges[best] {
				best = i
			}
		}
		switch {
		case merges[best] == noToken:
			return n == 2
		case best == border-1:
			return false
		case best < border:
			border--
		}
		parts[best] = merges[best]
		copy(parts[best+1:], parts[best+2:n])
		copy(merges[best+1:], merges[best+2:n])
		n--
		for i := max(best-1, 0); i <= best; i++ {
			merges[i] = at(i)
		}
	}
}

// spell writes the single bytes of a token behind dst, which must have room, and returns how many there are.
func (p *pairs) spell(dst []uint32, id uint32) int {
	if id < 256 {
		_ = append(dst, id)
		return 1
	}
	n := p.spell(dst, p.parts[id].left)
	return n + p.spell(dst[n:n], p.parts[id].right)
}
