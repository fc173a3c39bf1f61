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
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if strings.Contains(text, "github.com/tokenbudget") || strings.Contains(text, "testify") {
		t.Error("it has what is not handed on, or its own")
	}
}

// TestRead: a module without terms is an error.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := read(dir); err == nil {
		t.Error("a module without a license may be handed on")
	}
	for _, name := range []string{"LICENSE", "NOTICE.txt", "licenses.go"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := read(dir); err != nil || got != "of LICENSE\n\nof NOTICE.txt\n\n" {
		t.Errorf("%q, %v", got, err)
	}
}
