package dialect

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// NewStream implements [API].
func (OpenAIResponses) NewStream(*Request) Stream {
	s := new(responsesStream)
	s.reader.text = s.whole
	return s
}

var (
	_ ToolStream      = new(responsesStream)
	_ CompletedStream = new(responsesStream)
	_ StoredStream    = new(responsesStream)
)

// maxTexts bounds the texts of a stream of which it is known how much has been counted.
const maxTexts = 1024

// textSoFar is what is known of one text of a stream.
type textSoFar struct {
	slot  int
	bytes int64 // of the text that have been handed out, unquoted
}

// responsesStream reads the events of a streamed answer. Each text comes several times:
// piece by piece, then whole in an event which says that the text is done, in one that the
// part of the item is done, in one that the item is, and in the last event of all. So what
// has been handed out of each is remembered by its length, and of a whole text only what is
// behind that is handed out. A text that comes without pieces is not free, and one that
// comes with them is not paid for twice.
//
// What the closing events need of the answer is kept by the transcript.
type responsesStream struct {
	texts   map[slotKey]textSoFar
	reader  responseReader // of the event that is read
	ev      *Event         // to which whole texts go
	total   int64          // bytes of all texts that have been handed out
	wholes  int64          // bytes of the whole texts of the event that is read
	dry     bool           // they are added up, and not handed out
	unknown []span         // parts of the event which may be text in a shape that is not known

	id         string // of the response, once it was said
	transcript transcript
	next       step // what the event read last does to the transcript, once it is forwarded
	completed  bool // see CloseCompleted
}

// eventKind is what is known of the events of a type.
type eventKind struct {
	channel channel // of the text that it speaks of
	act     act     // what it does to the transcript, if that does not go by its members
	failed  bool    // it reports an error
	free    bool    // its text is not the model's
	sound   bool    // its delta is sound
}

// eventKinds are the types of events that are treated specially. Those which are not here
// count by their members: whatever is called a delta is a piece of a text.
var eventKinds = map[string]eventKind{
	`"response.created"`:     {channel: channelOther, act: actResponse},
	`"response.queued"`:      {channel: channelOther, act: actResponse},
	`"response.in_progress"`: {channel: channelOther, act: actResponse},
	`"response.completed"`:   {channel: channelOther, act: actEnd},
	`"response.incomplete"`:  {channel: channelOther, act: actEnd},
	`"response.failed"`:      {channel: channelOther, act: actEnd, failed: true},
	`"error"`:                {channel: channelOther, act: actEnd, failed: true},

	`"response.output_item.added"`:            {channel: channelOther, act: actItem},
	`"response.output_item.done"`:             {channel: channelOther, act: actItemDone},
	`"response.content_part.added"`:           {channel: channelContent, act: actPart},
	`"response.content_part.done"`:            {channel: channelContent, act: actPartDone},
	`"response.reasoning_summary_part.added"`: {channel: channelSummary, act: actPart},
	`"response.reasoning_summary_part.done"`:  {channel: channelSummary, act: actPartDone},

	`"response.output_text.delta"`:            {channel: channelContent},
	`"response.output_text.done"`:             {channel: channelContent},
	`"response.output_text.annotation.added"`: {channel: channelContent, act: actAnnotation},
	`"response.refusal.delta"`:                {channel: channelRefusal},
	`"response.refusal.done"`:                 {channel: channelRefusal},
	`"response.reasoning_text.delta"`:         {channel: channelReasoning},
	`"response.reasoning_text.done"`:          {channel: channelReasoning},
	`"response.reasoning_summary_text.delta"`: {channel: channelSummary},
	`"response.reasoning_summary_text.done"`:  {channel: channelSummary},
	`"response.audio.transcript.delta"`:       {channel: channelTranscript},
	`"response.audio.transcript.done"`:        {channel: channelTranscript},
	`"response.audio.delta"`:                  {channel: channelOther, sound: true},

	`"response.function_call_arguments.delta"`:         {channel: channelArguments},
	`"response.function_call_arguments.done"`:          {channel: channelArguments},
	`"response.mcp_call_arguments.delta"`:              {channel: channelArguments},
	`"response.mcp_call_arguments.done"`:               {channel: channelArguments},
	`"response.custom_tool_call_input.delta"`:          {channel: channelArguments},
	`"response.custom_tool_call_input.done"`:           {channel: channelArguments},
	`"response.code_interpreter_call_code.delta"`:      {channel: channelCode},
	`"response.code_interpreter_call_code.done"`:       {channel: channelCode},
	`"response.shell_call_command.added"`:              {channel: channelCode},
	`"response.shell_call_command.delta"`:              {channel: channelCode},
	`"response.shell_call_command.done"`:               {channel: channelCode},
	`"response.apply_patch_call_operation_diff.delta"`: {channel: channelCode},
	`"response.apply_patch_call_operation_diff.done"`:  {channel: channelCode},
	`"response.shell_call_output_content.delta"`:       {free: true},
	`"response.shell_call_output_content.done"`:        {free: true},
}

