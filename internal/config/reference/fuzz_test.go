package reference

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/config"
)

// FuzzSchema compares decoder and schema on anything.
func FuzzSchema(f *testing.F) {
	paths, err := filepath.Glob("../testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(string(config.Starter()))
	for _, k := range keys {
		for _, example := range k.examples() {
			text, _ := fileWith(k.path, example)
			f.Add(text)
		}
	}
	env := func(name string) (string, bool) { return "1", name == "ONE" }
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := config.Parse("f", []byte(text), env); err != nil {
			return
		}
		if err := bySchema(t, text); err != nil {
			t.Fatalf("the schema is stricter than the decoder: %v", err)
		}
	})
}
