package main

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// logWriter writes the log behind the back of those who log: its Write only copies, and
// never waits. An exchange logs before the last of its answer leaves, and a pipe that
// nobody reads must not hold that back. What does not fit into the buffer any more, or
// cannot be written, is dropped and counted.
//
// Its owner calls Close, which waits until all is written, for a time. Lines go out as
// soon as those before have, many with one call.
type logWriter struct {
	w    io.Writer
	most int               // bytes that may wait
	told func(lines int64) // is told of lines that were dropped, once others can be written again; may log

	mu      sync.Mutex
	pending []byte
	lost    int64 // lines that were dropped, in all
	closed  bool

	wake chan struct{} // has an element when there is something to write
	done chan struct{} // closed when all is written, after Close
}

const (
	logBuffer       = 4 << 20 // bytes; some ten thousand lines
	logKept         = 256 << 10
	logCloseTimeout = 2 * time.Second
)

var errLogStuck = errors.New("the end of the log cannot be written, because nobody reads it")

// newLogWriter returns a writer to w. told may be nil.
func newLogWriter(w io.Writer, most int, told func(lines int64)) *logWriter {
	l := &logWriter{w: w, most: most, told: told, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes one line. It does not fail.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.pending)+len(p) > l.most {
		l.lost++
		return len(p), nil
	}
	l.pending = append(l.pending, p...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

// Sync does nothing: only Close waits.
func (*logWriter) Sync() error { return nil }

// Lost is how many lines were dropped.
func (l *logWriter) Lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// state is how many lines were dropped, and whether there is room for more to be said.
func (l *logWriter) state() (lost int64, room bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost, len(l.pending) <= l.most/2
}

// dropped is the metric of lost lines.
func (l *logWriter) dropped() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tokenbudget_log_lines_dropped_total", Help: "Lines of the log that were dropped, because they were not read as fast as they were written.",
	}, func() float64 { return float64(l.Lost()) })
}

// Close drops what comes from now on, and waits until the rest is written, but not for
// longer than most. It may be called again.
func (l *logWriter) Close(most time.Duration) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
	l.mu.Unlock()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-l.done:
		return nil
	case <-t.C:
		return errLogStuck
	}
}

func (l *logWriter) run() {
	defer close(l.done)
	var out []byte
	told := int64(0)
	for open := true; open; {
		_, open = <-l.wake
		if cap(out) > logKept {
			out = nil
		}
		l.mu.Lock()
		out, l.pending = l.pending, out[:0]
		l.mu.Unlock()
		if len(out) == 0 {
			continue
		}
		if _, err := l.w.Write(out); err != nil {
			l.mu.Lock()
			l.lost += int64(bytes.Count(out, []byte("\n")))
			l.mu.Unlock()
			continue
		}
		if lost, room := l.state(); lost > told && room && l.told != nil {
			l.told(lost - told)
			told = lost
		}
	}
}
