package tokens

import "math/bits"

// A wide trie does what trie.longest does, in steps of characters of three bytes, which most of Chinese, Japanese
// and Korean is. A step by bytes is a cache miss each; this needs a third of them, in much smaller tables.
//
// It knows the tokens of such characters alone, and answers where no others begin with the first one.
type wide struct {
	// first is, for each character, its token, and wideMore if it begins longer tokens; or notWide.
	first *[1 << 16]uint32
	// edges lead on, a hash table. The node that an edge leads to is 1<<16 and the edge's place in the table;
	// the nodes below 1<<16 are the first characters.
	edges []wideEdge
	shift uint8
}

const (
	wideMore = 1 << idBits
	notWide  = 1<<32 - 1
)

// A wideEdge is, from the high bits down: the node it leaves and its character, wideMore if there are edges behind
// it, and the token which ends there (noToken if none). The zero edge is "none".
type wideEdge uint64

const wideKeyShift = idBits + 1

// wideChar returns the code point of the character of three bytes that b begins with.
func wideChar(b []byte) (char uint16, ok bool) {
	if len(b) < 3 || b[0]&0xf0 != 0xe0 || b[1]&0xc0 != 0x80 || b[2]&0xc0 != 0x80 {
		return 0, false
	}
	return uint16(b[0])<<12 | uint16(b[1]&0x3f)<<6 | uint16(b[2]&0x3f), true
}

// build inserts the tokens of v, which byLength lists by their lengths.
func (w *wide) build(v *vocab, byLength []uint32) {
	w.first = new([1 << 16]uint32)
	for i := range w.first {
		w.first[i] = notWide
	}
	// A character that begins other tokens, too, or is none itself, is left to the trie.
	var mixed [1 << 16]bool
	edges := 0
	for _, id := range byLength {
		b := v.bytes(id)
		first, ok := wideChar(b)
		if !ok {
			continue
		}
		edges += len(b)/3 - 1
		switch {
		case len(b) == 3:
			w.first[first] = id
		case w.first[first] == notWide || !allWide(b):
			mixed[first] = true
		}
	}
	logSize := bits.Len(uint(edges * 2))
	w.edges = make([]wideEdge, 1<<logSize)
	w.shift = uint8(64 - logSize)
	for _, id := range byLength {
		b := v.bytes(id)
		first, ok := wideChar(b)
		if !ok || len(b) == 3 || mixed[first] {
			continue
		}
		w.first[first] |= wideMore
		node := uint64(first)
		for b = b[3:]; ; b = b[3:] {
			char, _ := wideChar(b)
			key := node<<16 | uint64(char)
			i := w.slot(key)
			e := &w.edges[i]
			if *e == 0 {
				*e = wideEdge(key)<<wideKeyShift | noToken
			}
			if len(b) == 3 {
				*e = *e&^noToken | wideEdge(id)
				break
			}
			*e |= wideMore
			node = 1<<16 + i
		}
	}
	for char, m := range mixed {
		if m {
			w.first[char] = notWide
		}
	}
}

// allWide reports whether b is made of characters of three bytes alone.
func allWide(b []byte) bool {
	for ; len(b) > 0; b = b[3:] {
		if _, ok := wideChar(b); !ok {
			return false
		}
	}
	return true
}

// longest returns the longest token that b begins with, and its length; 0 if it does not know.
func (w *wide) longest(b []byte) (token uint32, n int) {
	char, ok := wideChar(b)
	if !ok {
		return 0, 0
	}
	x := w.first[char]
	if x == notWide {
		return 0, 0
	}
	token, n = x&noToken, 3
	more := x&wideMore != 0
	node := uint64(char)
	for at := n; more; {
		char, ok := wideChar(b[at:])
		if !ok {
			break
		}
		i := w.slot(node<<16 | uint64(char))
		e := w.edges[i]
		if e == 0 {
			break
		}
		at += 3
		if t := uint32(e) & noToken; t != noToken {
			token, n = t, at
		}
		more = e&wideMore != 0
		node = 1<<16 + i
	}
	return token, n
}

// slot returns where the edge with this key is, or where it belongs.
func (w *wide) slot(key uint64) uint64 {
	i := key * golden >> w.shift
	for w.edges[i] != 0 && uint64(w.edges[i])>>wideKeyShift != key {
		i = (i + 1) & uint64(len(w.edges)-1)
	}
	return i
}
