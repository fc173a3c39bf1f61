package dialect

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// OpenAIChat is OpenAI's chat completions API and what is compatible with it:
// POST …/chat/completions.
//
// The prompt is counted as the provider does, as far as that is known: the
// cookbook's figures ("How to count tokens with tiktoken") or the harmony format
// for messages, types of TypeScript for tools, size and detail for images. The
// sources stand beside each figure; docs/accounting.md says how far they are off.
type OpenAIChat struct{}

var _ API = OpenAIChat{}

// Name implements [API].
func (OpenAIChat) Name() string { return "openai.chat" }

// Estimates for what the API says nothing of, and its bounds.
const (
	tokensPerImage     = 765 // in an answer: one of 1024 × 1024, as gpt-4o takes it
	tokensPerFile      = 1000
	bytesPerAudioToken = 3200 // of base64: 50 ms of 24 kHz PCM, which cost one token
	maxChoices         = 128  // the API's own bound of n; more never comes back
)

// Refuse implements [API], in the shape of OpenAI's error object.
func (OpenAIChat) Refuse(status int, message string) []byte {
	kind, code := "invalid_request_error", any(nil)
	switch {
	case status == 429:
		kind, code = "insufficient_quota", "budget_exceeded"
	case status == 401:
		kind, code = "invalid_request_error", "identity_required"
	case status >= 500:
		kind = "server_error"
	}
	type object struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Param   any    `json:"param"`
		Code    any    `json:"code"`
	}
	body, err := json.Marshal(map[string]object{"error": {Message: message, Type: kind, Code: code}})
	if err != nil {
		panic(err) // strings and nils always marshal
	}
	return body
}

// answers are the scanners of answers and of events that are not plain. No stream keeps one, for
// most need one just for their usage.
var answers = sync.Pool{New: func() any { return newLenientScanner() }}

// ParseAnswer implements [API].
func (OpenAIChat) ParseAnswer(body []byte, text func([]byte)) (Usage, error) {
	json := answers.Get().(*scanner)
	defer func() {
		if json.reset(nil); len(body) <= maxPooled {
			answers.Put(json)
		}
	}()
	s := chatStream{json: json, whole: true}
	var ev Event
	if err := s.chunk(body, &ev); err != nil {
		return Usage{}, jsonError(err, s.json.dec.InputOffset())
	}
	if ev.Failed && !ev.Usage.Known && len(ev.Texts) == 0 && ev.Extra == 0 {
		return Usage{}, ErrFailed
	}
	for _, t := range ev.Texts {
		text(t.Bytes)
	}
	ev.Usage.Extra = ev.Extra
	return ev.Usage, nil
}

// NewStream implements [API].
func (OpenAIChat) NewStream(req *Request) Stream {
	s := new(chatStream)
	s.init(req)
	return s
}

// channel tells apart the texts of one choice.
type channel uint8

const (
	channelContent channel = iota
	channelReasoning
	channelRefusal
	channelTranscript // of spoken output
	channelName       // of a tool or function
	channelArguments
)

// slotKey names one text of an answer.
type slotKey struct {
	choice  int64
	channel channel
	tool    int64
}

// chatStream reads the chunks of a streamed answer. A whole answer has the same
// shape with "message" for "delta", so it is read by the same code.
type chatStream struct {
	json    *scanner // while an event is read by the decoder
	req     *Request
	whole   bool // it is no stream: one answer, which nothing has to close
	plain   bool // it is of the completions API: choices have a text and no delta
	slots   slots
	before  chunkHead // of the last plain chunk
	latest  slotOf    // the text that it was of
	pieces  bool      // some delta had a text
	unknown []span    // parts of the event that is read which may be text in a shape that is not known

	// What closing events repeat: raw JSON values of the first chunk.
	id, created, model, fingerprint []byte
	begun, finished                 []bool  // by index of the choice: it has come to the client; it has ended by itself
	beginning, finishing            []int64 // choices that begin and end with the event that is read

	calls []chatCall // at most one for each choice
}

func (s *chatStream) init(req *Request) {
	s.req = req
}

// Event implements [Stream].
func (s *chatStream) Event(data []byte, ev *Event) {
	if !s.plainEvent(data, ev) {
		s.eventDecoded(data, ev)
	}
}

