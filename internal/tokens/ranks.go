package tokens

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/pkoukk/tiktoken-go-loader/assets"
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

// golden is 2^64 divided by the golden ratio, the multiplier of Fibonacci hashing.
const golden = 0x9e3779b97f4a7c15

// cutFiles tell for each token from 256 on how long the left one of the two tokens is which merge to it: a byte
// each, by rank. The ranks determine that, but to work it out takes several times as long as all else there is
// to load. TestCuts does work it out, and writes the files with -update.
//
//go:embed cuts
var cutFiles embed.FS

//go:generate go test -run TestCuts -update

// A vocab is the tokens of an encoding with the tables to find them by their bytes. Ids are ranks: the lower
// the id, the earlier the pair is merged. Ids below 256 are the single bytes. It does not change after
// newVocab.
type vocab struct {
	text  []byte   // the bytes of all tokens, one after another by id
	start []uint32 // start[id] is where the token begins in text; one entry more than there are tokens

	// whole finds a token by its bytes: open addressing, an entry is 14 bits of the hash and the id + 1.
	whole      []uint32
	wholeShift uint8

	trie  trie
	pairs pairs
}

// newVocab builds the tables of one of the rank files which tiktoken-go-loader embeds: a line "<base64> <rank>"
// for each token, by rank.
func newVocab(file string) (*vocab, error) {
	data, err := assets.Assets.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("tokens: the rank file is not embedded: %w", err)
	}
	v := &vocab{}
	if err := v.parse(data); err != nil {
		return nil, fmt.Errorf("tokens: rank file %s: %w", file, err)
	}
	cuts, err := cutFiles.ReadFile("cuts/" + strings.TrimSuffix(file, ".tiktoken"))
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if err := v.index(cuts); err != nil {
		return nil, fmt.Errorf("tokens: rank file %s: %w", file, err)
	}
	return v, nil
}

// parse fills text and start.
func (v *vocab) parse(data []byte) error {
	lines := bytes.Count(data, []byte("\n")) + 1
	v.text = make([]byte, 0, len(data)/2)
	v.start = append(make([]uint32, 0, lines+1), 0)
	for line := 1; len(data) > 0; line++ {
		row := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			row, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		if len(row) == 0 {
			continue
		}
		token, rank, ok := bytes.Cut(row, []byte(" "))
		if !ok {
			return fmt.Errorf("line %d: no rank", line)
		}
		text, err := base64.StdEncoding.AppendDecode(v.text, token)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if n, err := strconv.Atoi(string(rank)); err != nil || n != v.size() {
			return fmt.Errorf("line %d: rank %q, want %d", line, rank, v.size())
		}
		n := len(text) - len(v.text)
		if n == 0 || n > maxTokenLen {
			return fmt.Errorf("line %d: a token of %d bytes, want 1 to %d", line, n, maxTokenLen)
		}
		if (n == 1) != (v.size() < 256) {
			return fmt.Errorf("line %d: the first 256 tokens, and only they, must be single bytes", line)
		}
		v.text = text
		v.start = append(v.start, uint32(len(text)))
	}
	if n := v.size(); n < 256 || n >= noToken {
		return fmt.Errorf("%d tokens, want 256 to %d", n, noToken-1)
	}
	return nil
}

// index fills the tables for the tokens.
func (v *vocab) index(cuts []byte) error {
	logSize := bits.Len(uint(v.size()*2 - 1))
	v.whole = make([]uint32, 1<<logSize)
	v.wholeShift = uint8(64 - logSize)
	for id := range uint32(v.size()) {
		h := hash(v.bytes(id))
		i := h >> v.wholeShift
		for v.whole[i] != 0 {
			i = (i + 1) & uint64(len(v.whole)-1)
		}
		v.whole[i] = uint32(h)<<idBits | (id + 1)
	}
	if err := v.pairs.build(v, cuts); err != nil {
		return err
	}
	return v.trie.build(v)
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
	if len(b) > maxTokenLen {
		return noToken, false
	}
	h := hash(b)
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
// keys are fixed, so that a probe is as long as the vocabulary makes it, whatever is looked up.
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
