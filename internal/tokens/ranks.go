package tokens

import (
	"cmp"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
)

// Token ids must fit 18 bits, so that they can share machine words with other things. All ones means "no
// token".
const (
	idBits  = 18
	noToken = 1<<idBits - 1
)

// maxTokenLen is the length of the longest token of both vocabularies, in bytes. The state of an appender
// relies on it.
const maxTokenLen = 128

// maxProbes bounds how many places of a hash table are looked at for one key. The hashes are known to all, so that a
// file can be made whose tokens have all the same, and then a look-up costs as much as there are tokens. The tables
// of trained vocabularies, which are at most half full, have up to 37 entries side by side.
const maxProbes = 512

var errCollide = errors.New("the tokens of the vocabulary collide in the hash tables, as those of no trained one do")

// far reports whether the place at is too far behind the one where a key belongs, in a table of that size.
func far(at, home uint64, size int) bool { return (at-home)&uint64(size-1) > maxProbes }

// crowded reports whether more than maxProbes places of a hash table that are side by side are taken. So many would
// have to be looked at for a key that is not there.
func crowded[T uint32 | uint64 | edge](table []T) bool {
	taken := 0
	for _, e := range table {
		if taken++; e == 0 {
			taken = 0
		}
		if taken > maxProbes {
			return true
		}
	}
	return false
}

// golden is 2^64 divided by the golden ratio, the multiplier of Fibonacci hashing.
const golden = 0x9e3779b97f4a7c15

// mergeFiles have an encoding each: the 256 single bytes in the order of their ids, and for each further token, by id,
// the ids of the two it is made of, in mergeSize bytes, the low ones first: left | right<<idBits. They are made from
// OpenAI's rank files, which have twice the size and do not tell which two; to work that out takes several times
// as long as all else there is to load. TestMerges does work it out, and writes the files with -update.
//
//go:embed merges
var mergeFiles embed.FS

const mergeSize = 5

//go:generate go test -run TestMerges -update

// A vocab is the tokens of an encoding with the tables to find them by their bytes. Ids are ranks: the lower
// the id, the earlier the pair is merged. Ids below 256 are the single bytes. It does not change after
// newVocab, but for the answers of pairs.
type vocab struct {
	text  []byte   // the bytes of all tokens, one after another by id
	start []uint32 // start[id] is where the token begins in text; one entry more than there are tokens

	// ids are the ids that others know the tokens by; nil if they are the same. Behind those of the tokens come
	// those of orphans.
	ids     []uint32
	orphans *orphans // nil if there are none

	// shorts and whole find a token by its bytes. Whole has the tokens that are too long for shorts: open addressing, an
	// entry is 14 bits of the hash and the id + 1.
	shorts     shorts
	whole      []uint32
	wholeShift uint8

	pairs pairs
	seeds seeds

	// trie is for long pieces only, and takes longer to build than all the rest. Whoever needs it calls needTrie before.
	trie     trie
	needTrie func()
}

// newVocab builds the tables of the encoding with that name, of which there is a file in mergeFiles.
func newVocab(name string) (*vocab, error) {
	data, err := mergeFiles.ReadFile("merges/" + name)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	v := &vocab{}
	if err := v.read(data); err != nil {
		return nil, fmt.Errorf("tokens: merges of %s: %w", name, err)
	}
	v.needTrie = sync.OnceFunc(func() {
		if err := v.trie.build(v); err != nil {
			panic("tokens: merges of " + name + ": " + err.Error()) // none of the embedded ones has as many
		}
	})
	go v.needTrie() // behind the caller's back; it ends by itself, and whoever needs it sooner waits
	return v, nil
}

// p50kHole is the id that p50k_base has no token for: that of <|endoftext|>. The tokens behind it are numbered on.
const p50kHole = 50256

