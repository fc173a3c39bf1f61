package tokens

import (
	"encoding/base64"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

//go:generate sh -c "python3 gen/classes.py > unicode_tables.go"

// A class is what the split patterns want to know of a code point. The order is that of gen/classes.py.
type class uint8

const (
	punct   class = iota // everything else: punctuation, symbols, controls, unassigned code points
	upper                // \p{Lu}, \p{Lt}
	lower                // \p{Ll}
	other                // \p{Lm}, \p{Lo}: letters without case
	mark                 // \p{M}
	number               // \p{N}
	space                // \s without line ends
	newline              // \r and \n

	// These two are in no table. A style makes them of punct.
	gap     // neither letter, mark, number, space, punctuation nor symbol (isGap)
	textEnd // behind the last character of what a pattern sees at once
)

// The classes of all code points as a table in two steps: classIndex names the block of 128 code points.
// Arrays rather than slices, so that a look-up needs no bounds check. 2 × 17 KB in all, of which a text in
// one script touches a few hundred bytes.
var (
	asciiClass  [utf8.RuneSelf]class
	classIndex  [(utf8.MaxRune + 1) / classBlock]uint8
	classBlocks [256][classBlock]class
)

const classBlock = 128

// loadClasses fills the tables from classRuns; it must have run before any look-up.
var loadClasses = sync.OnceFunc(func() {
	runs, err := base64.StdEncoding.DecodeString(classRuns)
	if err != nil {
		panic("tokens: unicode_tables.go is damaged: " + err.Error())
	}
	var (
		block  [classBlock]class
		filled int
		at     int
		known  = make(map[[classBlock]class]uint8, len(classBlocks))
	)
	for len(runs) > 0 {
		v, n := binary.Uvarint(runs)
		runs = runs[n:]
		for range v >> 3 {
			block[filled] = class(v & 7)
			if filled++; filled < classBlock {
				continue
			}
			filled = 0
			id, ok := known[block]
			if !ok {
				id = uint8(len(known))
				known[block] = id
				classBlocks[id] = block
			}
			classIndex[at] = id
			at++
		}
	}
	asciiClass = classBlocks[classIndex[0]]
})

// classOf returns the class of r, a valid code point.
func classOf(r rune) class {
	return classBlocks[classIndex[uint32(r)/classBlock%uint32(len(classIndex))]][uint32(r)%classBlock]
}

// classAt returns the class and the width of the character at b[i]. The text must be valid UTF-8.
func classAt(b []byte, i int) (class, int) {
	if c := b[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	return wideClassAt(b, i)
}

// wideClassAt is classAt for characters outside ASCII. It decodes by itself because utf8.DecodeRune checks
// again what was checked before.
func wideClassAt(b []byte, i int) (class, int) {
	c := rune(b[i])
	switch {
	case c < 0xe0:
		return classOf(c&0x1f<<6 | rune(b[i+1]&0x3f)), 2
	case c < 0xf0:
		b = b[i : i+3]
		return classOf(c&0x0f<<12 | rune(b[1]&0x3f)<<6 | rune(b[2]&0x3f)), 3
	default:
		b = b[i : i+4]
		return classOf(c&0x07<<18 | rune(b[1]&0x3f)<<12 | rune(b[2]&0x3f)<<6 | rune(b[3]&0x3f)), 4
	}
}

// classAt is the function of that name as the pattern sees it.
func (s *style) classAt(b []byte, i int) (class, int) {
	k, w := classAt(b, i)
	if k == punct && s.splitter == deepSeek && isGap(b[i:i+w]) {
		return gap, w
	}
	return s.classes[k&7], w
}
