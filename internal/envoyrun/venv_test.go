//go:build unix

package envoyrun

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func ownCache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CACHE_HOME", dir)
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(user, "tokenbudget")
}

// TestVenvRace: processes that install the same thing at once get the same,
// whole installation; what a killed one left does not matter.
func TestVenvRace(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a virtual environment")
	}
	cache := ownCache(t)
	sum := "e3b0c44298fc" // no requirements
	left := filepath.Join(cache, "race-"+sum+".building", "bin")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	outs := make([]string, 4)
	var group sync.WaitGroup
	for i := range outs {
		group.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "ENVOYRUN_TEST_ROLE=rival")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("rival %d: %v", i, err)
			}
			outs[i] = string(out)
		})
	}
	group.Wait()
	want := filepath.Join(cache, "race-"+sum, "bin", "python")
	for _, out := range outs {
		if out != want {
			t.Errorf("got %q, want %q", out, want)
		}
	}
	prefix, err := exec.CommandContext(t.Context(), want, "-c", "import sys; print(sys.prefix)").Output()
	if err != nil || strings.TrimSpace(string(prefix)) != filepath.Dir(filepath.Dir(want)) {
		t.Errorf("the interpreter works in %q (%v)", prefix, err)
	}
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished directory is left: %v", err)
	}
	info, err := os.Stat(filepath.Dir(want))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PythonVenv(t.Context(), "race"); err != nil {
		t.Fatal(err)
	}
	if again, err := os.Stat(filepath.Dir(want)); err != nil || !os.SameFile(info, again) {
		t.Errorf("it was installed again (%v)", err)
	}
}

func TestVenvErrors(t *testing.T) {
	ownCache(t)
	for _, name := range []string{"", "../x", "A", "a/b"} {
		if _, err := PythonVenv(t.Context(), name); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := PythonVenv(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "Python 3 with its venv module is needed") {
		t.Errorf("without python3: %v", err)
	}
}

// TestLock: one holder at a time, and a wait that ends with its context.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockFile(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("a second holder: %v", err)
	}
	unlock()
	again, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestTail(t *testing.T) {
	for keep := 1; keep < 6; keep++ {
		tail, all := newTail(keep), ""
		for _, s := range []string{"a", "", "bc", "defghijkl", "m", "no", "pqrst", "u"} {
			if n, err := tail.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
			all += s
			if got, want := tail.String(), all[max(0, len(all)-keep):]; got != want {
				t.Errorf("keep %d, after %q: %q, want %q", keep, all, got, want)
			}
			if len(tail.buf) > 2*keep {
				t.Errorf("keep %d: holds %d bytes", keep, len(tail.buf))
			}
		}
	}
}
