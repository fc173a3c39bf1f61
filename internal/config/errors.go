package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors bounds how many mistakes are reported one by one.
const maxErrors = 100

// Error is one mistake.
type Error struct {
	File   string // as given to Load or Parse
	Line   int    // from 1; 0 if the mistake is not one of a file, as in ParseAmount
	Column int    // from 1, in characters
	Msg    string // what is wrong
	Hint   string // what to do about it; may be empty
}

// Error returns "file:line:column: msg (hint)" on one line, or "msg (hint)" if the
// mistake has no position.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Errors are the mistakes of one file, sorted by position.
type Errors []*Error

// Error returns one line for each mistake, without a final newline.
func (es Errors) Error() string { return strings.Join(es.lines(), "\n") }

// Unwrap lets [errors.As] find an *Error.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

func (es Errors) lines() []string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return lines
}

func (es Errors) sort() {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// mistake is what the parsers of single values return: an *Error which whoever
// knows the position will complete.
func mistake(hint, format string, args ...any) error {
	return &Error{Msg: fmt.Sprintf(format, args...), Hint: hint}
}
