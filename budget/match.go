package budget

import (
	"errors"
	"fmt"

	"github.com/tokenbudget/tokenbudget/internal/glob"
)

// Property is what of a request a [Condition] looks at.
type Property uint8

// The properties.
const (
	OfIdentity Property = iota // the identity Name; of a request without it, [None]
	OfModel                    // Request.Model; of a request without one, [None]
	OfPath                     // Request.Path
	OfHeader                   // the header Name, in lower case; a request without it does not match at all
)

// ByModel and ByPath are the names in [Limit.Per] that count per model and per path
// instead of per identity.
const (
	ByModel = "model"
	ByPath  = "path"
)

// Condition is one condition of a limit: what it looks at must match one of the
// globs, in which * stands for any text, also none. Everything else stands for
// itself, in the same letter case.
type Condition struct {
	Property Property
	Name     string   // of the identity or the header
	Any      []string // globs; never empty
}

// source is where a value of a request is found.
type source struct {
	property Property
	name     string
}

// sourceOf returns what a name in [Limit.Per] stands for.
func sourceOf(per string) source {
	switch per {
	case ByModel:
		return source{property: OfModel}
	case ByPath:
		return source{property: OfPath}
	}
	return source{OfIdentity, per}
}

// of returns the value, None if there is none. Of several headers or identities of
// a name the first counts.
func (s *source) of(q *Request) string {
	v := ""
	switch s.property {
	case OfIdentity:
		v = valueOf(s.name, q.Identities)
	case OfModel:
		v = q.Model
	case OfPath:
		v = q.Path
	case OfHeader:
		v = valueOf(s.name, q.Headers)
	}
	if v == "" {
		return None
	}
	return v
}

func valueOf(name string, ids []Identity) string {
	for i := range ids {
		if ids[i].Name == name && ids[i].Value != "" {
			return ids[i].Value
		}
	}
	return ""
}

// condition is a [Condition] made ready.
type condition struct {
	source
	any []glob.Pattern
}

func (c *condition) holds(q *Request) bool {
	if c.property == OfHeader && valueOf(c.name, q.Headers) == "" {
		return false
	}
	v := c.of(q)
	for i := range c.any {
		if c.any[i].Match(v) {
			return true
		}
	}
	return false
}

// concerns reports whether the limit has to do with q. It does not allocate.
func (r *rule) concerns(q *Request) bool {
	for i := range r.match {
		if !r.match[i].holds(q) {
			return false
		}
	}
	return true
}

func newConditions(cs []Condition) []condition {
	out := make([]condition, len(cs))
	for i, c := range cs {
		out[i].source = source{c.Property, c.Name}
		for _, g := range c.Any {
			out[i].any = append(out[i].any, glob.Compile(g))
		}
	}
	return out
}

// check returns an error that says what is wrong.
func (c Condition) check() error {
	named := c.Property == OfIdentity || c.Property == OfHeader
	switch {
	case c.Property > OfHeader:
		return fmt.Errorf("unknown property %d: use OfIdentity, OfModel, OfPath or OfHeader", c.Property)
	case named && (c.Name == "" || len(c.Name) > maxName):
		return fmt.Errorf("the name must have 1 to %d bytes", maxName)
	case !named && c.Name != "":
		return fmt.Errorf("the name %q belongs to an identity or a header", c.Name)
	case len(c.Any) == 0:
		return errors.New("there is no glob that could match; use * for everything")
	}
	return nil
}
