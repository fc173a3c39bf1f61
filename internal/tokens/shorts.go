package tokens

import (
	"encoding/binary"
	"math/bits"
)

// shortToken is the length of the longest tokens that are in the table of short ones, in bytes.
const shortToken = 7

// shorts finds the tokens of up to shortToken bytes, which most pieces are. The bytes themselves are the key, so that
// one look into memory tells whether they are a token: in a process that does other things between two prompts,
// each look is a cache miss.
type shorts struct {
	keys  []uint64 // open addressing; zero is "none"
	ids   []uint32 // of the tokens, at the places of their keys
	shift uint8
}

// shortKey is a different number for all strings of 1 to shortToken bytes, and not zero.
func shortKey(b []byte) uint64 {
	n := len(b)
	key := uint64(n) << 56
	if n >= 4 {
		return key | uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<(8*(n-4))
	}
	return key | uint64(b[0]) | uint64(b[n>>1])<<(8*(n>>1)) | uint64(b[n-1])<<(8*(n-1))
}

func (s *shorts) build(v *vocab) error {
	n := 0
	for id := range uint32(v.size()) {
		if v.len(id) <= shortToken {
			n++
		}
	}
	logSize := bits.Len(uint(n*2 - 1))
	s.keys = make([]uint64, 1<<logSize)
	s.ids = make([]uint32, 1<<logSize)
	s.shift = uint8(64 - logSize)
	for id := range uint32(v.size()) {
		if v.len(id) <= shortToken {
			key := shortKey(v.bytes(id))
			i, _ := s.slot(key)
			if far(i, key*golden>>s.shift, len(s.keys)) {
				return errCollide
			}
			s.keys[i], s.ids[i] = key, id
		}
	}
	return nil
}

// slot returns where the key is, or where it belongs if it is not there.
func (s *shorts) slot(key uint64) (at uint64, there bool) {
	for i := key * golden >> s.shift; ; i = (i + 1) & uint64(len(s.keys)-1) {
		switch s.keys[i] {
		case key:
			return i, true
		case 0:
			return i, false
		}
	}
}
