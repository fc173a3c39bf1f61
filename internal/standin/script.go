package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"
)

// ending says what happens after the last write of a script.
type ending uint8

const (
	complete ending = iota // a clean end
	stall                  // silence until the peer goes away
	reset                  // the connection (HTTP/1.1) or stream (HTTP/2) breaks
)

// script is one answer, decided before its first byte is sent.
type script struct {
	recording string
	status    int
	header    http.Header
	stream    bool
	events    [][]byte // all of them
	play      int      // how many are sent before the ending
	ending    ending
	interval  time.Duration
	split     int
	burst     int
}

// bytesTotal returns the length of the whole answer.
func (s script) bytesTotal() (n int64) {
	for _, ev := range s.events {
		n += int64(len(ev))
	}
	return n
}

// writes yields what goes out in one write each. A yielded slice is valid until
// the next.
func (s script) writes() iter.Seq[[]byte] {
	events := s.events[:s.play]
	return func(yield func([]byte) bool) {
		switch {
		case s.split > 0:
			buf := make([]byte, 0, s.split)
			for _, ev := range events {
				for len(ev) > 0 {
					n := min(s.split-len(buf), len(ev))
					buf, ev = append(buf, ev[:n]...), ev[n:]
					if len(buf) == s.split {
						if !yield(buf) {
							return
						}
						buf = buf[:0]
					}
				}
			}
			if len(buf) > 0 {
				yield(buf)
			}
		case s.burst > 1:
			for group := range slices.Chunk(events, s.burst) {
				if !yield(bytes.Join(group, nil)) {
					return
				}
			}
		default:
			for _, ev := range events {
				if !yield(ev) {
					return
				}
			}
		}
	}
}

// write decides the answer to a request. Its errors are for the client.
func (o Options) write(r *http.Request, body []byte) (script, error) {
	b, err := parseBehaviour(r.Header, o.Interval)
	if err != nil {
		return script{}, err
	}
	asked := readAsked(body)
	name := r.Header.Get(headerRecording)
	if name == "" {
		name = o.Recording
	}
	if name == "" {
		name = recordingFor(r.URL.Path, asked.stream)
	}
	if name == "" {
		return script{}, fmt.Errorf("nothing is recorded for %s %s; name an answer in %s", r.Method, r.URL.Path, headerRecording)
	}
	rec, err := Load(name)
	if err != nil {
		return script{}, err
	}

	s := script{
		recording: rec.Name, status: rec.Status, header: rec.Header, stream: rec.Stream(),
		events: rec.Events, interval: b.interval, split: b.split, burst: b.burst,
	}
	switch {
	case b.status >= 400 && rec.Status < 400:
		s.status, s.stream = b.status, false
		s.header = http.Header{"Content-Type": {"application/json"}}
		s.events = [][]byte{errorBody(fmt.Sprintf("the stand-in was asked for status %d", b.status))}
	case b.status != 0:
		s.status = b.status
	}
	if s.stream {
		if s.events, err = o.shape(rec, b.repeat, asked.usage, body); err != nil {
			return script{}, err
		}
	} else if b.repeat > 1 {
		return script{}, fmt.Errorf("%s: the answer is not a stream", headerRepeat)
	}

	s.play = len(s.events)
	for _, e := range []struct {
		header string
		after  int
		ending ending
	}{{headerStallAfter, b.stallAfter, stall}, {headerResetAfter, b.resetAfter, reset}} {
		if e.after == never {
			continue
		}
		if e.after > len(s.events) {
			return script{}, fmt.Errorf("%s: the answer has only %d events", e.header, len(s.events))
		}
		s.play, s.ending = e.after, e.ending
	}
	return s, nil
}

// errorBody is an error in OpenAI's shape.
func errorBody(message string) []byte {
	raw, err := json.Marshal(map[string]any{"error": map[string]any{
		"message": message, "type": "standin_error", "param": nil, "code": nil,
	}})
	if err != nil {
		panic(err) // strings and nils always marshal
	}
	return raw
}
