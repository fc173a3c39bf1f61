// Package count says what a request's prompt costs, and with which encoding its
// answer is to be counted.
//
//	counter := count.New(count.Options{})
//	model := counter.Model(request.Model)      // encoding, and whether it is the model's own
//	n := counter.Prompt(model, request)        // tokens of the whole prompt
//
// It joins two leaves which know nothing of each other: internal/dialect hands out
// the texts of a request and what its format adds to them, internal/tokens counts
// a text.
package count

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/glob"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// Options are what a Counter is made of. The zero value is useful.
type Options struct {
	Models []Mapping // the first that fits a model's name says how it is counted
}

// Mapping says how the models with some names are counted.
type Mapping struct {
	Match    []string         // globs over the name, in lower case: * stands for any characters
	As       string           // they are this model, one that tokens.ForModel knows; "": they are themselves
	Encoding *tokens.Encoding // counts them; nil: that of As does
}

func (m Mapping) fits(name string) bool {
	return slices.ContainsFunc(m.Match, func(pattern string) bool { return glob.Match(pattern, name) })
}

// Counter counts prompts. It is safe for concurrent use.
type Counter struct{ models []Mapping }

// New returns a Counter.
func New(opts Options) *Counter {
	models := slices.Clone(opts.Models)
	for i, m := range models {
		if m.Encoding == nil {
			models[i].Encoding, _ = tokens.ForModel(m.As)
		}
	}
	return &Counter{models: models}
}

// Model is what is known of a request's model.
type Model struct {
	Name      string           // as the request has it, or what it is mapped to
	Encoding  *tokens.Encoding // counts its texts
	Estimated bool             // the encoding is a stand-in for the model's own
}

// Model looks up a model by the name that a request gives it. The case of letters does
// not matter.
func (c *Counter) Model(name string) Model {
	if len(c.models) > 0 {
		lower := strings.ToLower(name)
		for _, m := range c.models {
			if m.fits(lower) {
				return Model{Name: cmp.Or(m.As, name), Encoding: m.Encoding}
			}
		}
	}
	encoding, known := tokens.ForModel(name)
	return Model{Name: name, Encoding: encoding, Estimated: !known}
}

// Prompt returns the tokens of a request's prompt: of its texts, and what the
// format adds to them.
func (c *Counter) Prompt(m Model, r *dialect.Request) int64 {
	n := r.Overhead
	r.Prompt(func(text []byte) { n += int64(m.Encoding.Count(text)) })
	return n
}
