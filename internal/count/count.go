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
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// Options are what a Counter is made of. The zero value is useful.
type Options struct{}

// Counter counts prompts. It is safe for concurrent use.
type Counter struct{}

// New returns a Counter.
func New(Options) *Counter { return &Counter{} }

// Model is what is known of a request's model.
type Model struct {
	Name      string           // as the request has it
	Encoding  *tokens.Encoding // counts its texts
	Estimated bool             // the encoding is a stand-in for the model's own
}

// Model looks up a model by the name that a request gives it.
func (c *Counter) Model(name string) Model {
	encoding, known := tokens.ForModel(name)
	return Model{Name: name, Encoding: encoding, Estimated: !known}
}

// Prompt returns the tokens of a request's prompt: of its texts, and what the
// format adds to them.
func (c *Counter) Prompt(m Model, r *dialect.Request) int64 {
	var texts, extra int64
	add := func(text []byte) { texts += int64(m.Encoding.Count(text)) }
	for i := range r.Messages() {
		extra += r.Message(i, m.Name, add)
	}
	extra += r.Rest(m.Name, add)
	return texts + extra
}