// eventDecoded is Event by the decoder, which understands all chunks.
func (s *chatStream) eventDecoded(data []byte, ev *Event) {
	ev.reset()
	s.beginning, s.finishing = s.beginning[:0], s.finishing[:0]
	if string(data) == "[DONE]" {
		ev.Done = true
		return
	}
	s.json = answers.Get().(*scanner)
	err := s.chunk(data, ev)
	if s.json.reset(nil); len(data) <= maxPooled {
		answers.Put(s.json)
	}
	s.json = nil
	if err != nil {
		// Not understood, so perhaps text: it counts as what it is.
		ev.reset()
		ev.Texts = append(ev.Texts, Text{MaxSlots - 1, data})
	}
}

// Forwarded implements [Stream].
func (s *chatStream) Forwarded() {
	for _, index := range s.beginning {
		s.begun = note(s.begun, index)
	}
	for _, index := range s.finishing {
		s.finished = note(s.finished, index)
	}
}

// note makes the choice's element of a list true.
func note(list []bool, index int64) []bool {
	for int(index) >= len(list) {
		list = append(list, false)
	}
	list[index] = true
	return list
}

// chunk reads one chunk or one whole answer.
func (s *chatStream) chunk(data []byte, ev *Event) error {
	s.unknown = s.unknown[:0]
	s.json.reset(data)
	choices := -1
	err := s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"choices"`:
			choices = 0
			if s.json.dec.PeekKind() != jsontext.KindBeginArray {
				return s.remember()
			}
			err = s.json.array(func() error {
				choices++
				return s.choice(ev)
			})
		case `"usage"`:
			err = s.report(ev)
		case `"x_groq"`:
			err = s.json.object(func(name []byte) error {
				if string(name) == `"usage"` {
					return s.report(ev)
				}
				return s.json.dec.SkipValue()
			})
		case `"error"`:
			ev.Failed = s.json.dec.PeekKind() != jsontext.KindNull
			err = s.json.dec.SkipValue()
		case `"id"`:
			err = s.keep(&s.id)
		case `"created"`:
			err = s.keep(&s.created)
		case `"model"`:
			err = s.keep(&s.model)
		case `"system_fingerprint"`:
			err = s.keep(&s.fingerprint)
		default:
			err = s.json.dec.SkipValue()
		}
		return err
	})
	if err == nil && len(bytes.TrimLeft(data[s.json.dec.InputOffset():], " \t\r\n")) > 0 {
		return errTrailing
	}
	ev.UsageOnly = ev.Usage.Known && choices == 0 && len(s.unknown) == 0 && !ev.Failed
	// A running count of usage does not speak for what is not known, but that of a whole answer does.
	reported := ev.Usage.Known && (s.whole || len(s.unknown) == 0)
	if err == nil && len(ev.Texts) == 0 && ev.Extra == 0 && !reported && !ev.Failed {
		// Nothing that is known: what is there may be text all the same.
		if choices < 0 {
			s.unknown = append(s.unknown[:0], span{0, len(data)})
		}
		for _, u := range s.unknown {
			ev.Texts = append(ev.Texts, Text{MaxSlots - 1, data[u.start:u.end]})
		}
	}
	return err
}

// errTrailing says that something follows the one value that was expected.
var errTrailing = &BadRequest{"there is data after the JSON value"}

// keep remembers a short value of the first chunk that has it.
func (s *chatStream) keep(dst *[]byte) error {
	if s.whole {
		return s.json.dec.SkipValue()
	}
	v, err := s.json.dec.ReadValue()
	if err == nil {
		keepFirst(dst, v)
	}
	return err
}

// keepFirst copies a raw value that closing events repeat, if it is the first one and short. It
// may have line ends of the event that it came in, which another event must not have.
func keepFirst(dst *[]byte, v []byte) {
	if *dst == nil && len(v) <= 256 {
		*dst = appendCompact([]byte{}, v)
	}
}

// choice reads one element of choices. Its index may come after its text, so the
// texts get their slots at the end.
func (s *chatStream) choice(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.remember()
	}
	first := len(ev.Texts)
	var index int64
	finished, delta, said := false, false, false
	var message, text struct{ from, to int } // which of the event's texts are theirs
	err := s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"index"`:
			index, _, err = s.json.integer()
		case `"delta"`:
			delta = true
			before := len(ev.Texts)
			err = s.message(ev)
			said = len(ev.Texts) > before
		case `"message"`:
			message.from = len(ev.Texts)
			err = s.message(ev)
			message.to = len(ev.Texts)
		case `"text"`:
			text.from = len(ev.Texts)
			err = s.add(ev, channelContent)
			text.to = len(ev.Texts)
		case `"usage"`:
			if s.expected() > 1 { // it may be of this choice alone
				return s.json.dec.SkipValue()
			}
			err = s.report(ev)
		case `"finish_reason"`:
			finished = s.json.dec.PeekKind() == jsontext.KindString
			err = s.json.dec.SkipValue()
		case `"logprobs"`, `"content_filter_results"`, `"content_filter_offsets"`, `"native_finish_reason"`, `"stop_reason"`, `"matched_stop"`, `"token_ids"`:
			err = s.json.dec.SkipValue()
		default:
			err = s.remember()
		}
		return err
	})
	// Some servers repeat the message so far beside each piece of it, others the piece as
	// the completions API has it. Beside deltas that never say anything it is no repetition.
	s.pieces = s.pieces || said
	if !delta || !s.pieces {
		message.to = message.from
	}
	if !said {
		text.to = text.from
	}
	if text.from < message.from { // the later one goes first, so that the other stays where it is
		message, text = text, message
	}
	ev.Texts = slices.Delete(ev.Texts, text.from, text.to)
	ev.Texts = slices.Delete(ev.Texts, message.from, message.to)
	if s.whole {
		return err // nobody asks which text is whose
	}
	s.begins(index)
	if !finished {
		s.follow(ev, index, ev.Texts[first:])
	}
	for i := first; i < len(ev.Texts); i++ {
		ev.Texts[i].Slot = s.slot(index, ev.Texts[i].Slot)
	}
	if finished {
		s.finishes(index)
	}
	return err
}

