package config

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep lists and mappings may nest. The deepest known key needs 5.
const maxDepth = 16

// maxRetries bounds the bytes that are parsed again to find the line of a mistake:
// enough for a thousand lines, and about a second.
const maxRetries = 16 << 20

type node = yaml.Node

// document parses data and returns the root of its only document. If the file is not
// plain YAML it reports why and returns nil.
func (d *decoder) document(data []byte) *node {
	if len(data) > MaxFile {
		d.add(1, 1, "", "the file is larger than %d bytes", MaxFile)
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if d.characters(data); len(d.errs) > 0 {
		return nil // the parser would only report the same, and less clearly
	}
	doc, next, err := parseYAML(bytes.NewReader(data))
	switch {
	case err != nil:
		d.syntax(data, err)
		return nil
	case doc == nil || doc.Content[0].ShortTag() == "!!null":
		d.add(1, 1, "tokenbudget init writes a starter file", "the file is empty")
		return nil
	case next != nil:
		d.fail(next, "keep one and remove the --- between them", "a second document begins here")
		return nil
	}
	d.structure(doc.Content[0], 1)
	return doc.Content[0]
}

// characters reports what no configuration contains: text that is not UTF-8, control
// characters, line breaks other than LF and CRLF (which would make our line numbers
// differ from those of editors), and tabs as indentation.
func (d *decoder) characters(data []byte) {
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if indent := bytes.TrimLeft(line, " -"); bytes.HasPrefix(indent, []byte("\t")) && len(bytes.TrimSpace(indent)) > 0 {
			d.add(i+1, len(line)-len(indent)+1, "indent with spaces", "a tab in the indentation")
		}
		column := 1
		for rest := line; len(rest) > 0; column++ {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				d.add(i+1, column, "save the file as UTF-8", "the text is not UTF-8")
				break
			}
			if !allowed(r) {
				d.add(i+1, column, "remove it", "the character %U is not allowed", r)
				break
			}
			rest = rest[size:]
		}
	}
}

// allowed says whether r may stand in a line: the printable characters of YAML 1.2.2
// (section 5.1) without its unusual line breaks and without byte order marks.
func allowed(r rune) bool {
	switch r {
	case '\t':
		return true
	case '\u2028', '\u2029', '\ufeff':
		return false
	}
	return r >= ' ' && r <= '~' || r >= '\u00a0' && r <= '\ud7ff' || r >= '\ue000' && r <= '\ufffd' || r >= '\U00010000'
}

// parseYAML returns the first document, and the second one if there is another. Both
// are nil if there is none.
func parseYAML(r io.Reader) (doc, next *node, err error) {
	// The parser signals its internal errors by panics. A file that is loaded while the
	// server runs must not end the server.
	defer func() {
		if recover() != nil {
			doc, next, err = nil, nil, errors.New("the text is not YAML")
		}
	}()
	dec := yaml.NewDecoder(r)
	for _, n := range []**node{&doc, &next} {
		*n = new(node)
		if err := dec.Decode(*n); err != nil {
			*n = nil
			if errors.Is(err, io.EOF) {
				return doc, next, nil
			}
			return nil, nil, err
		}
	}
	return doc, next, nil
}

// yamlError is the form of the parser's errors. Its line is off by one or that of an
// enclosing mapping in many cases, hence badLine.
var yamlError = regexp.MustCompile(`^yaml: (?:line \d+: )?(.*)$`)

// syntaxHints explain the parser's more frequent messages.
var syntaxHints = map[string]string{
	"mapping values are not allowed in this context": "the indentation is wrong, or a value that contains a colon lacks quotes",
	"found character that cannot start any token":    "put the value in quotes",
	"did not find expected key":                      "the indentation is wrong, or text follows a quoted value",
	"could not find expected ':'":                    "a key needs a colon and a space",
	"did not find expected '-' indicator":            "the indentation is wrong",
	"found unexpected end of stream":                 "a quote is not closed",
	"did not find expected ',' or ']'":               "a [ is not closed, or a value with ${…} lacks quotes",
	"did not find expected ',' or '}'":               "a { is not closed, or a value with ${…} lacks quotes",
}

const aliasHint = "write the value out, or put it in quotes if it begins with *"

// syntax reports text that the parser cannot read.
func (d *decoder) syntax(data []byte, err error) {
	msg := err.Error()
	if m := yamlError.FindStringSubmatch(msg); m != nil {
		msg = m[1]
	}
	line, column := badLine(data)
	if strings.HasPrefix(msg, "unknown anchor") { // what follows may be the start of a secret
		d.add(line, column, aliasHint, "YAML aliases are not allowed")
		return
	}
	d.add(line, column, cmp.Or(syntaxHints[msg], "check indentation, quotes and brackets"), "malformed YAML: %s", msg)
}

// badLine returns the position of the first text which the parser cannot read: the
// line after the longest run of whole lines that it can.
func badLine(data []byte) (line, column int) {
	// How far the parser reads before it gives up bounds the search; usually the very
	// last line that it has seen is the bad one.
	seen := &countingReader{data: data}
	_, _, _ = parseYAML(seen) // it is known to fail; where is the question
	end := seen.n
	retries := maxRetries
	for end > 0 {
		start := bytes.LastIndexByte(data[:end-1], '\n') + 1
		line, column = bytes.Count(data[:start], []byte("\n"))+1, 1
		text := data[start:end]
		if trimmed := bytes.TrimLeft(text, " -"); len(bytes.TrimSpace(trimmed)) > 0 {
			column = 1 + len(text) - len(trimmed)
		}
		if retries -= start; retries < 0 {
			break
		}
		if _, _, err := parseYAML(bytes.NewReader(data[:start])); err == nil {
			break
		}
		end = start
	}
	return max(line, 1), max(column, 1)
}

// countingReader hands out data byte by byte and counts how many were asked for.
type countingReader struct {
	data []byte
	n    int
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.n == len(r.data) {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	p[0] = r.data[r.n]
	r.n++
	return 1, nil
}

// structure refuses what makes YAML expensive or ambiguous to read.
func (d *decoder) structure(n *node, depth int) {
	if depth > maxDepth {
		d.fail(n, "", "lists and mappings are nested more than %d deep", maxDepth)
		return
	}
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, aliasHint, "YAML aliases are not allowed")
		return
	case n.Anchor != "":
		d.fail(n, "remove the word with &, or put the value in quotes", "YAML anchors are not allowed")
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n, "remove the word with !, or put the value in quotes", "YAML tags are not allowed")
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && (child.Kind == yaml.MappingNode || child.Kind == yaml.SequenceNode) {
			d.fail(child, "", "a key must be plain text")
		}
		d.structure(child, depth+1)
	}
}

// quote shows text from the file in a message: on one line, and not too much of it.
func quote(s string) string { return `"` + shorten(s) + `"` }

// shorten makes text fit for a message.
func shorten(s string) string {
	const most = 40 // characters
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
