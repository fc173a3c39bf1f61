//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is no file in the file's place is told, and nothing waits for it: the watch ends
// with the server. It would wait for a pipe's writer for ever.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.yaml")
	for _, kind := range []struct {
		name string
		put  func() error
	}{
		{"pipe", func() error { return syscall.Mkfifo(path, 0o600) }},
		{"folder", func() error { return os.Mkdir(path, 0o700) }},
		{"device", func() error { return os.Symlink("/dev/zero", path) }},
		{"nothing", func() error { return nil }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			writeLive(t, path, dir, "1k tokens")
			l, log := newTestLive(t, path)
			l.every = time.Millisecond
			if err := errors.Join(os.Remove(path), kind.put()); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.watch(ctx, nil) }()
			late := time.After(time.Minute)
			for l.refused.Load() == nil {
				select {
				case <-late:
					stop()
					t.Fatal("the watch hangs")
				case <-time.After(time.Millisecond):
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.text(), "the configuration file cannot be used"); n != 1 {
				t.Errorf("told %d times: %s", n, log.text())
			}
			if n := allowed(t, l); n != 1000 {
				t.Errorf("the limit is %d", n)
			}
		})
	}
}

// A start does not wait for what is no file in the folder either, not even for a signal.
func TestNoOverridesFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, overridesName), 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := loadOverrides(dir)
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil || !strings.Contains(err.Error(), "regular") {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for a writer")
	}
}
