package reference

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

var rewrite = flag.Bool("rewrite", false, "write the schema and the tables of docs/configuration.md anew")

// Tests may change the working directory.
var (
	root = func() string {
		dir, err := filepath.Abs(filepath.Join("..", "..", ".."))
		if err != nil {
			panic(err)
		}
		return dir
	}()
	docs = filepath.Join(root, "docs") // where the generated files are
)

// TestGenerated: the schema and the tables in docs are those of keys.go.
func TestGenerated(t *testing.T) {
	const how = "run go generate ./internal/config/reference and read the difference"
	file := filepath.Join(docs, "configuration.schema.json")
	if *rewrite {
		if err := os.WriteFile(file, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(Schema()) {
		t.Errorf("%s is not up to date; %s", file, how)
	}
	file = filepath.Join(docs, "configuration.md")
	for _, section := range Sections {
		name := strings.TrimSpace("keys " + strings.TrimSuffix(section, "[]"))
		if *rewrite {
			if err := bench.WriteSection(file, name, Table(section)); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("<!-- begin %s -->\n%s<!-- end %s -->\n", name, Table(section), name); !strings.Contains(string(text), want) {
			t.Errorf("%s has another table %q; %s", file, name, how)
		}
	}
}

// TestTables: each key has a line in one table, but for those that only hold others.
func TestTables(t *testing.T) {
	all := ""
	for _, section := range Sections {
		all += Table(section)
	}
	for _, k := range keys {
		if n := strings.Count(all, " | "+k.what+" |\n"); n == 0 && !k.silent() {
			t.Errorf("%s is in no table", k.path)
		}
	}
}

// facts is a configuration as text.
func facts(t *testing.T, c *config.Config) string {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range c.Budgets { // it marshals to {}
		data = append(data, l.Location.String()...)
	}
	return string(data)
}

// withoutKey drops the last line of a file that begins with a key, or what is above it
// too, where nothing else would be left.
func withoutKey(text, key string) string {
	lines := strings.Split(text, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if !strings.HasPrefix(strings.TrimLeft(lines[i], " -"), key+": ") {
			continue
		}
		j := i
		for j > 0 && strings.HasSuffix(lines[j-1], ":") && !strings.HasPrefix(lines[j-1], "budgets") {
			j--
		}
		return strings.Join(append(lines[:j:j], lines[i+1:]...), "\n")
	}
	return text
}
