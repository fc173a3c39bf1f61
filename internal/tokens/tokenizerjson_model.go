package tokens

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxEntries bounds the vocabulary of a file. What no text can use is among it, so it is more than the engine
	// takes.
	maxEntries = 1 << 19
	// maxMerges bounds the merges of a file. Llama 3 has 280,147.
	maxMerges = 1 << 21
)

// A modelFile is the model of a tokenizer.json.
type modelFile struct {
	Type string `json:"type"`
	// Dropout is not read as a float64, because the error for one that does not fit quotes all its digits.
	Dropout      json.Number `json:"dropout"`
	Prefix       string      `json:"continuing_subword_prefix"`
	Suffix       string      `json:"end_of_word_suffix"`
	ByteFallback bool        `json:"byte_fallback"`
	IgnoreMerges bool        `json:"ignore_merges"`
	Vocab        entries     `json:"vocab"`
	Merges       mergesFile  `json:"merges"`
}

// entries are the tokens of a vocabulary that a text of bytes can have, in the order of the file.
type entries struct {
	list []entry
	// byText holds the places in list, by the tokens' bytes.
	byText map[string]uint32
	// foreign holds the other tokens, with characters that stand for no byte.
	foreign map[string]bool
}

type entry struct {
	text string // bytes
	id   uint32 // of the file
}

// mergesFile are the merges, by rank. Their parts are written in characters that stand for bytes.
type mergesFile [][2]string

func parseModel(data []byte) (*vocab, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if kind.Type != "BPE" && kind.Type != "" {
		return nil, fmt.Errorf("model %q is not supported, only BPE", short(kind.Type))
	}
	var m modelFile
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	dropout, err := m.Dropout.Float64()
	switch {
	case m.Dropout != "" && (err != nil || dropout != 0):
		return nil, errors.New("model.dropout is not supported: it makes counts random")
	case m.Prefix != "" || m.Suffix != "":
		return nil, errors.New("model.continuing_subword_prefix and model.end_of_word_suffix are not supported: they are not of byte-level BPE")
	case m.ByteFallback:
		return nil, errors.New("model.byte_fallback is not supported: it is of SentencePiece's BPE, not of byte-level BPE")
	}
	return m.vocab()
}

// vocab builds the tables.
func (m *modelFile) vocab() (*vocab, error) {
	made, err := m.made()
	if err != nil {
		return nil, err
	}
	list := m.Vocab.list
	v := &vocab{start: []uint32{0}}
	add := func(e entry) {
		v.text = append(v.text, e.text...)
		v.start = append(v.start, uint32(len(v.text)))
		v.ids = append(v.ids, e.id)
	}
	used := make([]bool, len(list))
	for c := range 256 {
		at, ok := m.Vocab.byText[string([]byte{byte(c)})]
		if !ok {
			return nil, fmt.Errorf("model.vocab has no token for the byte %#02x; all 256 are needed (train with ByteLevel.alphabet)", c)
		}
		add(list[at])
		used[at] = true
	}
	cuts := make([]byte, len(made))
	for i, t := range made {
		e := list[t.token]
		if len(e.text) > maxTokenLen {
			return nil, fmt.Errorf("the token with the id %d has %d bytes; up to %d are supported", e.id, len(e.text), maxTokenLen)
		}
		add(e)
		cuts[i] = byte(t.cut)
		used[t.token] = true
	}
	if v.size() >= noToken {
		return nil, fmt.Errorf("model.vocab has %d tokens; up to %d are supported", v.size(), noToken-1)
	}
	if m.IgnoreMerges {
		for i, e := range list {
			if used[i] {
				continue
			}
			if len(e.text) > maxTokenLen {
				return nil, fmt.Errorf("the token with the id %d has %d bytes; up to %d are supported", e.id, len(e.text), maxTokenLen)
			}
			if v.orphans == nil {
				v.orphans = &orphans{}
			}
			if !v.orphans.add([]byte(e.text)) {
				return nil, errors.New("model.vocab has too many tokens which no merge makes; with ignore_merges they may have up to a million bytes in all")
			}
			v.ids = append(v.ids, e.id)
		}
	}
	if err := v.index(cuts); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return v, nil
}

// A madeToken is a token which merging makes of its own bytes.
type madeToken struct {
	token uint32 // its place in the vocabulary
	cut   int    // the length of the left one of the two tokens it is made of, in bytes
	rank  uint32 // of the merge which does that
}

