package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/config"
)

// sources are the server's own files, from this folder.
func sources(t *testing.T) (all map[string][]byte) {
	t.Helper()
	all = make(map[string][]byte)
	root := filepath.Join("..", "..")
	for _, dir := range []string{"budget", "cmd", "extproc", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || path == filepath.Join(root, "internal", "bench")):
				return fs.SkipDir
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				all[path], err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// literals are the string literals of some files.
func literals(t *testing.T, files map[string][]byte) (all []string) {
	t.Helper()
	for path, text := range files {
		set := token.NewFileSet()
		var s scanner.Scanner
		s.Init(set.AddFile(path, -1, len(text)), text, nil, 0)
		for {
			_, kind, lit := s.Scan()
			if kind == token.EOF {
				break
			}
			if kind != token.STRING {
				continue
			}
			value, err := strconv.Unquote(lit)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			all = append(all, value)
		}
	}
	return all
}

func operations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOperationsMessages: every message that docs/operations.md quotes is one of the server's, and every
// warning and error that the server logs is explained there.
func TestOperationsMessages(t *testing.T) {
	files := sources(t)
	all := literals(t, files)
	_, table, found := strings.Cut(operations(t), "### By line of the log\n")
	if !found {
		t.Fatal("docs/operations.md has no table of the log's lines")
	}
	explained := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (error|warn|info) \\|").FindAllStringSubmatch(table, -1) {
		explained[m[1]] = true
		// What a message goes on with may be joined to it.
		if !slices.ContainsFunc(all, func(s string) bool { return s == m[1] || strings.HasPrefix(s, m[1]+"; ") }) {
			t.Errorf("docs/operations.md explains %q, which is no message of the server's", m[1])
		}
	}
	logged := regexp.MustCompile(`\b[lL]og\.(?:Warn|Error)\("([^"]+)"`)
	n := 0
	for path, text := range files {
		for _, m := range logged.FindAllSubmatch(text, -1) {
			n++
			if msg := strings.TrimSuffix(string(m[1]), "; "); !explained[msg] {
				t.Errorf("%s logs %q, which the table of docs/operations.md does not explain", path, msg)
			}
		}
	}
	if n < 20 || len(explained) < 20 {
		t.Errorf("%d messages found, %d explained: the patterns do not fit any more", n, len(explained))
	}
	for _, m := range regexp.MustCompile(`(?m)^\| [0-9]{3} "([^"]+)"`).FindAllStringSubmatch(operations(t), -1) {
		if !slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, m[1]) }) {
			t.Errorf("docs/operations.md quotes %q, which is no answer of the server's", m[1])
		}
	}
}

// TestOperationsMetrics: every metric of the server's that docs/operations.md names is one.
func TestOperationsMetrics(t *testing.T) {
	all := literals(t, sources(t))
	names := regexp.MustCompile(`\btokenbudget_[a-z_]+`).FindAllString(operations(t), -1)
	for _, name := range names {
		if name != "tokenbudget_extproc" && !slices.Contains(all, name) { // the first is Envoy's cluster
			t.Errorf("docs/operations.md names %s, which is no metric of the server's", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("%d metrics found: the pattern does not fit any more", len(names))
	}
}

// TestOperationsTimeouts: the defaults that docs/operations.md names are the configuration's.
func TestOperationsTimeouts(t *testing.T) {
	text := operations(t)
	for key, want := range map[string]string{
		"exchange": "30 min", "idle": "5 min", "drain": "25 s", "drain_delay": "5 s, part of `drain`", "connection_age": "5 min", "background": "1 h", "overload.max_delay": "1 s",
	} {
		if !strings.Contains(text, "| `"+key+"` | "+want+" |") {
			t.Errorf("docs/operations.md does not say that %s is %s by default", key, want)
		}
	}
	d, err := configDefaults(t)
	if err != nil {
		t.Fatal(err)
	}
	if got := [...]string{d.Exchange.String(), d.Idle.String(), d.Drain.String(), d.DrainDelay.String(), d.ConnectionAge.String(), d.Background.String()}; got != [...]string{"30m0s", "5m0s", "25s", "5s", "5m0s", "1h0m0s"} {
		t.Errorf("the defaults are %v; change docs/operations.md and this test", got)
	}
}

func configDefaults(t *testing.T) (config.Timeouts, error) {
	t.Helper()
	c, err := config.Parse("file.yaml", []byte("budgets: [{name: all, limit: 1M tokens, period: day}]\n"), nil)
	if err != nil {
		return config.Timeouts{}, err
	}
	return c.Timeouts, nil
}
