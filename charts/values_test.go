package charts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestReadme: the table of README.md is what the comments in values.yaml say.
func TestReadme(t *testing.T) {
	raw, err := os.ReadFile("tokenbudget/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	rows(t, &table, "", doc.Content[0])

	const file, begin, end = "tokenbudget/README.md", "<!-- begin values -->\n", "<!-- end values -->"
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	equal(t, file, before+begin+table.String()+end+after)
}

// rows writes a row for each key with a comment; one without is a section, which is not a value
// itself.
func rows(t *testing.T, table *strings.Builder, path string, mapping *yaml.Node) {
	t.Helper()
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name := path + key.Value
		comment := key.HeadComment
		if at := strings.LastIndex(comment, "\n\n"); at >= 0 {
			comment = comment[at+2:]
		}
		comment = strings.Join(strings.Fields(strings.ReplaceAll(comment, "#", "")), " ")
		switch {
		case comment == "" && value.Kind == yaml.MappingNode && len(value.Content) > 0:
			rows(t, table, name+".", value)
			continue
		case comment == "":
			t.Errorf("%s has no comment in values.yaml", name)
			continue
		}
		fmt.Fprintf(table, "| `%s` | %s | %s |\n", name, inline(t, name, value), comment)
	}
}

// inline is a default in one line.
func inline(t *testing.T, name string, value *yaml.Node) string {
	t.Helper()
	if name == "config" {
		return "1M tokens a day and 10M a month, of all together"
	}
	var v any
	if err := value.Decode(&v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return "`" + strings.ReplaceAll(string(text), `\u003e`, ">") + "`"
}

// TestSchema: the schema of config is the server's own, less what the chart sets.
func TestSchema(t *testing.T) {
	const file = "tokenbudget/values.schema.json"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("../docs/configuration.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema, config map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(own, &config); err != nil {
		t.Fatal(err)
	}
	delete(config, "$id")
	delete(config, "$schema")
	properties := config["properties"].(map[string]any)
	// The templates refuse it with what to do instead.
	properties["listen"] = map[string]any{}
	schema["properties"].(map[string]any)["config"] = config
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		t.Fatal(err)
	}
	equal(t, file, want.String())
}

// TestSchemaStrict: every section of the values that is not Kubernetes' own refuses unknown keys,
// and every value is known.
func TestSchemaStrict(t *testing.T) {
	raw, err := os.ReadFile("tokenbudget/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("tokenbudget/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var schema, values map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	known(t, "", schema, values)
}

func known(t *testing.T, path string, schema, values map[string]any) {
	t.Helper()
	properties, closed := schema["properties"].(map[string]any)
	if !closed || path == "config." {
		return
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s takes unknown keys", path)
	}
	for name, p := range properties {
		value, ok := values[name]
		if !ok && path+name != "global" {
			t.Errorf("%s%s is in the schema and not in values.yaml", path, name)
		}
		if section, ok := value.(map[string]any); ok {
			known(t, path+name+".", p.(map[string]any), section)
		}
	}
	for name := range values {
		if properties[name] == nil {
			t.Errorf("%s%s is in values.yaml and not in the schema", path, name)
		}
	}
}
