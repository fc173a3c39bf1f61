package count

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// Memo remembers what the beginnings of conversations cost. A turn of a conversation
// repeats all turns before it, so that without a memo the n-th turn counts the
// first one for the n-th time. It also remembers what long texts beside the
// messages cost, such as tools, and what long messages cost by themselves, if they
// are asked for one by one.
//
// It keeps no text, only keyed hashes. There is an entry for the messages up to
// each one in which the bytes so far pass a multiple of 1 KiB. So the entries of
// a conversation are where they were in the turn before, and the messages behind the
// last one that is shared are all that is counted, besides less than 1 KiB.
//
// It serves all clients alike, and a prompt that begins as a known one is admitted
// some milliseconds earlier. So who can guess another's conversation up to an entry, to
// the letter, may learn from the time that it took place.
//
// Entries live in ristretto, which may lose any of them, or show them late. That
// costs a count and nothing else: a memo never changes one. It is safe for
// concurrent use.
type Memo struct {
	entries *ristretto.Cache[[]byte, remembered]
	mac     cipher.AEAD

	seen, counted atomic.Int64 // bytes; see Bytes
}

// remembered is the tokens of some messages, or of a text. The encoding is compared: of
// two that bear the same name, one is not taken for the other.
type remembered struct {
	tokens   int64
	encoding *tokens.Encoding
}

const (
	memoStep  = 1 << 10 // bytes of messages between entries
	memoLeast = 4 << 10 // bytes of messages below which counting is not worth avoiding
	memoStore = 1 << 10 // entries that one request may add; the last ones, which a next turn looks for first
	digest    = 16      // bytes
)

// DefaultMemo is how many entries a memo of a server has: 64 MiB of conversations.
// Full, it takes 16 MB.
const DefaultMemo = 1 << 16

// NewMemo returns a memo of so many entries; at least one. It runs a goroutine
// until Close.
func NewMemo(entries int64) (*Memo, error) {
	var key [16]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("count: making a key: %w", err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("count: making a key: %w", err)
	}
	mac, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("count: making a key: %w", err)
	}
	c, err := ristretto.NewCache(&ristretto.Config[[]byte, remembered]{
		NumCounters:        10 * entries,
		MaxCost:            entries,
		BufferItems:        64,
		IgnoreInternalCost: true, // the cost of an entry is 1
		// Keys are hashes already. The second half tells apart what the first does
		// not; 0 would mean that there is none.
		KeyToHash: func(key []byte) (uint64, uint64) {
			return binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:]) | 1
		},
	})
	if err != nil {
		return nil, fmt.Errorf("count: making a memo of %d entries: %w", entries, err)
	}
	return &Memo{entries: c, mac: mac}, nil
}

// Close ends the memo's goroutine. It knows nothing from then on.
func (m *Memo) Close() { m.entries.Close() }

// Bytes returns how many bytes of messages, as they stand in requests, went through
// the memo, and how many of them had to be counted.
func (m *Memo) Bytes() (seen, counted int64) { return m.seen.Load(), m.counted.Load() }

// walk is the way of one prompt through a memo.
//
// Its hash is the message authentication code of AES-GCM under a key of this
// process and a constant nonce, that is GHASH, a universal hash: who does not
// know the key, and never sees a hash, finds two texts of n bytes with the
// same one with a probability of n/16 in 2¹²⁸ (McGrew and Viega 2004, "The Security
// and Performance of the Galois/Counter Mode", after Carter and Wegman). It runs
// at several GB/s where the processor has instructions for AES.
//
// The hash up to an entry is that of the one before and of the messages between them,
// each with its length. A message that is long by itself stands there as its own hash.
type walk struct {
	memo  *Memo
	nonce [12]byte // zero
	input []byte   // what is hashed next: the last hash, and what came since
	total int64    // bytes of messages so far
	marks []mark
}

// mark is a place that has an entry, or may have one.
type mark struct {
	messages int // before it
	key      [digest]byte
}

// sum appends the hash of text to dst.
func (w *walk) sum(dst, text []byte) []byte { return w.memo.mac.Seal(dst, w.nonce[:], nil, text) }

