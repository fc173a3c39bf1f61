package exchange

import (
	"cmp"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/internal/coding"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/sse"
)

// watch reads an answer that passes and shows how a response stands that goes on in the
// background: to GET …/responses/ID, whole or as a stream, or POST …/responses/ID/cancel.
// What passes is not altered and not held up, and costs nothing. Whose request it is does not
// matter: the upstream says what the response cost.
type watch struct {
	key     storedKey
	begun   bool // the answer is one that can be read
	stream  bool
	decoder *coding.Decoder // of a compressed answer; nil if it is none
	plain   []byte          // what the last piece decoded to
	parser  sse.Parser
	body    []byte // of an answer that is no stream, so far
	shown   shown  // by a stream
}

// shown is how much of a response's output a stream has shown.
type shown struct {
	reader  dialect.Stream
	event   dialect.Event
	bytes   int64 // of texts
	extra   int64
	resumed bool  // it did not begin with the response's first event
	events  int64 // of the response, up to the last one, if it is resumed
}

// read reads an event that is not the response's end.
func (s *shown) read(data []byte) {
	if s.reader == nil {
		s.reader = dialect.OpenAIResponses{}.NewStream(nil)
		s.resumed = dialect.StoredSequence(data) > 1
	}
	if s.resumed {
		s.events = max(s.events, dialect.StoredSequence(data))
	}
	s.reader.Event(data, &s.event)
	for _, t := range s.event.Texts {
		s.bytes += int64(len(t.Bytes))
	}
	s.extra += s.event.Extra
	letGo(s.reader, &s.event)
}

// tokens is an estimate. Of what came before (starting_after) there were as many tokens as events.
func (s *shown) tokens() int64 { return max(s.events, s.bytes/bytesPerToken+s.extra) }

// watchFor prepares to watch the answer to a request that passes.
func (x *Exchange) watchFor(method, authority string) {
	front, id, ok := dialect.StoredPath(method, x.record.Path)
	if !ok || !x.can.answer.seen {
		return
	}
	x.watch = &watch{key: x.policy.Contexts.key(authority, front, id)}
}

// beginWatch begins with the answer's headers. Whether the response is one that goes on is asked
// once its end was seen: who leaves a stream, and takes it up or cancels it at once, can be here
// before the end of the exchange that began it.
func (x *Exchange) beginWatch(status int, h headers) {
	w := x.watch
	kind := mediaType(h.get("content-type"))
	w.stream = kind == "text/event-stream"
	list, _, err := h.codings()
	kept := x.policy.BackgroundTimeout > 0 || x.policy.Background.find(w.key.id) != nil
	if status != 200 || err != nil || !w.stream && kind != "application/json" || !kept {
		x.watch = nil
		return
	}
	if list != nil {
		w.decoder = coding.NewDecoder(list)
	}
	w.parser.Reset(x.policy.MaxEvent)
	w.begun = true
}

// unwatch ends a watch, and gives back what it has. What it has seen of a response that still goes on is
// noted: who reads the text and leaves before the end is not to pay the hold alone.
func (x *Exchange) unwatch() {
	if w := x.watch; w != nil {
		if c := x.policy.Background.find(w.key.id); c != nil {
			c.show(max(w.shown.tokens(), dialect.StoredText(w.body)/bytesPerToken))
		}
		if w.decoder != nil {
			w.decoder.Close()
		}
		x.watch = nil
	}
}

// watchedBody lets a piece of an answer pass that is watched.
func (x *Exchange) watchedBody(m *extprocv3.HttpBody) Ready {
	ending := x.watched(m.GetBody(), m.GetEndOfStream() || x.can.answer.atOnce())
	r := x.responseBody(m)
	r.Ending = cmp.Or(ending, r.Ending)
	return r
}

// watched reads the next bytes of an answer, and returns the end of the response if they show
// it. What cannot be read shows nothing.
func (x *Exchange) watched(body []byte, eos bool) *Ending {
	w := x.watch
	if !w.begun {
		return nil
	}
	readable := true
	if w.decoder != nil {
		w.plain = w.plain[:0]
		readable = w.decoder.Decode(body, eos, func(b []byte) (err error) {
			var fits bool
			if w.plain, fits = appendUpTo(w.plain, b, int64(x.policy.MaxAnswer)); !fits {
				err = errPiece
			}
			return err
		}) == nil
		body = w.plain
	}
	var e *Ending
	if w.stream {
		e, readable = x.watchedEvents(body, eos), readable && w.parser.Err() == nil
	} else {
		var fits bool
		w.body, fits = appendUpTo(w.body, body, int64(x.policy.MaxAnswer))
		if readable = readable && fits; readable && eos {
			e = x.watchedEnd(w.body)
		}
	}
	if e != nil || !readable || eos {
		x.unwatch()
	} else if cap(w.plain) > keptPlain {
		w.plain = nil
	}
	return e
}

// watchedEvents reads events of a stream.
func (x *Exchange) watchedEvents(body []byte, eos bool) *Ending {
	p := &x.watch.parser
	p.Feed(body)
	for {
		block, ok := p.Next()
		if !ok && eos {
			block, ok = p.Flush()
		}
		if !ok {
			p.Feed(nil) // copies what is withheld
			return nil
		}
		if block.HasData {
			if e := x.watchedEnd(block.Data); e != nil {
				return e
			}
			if x.policy.Background.find(x.watch.key.id) != nil {
				x.watch.shown.read(block.Data)
			}
		}
	}
}

// watchedEnd returns the end of the response, if data is about that and nobody else has it.
func (x *Exchange) watchedEnd(data []byte) *Ending {
	key := x.watch.key
	c := x.policy.Background.find(key.id)
	if c == nil {
		return nil // most are asked for that never went on, or have ended; they are not read
	}
	s := dialect.ReadStored(data)
	if !s.Status.Ended() || s.ID != "" && s.ID != key.id {
		return nil
	}
	e, usage := x.policy.Background.end(c, key, s, x.policy.Now())
	if e != nil && usage.Known && usage.Output > 0 {
		x.policy.Contexts.learnAll(c.key, c.conversation, usage)
	}
	return e
}

// endWatch looks at what has come of an answer whose end did not come as such: Envoy may keep it
// to itself (see lostEnd).
func (x *Exchange) endWatch() (e *Ending) {
	if x.watch != nil {
		e = x.watched(nil, true)
		x.unwatch()
	}
	return e
}

// watchMemory is what a watch keeps, in bytes.
func (x *Exchange) watchMemory() (n int64) {
	w := x.watch
	if w == nil {
		return 0
	}
	if w.decoder != nil {
		n = w.decoder.Memory()
	}
	return n + int64(cap(w.plain)+cap(w.body)) + int64(w.parser.Pending())
}