// newP50k is newVocab for p50k_base.
func newP50k() (*vocab, error) {
	v, err := newVocab("p50k_base")
	if err != nil {
		return nil, err
	}
	v.ids = make([]uint32, v.size())
	for id := range v.ids {
		v.ids[id] = uint32(id)
		if id >= p50kHole {
			v.ids[id]++
		}
	}
	return v, nil
}

// read fills the vocab from a file of merges.
func (v *vocab) read(data []byte) error {
	n := 256 + (len(data)-256)/mergeSize
	if len(data) < 256 || (len(data)-256)%mergeSize != 0 || n >= noToken {
		return fmt.Errorf("%d bytes, want 256 and %d for each of up to %d tokens", len(data), mergeSize, noToken-1-256)
	}
	v.text = append(make([]byte, 0, 8*n), data[:256]...)
	v.start = make([]uint32, n+1)
	parts := make([]pair, n)
	for id := range uint32(256) {
		v.start[id+1] = id + 1
		parts[id] = pair{id, id}
	}
	data = data[256:]
	for id := uint32(256); id < uint32(n); id++ {
		x := uint64(binary.LittleEndian.Uint32(data)) | uint64(data[4])<<32
		data = data[mergeSize:]
		l, r := uint32(x)&noToken, uint32(x>>idBits)&noToken
		if l >= id || r >= id {
			return fmt.Errorf("token %d is made of %d and %d, which do not come before it", id, l, r)
		}
		if size := v.len(l) + v.len(r); size > maxTokenLen {
			return fmt.Errorf("token %d has %d bytes, want at most %d", id, size, maxTokenLen)
		}
		parts[id] = pair{l, r}
		v.text = append(v.text, v.bytes(l)...)
		v.text = append(v.text, v.bytes(r)...)
		v.start[id+1] = uint32(len(v.text))
	}
	return v.build(parts)
}

// index fills the tables of a vocab that has text and start. Cuts tells for each token from 256 on how long the left
// one of the two tokens is which merge to it.
func (v *vocab) index(cuts []byte) error {
	if len(cuts) != v.size()-256 {
		return fmt.Errorf("cuts of %d tokens, want %d", len(cuts), v.size()-256)
	}
	if err := v.buildWhole(); err != nil {
		return err
	}
	parts := make([]pair, v.size())
	for id := range uint32(256) {
		parts[id] = pair{id, id}
	}
	for i, cut := range cuts {
		id := uint32(i) + 256
		b := v.bytes(id)
		if cut == 0 || int(cut) >= len(b) {
			return fmt.Errorf("token %d has %d bytes and is cut after %d", id, len(b), cut)
		}
		l, okl := v.find(b[:cut])
		r, okr := v.find(b[cut:])
		if !okl || !okr {
			return fmt.Errorf("token %d is cut after byte %d, which does not make two tokens", id, cut)
		}
		parts[id] = pair{l, r}
	}
	if err := v.build(parts); err != nil {
		return err
	}
	v.needTrie = func() {}
	if err := v.trie.build(v); err != nil {
		return err
	}
	if crowded(v.shorts.keys) || crowded(v.whole) || crowded(v.pairs.slots) || crowded(v.trie.edges) {
		return errCollide
	}
	return nil
}

// build fills the tables but the trie, from text, start and what each token is made of. Two processors take about
// the half of the time of one.
func (v *vocab) build(parts []pair) error {
	v.pairs.parts = parts
	var (
		rest               sync.WaitGroup
		errPairs, errWhole error
	)
	rest.Go(func() { errPairs = v.pairs.build() })
	if v.whole == nil {
		errWhole = v.buildWhole()
	}
	rest.Wait()
	if err := cmp.Or(errPairs, errWhole); err != nil {
		return err
	}
	v.seeds.build(v)
	return nil
}

