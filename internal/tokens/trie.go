package tokens

import (
	"errors"
	"math/bits"
)

// A trie finds the tokens which begin a text. Its edges live in one open-addressing hash table, keyed by the
// node they leave and their byte, which is quick to build and needs one memory access for a step. A node
// without edges has no number.
type trie struct {
	edges []edge // the 256 edges of the root, by byte, then the hash table
	shift uint8
	nodes uint32 // numbers given away; 0 is "no node"
}

// An edge is, from the high bits down: the node it leaves (19 bits), its byte (8), the node it leads to (19; 0
// if that has no edges) and the token which ends there (18; noToken if none). The zero edge is "none".
type edge uint64

const nodeBits = 19

func (e edge) key() uint64   { return uint64(e) >> (nodeBits + idBits) }
func (e edge) node() uint32  { return uint32(e>>idBits) & (1<<nodeBits - 1) }
func (e edge) token() uint32 { return uint32(e) & noToken }

// build inserts the tokens of v, whose pairs must be known: that saves walking through the left part of each
// token, which was inserted before.
func (t *trie) build(v *vocab) error {
	logSize := bits.Len(uint(v.size()*4 - 1))
	t.edges = make([]edge, 256+1<<logSize)
	t.shift = uint8(64 - logSize)
	ends := make([]uint32, v.size()) // the index of each token's last edge
	for id := range uint32(v.size()) {
		b := v.bytes(id)
		at := uint32(b[0])
		b = b[1:]
		left := v.pairs.parts[id].left
		if id < 256 {
			t.edges[at] = edge(at)<<(nodeBits+idBits) | noToken
		} else if left < id { // an inverted token begins at the root
			at = ends[left]
			b = b[v.len(left)-1:]
		}
		for _, c := range b {
			e := &t.edges[at]
			node := e.node()
			if node == 0 {
				t.nodes++
				node = t.nodes
				*e |= edge(node) << idBits
			}
			key := uint64(node)<<8 | uint64(c)
			at = t.slot(key)
			if e = &t.edges[at]; *e == 0 {
				*e = edge(key)<<(nodeBits+idBits) | noToken
			}
		}
		e := &t.edges[at]
		*e = *e&^noToken | edge(id)
		ends[id] = at
		if t.nodes > 1<<nodeBits-maxTokenLen || int(t.nodes) > len(t.edges)/2 {
			return errors.New("more tokens than the trie can hold")
		}
	}
	return nil
}

// slot returns where the edge with this key is, or where it belongs.
func (t *trie) slot(key uint64) uint32 {
	table := t.edges[256:]
	i := key * golden >> t.shift
	for table[i] != 0 && table[i].key() != key {
		i = (i + 1) & uint64(len(table)-1)
	}
	return uint32(i) + 256
}

// step returns the edge for c out of node, which must not be 0.
func (t *trie) step(node uint32, c byte) edge {
	return t.edges[t.slot(uint64(node)<<8|uint64(c))]
}

// longest returns the longest token that b begins with, and its length. b must not be empty.
func (t *trie) longest(b []byte) (token uint32, n int) {
	e := t.edges[b[0]]
	token, n = e.token(), 1
	node := e.node()
	for i := 1; i < len(b) && node != 0; i++ {
		e = t.step(node, b[i])
		if e == 0 {
			break
		}
		if e.token() != noToken {
			token, n = e.token(), i+1
		}
		node = e.node()
	}
	return token, n
}

// prefixes lists the tokens which b begins with, the shortest first, and returns how many there are. b may be
// empty.
func (t *trie) prefixes(list *[maxTokenLen]uint32, b []byte) int {
	if len(b) == 0 {
		return 0
	}
	e := t.edges[b[0]]
	list[0] = e.token()
	n := 1
	node := e.node()
	for i := 1; i < len(b) && node != 0; i++ {
		e = t.step(node, b[i])
		if e == 0 {
			break
		}
		if e.token() != noToken {
			list[n%maxTokenLen] = e.token()
			n++
		}
		node = e.node()
	}
	return n
}