// eventParts are where the members of an event stand that matter.
type eventParts struct {
	kind                              span
	delta, text, part, item, response span
	annotation                        span
	outputIndex, partIndex            int64
	sequence                          int64 // -1 if there is none
	failed                            bool
	picture                           int // bytes of base64
}

// Event implements [Stream].
func (s *responsesStream) Event(data []byte, ev *Event) {
	ev.reset()
	s.next = step{}
	if string(data) == "[DONE]" { // not OpenAI's, but some servers send it
		ev.Done = true
		return
	}
	if wellFormed(data) != nil || data[skipFiller(data, 0)] != '{' {
		// Not understood, so perhaps text: it counts as what it is.
		ev.Texts = append(ev.Texts, Text{MaxSlots - 1, data})
		return
	}
	s.unknown = s.unknown[:0]
	s.reader.data, s.reader.usage, s.reader.extra, s.reader.shown, s.reader.summed = data, Usage{}, 0, false, false
	s.ev = ev
	at := span{skipFiller(data, 0), len(data)}
	p := s.members(at)
	s.read(p, ev)
	ev.Usage, ev.Extra = s.reader.usage, ev.Extra+s.reader.extra
	ev.Reasoning, ev.Summary = ev.Reasoning || s.reader.shown, ev.Summary || s.reader.summed
	if len(ev.Texts) == 0 && ev.Extra == 0 && !ev.Usage.Known && !ev.Failed {
		if p.kind.end == 0 {
			s.unknown = append(s.unknown[:0], at)
		}
		for _, u := range s.unknown {
			ev.Texts = append(ev.Texts, Text{MaxSlots - 1, u.of(data)})
		}
	}
}

// members finds the members of an event.
func (s *responsesStream) members(at span) (p eventParts) {
	data := s.reader.data
	p.sequence = -1
	for name, value := range members(data, at) {
		switch string(name.of(data)) {
		case `"type"`:
			p.kind = value
		case `"delta"`:
			p.delta = value
		case `"text"`, `"refusal"`, `"arguments"`, `"input"`, `"code"`, `"command"`, `"diff"`, `"transcript"`:
			if value.end-value.start > p.text.end-p.text.start {
				p.text = value
			}
		case `"part"`:
			p.part = value
		case `"item"`:
			p.item = value
		case `"response"`:
			p.response = value
		case `"annotation"`:
			p.annotation = value
		case `"output_index"`:
			p.outputIndex, _ = s.reader.number(value)
		case `"content_index"`, `"summary_index"`, `"command_index"`:
			p.partIndex, _ = s.reader.number(value)
		case `"sequence_number"`:
			if n, ok := s.reader.number(value); ok {
				p.sequence = n
			}
		case `"error"`:
			p.failed = data[value.start] != 'n'
		case `"partial_image_b64"`:
			p.picture = value.end - value.start
		case `"item_id"`, `"logprobs"`, `"obfuscation"`, `"name"`, `"message"`, `"param"`, `"output_format"`, `"quality"`, `"size"`, `"background"`:
		default:
			if v := value.of(data); len(v) > len(`""`) && (v[0] == '"' || v[0] == '{' || v[0] == '[') {
				s.unknown = append(s.unknown, value)
			}
		}
	}
	return p
}

// read hands out what an event adds.
func (s *responsesStream) read(p eventParts, ev *Event) {
	data := s.reader.data
	kind := eventKinds[string(p.kind.of(data))]
	key := slotKey{p.outputIndex, kind.channel, p.partIndex}
	if p.part.end > 0 {
		switch string(s.reader.member(p.part, `"type"`).of(data)) {
		case `"refusal"`:
			key.channel = channelRefusal
		case `"reasoning_text"`:
			key.channel = channelReasoning
		}
	}
	s.next = step{act: kind.act, key: key, sequence: p.sequence, read: true}
	ev.Failed = p.failed || kind.failed
	ev.Done = kind.act == actEnd
	if p.picture > 0 {
		ev.Extra += tokensPerPartialImage
	}
	switch {
	case kind.free:
		s.unknown = s.unknown[:0]
		return
	case kind.sound:
		ev.Extra += int64(p.delta.end-p.delta.start+bytesPerAudioToken-1) / bytesPerAudioToken
		return
	case kind.failed && p.response.end == 0: // its texts are about the error
		return
	}
	switch {
	case p.delta.end > 0:
		s.next.act, s.next.value = actDelta, p.delta
		s.delta(key, p.delta, ev)
	case p.text.end > 0:
		if s.next.act == actNone {
			s.next.act, s.next.value = actTextDone, p.text
		}
		s.reader.take(key, p.text)
	case p.annotation.end > 0:
		s.next.value = p.annotation
	}
	if p.part.end > 0 {
		s.next.value = p.part
		s.reader.part(key, p.part)
	}
	if p.item.end > 0 {
		s.next.value = p.item
		s.reader.item(p.outputIndex, p.item)
	}
	if p.response.end > 0 {
		s.next.value = p.response
		if data[p.response.start] == '{' {
			s.response(p.response, ev)
		} else {
			s.reader.take(slotKey{0, channelOther, 0}, p.response)
		}
	}
}

