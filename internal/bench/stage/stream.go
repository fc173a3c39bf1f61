package stage

import (
	"bytes"
	"fmt"
)

// Stream checks one stream after the other, byte by byte but for the stamps, and takes their times. It is not safe
// for concurrent use.
type Stream struct {
	script *script
	want   []byte // the script's body with this request's usage
	next   int    // the event that comes next
	loose  bool   // events have the same text and stamps, but another shape
	read   int    // how much of the body has been looked at, if loose

	Took  []int64 // of every chunk since the caller has emptied it: nanoseconds from the upstream to the client
	First int64   // when the first chunk came, by bench.Now
}

// NewStream returns a checker of streams of a number of chunks.
func NewStream(chunks int) *Stream {
	s := newScript(chunks)
	return &Stream{script: s, want: bytes.Clone(s.body)}
}

// NewLooseStream returns a checker for a proxy that writes events anew: it looks at the text, the stamps and the end.
func NewLooseStream(chunks int) *Stream {
	s := NewStream(chunks)
	s.loose = true
	return s
}

// Start begins with the answer to a request of some bytes.
func (s *Stream) Start(request int) {
	setUsage(s.want, s.script.usage, request, s.script.chunks)
	s.next, s.read, s.First = 0, 0, 0
}

// Feed takes all of the body that has come so far, the last of it at a time of bench.Now, for [Conn.Ask].
func (s *Stream) Feed(body []byte, at int64) error {
	if s.loose {
		return s.feedLoose(body, at)
	}
	for s.next < len(s.script.ends) && len(body) >= s.script.ends[s.next] {
		begin, end := 0, s.script.ends[s.next]
		if s.next > 0 {
			begin = s.script.ends[s.next-1]
		}
		if s.next >= len(s.script.stamps) { // [DONE]
			if !bytes.Equal(body[begin:end], s.want[begin:end]) {
				return s.differs()
			}
			s.next++
			continue
		}
		stamp := s.script.stamps[s.next]
		if !bytes.Equal(body[begin:stamp], s.want[begin:stamp]) || !bytes.Equal(body[stamp+stampWidth:end], s.want[stamp+stampWidth:end]) {
			return s.differs()
		}
		sent, ok := number(body[stamp : stamp+stampWidth])
		if !ok {
			return s.differs()
		}
		if s.next < s.script.chunks { // what follows tells nothing that a client shows
			s.Took = append(s.Took, at-sent)
		}
		if s.next == 0 {
			s.First = at
		}
		s.next++
	}
	return nil
}

// feedLoose counts the events that have text, as next, and [DONE] as one more.
func (s *Stream) feedLoose(body []byte, at int64) error {
	for {
		length := bytes.Index(body[s.read:], []byte("\n\n"))
		if length < 0 {
			return nil
		}
		event := body[s.read : s.read+length]
		s.read += length + 2
		switch {
		case bytes.Equal(event, []byte("data: [DONE]")):
			s.next++
			continue
		case !bytes.Contains(event, []byte(`"content":"`)):
			continue
		}
		const before = `"id":"chatcmpl-`
		i := bytes.Index(event, []byte(before)) + len(before)
		if i < len(before) || len(event) < i+stampWidth || s.next >= s.script.chunks || !bytes.Contains(event, []byte(words[s.next%len(words)]+`"`)) {
			return s.differs()
		}
		sent, ok := number(event[i : i+stampWidth])
		if !ok {
			return s.differs()
		}
		s.Took = append(s.Took, at-sent)
		if s.next == 0 {
			s.First = at
		}
		s.next++
	}
}

func (s *Stream) differs() error {
	return fmt.Errorf("event %d of the stream is not what the upstream sent", s.next+1)
}

// Chunks is how many chunks have come of the answer under way.
func (s *Stream) Chunks() int { return min(s.next, s.script.chunks) }

// End is the error of an answer that has ended after these bytes, if it lacks something or has too much.
func (s *Stream) End(body int) error {
	if s.loose {
		if s.next != s.script.chunks+1 || s.read != body {
			return fmt.Errorf("the stream ended after %d chunks of %d", s.Chunks(), s.script.chunks)
		}
		return nil
	}
	if s.next != len(s.script.ends) || body != len(s.want) {
		return fmt.Errorf("the stream ended after %d events and %d bytes, the upstream's has %d and %d", s.next, body, len(s.script.ends), len(s.want))
	}
	return nil
}

// number reads digits.
func number(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
