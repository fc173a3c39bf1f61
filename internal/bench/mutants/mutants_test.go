package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// TestMutantsApply: every mutant still has a text to replace, names tests that exist, and stands
// in the table of docs/testing.md.
func TestMutantsApply(t *testing.T) {
	h := &hunter{root: root, dir: t.TempDir()}
	names := make(map[string]bool)
	for i, m := range mutants {
		if names[m.name] {
			t.Errorf("there are two mutants %q", m.name)
		}
		names[m.name] = true
		if _, err := h.overlay(i, m); err != nil {
			t.Errorf("%s (%s): %v", m.name, m.file, err)
		}
		for _, test := range m.tests {
			pkg, name, _ := strings.Cut(test, " ")
			top, sub, _ := strings.Cut(name, "/")
			if !defines(t, filepath.Join(root, pkg), top) {
				t.Errorf("%s: %s has no %s", m.name, pkg, top)
			}
			if top == "TestConversations" {
				if _, err := os.Stat(filepath.Join(root, pkg, "testdata", "conversations", sub)); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
			}
		}
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "<!-- begin mutants -->\n"+table()+"<!-- end mutants -->") {
		t.Error("docs/testing.md lists other mutants; make mutants writes them")
	}
}

func defines(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestSample runs one mutant of each package; make mutants runs all.
func TestSample(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds test binaries")
	}
	sample := regexp.MustCompile("^(a reservation settles again|text leaves that no limit grants|the chunk that nobody asked for stays|data that is not understood is free|what has no blank line at the end is lost|a panic leaves its hold)$")
	var chosen []mutant
	for _, m := range mutants {
		if sample.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) != 6 {
		t.Fatalf("%d mutants are chosen", len(chosen))
	}
	if err := hunt(t.Context(), root, chosen, t.Logf); err != nil {
		t.Error(err)
	}
}

// TestHunt: what is no fault, what cannot be made, and what names no test is told.
func TestHunt(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds test binaries")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.com/m\n\ngo 1.26\n",
		"a/a.go":      "package a\n\nfunc Add(a, b int) int { return a + b }\n\nfunc Twice(a int) int { return a + a }\n",
		"a/a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) { if Add(1, 2) != 3 { t.Error(\"wrong\") } }\n\nfunc TestRed(t *testing.T) { t.Error(\"always\") }\n",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, old, new string
		tests          []string
		want           string // of the error; "" for none
	}{
		{"a fault that is found", "a + b", "a - b", []string{"./a TestAdd"}, ""},
		{"a panic that is found", "return a + b", "panic(a)", []string{"./a TestAdd"}, ""},
		{"a fault that is not", "return a + a", "return a", []string{"./a TestAdd"}, "passes all the same"},
		{"one that is not there", "a * b", "a", []string{"./a TestAdd"}, "0 times"},
		{"one that is there twice", "return a +", "return a -", []string{"./a TestAdd"}, "2 times"},
		{"one that changes nothing", "a + b", "a + b", []string{"./a TestAdd"}, "must stand there once"},
		{"one that does not compile", "a + b", "a + c", []string{"./a TestAdd"}, "does not compile"},
		{"one without a test", "a + b", "a - b", nil, "names no test"},
		{"one with a test that is not there", "a + b", "a - b", []string{"./a TestSub"}, "TestSub"},
		{"one with a test that is red anyway", "a + b", "a - b", []string{"./a TestRed"}, "does not pass without any mutant"},
	} {
		err := hunt(t.Context(), dir, []mutant{{tt.name, "", "a/a.go", tt.old, tt.new, tt.tests}}, t.Logf)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
	if err := hunt(t.Context(), dir, nil, t.Logf); err == nil {
		t.Error("nothing to run is no error")
	}
}
