package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is where a log goes: a pipe that is read only while it is open.
type sink struct {
	mu   sync.Mutex
	text bytes.Buffer
	open chan struct{}
	err  error
}

func newSink() *sink { return &sink{open: make(chan struct{})} }

func (s *sink) Write(p []byte) (int, error) {
	<-s.open
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err; err != nil {
		s.err = nil
		return 0, err
	}
	return s.text.Write(p)
}

func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSuffix(s.text.String(), "\n"), "\n")
}

// While nobody reads, logging does not wait, takes bounded memory, and counts what it drops.
func TestLogNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		var l *logWriter
		l = newLogWriter(s, 100, func(n int64) { fmt.Fprintf(l, "lost %d\n", n) })
		fmt.Fprintln(l, "line 1")
		synctest.Wait() // it is being written
		for i := 2; i <= 30; i++ {
			fmt.Fprintln(l, "line", i)
		}
		if err := l.Close(time.Second); !errors.Is(err, errLogStuck) {
			t.Errorf("Close: %v", err)
		}
		if n := l.Lost(); n != 16 { // 14 lines of 7 or 8 bytes fit into 100
			t.Errorf("%d lines are lost", n)
		}
		close(s.open)
		if err := l.Close(time.Second); err != nil {
			t.Errorf("Close: %v", err)
		}
		if got := s.lines(); len(got) != 14 || got[13] != "line 14" {
			t.Errorf("written: %q", got)
		}
	})
}

// What was dropped is told when there is room again; an error drops what it hits, and no more.
func TestLogReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		var l *logWriter
		l = newLogWriter(s, 10, func(n int64) { fmt.Fprintf(l, "lost %d\n", n) })
		for i := range 4 {
			fmt.Fprintln(l, "line", i)
			synctest.Wait()
		}
		close(s.open)
		synctest.Wait()
		s.mu.Lock()
		s.err = errors.New("disk full")
		s.mu.Unlock()
		for i := 4; i < 6; i++ {
			fmt.Fprintln(l, "line", i)
			synctest.Wait()
		}
		if err := l.Close(time.Second); err != nil {
			t.Errorf("Close: %v", err)
		}
		fmt.Fprintln(l, "too late")
		if got := strings.Join(s.lines(), ", "); got != "line 0, line 1, lost 2, line 5, lost 1" {
			t.Errorf("written: %s", got)
		}
		if n := l.Lost(); n != 4 { // the last one came too late
			t.Errorf("%d lines are lost", n)
		}
	})
}

// Many lines from many goroutines arrive whole, and in order for each.
func TestLogWhole(t *testing.T) {
	s := newSink()
	close(s.open)
	l := newLogWriter(s, logBuffer, nil)
	const each = 2000
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range each {
				fmt.Fprintf(l, "%d %d\n", g, i)
			}
		})
	}
	all.Wait()
	if err := l.Close(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	var next [4]int
	for _, line := range s.lines() {
		var g, i int
		if _, err := fmt.Sscanf(line, "%d %d", &g, &i); err != nil || i != next[g] {
			t.Fatalf("line %q, want number %d: %v", line, next[g], err)
		}
		next[g]++
	}
	if next != [4]int{each, each, each, each} || l.Lost() > 0 {
		t.Errorf("%v lines arrived, %d lost", next, l.Lost())
	}
}
