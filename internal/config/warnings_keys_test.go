package config

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestLogKeys: validate knows each key that the log has beside identities.
func TestLogKeys(t *testing.T) {
	source, err := os.ReadFile("../../extproc/record.go")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile(`zap\.[A-Z]\w+\("([a-z_]+)"`).FindAllSubmatch(source, -1)
	if len(keys) < 15 {
		t.Errorf("only %d keys are found: the source has another form now", len(keys))
	}
	for _, key := range keys {
		if name := string(key[1]); !slices.Contains(logKeys, name) && !slices.Contains(reserved, name) {
			t.Errorf("logKeys has no %s", name)
		}
	}
}
