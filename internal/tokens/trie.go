package tokens

import (
	"errors"
	"math/bits"
)

// A trie finds the tokens which begin a text. Its edges live in one open-addressing hash table, keyed by the
// node they leave and their byte, which is quick to build and needs one memory access for a step. A node
// without edges has no number.
type trie struct {
	bytes [256]uint32     // the token of each byte
	roots *[256][256]edge // the edges to the second byte of a token, by the first byte and the second
	edges []edge          // the others, a hash table
	shift uint8
	nodes uint32 // numbers given away; 0 is "no node"

	// shorter has for each token the longest other token it begins with; noToken for single bytes.
	shorter []uint32
}

// An edge is, from the high bits down: the node it leaves (19 bits), its byte (8), the node it leads to (19; 0
// if that has no edges) and the token which ends there (18; noToken if none). The zero edge is "none".
type edge uint64

const nodeBits = 19

func (e edge) key() uint64   { return uint64(e) >> (nodeBits + idBits) }
func (e edge) node() uint32  { return uint32(e>>idBits) & (1<<nodeBits - 1) }
func (e edge) token() uint32 { return uint32(e) & noToken }

// build inserts the tokens of v, of which it must be known what they are made of.
func (t *trie) build(v *vocab) error {
	logSize := bits.Len(uint(v.size()*4 - 1))
	t.edges = make([]edge, 1<<logSize)
	t.shift = uint8(64 - logSize)
	t.roots = new([256][256]edge)
	for i := range t.roots {
		for j := range t.roots[i] {
			t.roots[i][j] = noToken
		}
	}
	t.shorter = make([]uint32, v.size())
	// The short tokens come first, so that each finds all that it begins with. Its left part is there, too, and need
	// not be walked through again.
	ends := make([]*edge, v.size())
	for _, id := range v.byLength() {
		b := v.bytes(id)
		if len(b) == 1 {
			t.bytes[b[0]] = id
			t.shorter[id] = noToken
			continue
		}
		shorter := v.pairs.parts[id].left
		e := ends[shorter]
		b = b[v.len(shorter):]
		if e == nil {
			e = &t.roots[v.bytes(id)[0]][b[0]]
			b = b[1:]
		}
		for _, c := range b {
			if e.token() != noToken {
				shorter = e.token()
			}
			node := e.node()
			if node == 0 {
				t.nodes++
				node = t.nodes
				*e |= edge(node) << idBits
			}
			key := uint64(node)<<8 | uint64(c)
			at := t.slot(key)
			if far(at, key*golden>>t.shift, len(t.edges)) {
				return errCollide
			}
			if e = &t.edges[at]; *e == 0 {
				*e = edge(key)<<(nodeBits+idBits) | noToken
			}
		}
		*e = *e&^noToken | edge(id)
		ends[id] = e
		t.shorter[id] = shorter
		if t.nodes > 1<<nodeBits-maxTokenLen || int(t.nodes) > len(t.edges)/2 {
			return errors.New("more tokens than the trie can hold")
		}
	}
	return nil
}

// slot returns where the edge with this key is, or where it belongs.
func (t *trie) slot(key uint64) uint64 {
	i := key * golden >> t.shift
	for t.edges[i] != 0 && t.edges[i].key() != key {
		i = (i + 1) & uint64(len(t.edges)-1)
	}
	return i
}

// step returns the edge for c out of node, which must not be 0.
func (t *trie) step(node uint32, c byte) edge {
	return t.edges[t.slot(uint64(node)<<8|uint64(c))]
}

// longest returns the longest token that b begins with, and its length. b must not be empty.
func (t *trie) longest(b []byte) (token uint32, n int) {
	token, n = t.bytes[b[0]], 1
	if len(b) == 1 {
		return token, n
	}
	e := t.roots[b[0]][b[1]]
	if e.token() != noToken {
		token, n = e.token(), 2
	}
	for i := 2; i < len(b) && e.node() != 0; i++ {
		e = t.step(e.node(), b[i])
		if e == 0 {
			break
		}
		if e.token() != noToken {
			token, n = e.token(), i+1
		}
	}
	return token, n
}
