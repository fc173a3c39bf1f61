package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun: every module of the program has its license in the file.
func TestRun(t *testing.T) {
	t.Chdir(filepath.Join("..", "..", ".."))
	file := filepath.Join(t.TempDir(), "licenses.txt")
	if err := run(file); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{
		"\ngoogle.golang.org/grpc v", "\ngo.uber.org/zap v", "\ngithub.com/dgraph-io/ristretto/v2 v", "\nGo go1.",
		"Copyright 2009 The Go Authors", "Uber Technologies", "Apache License",
		"Copyright 2014 gRPC authors.", // of a notice
		// Of code of others in a module:
		"\nOf zstd/internal/xxhash:\n\nCopyright (c) 2016 Caleb Spare", "\nOf z:\n\nbbloom.go",
		"\nOf internal/github.com/golang/gddo:\n\nCopyright (c) 2013 The Go Authors.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if strings.Contains(text, "github.com/tokenbudget") || strings.Contains(text, "testify") {
		t.Error("it has what is not handed on, or its own")
	}
	if strings.Contains(text, "\nOf s2/cmd") {
		t.Error("it has the terms of code that is not in the program")
	}
}

// TestTerms: a module without terms is an error; those of the folders that are used are told.
func TestTerms(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("of "+filepath.Base(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := module{dir: dir, packages: []string{dir, filepath.Join(dir, "others", "a"), filepath.Join(dir, "others", "b")}}
	write("others/LICENSE.md")
	write("others/a/a.go")
	write("others/b/COPYING")
	write("unused/LICENSE")
	if _, err := m.terms(); err == nil {
		t.Error("a module without a license may be handed on")
	}
	for _, name := range []string{"LICENSE", "NOTICE.txt", "licenses.go"} {
		write(name)
	}
	want := "of LICENSE\n\nof NOTICE.txt\n\nOf others:\n\nof LICENSE.md\n\nOf others/b:\n\nof COPYING\n\n"
	if got, err := m.terms(); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}
