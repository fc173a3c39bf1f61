package dialect

import (
	"bytes"
	"slices"
)

// Tools reach the model as text: their JSON schemas are rewritten as types of
// TypeScript. OpenAI does not document it for its own models, but users found it
// out (openai-chat-tokens), and the harmony format of gpt-oss does it in public.
//
//	namespace functions {
//
//	// Get the current weather in a given location
//	type get_current_weather = (_: {
//	// The city and state, e.g. San Francisco, CA
//	location: string,
//	unit?: "celsius" | "fahrenheit",
//	}) => any;
//
//	} // namespace functions
//
// What has no such form is written as the JSON it is, in a comment: nothing of a
// schema is free. References ($ref) are not followed. A long text is handed out in
// pieces, which end with a line: a token more or less for each at most.

const (
	// maxSchemaDepth bounds the nesting of schemas; what is deeper stays JSON. The
	// API accepts ten levels.
	maxSchemaDepth = 10
	// maxRequired bounds how many names of required properties are looked at.
	// Beyond, properties count as optional, which is a token more for each.
	maxRequired = 32
	// maxIgnored bounds the values of keywords that have no form and are left out,
	// in bytes.
	maxIgnored = 64
	// maxToolsText is how long the text grows, in bytes, before it is handed out at
	// the end of a tool or property.
	maxToolsText = 32 << 10
)

// toolsText writes the text of tools.
type toolsText struct {
	t   *promptTexts
	out []byte
}

// tools hands out the text of an array of tools (or functions, which are tools
// without their wrapping). It reports whether there are any.
func (t *promptTexts) tools(at span, wrapped bool) bool {
	w := toolsText{t: t, out: make([]byte, 0, min(at.end-at.start, maxToolsText))}
	open := false
	for tool := range elements(t.body, at) {
		function := tool
		if wrapped {
			function = t.member(tool, `"function"`)
		}
		name := span{}
		if function.end > 0 {
			name = t.member(function, `"name"`)
		}
		if name.end == 0 {
			t.count(tool.of(t.body)) // a tool of another kind
			continue
		}
		if !open {
			w.write("namespace functions {\n\n")
			open = true
		}
		if wrapped {
			w.wrapping(tool, function)
		}
		w.function(function, name)
		w.flush()
	}
	if open {
		w.write("} // namespace functions")
		t.count(w.out)
	}
	return open
}

// member is the value of the first member with the given raw name; its end is 0
// if there is none.
func (t *promptTexts) member(object span, raw string) span {
	for name, value := range members(t.body, object) {
		if string(name.of(t.body)) == raw {
			return value
		}
	}
	return span{}
}

// flush hands out what has been written if it is long.
func (w *toolsText) flush() {
	if len(w.out) > maxToolsText {
		w.t.count(w.out)
		w.out = w.out[:0]
	}
}

func (w *toolsText) write(s string) { w.out = append(w.out, s...) }

// text writes a string unquoted, and anything else as it is.
func (w *toolsText) text(at span) {
	v := at.of(w.t.body)
	if v[0] == '"' {
		v = unquote(v, w.t.emptyScratch())
	}
	w.out = append(w.out, v...)
}

func (w *toolsText) indent(n int) {
	for range n {
		w.write("  ")
	}
}

// comment writes lines of comment. Only the first is indented: a description of
// line feeds must not become much longer than it is.
func (w *toolsText) comment(at span, depth int) {
	v := at.of(w.t.body)
	if v[0] == '"' {
		v = unquote(v, w.t.emptyScratch())
	}
	w.indent(depth)
	for line := range bytes.Lines(v) {
		w.write("// ")
		w.out = append(w.out, bytes.TrimSuffix(line, []byte("\n"))...)
		w.write("\n")
	}
}

// keyword writes a member that has no form of its own as a comment.
func (w *toolsText) keyword(name, value span, depth int) {
	w.indent(depth)
	w.write("// ")
	w.text(name)
	w.write(": ")
	w.out = append(w.out, value.of(w.t.body)...)
	w.write("\n")
}

