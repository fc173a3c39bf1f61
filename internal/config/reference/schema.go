package reference

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SchemaURL is where the newest schema can be read.
const SchemaURL = "https://raw.githubusercontent.com/tokenbudget/tokenbudget/main/docs/configuration.schema.json"

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// Schema returns the JSON Schema of the configuration file.
func Schema() []byte {
	s := schema{ // without a title, which editors would show with every key
		"$schema":     "http://json-schema.org/draft-07/schema#",
		"$id":         SchemaURL,
		"description": "Configuration of tokenbudget.",
	}
	maps.Copy(s, object().mapping(""))
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		panic(err) // it is made of strings, numbers and the like
	}
	return b.Bytes()
}

// schema is that of a key.
func (k key) schema() schema {
	s := k.form.schema(k.path)
	s["description"] = sentence(plain(k.what))
	if must := k.form.must(); must != "" {
		s["description"] = sentence(plain(k.what)) + "\n\n" + sentence("it is "+must)
	}
	if !strings.HasPrefix(k.def, "(") && k.def != "" {
		s["default"] = literal(k.def)
	}
	var examples []any
	for _, e := range k.examples() {
		examples = append(examples, literal(e))
	}
	if len(examples) > 0 && len(k.form.words()) == 0 {
		s["examples"] = examples
	}
	return s
}

// examples are values of the key, as the file would say them.
func (k key) examples() []string {
	var all []string
	if k.example != "" {
		all = append(all, k.example)
	}
	if k.form.one != nil {
		all = append(all, k.form.one.good...)
	}
	return all
}

func (f form) must() string {
	if f.one == nil {
		return ""
	}
	return f.one.must
}

func (f form) words() []string {
	if f.one == nil {
		return nil
	}
	return f.one.words
}

// link is one of Markdown.
var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// plain is Markdown without its links.
func plain(markdown string) string { return link.ReplaceAllString(markdown, "$1") }

// sentence makes words one.
func sentence(words string) string {
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + words[1:] + "."
}

// literal is a value as JSON has it.
func literal(text string) any {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		panic(fmt.Sprintf("%q is not YAML: %v", text, err))
	}
	return v
}

// schema is that of values of this form; the keys of a mapping are below path.
func (f form) schema(path string) schema {
	var kinds []schema
	if f.like != "" {
		kinds = append(kinds, lookup(f.like).form.schema(f.like))
	}
	if f.one != nil {
		kinds = append(kinds, f.one.schema()...)
	}
	if f.many != nil {
		s := schema{"type": "array", "minItems": 1, "maxItems": f.many.most, "items": f.many.form.schema(path + "[]")}
		if f.many.form.one != nil {
			s["uniqueItems"] = true
		}
		kinds = append(kinds, s)
	}
	if f.keys != nil {
		kinds = append(kinds, f.mapping(path))
	}
	if len(kinds) == 1 {
		return kinds[0]
	}
	return schema{"anyOf": kinds}
}

// mapping is the schema of a mapping with the keys below path.
func (f form) mapping(path string) schema {
	properties := make(map[string]schema)
	var need []string
	var names any = false
	for _, k := range below(path) {
		name := k.name()
		if name == anyName {
			names = k.schema()
			continue
		}
		properties[name] = k.schema()
		if k.def == required {
			need = append(need, name)
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": names}
	if len(need) > 0 {
		s["required"] = need
	}
	if names := f.keys.names; names != nil {
		s["propertyNames"] = names.plain(names.pattern)
	}
	if f.keys.most > 0 {
		s["maxProperties"] = f.keys.most
	}
	maps.Copy(s, rules[path])
	return s
}

// schema has one or two alternatives.
func (o *single) schema() []schema {
	if len(o.words) > 0 {
		besides := *o
		besides.pattern, besides.must = strings.TrimPrefix(o.pattern+"|"+variable, "|"), cmp.Or(o.must, strings.Join(o.words, " or "))
		return []schema{{"enum": o.words}, besides.plain(besides.pattern)}
	}
	s := o.plain(o.pattern + "|" + variable)
	if o.kind != "" {
		s["type"] = []string{o.kind, "string"}
	}
	if o.kind == "integer" {
		s["minimum"], s["maximum"] = o.least, o.most
	}
	return []schema{s}
}

// plain is the schema of strings.
func (o *single) plain(pattern string) schema {
	s := schema{"type": "string", "pattern": pattern, "patternErrorMessage": "It must be " + o.must}
	if len(o.except) > 0 {
		s["not"] = schema{"enum": o.except}
	}
	return s
}

// anyName stands in a path for a name that the file chooses.
const anyName = "NAME"

// name is the last part of a key's path.
func (k key) name() string { return k.path[strings.LastIndex(k.path, ".")+1:] }

// below returns the keys of the mapping at path; "" is the whole file.
func below(path string) []key {
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool {
		rest := k.path
		if path != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(k.path, path+"."); !ok {
				return true
			}
		}
		return strings.ContainsAny(rest, ".[")
	})
}

// lookup returns the key at path.
func lookup(path string) key {
	i := slices.IndexFunc(keys, func(k key) bool { return k.path == path })
	if i < 0 {
		panic("no key " + path)
	}
	return keys[i]
}
