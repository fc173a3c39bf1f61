package reference

import (
	"fmt"
	"strings"
)

// Sections are the tables of the reference, by the path that their keys begin with. The
// first has what is in none of the others.
var Sections = []string{"", "budgets[]", "models[]", "identity.NAME[]"}

// Table returns the keys of a section as a table in Markdown.
func Table(section string) string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, k := range keys {
		if k.section() != section || k.silent() {
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(k.path, section), ".")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.form.name, k.defaultText(), k.what)
	}
	return b.String()
}

func (k key) section() string {
	for _, s := range Sections[1:] {
		if strings.HasPrefix(k.path, s+".") {
			return s
		}
	}
	return ""
}

// silent keys only hold others, and have no line of their own.
func (k key) silent() bool {
	f := k.form
	return f.one == nil && f.many == nil && f.like == "" && f.keys != nil && k.def == "" || k.path == "identity"
}

func (k key) defaultText() string {
	if words, ok := strings.CutPrefix(k.def, "("); ok {
		return strings.TrimSuffix(words, ")")
	}
	if k.def == "" {
		return ""
	}
	return "`" + k.def + "`"
}
