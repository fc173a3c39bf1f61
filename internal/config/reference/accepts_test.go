package reference

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tokenbudget/tokenbudget/internal/config"
)

// TestSchemaAccepts: every configuration of the project that the decoder takes is right
// by the schema.
func TestSchemaAccepts(t *testing.T) {
	dir := prepare(t)
	for _, kind := range []struct {
		pattern string
		files   func(text string) []string // in a file
		least   int                        // how many there are
		good    bool                       // all of them are right
	}{
		{"internal/config/testdata/working_*.yaml", itself, 10, true},
		{"internal/config/starter.yaml", itself, 1, true},
		{"examples/*/config.yaml", itself, 1, true},
		{"examples/*/*.yaml", embedded, 2, true},
		{"cmd/tokenbudget/testdata/*.txtar", archived, 10, false},
		{"README.md", fenced, 2, false},
	} {
		paths, err := filepath.Glob(filepath.Join(root, kind.pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: no files: %v", kind.pattern, err)
		}
		n := 0
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range kind.files(string(data)) {
				if !kind.good {
					if _, errs := byDecoder(t, dir, text); len(errs) > 0 {
						continue
					}
				}
				n++
				if err := bySchema(t, text); err != nil {
					t.Errorf("%s: %v in\n%s", path, err, text)
				}
			}
		}
		if n < kind.least {
			t.Errorf("%s: %d configurations, want %d", kind.pattern, n, kind.least)
		}
		t.Logf("%s: %d configurations", kind.pattern, n)
	}
	if !strings.HasPrefix(string(config.Starter()), "# yaml-language-server: $schema="+SchemaURL+"\n") {
		t.Error("the starter file does not begin with the line that tells editors of the schema")
	}
}

func itself(text string) []string { return []string{text} }

// embedded returns the blocks of a Kubernetes manifest that begin with a key of the
// configuration.
func embedded(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^  config\.yaml: \|\n((?:    .*\n|\n)+)`).FindAllStringSubmatch(text, -1) {
		all = append(all, regexp.MustCompile(`(?m)^    `).ReplaceAllString(m[1], ""))
	}
	return all
}

// archived returns the configurations of a txtar file.
func archived(text string) (all []string) {
	for _, f := range txtar.Parse([]byte(text)).Files {
		if strings.HasSuffix(f.Name, ".yaml") {
			all = append(all, string(f.Data))
		}
	}
	return all
}

// fenced returns the blocks of Markdown that are YAML.
func fenced(text string) (all []string) {
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}
