package dialect

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A streamed message is a sequence of events:
//
//	message_start        the message without its content; usage of the input
//	content_block_start  the first of an item of its content: text, a call of a tool …
//	content_block_delta  what is added to it
//	content_block_stop   its end
//	message_delta        stop_reason; usage of the output so far, which is cumulative
//	message_stop         the end
//	ping, error          anywhere
//
// The data says its type itself, so the event's name is not needed; the official SDKs
// go by the name, so closing events have one.

// messagesStream reads the events of a streamed message. A whole message is what
// message_start has, with its content; it is read by the same code.
type messagesStream struct {
	json    *scanner
	model   string // of the request
	whole   bool   // it is no stream
	summary bool   // what it shows of thinking is a summary
	data    []byte // of the event that is read
	unknown []span // parts of it which may be text in a shape that is not known
	slots   slots

	// What the provider has said of its usage so far. Later figures replace earlier
	// ones, and those which an event leaves out stand.
	tokens   messagesUsage
	reported bool // the event read last has output_tokens
	hidden   bool // more is billed than is seen: thinking, which may be a summary; calls in a whole message

	// What the event read last does once it has been forwarded.
	event messagesEvent

	started, stopped, done bool        // message_start, a stop_reason, message_stop were forwarded
	open                   []openBlock // blocks that were forwarded, and whose end was not
}

var _ ToolStream = new(messagesStream)

// openBlock is a block that has begun.
type openBlock struct {
	index int64
	tool  bool // a call of a tool that the client runs
}

// maxOpen bounds the blocks that are open at the same time. The API has one.
const maxOpen = 128

// messagesEvent is what matters of one event besides its texts and usage.
type messagesEvent struct {
	kind  messagesKind
	block openBlock
	stops bool // it has a stop_reason
}

// messagesKind is a type of event.
type messagesKind uint8

const (
	kindUnknown messagesKind = iota
	kindMessageStart
	kindBlockStart
	kindBlockDelta
	kindBlockStop
	kindMessageDelta
	kindMessageStop
	kindPing
	kindError
)

// messagesUsage is the usage object of the API. Cached input comes on top of input.
type messagesUsage struct {
	input, cacheRead, cacheWrite, output, thinking int64

	// Of what a message takes besides its own sampling; see [messagesStream.iterations].
	besides struct{ input, cacheRead, cacheWrite, output int64 }
}

// Event implements [Stream].
func (s *messagesStream) Event(data []byte, ev *Event) {
	ev.reset()
	if string(data) == "[DONE]" { // of servers that have OpenAI's APIs, too
		ev.Done, s.event = true, messagesEvent{kind: kindMessageStop}
		return
	}
	s.data, s.unknown, s.event = data, s.unknown[:0], messagesEvent{}
	s.json.reset(data)
	s.reported = false
	if err := s.read(ev); err != nil || !blank(data[s.json.dec.InputOffset():]) {
		// Not understood, so perhaps text: it counts as what it is.
		ev.reset()
		ev.Texts = append(ev.Texts, Text{MaxSlots - 1, data})
		s.event = messagesEvent{}
		return
	}
	if s.reported {
		ev.Usage = s.usage()
	}
}