// made returns the tokens which merging makes, by rank.
//
// Several merges of the list may lead to one token. Only one of them is ever applied: while the bytes of a token
// are merged in some text, nothing reaches across their ends, or the token would not come about, and so the same
// merges happen, in the same order, as when there are no other bytes. Hence it is enough to merge each token's
// bytes alone and to see what the last merge is. A token at which that does not arrive is not made in any text.
func (m *modelFile) made() ([]madeToken, error) {
	type result struct{ rank, token uint32 }
	results := make(map[uint64]result, len(m.Merges))
	isMade := make([]bool, len(m.Vocab.list))
	for rank, merge := range m.Merges {
		var parts [2]uint32
		for side, text := range merge {
			at, ok := m.Vocab.find(text)
			if !ok {
				return nil, fmt.Errorf("merge %d has a part which is no token of the vocabulary", rank)
			}
			parts[side] = at
		}
		at, ok := m.Vocab.byText[m.Vocab.list[parts[0]].text+m.Vocab.list[parts[1]].text]
		if !ok {
			return nil, fmt.Errorf("merge %d makes what is no token of the vocabulary", rank)
		}
		key := uint64(parts[0])<<32 | uint64(parts[1])
		if _, ok := results[key]; ok {
			return nil, fmt.Errorf("merge %d is in the list before", rank)
		}
		results[key] = result{uint32(rank), at}
		isMade[at] = true
	}

	var bytesAt [256]uint32
	for c := range bytesAt {
		bytesAt[c] = m.Vocab.byText[string([]byte{byte(c)})] // vocab reports one that is missing
	}
	var (
		made   []madeToken
		parts  []uint32
		merges []result // what parts[i] and parts[i+1] make; of rank math.MaxUint32 if nothing
	)
	for at, e := range m.Vocab.list {
		if !isMade[at] || len(e.text) == 1 {
			continue
		}
		if len(e.text) > maxTokenLen {
			return nil, fmt.Errorf("the token with the id %d has %d bytes; up to %d are supported", e.id, len(e.text), maxTokenLen)
		}
		pair := func(i int) result {
			if r, ok := results[uint64(parts[i])<<32|uint64(parts[i+1])]; ok {
				return r
			}
			return result{rank: math.MaxUint32}
		}
		parts, merges = parts[:0], merges[:0]
		for _, c := range []byte(e.text) {
			parts = append(parts, bytesAt[c])
		}
		for i := range len(parts) - 1 {
			merges = append(merges, pair(i))
		}
		for {
			best := 0
			for i := range merges {
				if merges[i].rank < merges[best].rank {
					best = i
				}
			}
			r := merges[best]
			if r.rank == math.MaxUint32 {
				break
			}
			if len(parts) == 2 {
				made = append(made, madeToken{uint32(at), len(m.Vocab.list[parts[0]].text), r.rank})
				break
			}
			parts[best] = r.token
			parts = slices.Delete(parts, best+1, best+2)
			merges = slices.Delete(merges, best, best+1)
			if best < len(merges) {
				merges[best] = pair(best)
			}
			if best > 0 {
				merges[best-1] = pair(best - 1)
			}
		}
	}
	slices.SortFunc(made, func(a, b madeToken) int { return cmp.Compare(a.rank, b.rank) })
	return made, nil
}

// find returns the place of a token in the list, by the characters that stand for its bytes.
func (e *entries) find(chars string) (at uint32, ok bool) {
	text, ok := fromByteLevel(chars)
	if !ok {
		return 0, false
	}
	at, ok = e.byText[text]
	return at, ok
}

// UnmarshalJSON reads the object of tokens and ids. It is strict where the library is not: a token or an id that is
// there twice is an error.
func (e *entries) UnmarshalJSON(data []byte) error {
	if e.byText != nil {
		return errors.New("the vocabulary is there twice")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("vocab is no object; only that of BPE is supported")
	}
	e.byText, e.foreign = make(map[string]uint32), make(map[string]bool)
	ids := make(map[uint32]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		chars := t.(string) // the decoder lets no other key pass
		if t, err = d.Token(); err != nil {
			return err
		}
		number, ok := t.(json.Number)
		id, err := strconv.ParseUint(number.String(), 10, 32)
		if !ok || err != nil {
			return fmt.Errorf("the id of token number %d of the vocabulary is no whole number below 2^32", len(ids))
		}
		if ids[uint32(id)] {
			return fmt.Errorf("the id %d is there twice", id)
		}
		ids[uint32(id)] = true
		if len(ids) > maxEntries {
			return fmt.Errorf("the vocabulary has more than %d tokens", maxEntries)
		}
		text, ok := fromByteLevel(chars)
		if _, twice := e.byText[text]; ok && twice || e.foreign[chars] {
			return fmt.Errorf("the token with the id %d is there before, with another id", id)
		}
		if !ok || text == "" {
			e.foreign[chars] = true
			continue
		}
		e.byText[text] = uint32(len(e.list))
		e.list = append(e.list, entry{text, uint32(id)})
	}
	return nil
}

// UnmarshalJSON reads the list of merges, each "left right" or ["left", "right"].
func (m *mergesFile) UnmarshalJSON(data []byte) error {
	if *m != nil {
		return errors.New("the merges are there twice")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.New("merges is no list")
	}
	for d.More() {
		n := len(*m)
		if n == maxMerges {
			return fmt.Errorf("there are more than %d merges", maxMerges)
		}
		t, err := d.Token()
		if err != nil {
			return err
		}
		var merge [2]string
		switch t := t.(type) {
		case string:
			var ok bool
			merge[0], merge[1], ok = strings.Cut(t, " ")
			if !ok || strings.Contains(merge[1], " ") {
				return fmt.Errorf(`merge %d is not of the form "left right"`, n)
			}
		case json.Delim:
			for i := range merge {
				part, err := d.Token()
				if err != nil {
					return err
				}
				text, ok := part.(string)
				if !ok || t != '[' {
					return fmt.Errorf("merge %d is no pair of texts", n)
				}
				merge[i] = text
			}
			if end, err := d.Token(); err != nil || end != json.Delim(']') {
				return fmt.Errorf("merge %d is no pair of texts", n)
			}
		default:
			return fmt.Errorf("merge %d is no pair of texts", n)
		}
		*m = append(*m, merge)
	}
	return nil
}
