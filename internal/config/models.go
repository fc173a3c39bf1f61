package config

import (
	"cmp"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/glob"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

const (
	maxModels      = 256
	maxModelGlobs  = 64 // of one entry
	maxModelLength = 256
)

// Model says how the tokens of some models are counted: exactly one of As, Encoding
// and Tokenizer is set.
type Model struct {
	Match     []string // globs over the model's name, in lower case: * stands for any characters
	As        string   // a model that tokens.ForModel knows, in lower case
	Encoding  string   // a name that tokens.Get takes
	Tokenizer string   // path of a tokenizer.json; a relative one counts from the working directory

	// Loaded is that encoding, or that of the file; nil with As.
	Loaded *tokens.Encoding
}

// How says in a few words how a model is counted.
func (m Model) How() string {
	switch {
	case m.As != "":
		return "as " + m.As
	case m.Encoding != "":
		return "with " + m.Encoding
	}
	return "with " + m.Tokenizer
}

// models decodes the list of models. A tokenizer file is loaded where it is named, so
// that its mistakes have a position; one that is named twice is loaded once.
func (d *decoder) models(c *Config) setter {
	return func(key, n *node) {
		loaded := make(map[string]*tokens.Encoding)
		for _, item := range d.items(key, n, maxModels, false) {
			m := new(Model)
			seen := d.object("a model", item, fields{
				"match": list(d, &m.Match, maxModelGlobs, true, parseModelGlob),
				"as":    value(d, &m.As, parseKnownModel),
				"encoding": value(d, &m.Encoding, func(name string) (string, error) {
					name, err := oneOf(tokens.Names()...)(name)
					if err == nil {
						m.Loaded, err = tokens.Get(name)
					}
					return name, err
				}),
				"tokenizer": value(d, &m.Tokenizer, func(path string) (string, error) {
					if _, err := parseDir(path); err != nil {
						return "", err
					}
					enc, ok := loaded[path]
					if !ok {
						var err error
						if enc, err = tokens.LoadFile(path); err != nil {
							return "", mistake("see docs/tokens.md", "%s", strings.TrimPrefix(err.Error(), path+": "))
						}
						loaded[path] = enc
					}
					m.Loaded = enc
					return path, nil
				}),
			}, nil)
			d.require(item, seen, "a model", "match", `match: "house-model*"`)
			ways := 0
			for _, way := range []string{"as", "encoding", "tokenizer"} {
				if seen[way] == nil {
					continue
				}
				if ways++; ways > 1 {
					d.fail(seen[way], "remove all but one", "as, encoding and tokenizer exclude each other")
				}
			}
			if ways == 0 && len(seen) > 0 {
				d.fail(item, "such as as: gpt-4o", "a model needs one of as, encoding and tokenizer")
			}
			d.warnModel(c.Models, m)
			c.Models = append(c.Models, *m)
		}
	}
}

// warnModel names globs that never decide, because one before them fits whatever they
// fit.
func (d *decoder) warnModel(before []Model, m *Model) {
	for _, pattern := range m.Match {
		for _, earlier := range before {
			for _, wider := range earlier.Match {
				// A star in the text is matched by nothing but a star.
				if glob.Match(wider, pattern) {
					d.warn(d.at[&m.Match], "put it first, or remove it", "%s never decides, because %s comes first", quote(pattern), quote(wider))
					return
				}
			}
		}
	}
}

func parseModelGlob(s string) (string, error) {
	switch {
	case s == "" || strings.TrimSpace(s) != s || hasControl(s):
		return "", mistake(`write it like gpt-4o or "llama-3*"`, "it is not the name of a model")
	case len(s) > maxModelLength:
		return "", mistake("", "it is longer than %d bytes", maxModelLength)
	}
	return strings.ToLower(s), nil
}

func parseKnownModel(s string) (string, error) {
	if tokens.Known(s) {
		return strings.ToLower(s), nil
	}
	return "", mistake(cmp.Or(didYouMean(s, tokens.Models()), "name a model of OpenAI, or use encoding or tokenizer"), "the encoding of this model is not known")
}