// wrapping writes what a tool says beside its function.
func (w *toolsText) wrapping(tool, function span) {
	for key, value := range members(w.t.body, tool) {
		if value == function {
			continue
		}
		switch string(key.of(w.t.body)) {
		case `"type"`, `"cache_control"`:
			if value.end-value.start <= maxIgnored {
				continue
			}
		}
		w.keyword(key, value, 0)
	}
}

// function writes one function as a type.
func (w *toolsText) function(function, name span) {
	body := w.t.body
	var parameters span
	for key, value := range members(body, function) {
		switch string(key.of(body)) {
		case `"name"`:
		case `"description"`:
			w.comment(value, 0)
		case `"parameters"`:
			parameters = value
		case `"strict"`, `"type"`: // the latter in the Responses API
			if value.end-value.start > maxIgnored {
				w.keyword(key, value, 0)
			}
		default:
			w.keyword(key, value, 0)
		}
	}
	var s schema
	takes := parameters.end > 0 && body[parameters.start] != 'n' // null
	if takes && body[parameters.start] == '{' {
		s = w.read(parameters)
		takes = !w.empty(s)
	}
	if !takes {
		w.head(s, 0)
		s.kind = span{}
	}
	w.write("type ")
	w.text(name)
	if takes {
		w.write(" = (_: ")
		w.schema(parameters, 0)
		w.write(") => any;\n\n")
		return
	}
	w.write(" = () => any;")
	w.leftovers(s)
	w.write("\n\n")
}

// schema is where the keywords of a JSON schema stand; an end is 0 for what is
// absent, and for what has been written.
type schema struct {
	at, description                 span
	kind, enum, variants, items     span
	properties, required, byDefault span
}

// read finds the keywords of a schema; it finds none in what is no object.
func (w *toolsText) read(at span) (s schema) {
	s.at = at
	for key, value := range members(w.t.body, at) {
		if p := s.place(key.of(w.t.body)); p != nil {
			*p = value
		}
	}
	return s
}

// place is where a keyword of a schema belongs, or nil if it has no form.
func (s *schema) place(raw []byte) *span {
	switch string(raw) {
	case `"description"`:
		return &s.description
	case `"type"`:
		return &s.kind
	case `"enum"`:
		return &s.enum
	case `"anyOf"`, `"oneOf"`:
		return &s.variants
	case `"items"`:
		return &s.items
	case `"properties"`:
		return &s.properties
	case `"required"`:
		return &s.required
	case `"default"`:
		return &s.byDefault
	}
	return nil
}

// empty says that the parameters of a function are none.
func (w *toolsText) empty(s schema) bool {
	for range members(w.t.body, s.properties) {
		return false
	}
	object := s.kind.end == 0 || string(s.kind.of(w.t.body)) == `"object"`
	return object && s.enum.end == 0 && s.variants.end == 0 && s.items.end == 0
}

// head writes what stands in front of a type: the description, and what has no
// form.
func (w *toolsText) head(s schema, depth int) {
	body := w.t.body
	if s.description.end > 0 {
		w.comment(s.description, depth)
	}
	for key, value := range members(body, s.at) {
		if p := s.place(key.of(body)); p != nil {
			if *p != value { // oneOf beside anyOf
				w.keyword(key, value, depth)
			}
			continue
		}
		switch string(key.of(body)) {
		case `"additionalProperties"`, `"$schema"`, `"strict"`:
			if value.end-value.start <= maxIgnored {
				continue
			}
		}
		w.keyword(key, value, depth)
	}
}

// schema writes the type that a schema describes, and all else that it says.
func (w *toolsText) schema(at span, depth int) {
	if w.t.body[at.start] != '{' || depth > maxSchemaDepth {
		w.out = append(w.out, at.of(w.t.body)...)
		return
	}
	s := w.read(at)
	w.head(s, depth)
	w.types(&s, depth)
	w.leftovers(s)
}