// begins notes that an event of a choice is read. Its first one tells whose the message is.
func (s *chatStream) begins(index int64) {
	if index < int64(len(s.begun)) && s.begun[index] || index >= max(maxChoices, s.expected()) {
		return
	}
	s.beginning = append(s.beginning, index)
}

// finishes notes that a choice ends with the event that is read.
func (s *chatStream) finishes(index int64) {
	if index < max(maxChoices, s.expected()) {
		s.finishing = append(s.finishing, index)
	}
	if len(s.calls) > 0 {
		s.leave(index)
	}
}

// message reads a delta or a message. The texts it adds have a provisional slot
// (see provisional), because the choice's index may not be known yet.
func (s *chatStream) message(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.remember()
	}
	reasoning := false
	return s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"content"`:
			return s.add(ev, channelContent)
		case `"reasoning_content"`, `"reasoning"`, `"reasoning_details"`, `"thinking"`:
			// Some servers send the same text under several names.
			if reasoning {
				return s.json.dec.SkipValue()
			}
			before := len(ev.Texts)
			err = s.add(ev, channelReasoning)
			reasoning = len(ev.Texts) > before
			ev.Reasoning = ev.Reasoning || reasoning
			return err
		case `"refusal"`:
			return s.add(ev, channelRefusal)
		case `"function_call"`:
			return s.function(ev)
		case `"tool_calls"`:
			if s.json.dec.PeekKind() != jsontext.KindBeginArray {
				return s.add(ev, channelArguments)
			}
			return s.json.array(func() error { return s.toolCall(ev) })
		case `"audio"`:
			return s.audio(ev)
		case `"images"`:
			if s.json.dec.PeekKind() != jsontext.KindBeginArray {
				return s.remember()
			}
			return s.json.array(func() error {
				ev.Extra += tokensPerImage
				return s.json.dec.SkipValue()
			})
		case `"role"`, `"annotations"`:
			return s.json.dec.SkipValue()
		}
		return s.remember()
	})
}

// audio reads spoken output: its transcript is text, the sound is estimated.
func (s *chatStream) audio(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.remember()
	}
	return s.json.object(func(name []byte) error {
		switch string(name) {
		case `"transcript"`:
			return s.add(ev, channelTranscript)
		case `"data"`:
			v, err := s.json.dec.ReadValue()
			ev.Extra += int64(len(v)+bytesPerAudioToken-1) / bytesPerAudioToken
			return err
		case `"id"`:
			return s.json.dec.SkipValue()
		}
		return s.remember()
	})
}

func (s *chatStream) toolCall(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.remember()
	}
	first := len(ev.Texts)
	var tool int64
	err := s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"index"`:
			tool, _, err = s.json.integer()
			return err
		case `"function"`, `"custom"`:
			return s.function(ev)
		case `"id"`, `"type"`:
			return s.json.dec.SkipValue()
		}
		return s.remember()
	})
	for i := first; i < len(ev.Texts); i++ {
		ev.Texts[i].Slot += provisional(0, tool)
	}
	return err
}

func (s *chatStream) function(ev *Event) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.add(ev, channelArguments)
	}
	return s.json.object(func(name []byte) error {
		switch string(name) {
		case `"name"`:
			return s.add(ev, channelName)
		case `"arguments"`, `"input"`:
			return s.add(ev, channelArguments)
		}
		return s.remember()
	})
}

