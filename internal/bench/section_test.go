package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("# a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y", "x"} {
		if err := WriteSection(file, name, "new "+name+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = "# a\n<!-- begin x -->\nnew x\n<!-- end x -->\nb\n<!-- begin y -->\nnew y\n<!-- end y -->\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := WriteSection(file, "z", ""); err == nil || !strings.Contains(err.Error(), `no section "z"`) {
		t.Errorf("error %v", err)
	}
}
