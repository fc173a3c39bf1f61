package tokens

import "unicode/utf8"

// Orphans are tokens which no merging makes, not even of their own bytes. Llama 3 has 588. With the option
// "ignore_merges" of a tokenizer.json a piece that is a token as a whole is that token, orphan or not; without it
// orphans are never used, and are left out.
//
// They are a trie, because a run sees its piece byte by byte. A nil *orphans has none.
type orphans struct {
	next  map[uint64]uint32 // the node behind a node (from bit 8 up) and a byte (the low 8 bits); 0 is the root
	ends  map[uint32]uint32 // the number of the orphan that ends at a node
	count uint32
}

// maxOrphanNodes bounds the nodes of the trie, each of which takes some 25 bytes of memory. Llama 3, with its 588
// orphans, cannot have more than 75,264.
const maxOrphanNodes = 1 << 20

// nowhere is what a walk has come to that left the trie.
const nowhere = 1<<32 - 1

// add appends an orphan. It returns false if there are too many.
func (o *orphans) add(b []byte) bool {
	if o.next == nil {
		o.next, o.ends = make(map[uint64]uint32), make(map[uint32]uint32)
	}
	node := uint32(0)
	for _, c := range b {
		key := uint64(node)<<8 | uint64(c)
		to, ok := o.next[key]
		if !ok {
			to = uint32(len(o.next)) + 1
			o.next[key] = to
		}
		node = to
	}
	o.ends[node] = o.count
	o.count++
	return len(o.next) <= maxOrphanNodes
}

// step returns the node behind node and the bytes of b, or nowhere.
func (o *orphans) step(node uint32, b []byte) uint32 {
	for _, c := range b {
		if node == nowhere {
			break
		}
		to, ok := o.next[uint64(node)<<8|uint64(c)]
		if !ok {
			return nowhere
		}
		node = to
	}
	return node
}

// find returns the number of the orphan that b is.
func (o *orphans) find(b []byte) (n uint32, ok bool) {
	if o == nil {
		return 0, false
	}
	n, ok = o.ends[o.step(0, b)]
	return n, ok
}

// growing is an appender that knows of orphans.
type growing struct {
	appender
	orphans *orphans
	node    uint32
}

func (g *growing) reset() {
	g.appender.reset()
	g.orphans, g.node = nil, 0
}

// appendAll adds the bytes of b.
func (g *growing) appendAll(v *vocab, b []byte) {
	g.appender.appendAll(v, b)
	if v.orphans != nil {
		g.orphans = v.orphans
		g.node = g.orphans.step(g.node, b)
	}
}

// floor is that of the appender, but the whole may yet turn out to be an orphan. The last character is not of the
// piece in some phases of a run.
func (g *growing) floor() int {
	least := g.appender.floor()
	if g.orphans != nil && g.n < maxTokenLen+utf8.UTFMax {
		return min(least, 1)
	}
	return least
}

// tokens returns the tokens of the piece so far.
func (g *growing) tokens() int {
	if g.orphans != nil {
		if _, ok := g.orphans.ends[g.node]; ok {
			return 1
		}
	}
	return g.total
}
