package hostile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"
)

// ChatPath is the path of a row that names none.
const ChatPath = "/v1/chat/completions"

// Case is a row.
type Case struct {
	Kind   string // the command
	Title  string
	Path   string
	Method string // "" is POST
	Steps  []Step
	Policy string // "" if the row goes by the defaults
	Envoy  string // why a real Envoy does not get it; "" if it does
	Unary  bool
}

// Step is a line of a row.
type Step struct {
	Op   string
	Text []byte // without its macros
	Line string // as it is written, the name included
}

// kinds are the commands, with the lines that each of them knows.
var kinds = map[string][]string{
	"request":  {"header", "body"},
	"answer":   {"header", "body", "status", "type", "say", "data", "raw", "bodyless", "end", "trailers", "reset", "stop"},
	"messages": {"header", "body", "request-headers", "request-body", "request-trailers", "response-headers", "response-body", "response-trailers", "empty", "reset", "stop"},
	"see":      {"test"},
}

// Parse reads a row. The error says what is wrong with it.
func Parse(d *datadriven.TestData) (*Case, error) {
	known, ok := kinds[d.Cmd]
	if !ok {
		return nil, fmt.Errorf("%s: no command %q", d.Pos, d.Cmd)
	}
	c := &Case{Kind: d.Cmd, Path: ChatPath}
	for i, a := range d.CmdArgs {
		if i > 0 {
			c.Title += " "
		}
		c.Title += a.String()
	}
	if c.Title == "" {
		return nil, fmt.Errorf("%s: the row has no title", d.Pos)
	}
	for line := range strings.Lines(d.Input) {
		line = strings.TrimSuffix(line, "\n")
		op, rest, _ := strings.Cut(line, " ")
		text, err := Expand(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", d.Pos, op, err)
		}
		switch op {
		case "api":
			c.Path = string(text)
		case "method":
			c.Method = string(text)
		case "policy":
			c.Policy = rest
			c.Envoy = "it has settings of its own"
		case "envoy":
			c.Envoy = rest
		case "unary":
			c.Unary = true
		default:
			if !slices.Contains(known, op) {
				return nil, fmt.Errorf("%s: a %s has no line %q", d.Pos, d.Cmd, op)
			}
			c.Steps = append(c.Steps, Step{op, text, line})
		}
	}
	return c, nil
}

// Header returns the name and the value of a header line.
func (s Step) Header() (name, value string) {
	name, value, _ = strings.Cut(string(s.Text), ":")
	return name, strings.TrimPrefix(value, " ")
}

// Body is the request's body: the row's own, or one of the API in which nothing is wrong.
func (c *Case) Body() []byte {
	for _, s := range c.Steps {
		if s.Op == "body" {
			return s.Text
		}
	}
	if b, ok := plain[c.Path]; ok {
		return []byte(b[map[bool]int{true: 1}[c.Unary]])
	}
	panic("hostile: no plain request is known for " + c.Path)
}

// plain are requests in which nothing is wrong, streamed and not, by the path of their API.
var plain = map[string][2]string{
	ChatPath: {
		`{"model":"gpt-4o","stream":true,"messages":[]}`,
		`{"model":"gpt-4o","messages":[]}`,
	},
}

// Bytes are those of a piece of an answer; ok is false for other lines.
func (s Step) Bytes() (b []byte, ok bool) {
	switch s.Op {
	case "raw":
		return s.Text, true
	case "data":
		return slices.Concat([]byte("data: "), s.Text, []byte("\n\n")), true
	case "say":
		return fmt.Appendf(nil, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%s}}]}\n\n", strconv.Quote(string(s.Text))), true
	}
	return nil, false
}

// maxText bounds what a line's text comes to, in bytes.
const maxText = 64 << 20

var errMacro = errors.New(`a macro is ${"…"} or ${N*"…"}, with a string of Go, and all of them come to 64 MiB at most`)

// Expand returns a text with its macros carried out.
func Expand(s string) ([]byte, error) {
	var out []byte
	for {
		plain, rest, found := strings.Cut(s, "${")
		if out = append(out, plain...); !found {
			return out, nil
		}
		n := 1
		if count, after, ok := strings.Cut(rest, `*"`); ok {
			if i, err := strconv.Atoi(count); err == nil {
				n, rest = i, `"`+after
			}
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, errMacro
		}
		text, err := strconv.Unquote(quoted)
		rest, closed := strings.CutPrefix(rest[len(quoted):], "}")
		if err != nil || !closed || n < 0 || len(text) > 0 && n > (maxText-len(out))/len(text) {
			return nil, errMacro
		}
		out = append(out, strings.Repeat(text, n)...)
		s = rest
	}
}

// AnswerType is the content type of an answer in which nothing is wrong.
func (c *Case) AnswerType() string {
	if c.Unary {
		return "application/json"
	}
	return "text/event-stream"
}

// Answer is what the upstream's answer begins with.
func (c *Case) Answer() (status, contentType string, headers [][2]string, bodyless bool) {
	status, contentType = "200", c.AnswerType()
	for _, s := range c.Steps {
		switch s.Op {
		case "status":
			status = string(s.Text)
		case "type":
			contentType = string(s.Text)
		case "header":
			name, value := s.Header()
			headers = append(headers, [2]string{name, value})
		case "bodyless":
			bodyless = true
		}
	}
	return status, contentType, headers, bodyless
}