// remember notes a member that is not known. It counts if the event has nothing
// that is.
func (s *chatStream) remember() error {
	v, err := s.json.dec.ReadValue()
	if err == nil && holdsText(v) {
		end := int(s.json.dec.InputOffset())
		s.unknown = append(s.unknown, span{end - len(v), end})
	}
	return err
}

// holdsText says that a value may hold text: a string, an object or an array that
// is not empty.
func holdsText(v jsontext.Value) bool {
	k := v.Kind()
	return len(v) > len(`""`) && (k == jsontext.KindString || k == jsontext.KindBeginObject || k == jsontext.KindBeginArray)
}

// provisional packs channel and tool into one number until the choice is known.
func provisional(c channel, tool int64) int { return int(min(tool, 1<<20))<<8 | int(c) }

// slot returns the slot of a text, giving out a new one if it is new.
func (s *chatStream) slot(choice int64, provisional int) int {
	return s.slots.of(slotKey{choice, channel(provisional & 0xff), int64(provisional >> 8)})
}

// slots are the slots of the texts of one answer. The zero value is valid.
type slots map[slotKey]int

// of returns the slot of a text, giving out a new one if it is new.
func (s *slots) of(key slotKey) int {
	if slot, ok := (*s)[key]; ok {
		return slot
	}
	if len(*s) == MaxSlots-1 {
		return MaxSlots - 1
	}
	slot := len(*s)
	if *s == nil {
		*s = make(slots)
	}
	(*s)[key] = slot
	return slot
}

// Ended implements [Stream].
func (s *chatStream) Ended() bool {
	return len(s.finished) >= s.choices() && !slices.Contains(s.finished, false)
}

// choices is how many the answer has, or is to have.
func (s *chatStream) choices() int {
	return max(len(s.finished), int(s.expected()))
}

// expected is how many choices were asked for, as far as they come back.
func (s *chatStream) expected() int64 {
	if s.req == nil {
		return 0
	}
	return min(cmp.Or(s.req.shown, s.req.Choices), maxStreamed)
}

// Close implements [Stream]: a last chunk with finish_reason "length" for each
// choice that has not ended by itself, the usage if the client asked for it, and
// the end marker.
func (s *chatStream) Close(dst []byte, usage Usage) []byte {
	for i := range s.choices() {
		if i < len(s.finished) && s.finished[i] {
			continue
		}
		dst = s.head(dst)
		dst = append(dst, `"choices":[{"index":`...)
		dst = strconv.AppendInt(dst, int64(i), 10)
		switch {
		case s.plain:
			dst = append(dst, `,"text":""`...)
		case i < len(s.begun) && s.begun[i]:
			dst = append(dst, `,"delta":{}`...)
		default: // accumulators take no message of nobody
			dst = append(dst, `,"delta":{"role":"assistant","content":""}`...)
		}
		dst = append(dst, `,"logprobs":null,"finish_reason":"length"}]`...)
		if s.req != nil && s.req.WantsUsage {
			dst = append(dst, `,"usage":null`...)
		}
		dst = append(dst, "}\n\n"...)
	}
	if s.req != nil && s.req.WantsUsage {
		dst = s.head(dst)
		dst = append(dst, `"choices":[],"usage":{"prompt_tokens":`...)
		dst = strconv.AppendInt(dst, usage.Input(), 10)
		dst = append(dst, `,"completion_tokens":`...)
		dst = strconv.AppendInt(dst, usage.Output, 10)
		dst = append(dst, `,"total_tokens":`...)
		dst = strconv.AppendInt(dst, usage.Input()+usage.Output, 10)
		dst = append(dst, "}}\n\n"...)
	}
	return append(dst, "data: [DONE]\n\n"...)
}

// head appends the start of a chunk: what all chunks of one answer have in
// common.
func (s *chatStream) head(dst []byte) []byte {
	member := func(name string, value []byte, missing string) {
		dst = append(dst, name...)
		if value == nil {
			dst = append(dst, missing...)
		} else {
			dst = append(dst, value...)
		}
		dst = append(dst, ',')
	}
	dst = append(dst, `data: {`...)
	member(`"id":`, s.id, `""`)
	if s.plain {
		member(`"object":`, nil, `"text_completion"`)
	} else {
		member(`"object":`, nil, `"chat.completion.chunk"`)
	}
	member(`"created":`, s.created, `0`)
	member(`"model":`, s.model, `""`)
	if s.fingerprint != nil {
		member(`"system_fingerprint":`, s.fingerprint, "")
	}
	return dst
}
