//go:build unix

package envoyrun

import (
	"strings"
	"testing"
)

// TestNodeModules: a package is installed once, and a script can require it; one
// that does not exist leaves nothing behind that would count as installed.
func TestNodeModules(t *testing.T) {
	if testing.Short() {
		t.Skip("installs Node.js")
	}
	for range 2 {
		n, err := NodeModules(t.Context(), "test", "standardwebhooks@1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		out, err := n.Command(t.Context(), "testdata/require.cjs", "standardwebhooks", "Webhook").CombinedOutput()
		if want := "v" + nodeVersion + " function"; err != nil || strings.TrimSpace(string(out)) != want {
			t.Fatalf("%q (%v), want %q", out, err, want)
		}
	}
	for range 2 {
		if n, err := NodeModules(t.Context(), "test", "standardwebhooks@0.0.0-none"); err == nil || !strings.Contains(err.Error(), "registry") {
			t.Errorf("a version that is not there: %v, %v", n, err)
		}
	}
	if _, err := NodeModules(t.Context(), "../x"); err == nil {
		t.Error("a name outside the cache was accepted")
	}
}