// start begins with a purpose, the format of messages and the model, on which the count
// depends.
func (w *walk) start(purpose byte, format, model string) {
	w.input = append(w.input[:0], purpose)
	w.input = append(w.input, format...)
	w.input = append(w.input, 0)
	w.input = append(w.input, model...)
	w.fold()
}

// fold replaces the input by its hash.
func (w *walk) fold() {
	n := len(w.input)
	w.input = w.sum(w.input, w.input)
	w.input = append(w.input[:0], w.input[n:]...)
}

// add takes in the next message. It reports whether an entry belongs behind it.
func (w *walk) add(raw []byte) bool {
	n := uint32(min(len(raw), memoStep)) // memoStep for a long one
	w.input = binary.LittleEndian.AppendUint32(w.input, n)
	if len(raw) < memoStep {
		w.input = append(w.input, raw...)
	} else {
		w.input = w.sum(w.input, raw)
	}
	before := w.total / memoStep
	w.total += int64(len(raw))
	if w.total/memoStep == before {
		return false
	}
	w.fold()
	return true
}

// get returns the tokens that an entry remembers.
func (m *Memo) get(key []byte, e *tokens.Encoding) (int64, bool) {
	v, ok := m.entries.Get(key)
	return v.tokens, ok && v.encoding == e
}

func (m *Memo) put(key []byte, e *tokens.Encoding, n int64) {
	m.entries.Set(key, remembered{n, e}, 1)
}

// worthwhile says that a request's messages are long enough for a memo.
func worthwhile(r *dialect.Request) bool {
	total := 0
	for i := range r.Messages() {
		if total += len(r.RawMessage(i)); total >= memoLeast {
			return true
		}
	}
	return false
}

// messages returns the tokens of all messages, counting only those behind the
// longest beginning that is remembered.
func (m *Memo) messages(model Model, r *dialect.Request) int64 {
	w := walk{memo: m}
	w.start('m', r.Format(), model.Name)
	for i := range r.Messages() {
		if w.add(r.RawMessage(i)) {
			w.marks = append(w.marks, mark{i + 1, [digest]byte(w.input)})
		}
	}

	next, known := 0, 0 // messages, marks
	var n int64
	for i := len(w.marks) - 1; i >= 0; i-- {
		if tokens, ok := m.get(w.marks[i].key[:], model.Encoding); ok {
			next, known, n = w.marks[i].messages, i+1, tokens
			break
		}
	}
	counted := int64(0)
	add := func(text []byte) { n += int64(model.Encoding.Count(text)) }
	for i := next; i < r.Messages(); i++ {
		extra := r.Message(i, model.Name, add) // changes n by itself
		n += extra
		counted += int64(len(r.RawMessage(i)))
		if known < len(w.marks) && w.marks[known].messages == i+1 {
			if len(w.marks)-known <= memoStore {
				m.put(w.marks[known].key[:], model.Encoding, n)
			}
			known++
		}
	}
	m.seen.Add(w.total)
	m.counted.Add(counted)
	return n
}

// message returns the tokens of one message, whatever comes before it. m may be nil.
func (m *Memo) message(model Model, r *dialect.Request, i int) (n int64) {
	add := func(text []byte) { n += int64(model.Encoding.Count(text)) }
	raw := r.RawMessage(i)
	if m == nil || len(raw) < memoStep {
		extra := r.Message(i, model.Name, add) // changes n by itself
		return n + extra
	}
	w := walk{memo: m}
	w.start('1', r.Format(), model.Name)
	w.add(raw)
	if known, ok := m.get(w.input, model.Encoding); ok {
		return known
	}
	extra := r.Message(i, model.Name, add)
	n += extra
	m.put(w.input, model.Encoding, n)
	return n
}

// text returns the tokens of a text that stands beside the messages. m may be nil.
func (m *Memo) text(model Model, text []byte) int64 {
	if m == nil || len(text) < memoStep {
		return int64(model.Encoding.Count(text))
	}
	w := walk{memo: m}
	w.start('t', "", "")
	w.add(text)
	if n, ok := m.get(w.input, model.Encoding); ok {
		return n
	}
	n := int64(model.Encoding.Count(text))
	m.put(w.input, model.Encoding, n)
	return n
}
