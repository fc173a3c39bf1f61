// Package tokens counts tokens as the models' byte-pair encoders do.
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

// An Encoding turns text into tokens.
type Encoding struct {
	name  string
	vocab *vocab
	style *style
}

// encodings holds what Get returns, each loaded when first asked for.
var encodings = map[string]func() (*Encoding, error){
	"o200k_base":    load("o200k_base", o200k, &styleO200k),
	"o200k_harmony": load("o200k_harmony", o200k, &styleO200k),
	"cl100k_base":   load("cl100k_base", cl100k, &styleCL100k),
}

var (
	o200k  = sync.OnceValues(func() (*vocab, error) { return newVocab("o200k_base.tiktoken") })
	cl100k = sync.OnceValues(func() (*vocab, error) { return newVocab("cl100k_base.tiktoken") })
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

// Get returns the encoding of that name: o200k_base, o200k_harmony or cl100k_base. The error for any other name lists these.
func Get(name string) (*Encoding, error) {
	get, ok := encodings[name]
	if !ok {
		return nil, fmt.Errorf("tokens: unknown encoding %q; use one of %s", name, strings.Join(slices.Sorted(maps.Keys(encodings)), ", "))
	}
	return get()
}

// Name returns the name of the encoding, as Get takes it.
func (e *Encoding) Name() string { return e.name }

// Count returns the number of tokens of text.
func (e *Encoding) Count(text []byte) int {
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
	n := 0
	for i := 0; i < len(text); {
		end, _ := e.split(text, i)
		n += e.vocab.count(text[i:end])
		i = end
	}
	return n
}

// AppendTokens appends the ids of the tokens of text to dst and returns the extended slice. It allocates to let dst grow, and
// when text is not valid UTF-8.
func (e *Encoding) AppendTokens(dst []uint32, text []byte) []uint32 {
	if !utf8.Valid(text) {
		text = replaceInvalid(text)
	}
	for i := 0; i < len(text); {
		end, _ := e.split(text, i)
		dst, _ = e.vocab.encode(dst, text[i:end], true)
		i = end
	}
	return dst
}