// types writes a schema's type, and clears what it has written.
func (w *toolsText) types(s *schema, depth int) {
	body := w.t.body
	switch kind := s.kind; {
	case isArray(body, s.enum):
		w.union(s.enum, func(v span) { w.out = append(w.out, v.of(body)...) })
		s.enum = span{}
	case isArray(body, s.variants):
		w.union(s.variants, func(v span) { w.schema(v, depth+1) })
		s.variants = span{}
	case isArray(body, kind):
		s.kind = span{}
		w.union(kind, func(v span) { w.kind(v.of(body), s, depth) })
	case kind.end > 0:
		s.kind = span{}
		w.kind(kind.of(body), s, depth)
	case s.properties.end > 0: // it may leave out its type
		w.kind([]byte(`"object"`), s, depth)
	default:
		w.write("any")
	}
	if s.kind.end-s.kind.start <= maxIgnored {
		s.kind = span{} // beside values, it says nothing
	}
}

func isArray(body []byte, at span) bool { return at.end > 0 && body[at.start] == '[' }

// union writes the elements of an array, with bars between them.
func (w *toolsText) union(at span, element func(span)) {
	first := true
	for v := range elements(w.t.body, at) {
		if !first {
			w.write(" | ")
		}
		first = false
		element(v)
	}
}

// kind writes one of the types that a schema names.
func (w *toolsText) kind(raw []byte, s *schema, depth int) {
	switch string(raw) {
	case `"string"`:
		w.write("string")
	case `"boolean"`:
		w.write("boolean")
	case `"null"`:
		w.write("null")
	case `"number"`, `"integer"`:
		w.write("number")
	case `"array"`:
		if s.items.end == 0 {
			w.write("any")
		} else {
			items := s.items
			s.items = span{}
			w.schema(items, depth+1)
		}
		w.write("[]")
	case `"object"`:
		if s.properties.end == 0 || w.t.body[s.properties.start] != '{' {
			w.write("object")
			return
		}
		w.write("{\n")
		w.properties(s, depth)
		w.write("}")
	default:
		w.out = append(w.out, raw...)
	}
}

// properties writes the members of an object's type, one a line.
func (w *toolsText) properties(s *schema, depth int) {
	body := w.t.body
	required, all := w.required(*s)
	properties := s.properties
	s.properties = span{}
	said := 0 // of the required names
	for key, value := range members(body, properties) {
		p := w.read(value)
		w.head(p, depth)
		w.indent(depth)
		w.text(key)
		if slices.ContainsFunc(required, func(r []byte) bool { return bytes.Equal(r, key.of(body)) }) {
			said++
		} else {
			w.write("?")
		}
		w.write(": ")
		if body[value.start] != '{' || depth >= maxSchemaDepth {
			w.out = append(w.out, value.of(body)...)
			w.write(",\n")
			w.flush()
			continue
		}
		w.types(&p, depth+1)
		w.write(",")
		w.leftovers(p)
		w.write("\n")
		w.flush()
	}
	// The properties speak for the required ones, which need not be written down
	// then. Names of no property would be free.
	if all && said == len(required) {
		s.required = span{}
	}
}

// required returns the names of required properties, and whether these are all.
func (w *toolsText) required(s schema) (names [][]byte, all bool) {
	if !isArray(w.t.body, s.required) {
		return nil, false
	}
	for v := range elements(w.t.body, s.required) {
		if len(names) == maxRequired {
			return names, false
		}
		names = append(names, v.of(w.t.body))
	}
	return names, true
}

// leftovers writes the keywords that no type has written.
func (w *toolsText) leftovers(s schema) {
	if s.byDefault.end > 0 {
		w.write(" // default: ")
		w.out = append(w.out, s.byDefault.of(w.t.body)...)
	}
	for _, at := range [...]span{s.kind, s.enum, s.variants, s.items, s.properties, s.required} {
		if v := at.of(w.t.body); at.end > 0 && len(v) > len("{}") {
			w.write(" // ")
			w.out = append(w.out, v...)
		}
	}
}