// read reads one event. Its type and index may come after what they are about.
func (s *messagesStream) read(ev *Event) error {
	var index int64
	err := s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"type"`:
			var kind jsontext.Value
			kind, err = s.json.dec.ReadValue()
			s.event.kind = messagesKindOf(kind)
		case `"index"`:
			index, _, err = s.json.integer()
		case `"message"`:
			err = s.message(ev)
		case `"content_block"`:
			err = s.block(ev)
		case `"delta"`:
			err = s.delta(ev)
		case `"usage"`:
			err = s.readUsage()
		case `"error"`:
			ev.Failed = s.json.dec.PeekKind() != jsontext.KindNull
			err = s.json.dec.SkipValue()
		case `"context_management"`, `"amazon-bedrock-invocationMetrics"`:
			err = s.json.dec.SkipValue()
		default:
			err = s.remember()
		}
		return err
	})
	if err != nil {
		return err
	}
	s.event.block.index = index
	for i := range ev.Texts {
		ev.Texts[i].Slot = s.slot(index, channel(ev.Texts[i].Slot))
	}
	ev.Done = s.event.kind == kindMessageStop
	ev.Failed = ev.Failed || s.event.kind == kindError
	if len(ev.Texts) > 0 || ev.Extra > 0 || ev.Failed || s.reported {
		return nil
	}
	// Nothing that is known: what is there may be text all the same.
	if s.event.kind == kindUnknown {
		s.unknown = append(s.unknown[:0], span{0, len(s.data)})
	}
	for _, u := range s.unknown {
		ev.Texts = append(ev.Texts, Text{MaxSlots - 1, s.data[u.start:u.end]})
	}
	return nil
}

// blank says that nothing but white space follows.
func blank(rest []byte) bool { return len(bytes.TrimLeft(rest, " \t\r\n")) == 0 }

// messagesKindOf is the kind that a type, as raw JSON, stands for.
func messagesKindOf(raw []byte) messagesKind {
	switch string(raw) {
	case `"message_start"`:
		return kindMessageStart
	case `"content_block_start"`:
		return kindBlockStart
	case `"content_block_delta"`:
		return kindBlockDelta
	case `"content_block_stop"`:
		return kindBlockStop
	case `"message_delta"`:
		return kindMessageDelta
	case `"message_stop"`:
		return kindMessageStop
	case `"ping"`:
		return kindPing
	case `"error"`:
		return kindError
	}
	return kindUnknown
}

// message reads a message: that of message_start, or a whole answer.
func (s *messagesStream) message(ev *Event) error {
	return s.json.object(func(name []byte) error {
		switch string(name) {
		case `"content"`:
			return s.content(ev)
		case `"usage"`:
			return s.readUsage()
		case `"stop_reason"`:
			s.event.stops = s.json.dec.PeekKind() == jsontext.KindString
		case `"error"`: // in place of a message
			ev.Failed = s.json.dec.PeekKind() != jsontext.KindNull
		}
		return s.json.dec.SkipValue()
	})
}

// content reads a list of blocks, or the text that stands for one.
func (s *messagesStream) content(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginArray {
		return s.add(ev, channelContent)
	}
	return s.json.array(func() error {
		texts, unknown := len(ev.Texts), len(s.unknown)
		err := s.block(ev)
		if s.whole && len(ev.Texts) > texts { // what is known of a block stands for it, as in a stream
			s.unknown = s.unknown[:unknown]
		}
		return err
	})
}

// bytesPerHidden is how many bytes of base64 count as a token where what they hold is
// not to be read: thinking that is encrypted, and pages that a search has found. It
// is a token for four bytes of what they stand for. A guess.
const bytesPerHidden = 16.0 / 3

// block reads a block of content, of which more may follow. Its members tell what it
// is, wherever its type stands.
func (s *messagesStream) block(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.add(ev, channelContent)
	}
	return s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"type"`:
			var kind jsontext.Value
			kind, err = s.json.dec.ReadValue()
			if string(kind) == `"tool_use"` {
				s.event.block.tool = true
				s.call(ev)
			}
		case `"text"`:
			err = s.add(ev, channelContent)
		case `"thinking"`:
			err = s.think(ev)
		case `"data"`: // of redacted thinking
			s.hidden = true
			err = s.estimate(ev)
		case `"name"`:
			err = s.add(ev, channelName)
		case `"input"`:
			err = s.add(ev, channelArguments)
		case `"content"`: // of a tool that runs at the provider, or of a compaction
			if s.json.dec.PeekKind() == jsontext.KindString {
				return s.add(ev, channelContent)
			}
			err = s.estimate(ev)
		case `"id"`, `"tool_use_id"`, `"signature"`, `"citations"`, `"caller"`, `"is_error"`, `"server_name"`, `"toolset_name"`, `"file_id"`:
			err = s.json.dec.SkipValue()
		default:
			err = s.remember()
		}
		return err
	})
}

// think adds a text of thinking.
func (s *messagesStream) think(ev *Event) error {
	s.hidden = true
	before := len(ev.Texts)
	err := s.add(ev, channelReasoning)
	if len(ev.Texts) > before {
		ev.Reasoning, ev.Summary = true, ev.Summary || s.summary
	}
	return err
}

