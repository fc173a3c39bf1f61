// Package tokens counts tokens as byte-level byte-pair encoders do: those of OpenAI's models (o200k_base,
// o200k_harmony, cl100k_base, p50k_base, p50k_edit, r50k_base), and those of a tokenizer.json of Hugging Face's library.
//
//	enc, known := tokens.ForModel("gpt-4o-mini")    // or tokens.Get("o200k_base")
//	enc, err := tokens.LoadFile("tokenizer.json")   // a model of one's own
//	n := enc.Count(prompt)                          // a text that is there as a whole
//
//	var c tokens.Counter                            // a text that arrives in parts
//	c.Reset(enc)
//	size := c.Fits(delta, 1000)                     // how much of delta may be added
//	n = c.Add(delta)                                // the tokens of all so far
//
// The counts are those of Python tiktoken 0.14: len(enc.encode_ordinary(text.decode(errors="replace"))).
// Special tokens are ordinary text, "<|endoftext|>" is seven tokens. The merges come from OpenAI's rank files,
// as github.com/pkoukk/tiktoken-go-loader has them. Those of a file are Hugging Face's tokenizers 0.23, for texts in
// which no added token is looked for.
//
// # How it works
//
// A text is split into pieces by the encoding's pattern (split.go, with generated tables of Unicode 16.0), and
// each piece is encoded by itself. Most pieces are one token, found by a look-up (ranks.go). Of the others, the
// short ones are merged pair by pair (merge.go, seeds.go), and the long ones are searched for the one sequence of
// tokens in which no two neighbours would have been merged differently (encode.go, search.go, pairs.go, trie.go). In
// a text of some length, pieces that were there before are remembered (memo.go). A Counter counts a piece once it is
// final, which means that no continuation of the text can change it, and keeps what is not: a few bytes, of letters
// outside ASCII their tokens as well (word.go), or for very long pieces the state of an encoder that takes one byte
// after another (counter.go, run.go, appender.go). Fits asks a Counter in advance how much of a delta a limit allows
// (fits.go).
//
// Count, CountString, Add, Fits and Reset do not allocate. Their work is linear in the length of the text,
// whatever is in it: measured on one core of a shared server, 90 MB/s for prose, code and JSON, 50 for Chinese,
// 25 to 35 for base64 and a mix of languages, and 1.4 for the worst case known, very long white space of tabs and
// spaces (docs/benchmarks.md).
//
// # Caveats
//
//   - These are the tokens of a text, not of a request: what roles, tools and images cost is for the caller to add.
//   - Other vendors' models have other encodings. ForModel returns o200k_base for them and says that it is an estimate.
//   - With a normalizer (NFC, in files of Qwen) Count and AppendTokens normalize the text, and allocate if it is not in
//     that form yet. A Counter does not normalize.
//   - A running total may fall by a few: what comes next can make one token of two. Limits must bear that.
//   - The first use of an encoding loads it, which takes about 30 ms, and then 21 MB (o200k) or 11 MB (cl100k)
//     of heap for as long as the process lives. What only long pieces need is built after that by a goroutine
//     which ends by itself, in about 50 ms more.
package tokens

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"
)

// An Encoding turns text into tokens. It does not change and is safe for concurrent use; there is one of each
// name.
type Encoding struct {
	name  string
	vocab *vocab
	style *style
	nfc   bool // Count and AppendTokens bring a text into normalization form C first
}

// encodings has a function for each name that loads the encoding when it is first called.
var encodings = map[string]func() (*Encoding, error){
	"o200k_base":    load("o200k_base", o200k, &styleO200k),
	"o200k_harmony": load("o200k_harmony", o200k, &styleO200k),
	"cl100k_base":   load("cl100k_base", cl100k, &styleCL100k),
	"p50k_base":     load("p50k_base", p50k, &styleGPT2),
	"p50k_edit":     load("p50k_edit", p50k, &styleGPT2),
	"r50k_base":     load("r50k_base", r50k, &styleGPT2),
}

var (
	o200k  = sync.OnceValues(func() (*vocab, error) { return newVocab("o200k_base") })
	cl100k = sync.OnceValues(func() (*vocab, error) { return newVocab("cl100k_base") })
	p50k   = sync.OnceValues(newP50k)
	r50k   = sync.OnceValues(func() (*vocab, error) { return newVocab("r50k_base") })
)

func load(name string, vocab func() (*vocab, error), style *style) func() (*Encoding, error) {
	return sync.OnceValues(func() (*Encoding, error) {
		loadClasses()
		v, err := vocab()
		if err != nil {
			return nil, err
		}
		return &Encoding{name: name, vocab: v, style: style}, nil
	})
}

// Names returns the names that Get takes, sorted.
func Names() []string { return slices.Sorted(maps.Keys(encodings)) }

// Get returns the encoding of that name, one of Names. The error for any other name lists these.
func Get(name string) (*Encoding, error) {
	get, ok := encodings[name]
	if !ok {
		return nil, fmt.Errorf("tokens: unknown encoding %q; use one of %s", name, strings.Join(Names(), ", "))
	}
	return get()
}

// Name returns the name of the encoding, as Get takes it, or the one that was given to Parse.
func (e *Encoding) Name() string { return e.name }

// Count returns the number of tokens of text. Each maximal subpart of an ill-formed UTF-8 sequence counts as
// U+FFFD.
func (e *Encoding) Count(text []byte) int {
	if e.nfc {
		text = normalized(text)
	}
	if !utf8.Valid(text) {
		var c Counter
		c.Reset(e)
		return c.Add(text)
	}
	return e.count(text)
}

// CountString is Count of a string, which it does not copy.
func (e *Encoding) CountString(text string) int {
	return e.Count(unsafe.Slice(unsafe.StringData(text), len(text)))
}

// count is Count of valid UTF-8.
func (e *Encoding) count(text []byte) int {
	if len(text) >= memoWorth {
		return e.countLong(text)
	}
	n := 0
	for i := 0; i < len(text); {
		end, _ := e.split(text, i)
		n += e.vocab.count(text[i:end])
		i = end
	}
	return n
}

// countLong is count with a memo.
func (e *Encoding) countLong(text []byte) int {
	var m memo
	n := 0
	for i := 0; i < len(text); {
		end, _ := e.split(text, i)
		n += m.count(e.vocab, text[i:end])
		i = end
	}
	return n
}

// AppendTokens appends the ids of the tokens of text to dst and returns the extended slice. It allocates to let
// dst grow, and when text is not valid UTF-8.
func (e *Encoding) AppendTokens(dst []uint32, text []byte) []uint32 {
	if !utf8.Valid(text) {
		text = replaceInvalid(text)
	}
	if e.nfc {
		text = normalized(text)
	}
	before := len(dst)
	for i := 0; i < len(text); {
		end, _ := e.split(text, i)
		dst = e.vocab.encode(dst, text[i:end])
		i = end
	}
	if ids := e.vocab.ids; ids != nil {
		for i, id := range dst[before:] {
			dst[before+i] = ids[id]
		}
	}
	return dst
}