// response reads the response that an event carries. Its items may stand at other places
// than where they came: some servers leave out empty ones. So they are looked at only if
// there is more text than before in all of it; else nothing in it is new.
func (s *responsesStream) response(at span, ev *Event) {
	if s.id == "" {
		s.id = storedID(s.reader.member(at, `"id"`).of(s.reader.data))
	}
	s.dry, s.wholes = true, 0
	s.reader.response(at)
	s.dry = false
	if s.wholes > s.total {
		s.reader.response(at)
	}
	s.reader.extra = 0 // pictures have been counted with their items
	if v := s.reader.member(at, `"error"`).of(s.reader.data); len(v) > 0 && v[0] != 'n' {
		ev.Failed = true
	}
}

// delta hands out a piece of a text.
func (s *responsesStream) delta(key slotKey, at span, ev *Event) {
	raw := at.of(s.reader.data)
	if len(raw) <= len(`""`) || raw[0] == 'n' {
		return
	}
	text := plainText(raw, &ev.scratch)
	c := s.textOf(key)
	c.bytes += int64(len(text))
	s.put(key, c)
	s.total += int64(len(text))
	ev.Summary = key.channel == channelSummary
	ev.Reasoning = ev.Summary || key.channel == channelReasoning
	ev.Texts = append(ev.Texts, Text{c.slot, text})
}

// whole hands out what is new of a whole text.
func (s *responsesStream) whole(key slotKey, raw []byte) {
	length := int64(plainLength(raw))
	if s.wholes += length; s.dry {
		return
	}
	c := s.textOf(key)
	if length <= c.bytes {
		return
	}
	text := plainText(raw, &s.ev.scratch)[c.bytes:]
	s.total += length - c.bytes
	c.bytes = length
	s.put(key, c)
	s.ev.Texts = append(s.ev.Texts, Text{c.slot, text})
}

// Forwarded implements [Stream].
func (s *responsesStream) Forwarded() {
	s.transcript.apply(s.reader.data, s.next)
	s.next, s.reader.data = step{}, nil
}

// LetGo drops what refers to the data that was read last.
func (s *responsesStream) LetGo() { s.next, s.reader.data = step{}, nil }

// Ended implements [Stream]. It is also true while no item is open behind a message or a
// call of a tool: mostly the answer's last event follows, and else another item.
func (s *responsesStream) Ended() bool { return s.transcript.ended || s.transcript.resting() }

// InTool implements [ToolStream].
func (s *responsesStream) InTool() bool {
	if s.next.act == actItem && itemKindOf(s.reader.data, s.next.value) == itemTool {
		return true
	}
	return s.transcript.openTools() > 0
}

// CloseCompleted implements [CompletedStream]: an answer ends with response.completed
// instead of response.incomplete. The status in it says incomplete all the same.
func (s *responsesStream) CloseCompleted() { s.completed = true }

// Close implements [Stream]; see transcript.close.
func (s *responsesStream) Close(dst []byte, usage Usage) []byte {
	return s.transcript.close(dst, usage, s.completed)
}

// textOf is what is known of a text; a new one gets a slot. Texts beyond maxTexts are as
// new each time.
func (s *responsesStream) textOf(key slotKey) textSoFar {
	c, ok := s.texts[key]
	if !ok {
		c.slot = min(len(s.texts), MaxSlots-1)
	}
	return c
}

func (s *responsesStream) put(key slotKey, c textSoFar) {
	if _, ok := s.texts[key]; !ok && len(s.texts) >= maxTexts {
		return
	}
	if s.texts == nil {
		s.texts = make(map[slotKey]textSoFar)
	}
	s.texts[key] = c
}

// plainLength is the length of plainText, without writing it.
func plainLength(raw []byte) int {
	if len(raw) == 0 || raw[0] != '"' {
		return len(raw)
	}
	v, n := raw[1:len(raw)-1], 0
	for {
		i := bytes.IndexByte(v, '\\')
		if i < 0 {
			return n + len(v)
		}
		n += i
		c := v[i+1]
		v = v[i+2:]
		if c != 'u' {
			n++
			continue
		}
		r := hexRune(v)
		v = v[4:]
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if len(v) >= 6 && v[0] == '\\' && v[1] == 'u' {
				low = hexRune(v[2:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				v = v[6:]
			}
		}
		n += utf8.RuneLen(r)
	}
}