// delta reads what is added to a block, or to the message.
func (s *messagesStream) delta(ev *Event) error {
	return s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"text"`, `"content"`: // the latter of a compaction
			err = s.add(ev, channelContent)
		case `"partial_json"`:
			err = s.add(ev, channelArguments)
		case `"thinking"`:
			err = s.think(ev)
		case `"stop_reason"`:
			s.event.stops = s.json.dec.PeekKind() == jsontext.KindString
			err = s.json.dec.SkipValue()
		// A signature is no text of the model, and a citation is the client's own.
		case `"type"`, `"signature"`, `"citation"`, `"stop_sequence"`, `"stop_details"`, `"container"`:
			err = s.json.dec.SkipValue()
		default:
			err = s.remember()
		}
		return err
	})
}

// tokensPerCall is what a call of a tool costs beside its name and its input. The API
// reported 37 to 43 in recordings.
const tokensPerCall = 40

// call counts what a call of a tool costs beside its texts.
func (s *messagesStream) call(ev *Event) {
	if s.whole {
		s.hidden = true
		return
	}
	ev.Extra += tokensPerCall
}

// estimate counts what is not to be read by its length.
func (s *messagesStream) estimate(ev *Event) error {
	v, err := s.json.dec.ReadValue()
	switch {
	case err != nil || !holdsText(v):
	case s.whole: // nobody asks for its estimates
		ev.Texts = append(ev.Texts, Text{0, v})
	default:
		ev.Extra += 1 + int64(float64(len(v))/bytesPerHidden)
	}
	return err
}

// remember notes a member that is not known. It counts if the event has nothing
// that is.
func (s *messagesStream) remember() error {
	v, err := s.json.dec.ReadValue()
	if err == nil && holdsText(v) {
		end := int(s.json.dec.InputOffset())
		s.unknown = append(s.unknown, span{end - len(v), end})
	}
	return err
}

// add adds the text that comes next, or another value as the JSON it is. Its slot is
// its channel until the block's index is known.
func (s *messagesStream) add(ev *Event, c channel) error {
	v, err := s.json.dec.ReadValue()
	if err != nil || !holdsText(v) {
		return err
	}
	text := []byte(v)
	if v.Kind() == jsontext.KindString {
		text = unquote(v, &ev.scratch)
	}
	ev.Texts = append(ev.Texts, Text{int(c), text})
	return nil
}

// slot returns the slot of a text, giving out a new one if it is new.
func (s *messagesStream) slot(index int64, c channel) int {
	return s.slots.of(slotKey{choice: index, channel: c})
}

// readUsage reads a usage object. What is null or of another kind leaves things as
// they are.
func (s *messagesStream) readUsage() error {
	u := &s.tokens
	return s.json.object(func(name []byte) (err error) {
		var ok bool
		switch string(name) {
		case `"input_tokens"`:
			err = s.figure(&u.input)
		case `"cache_read_input_tokens"`:
			err = s.figure(&u.cacheRead)
		case `"cache_creation_input_tokens"`:
			err = s.figure(&u.cacheWrite)
		case `"output_tokens"`:
			var n int64
			if n, ok, err = s.json.integer(); ok {
				u.output, s.reported = n, true
			}
		case `"output_tokens_details"`:
			err = s.json.object(func(name []byte) error {
				if string(name) == `"thinking_tokens"` {
					return s.figure(&u.thinking)
				}
				return s.json.dec.SkipValue()
			})
		case `"iterations"`:
			err = s.iterations()
		default:
			err = s.json.dec.SkipValue()
		}
		return err
	})
}

// figure reads a number into dst, if it is one.
func (s *messagesStream) figure(dst *int64) error {
	n, ok, err := s.json.integer()
	if ok {
		*dst = n
	}
	return err
}

// iterations reads the usage of each time that a model ran for the answer. Those of
// the message itself are in its sums already; a compaction of the conversation and
// the advice of another model are not.
func (s *messagesStream) iterations() error {
	if s.json.dec.PeekKind() != jsontext.KindBeginArray {
		return s.json.dec.SkipValue()
	}
	sum := &s.tokens.besides
	*sum = struct{ input, cacheRead, cacheWrite, output int64 }{}
	return s.json.array(func() error {
		var one messagesUsage
		besides := true
		err := s.json.object(func(name []byte) (err error) {
			switch string(name) {
			case `"type"`:
				var kind jsontext.Value
				kind, err = s.json.dec.ReadValue()
				besides = string(kind) != `"message"` && string(kind) != `"fallback_message"`
			case `"input_tokens"`:
				err = s.figure(&one.input)
			case `"cache_read_input_tokens"`:
				err = s.figure(&one.cacheRead)
			case `"cache_creation_input_tokens"`:
				err = s.figure(&one.cacheWrite)
			case `"output_tokens"`:
				err = s.figure(&one.output)
			default:
				err = s.json.dec.SkipValue()
			}
			return err
		})
		if besides {
			sum.input = addTokens(sum.input, one.input)
			sum.cacheRead = addTokens(sum.cacheRead, one.cacheRead)
			sum.cacheWrite = addTokens(sum.cacheWrite, one.cacheWrite)
			sum.output = addTokens(sum.output, one.output)
		}
		return err
	})
}

// maxTokensReported bounds each figure of a usage, so that sums of them do not overflow.
const maxTokensReported = 1 << 60

func addTokens(a, b int64) int64 {
	return min(min(a, maxTokensReported)+min(b, maxTokensReported), maxTokensReported)
}

// usage is what was reported so far. It is known once the output is: an answer whose
// input is not told has none, which nobody takes for a figure.
func (s *messagesStream) usage() Usage {
	if !s.reported {
		return Usage{}
	}
	u := &s.tokens
	out := Usage{
		Known:         true,
		UncachedInput: addTokens(u.input, u.besides.input),
		CacheRead:     addTokens(u.cacheRead, u.besides.cacheRead),
		CacheWrite:    addTokens(u.cacheWrite, u.besides.cacheWrite),
		Output:        addTokens(u.output, u.besides.output),
	}
	out.Reasoning = min(u.thinking, out.Output)
	out.Unseen = s.hidden && out.Reasoning == 0 || u.besides.output > 0
	return out
}

// LetGo drops what refers to the data of the event that was read last, and to the memory
// around it.
func (s *messagesStream) LetGo() {
	s.data = nil
	s.json.reset(nil)
	if cap(s.unknown) > MaxSlots {
		s.unknown = nil
	}
}

// Forwarded implements [Stream].
func (s *messagesStream) Forwarded() {
	e := s.event
	s.event = messagesEvent{}
	same := func(b openBlock) bool { return b.index == e.block.index }
	switch e.kind {
	case kindMessageStart:
		s.started = true
	case kindBlockStart:
		if len(s.open) < maxOpen && !slices.ContainsFunc(s.open, same) {
			s.open = append(s.open, e.block)
		}
	case kindBlockStop:
		s.open = slices.DeleteFunc(s.open, same)
	case kindMessageDelta:
		s.stopped = s.stopped || e.stops
	case kindMessageStop:
		s.stopped, s.done = true, true
	}
}

// Ended implements [Stream].
func (s *messagesStream) Ended() bool { return s.stopped }

// InTool implements [ToolStream].
func (s *messagesStream) InTool() bool {
	if s.event.kind == kindBlockStart && s.event.block.tool {
		return true
	}
	return slices.ContainsFunc(s.open, func(b openBlock) bool { return b.tool })
}

// Close implements [Stream]: the end of blocks that are open, stop_reason "max_tokens"
// with the usage, and the end of the message. What has been forwarded of these is not
// repeated. A message that has not begun begins first, since clients take no end
// without a beginning.
func (s *messagesStream) Close(dst []byte, usage Usage) []byte {
	if s.done {
		return dst
	}
	if !s.started {
		model, err := json.Marshal(s.model)
		if err != nil {
			panic(err) // strings always marshal
		}
		dst = append(dst, "event: message_start\n"+`data: {"type":"message_start","message":{"id":"msg_tokenbudget","type":"message","role":"assistant","model":`...)
		dst = append(dst, model...)
		dst = append(dst, `,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":`...)
		dst = strconv.AppendInt(dst, usage.Input(), 10)
		dst = append(dst, `,"output_tokens":0}}}`+"\n\n"...)
	}
	if !s.stopped {
		for _, b := range s.open {
			dst = append(dst, "event: content_block_stop\n"+`data: {"type":"content_block_stop","index":`...)
			dst = strconv.AppendInt(dst, b.index, 10)
			dst = append(dst, "}\n\n"...)
		}
		dst = append(dst, "event: message_delta\n"+`data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":`...)
		dst = strconv.AppendInt(dst, usage.Output, 10)
		dst = append(dst, "}}\n\n"...)
	}
	return append(dst, "event: message_stop\n"+`data: {"type":"message_stop"}`+"\n\n"...)
}
