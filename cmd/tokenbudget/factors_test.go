package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tokenbudget/tokenbudget/internal/count"
)

// teach lets f learn one exchange.
func teach(f *keptFactors, model string) {
	c := count.New(count.Options{Factors: &f.Factors})
	c.Learn(c.Model(model), count.Pair{Counted: 100, Reported: 150}, count.Pair{})
}

// A file that cannot be written is a warning; the next write has all.
func TestFactorsWriteFails(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	dir := filepath.Join(t.TempDir(), "data")
	f := loadFactors(dir, zap.New(core))
	f.write() // nothing to write, nothing to fail
	if n := logged.Len(); n != 0 {
		t.Fatalf("warnings without a reason: %v", logged.All())
	}
	teach(f, "a")
	f.write() // the folder is not there
	if n := logged.Len(); n != 1 {
		t.Fatalf("%d warnings: %v", n, logged.All())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.write()
	if got := loadFactors(dir, zap.NewNop()).List(); len(got) != 1 || got[0] != f.List()[0] {
		t.Errorf("the file has %v, want %v", got, f.List())
	}
	if err := os.Remove(filepath.Join(dir, factorsName)); err != nil {
		t.Fatal(err)
	}
	f.write()
	if _, err := os.Stat(filepath.Join(dir, factorsName)); !os.IsNotExist(err) {
		t.Errorf("it was written though nothing has changed: %v", err)
	}
	if n := logged.Len(); n != 1 {
		t.Errorf("%d warnings: %v", n, logged.All())
	}
}

// What is learned while the file is written is written the next time; the end of
// the context is such a time.
func TestFactorsRun(t *testing.T) {
	dir := t.TempDir()
	f := loadFactors(dir, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.run(ctx) }()
	for _, model := range []string{"a", "b", "c"} {
		teach(f, model)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if got := loadFactors(dir, zap.NewNop()).List(); len(got) != 3 {
		t.Errorf("kept %v", got)
	}
}

func TestFactorsTooLong(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, factorsName), make([]byte, count.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.WarnLevel)
	f := loadFactors(dir, zap.New(core))
	if len(f.List()) != 0 || logged.Len() != 1 {
		t.Errorf("learned %v, logged %v", f.List(), logged.All())
	}
	if _, err := os.Stat(filepath.Join(dir, factorsAside)); err != nil {
		t.Error(err)
	}
}
