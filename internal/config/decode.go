package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A decoder turns a tree of YAML nodes into values. It reports every mistake and goes
// on, so that one run finds them all; the values count only if there was none.
type decoder struct {
	file     string
	env      func(string) (string, bool)
	remote   bool // the files of certificates are those of another process, and not checked
	errs     Errors
	more     int // mistakes beyond maxErrors
	warnings Errors
	at       map[any]*node // pointer to a value of the configuration → where the file sets it
}

// A setter decodes the value of one key.
type setter func(key, n *node)

// fields are the keys that a mapping may have.
type fields map[string]setter

// refusals are keys that a mapping cannot have, for reasons worth telling.
type refusals map[string]refusal

type refusal struct{ msg, hint string }

// later refuses a key of the product that this version does not act on yet.
func later(what, hint string) refusal { return refusal{what + " is not supported yet", hint} }

// section is a nested mapping with known keys.
func (d *decoder) section(f fields, r refusals) setter {
	return func(key, n *node) { d.object(quote(key.Value), n, f, r) }
}

// object decodes a mapping with known keys, and returns those it has. what names it
// in messages.
func (d *decoder) object(what string, n *node, f fields, r refusals) map[string]*node {
	seen := make(map[string]*node)
	d.mapping(what, n, func(key, value *node) {
		seen[key.Value] = key
		if set, ok := f[key.Value]; ok {
			set(key, value)
		} else if no, ok := r[key.Value]; ok {
			d.fail(key, no.hint, "%s", no.msg)
		} else {
			known := slices.Sorted(maps.Keys(f))
			hint := didYouMean(key.Value, slices.AppendSeq(known, maps.Keys(r)))
			d.fail(key, cmp.Or(hint, "known here: "+strings.Join(known, ", ")), "unknown key %s", quote(key.Value))
		}
	})
	return seen
}

// mapping calls each for the keys of a mapping, in their order.
func (d *decoder) mapping(what string, n *node, each func(key, value *node)) {
	if !d.expect(n, yaml.MappingNode, what) {
		return
	}
	first := make(map[string]*node)
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			continue // structure has reported it
		}
		if twin := first[key.Value]; twin != nil {
			d.fail(key, "remove one; the first is in line "+strconv.Itoa(twin.Line), "the key %s occurs twice", quote(key.Value))
			continue
		}
		first[key.Value] = key
		each(key, value)
	}
}

// items returns the elements of a list of 1 to most. A scalar is a list of one if
// single is set. If it is not such a list, that is reported.
func (d *decoder) items(key, n *node, most int, single bool) []*node {
	if single && n.Kind == yaml.ScalarNode {
		return []*node{n}
	}
	if !d.expect(n, yaml.SequenceNode, quote(key.Value)) {
		return nil
	}
	switch count := len(n.Content); {
	case count == 0:
		d.fail(n, "put something in, or remove the key", "the list %s is empty", quote(key.Value))
	case count > most:
		d.fail(n.Content[most], "remove some", "the list %s has %d elements, more than %d", quote(key.Value), count, most)
		return nil
	}
	return n.Content
}

// value decodes a scalar with parse.
func value[T any](d *decoder, dst *T, parse func(string) (T, error)) setter {
	return func(key, n *node) { scalar(d, key, n, quote(n.Value), dst, parse) }
}

// secret is value for text which no message may show.
func secret(d *decoder, dst *string, parse func(string) (string, error)) setter {
	return func(key, n *node) { scalar(d, key, n, "(hidden)", dst, parse) }
}

// list decodes a list of up to most scalars with parse, no two of them equal. A
// scalar is a list of one if single is set.
func list[T comparable](d *decoder, dst *[]T, most int, single bool, parse func(string) (T, error)) setter {
	return func(key, n *node) {
		d.at[dst] = n
		for _, item := range d.items(key, n, most, single) {
			var v T
			switch {
			case !scalar(d, key, item, quote(item.Value), &v, parse):
			case slices.Contains(*dst, v):
				d.fail(item, "remove one", "%s %s is listed twice", shorten(key.Value), quote(item.Value))
			default:
				*dst = append(*dst, v)
			}
		}
	}
}