// buildWhole fills the tables of whole tokens.
func (v *vocab) buildWhole() error {
	if err := v.shorts.build(v); err != nil {
		return err
	}
	n := 1
	for id := range uint32(v.size()) {
		if v.len(id) > shortToken {
			n++
		}
	}
	logSize := bits.Len(uint(n*2 - 1))
	v.wholeShift = uint8(64 - logSize)
	v.whole = make([]uint32, 1<<logSize)
	for id := range uint32(v.size()) {
		if v.len(id) <= shortToken {
			continue
		}
		h := hash(v.bytes(id))
		i := h >> v.wholeShift
		for v.whole[i] != 0 {
			i = (i + 1) & uint64(len(v.whole)-1)
		}
		if far(i, h>>v.wholeShift, len(v.whole)) {
			return errCollide
		}
		v.whole[i] = uint32(h)<<idBits | (id + 1)
	}
	return nil
}

// byLength returns the ids in the order of their lengths.
func (v *vocab) byLength() []uint32 {
	var at [maxTokenLen + 1]uint32
	for id := range uint32(v.size()) {
		at[v.len(id)]++
	}
	sum := uint32(0)
	for i, n := range at {
		at[i] = sum
		sum += n
	}
	ids := make([]uint32, v.size())
	for id := range uint32(v.size()) {
		i := &at[v.len(id)]
		ids[*i] = id
		*i++
	}
	return ids
}

// size is the number of tokens.
func (v *vocab) size() int { return len(v.start) - 1 }

// bytes returns the bytes of a token.
func (v *vocab) bytes(id uint32) []byte { return v.text[v.start[id]:v.start[id+1]] }

// len returns the number of bytes of a token.
func (v *vocab) len(id uint32) int { return int(v.start[id+1] - v.start[id]) }

// find returns the token which has exactly these bytes, of which there must be at least one.
func (v *vocab) find(b []byte) (id uint32, ok bool) {
	if len(b) <= shortToken {
		i, ok := v.shorts.slot(shortKey(b))
		return v.shorts.ids[i], ok
	}
	return v.findLong(b)
}

// findLong is find for more than shortToken bytes.
func (v *vocab) findLong(b []byte) (id uint32, ok bool) {
	if len(b) > maxTokenLen {
		return noToken, false
	}
	return v.findHashed(b, hash(b))
}

// findHashed is findLong for up to maxTokenLen bytes, of which the hash is known.
func (v *vocab) findHashed(b []byte, h uint64) (id uint32, ok bool) {
	tag := uint32(h) << idBits
	for i := h >> v.wholeShift; ; i = (i + 1) & uint64(len(v.whole)-1) {
		e := v.whole[i]
		if e == 0 {
			return noToken, false
		}
		if e&^(1<<idBits-1) == tag {
			if id := e&(1<<idBits-1) - 1; string(v.bytes(id)) == string(b) {
				return id, true
			}
		}
	}
}

// hash maps 1 to 128 bytes to 64 bits. The high bits are the best. It need not resist an attacker: the table's
// keys are fixed, so that a probe is as long as the vocabulary makes it, whatever is looked up, and maxProbes bounds
// that.
func hash(b []byte) uint64 {
	const k0, k1 = golden, 0xd1342543de82ef95
	var lo, hi uint64
	n := len(b)
	switch {
	case n > 16:
		h := uint64(n) * k0
		for ; len(b) > 16; b = b[16:] {
			x, y := bits.Mul64(binary.LittleEndian.Uint64(b)^k1^h, binary.LittleEndian.Uint64(b[8:])^k0)
			h = x ^ y
		}
		for i, c := range b {
			if i < 8 {
				lo |= uint64(c) << (8 * i)
			} else {
				hi |= uint64(c) << (8 * (i - 8))
			}
		}
		lo ^= h
	case n >= 8:
		lo = binary.LittleEndian.Uint64(b)
		hi = binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		lo = uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<32
	default:
		lo = uint64(b[0]) | uint64(b[n>>1])<<8 | uint64(b[n-1])<<16
	}
	x, y := bits.Mul64(lo^k0, hi^k1^uint64(n)*k0)
	return (x ^ y) * k0
}
