// Package count says what a request's prompt costs, and with which encoding its
// answer is to be counted.
//
//	counter := count.New(count.Options{})
//	model := counter.Model(request.Model)      // encoding, and whether it is the model's own
//	n := counter.Prompt(model, request)        // tokens of the whole prompt; a Memo knows earlier turns
//
// It joins two leaves which know nothing of each other: internal/dialect hands out
// the texts of a request and what its format adds to them, internal/tokens counts
// a text. Models without a public tokenizer are counted with another's; [Factors]
// learns what their own would have said.
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
	// Factors learns from the usage that is reported. Nil knows only the priors.
	Factors *Factors
	// Memo remembers counted prompts. Nil counts each anew. Its owner closes it.
	Memo *Memo
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
type Counter struct {
	models  []Mapping
	factors *Factors
	memo    *Memo
}

// New returns a Counter.
func New(o Options) *Counter {
	models := slices.Clone(o.Models)
	for i, m := range models {
		if m.Encoding == nil {
			models[i].Encoding, _ = tokens.ForModel(m.As)
		}
	}
	return &Counter{models: models, factors: o.Factors, memo: o.Memo}
}

// Model is what is known of a request's model.
type Model struct {
	Name      string           // as the request has it, or what it is mapped to
	Encoding  *tokens.Encoding // counts its texts
	Estimated bool             // the encoding is a stand-in for the model's own
	Input     Factor           // of the prompt's count; one unless Estimated
	Output    Factor           // of the answer's
}

// Model looks up a model by the name that a request gives it. The case of letters does
// not matter. Its factors are those of this moment: whoever keeps the Model counts by
// the same ones throughout.
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
	m := Model{Name: name, Encoding: encoding, Estimated: !known, Input: one, Output: one}
	if m.Estimated {
		m.Input, m.Output = c.factors.of(name)
	}
	return m
}

// Learn takes in what a provider reported of an exchange beside what was counted,
// without factors. Models that are counted by their own encoding teach nothing.
func (c *Counter) Learn(m Model, input, output Pair) {
	if m.Estimated {
		c.factors.learn(m.Name, input, output)
	}
}

// Prompt returns the tokens of a request's prompt: of its texts, and what the
// format adds to them. They are the encoding's; see [Model.Input]. It is the sum of
// Message over all messages, and Rest.
func (c *Counter) Prompt(m Model, r *dialect.Request) int64 {
	var texts, extra int64
	if c.memo != nil && worthwhile(r) {
		texts = c.memo.messages(m, r)
	} else {
		add := func(text []byte) { texts += int64(m.Encoding.Count(text)) }
		for i := range r.Messages() {
			extra += r.Message(i, m.Name, add)
		}
	}
	return texts + extra + c.Rest(m, r)
}

// Message returns the tokens of message i. A Memo knows long ones.
func (c *Counter) Message(m Model, r *dialect.Request, i int) int64 {
	return c.memo.message(m, r, i)
}

// Rest returns the tokens of all of a request's prompt but its messages.
func (c *Counter) Rest(m Model, r *dialect.Request) int64 {
	var texts int64
	extra := r.Rest(m.Name, func(text []byte) { texts += c.memo.text(m, text) })
	return texts + extra
}