// scalar expands the variables of n, parses it and stores the result and where it
// came from, or reports why not. shown stands for the value in messages; it is what
// the file says before expansion, because that is what the reader will look for.
func scalar[T any](d *decoder, key, n *node, shown string, dst *T, parse func(string) (T, error)) bool {
	if !d.expect(n, yaml.ScalarNode, quote(key.Value)) {
		return false
	}
	prefix := shorten(key.Value) + " " + shown + ": "
	s, errs := expand(n.Value, d.env)
	for _, err := range errs {
		d.reject(n, prefix, err)
	}
	if len(errs) > 0 {
		return false
	}
	// What variables hold is text. What the file holds must look like it, or else
	// 010 and 1e3 would be names that YAML tools write back as 8 and 1000.
	if _, text := any(dst).(*string); text && s == n.Value && n.ShortTag() != "!!str" {
		d.fail(n, "put it in quotes", "%s must be text, not %s", quote(key.Value), kind(n))
		return false
	}
	v, err := parse(s)
	if err != nil {
		d.reject(n, prefix, err)
		return false
	}
	*dst = v
	d.at[dst] = n
	return true
}

// expect reports it if n has no value, or not one of the given kind.
func (d *decoder) expect(n *node, want yaml.Kind, what string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Style&yaml.TaggedStyle != 0:
		return false // structure has reported it
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		d.fail(n, "give it one, or remove the key", "%s has no value", what)
		return false
	case n.Kind == want:
		return true
	}
	var must, hint string
	switch want {
	case yaml.MappingNode:
		must, hint = "a mapping", "write {key: value}, or key: value in indented lines"
	case yaml.SequenceNode:
		must, hint = "a list", "write [a, b], or - a in indented lines"
	default:
		must = "a single value"
	}
	d.fail(n, hint, "%s must be %s, not %s", what, must, kind(n))
	return false
}

// require reports that a mapping lacks a key.
func (d *decoder) require(n *node, seen map[string]*node, what, key, example string) {
	if n.Kind == yaml.MappingNode && seen[key] == nil {
		d.fail(n, "such as "+example, "%s needs the key %s", what, quote(key))
	}
}

// reject reports what a parser of single values found.
func (d *decoder) reject(n *node, prefix string, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Msg: err.Error()}
	}
	d.fail(n, e.Hint, "%s%s", prefix, e.Msg)
}

// fail reports a mistake at n.
func (d *decoder) fail(n *node, hint, format string, args ...any) {
	d.add(n.Line, n.Column, hint, format, args...)
}

func (d *decoder) add(line, column int, hint, format string, args ...any) {
	if len(d.errs) == maxErrors {
		d.more++
		return
	}
	d.errs = append(d.errs, &Error{d.file, line, column, fmt.Sprintf(format, args...), hint})
}

// warn reports what is allowed but probably not meant.
func (d *decoder) warn(n *node, hint, format string, args ...any) {
	if len(d.warnings) < maxErrors {
		d.warnings = append(d.warnings, &Error{d.file, n.Line, n.Column, fmt.Sprintf(format, args...), hint})
	}
}

// result sorts what was found, and returns the mistakes.
func (d *decoder) result() error {
	d.warnings.sort()
	if len(d.errs) == 0 {
		return nil
	}
	d.errs.sort()
	if d.more > 0 {
		last := d.errs[len(d.errs)-1]
		d.errs = append(d.errs, &Error{d.file, last.Line, last.Column, fmt.Sprintf("there are %d more mistakes", d.more), "mend those above first"})
	}
	return d.errs
}

// kind says in plain words what a node is.
func kind(n *node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch tag := n.ShortTag(); tag {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	default:
		return strings.TrimLeft(tag, "!")
	}
}
