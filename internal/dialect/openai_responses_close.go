package dialect

import "strconv"

// Bounds of what is kept of an answer for its closing events. A text of 128,000 tokens, the
// longest of OpenAI's models, has some 600 KB.
const (
	maxKept      = 1 << 20 // bytes of texts and items
	maxHead      = 32 << 10
	maxHeadValue = 4 << 10 // of one member of the response
	maxItems     = 256
)

// act is what an event does to the transcript.
type act uint8

const (
	actNone       act = iota
	actResponse       // the response begins, or goes on
	actItem           // an item begins
	actItemDone       // an item is done
	actPart           // a part of a message, or of a summary, begins
	actPartDone       // it is done
	actDelta          // a piece of a text
	actTextDone       // a text is done
	actAnnotation     // a text gets an annotation
	actEnd            // the answer ends
)

// step is an act, with what it is about.
type step struct {
	act      act
	key      slotKey // of the text; its choice is the item's index
	value    span    // in the event's data
	sequence int64   // of the event, -1 if it has none
	read     bool    // there is an event
}

// itemKind says how an item is closed.
type itemKind uint8

const (
	itemMessage itemKind = iota
	itemReasoning
	itemTool // everything else
)

func itemKindOf(data []byte, at span) itemKind {
	r := responseReader{data: data}
	switch string(r.member(at, `"type"`).of(data)) {
	case `"message"`:
		return itemMessage
	case `"reasoning"`:
		return itemReasoning
	}
	return itemTool
}

// transcript is what a client has been sent of an answer, as far as closing events repeat
// it: the response's own members, the items that are done, and the texts of those that are
// not. The arguments of tools are not kept; see close.
//
// If it grows beyond its bounds nothing is kept any more, and the closing events have no
// output: clients then have only what was streamed.
type transcript struct {
	begun, ended bool
	lost         bool  // it has outgrown its bounds
	sequence     int64 // the next event's
	head         []byte
	items        []outputItem
	kept         int // bytes, of items
}

type outputItem struct {
	index int64
	kind  itemKind
	done  bool
	raw   []byte // as it began; as it ended if it is done
	parts []outputPart
}

// outputPart is a part of a message, or of reasoning. Its text is raw JSON without its
// quotes, as it came: pieces of it can be joined as they are.
type outputPart struct {
	channel     channel
	index       int64
	added       bool // an event began it
	textDone    bool
	done        bool
	text        []byte
	annotations []byte // raw, with commas between them
}

// apply takes in an event that has been forwarded.
func (t *transcript) apply(data []byte, s step) {
	if !s.read {
		return
	}
	if t.sequence++; s.sequence >= 0 {
		t.sequence = s.sequence + 1
	}
	switch s.act {
	case actResponse:
		t.begun = true
		t.keepHead(data, s.value) // keeps nothing if there is no object
		return
	case actEnd:
		t.ended = true
		return
	case actNone:
		return
	}
	if s.value.end == 0 { // the event lacks what it is about
		return
	}
	item := t.item(s.key.choice)
	switch s.act {
	case actItem:
		if item == nil && data[s.value.start] == '{' { // some servers send null
			t.add(outputItem{index: s.key.choice, kind: itemKindOf(data, s.value), raw: t.copy(nil, s.value.of(data))})
		}
		return
	case actItemDone:
		if data[s.value.start] != '{' {
			return
		}
		if item == nil {
			item = t.add(outputItem{index: s.key.choice, kind: itemKindOf(data, s.value)})
		}
		if item != nil {
			item.done = true
			t.release(item)
			item.raw = t.copy(nil, s.value.of(data))
		}
		return
	}
	if item == nil || item.done || item.kind == itemTool || t.lost || !closable(item.kind, s.key.channel) {
		return
	}
	p := item.part(s.key)
	switch s.act {
	case actPart:
		p.added = true
	case actPartDone:
		p.done = true
	case actDelta:
		if v := s.value.of(data); v[0] == '"' {
			p.text = t.copy(p.text, v[1:len(v)-1])
		}
	case actTextDone:
		p.textDone = true
		if v := s.value.of(data); v[0] == '"' && len(p.text) == 0 { // it came without pieces
			p.text = t.copy(nil, v[1:len(v)-1])
		}
	case actAnnotation:
		if len(p.annotations) > 0 {
			p.annotations = append(p.annotations, ',')
		}
		p.annotations = t.copy(p.annotations, s.value.of(data))
	}
}

// closable says that the parts of a channel are closed by events of their own.
func closable(kind itemKind, c channel) bool {
	if kind == itemMessage {
		return c == channelContent || c == channelRefusal
	}
	return c == channelSummary || c == channelReasoning
}

// item is the item at an index, or nil.
func (t *transcript) item(index int64) *outputItem {
	for i := len(t.items) - 1; i >= 0; i-- {
		if t.items[i].index == index {
			return &t.items[i]
		}
	}
	return nil
}

// add adds an item; nil if there are too many.
func (t *transcript) add(item outputItem) *outputItem {
	if len(t.items) == maxItems {
		t.lose()
		return nil
	}
	t.items = append(t.items, item)
	return &t.items[len(t.items)-1]
}

// part is the part of a text, a new one if there is none.
func (item *outputItem) part(key slotKey) *outputPart {
	for i := len(item.parts) - 1; i >= 0; i-- {
		if p := &item.parts[i]; p.channel == key.channel && p.index == key.tool {
			return p
		}
	}
	if len(item.parts) == maxItems {
		return &item.parts[maxItems-1]
	}
	item.parts = append(item.parts, outputPart{channel: key.channel, index: key.tool})
	return &item.parts[len(item.parts)-1]
}

// copy appends a raw value, as long as the bounds allow.
func (t *transcript) copy(dst, raw []byte) []byte {
	if t.lost || t.kept+len(raw) > maxKept {
		t.lose()
		return nil
	}
	t.kept += len(raw)
	return append(dst, raw...)
}

// release gives back what is kept of an item.
func (t *transcript) release(item *outputItem) {
	t.kept -= len(item.raw)
	for _, p := range item.parts {
		t.kept -= len(p.text)
		t.kept -= len(p.annotations)
	}
	t.kept = max(t.kept, 0) // commas between annotations are not counted when they come
	item.raw, item.parts = nil, nil
}

// lose lets go of all items but for which of them are done.
func (t *transcript) lose() {
	t.lost = true
	for i := range t.items {
		t.items[i].raw, t.items[i].parts = nil, nil
	}
	t.kept = 0
}

// openTools is how many calls of tools have begun and not ended.
func (t *transcript) openTools() (n int) {
	for i := range t.items {
		if t.items[i].kind == itemTool && !t.items[i].done {
			n++
		}
	}
	return n
}

// resting says that the answer may be at its end: there is something in it other than
// reasoning, and nothing is open.
func (t *transcript) resting() bool {
	for i := range t.items {
		if !t.items[i].done {
			return false
		}
	}
	return len(t.items) > 0 && t.items[len(t.items)-1].kind != itemReasoning
}

// keepHead keeps the members of the response that the last event repeats. Of one that is
// long, such as instructions and tools, only the kind of value is kept.
func (t *transcript) keepHead(data []byte, at span) {
	head := t.head[:0]
	for name, value := range members(data, at) {
		v := value.of(data)
		switch string(name.of(data)) {
		case `"status"`, `"output"`, `"usage"`, `"incomplete_details"`, `"error"`, `"completed_at"`, `"output_text"`:
			continue
		}
		if n := name.end - name.start; len(v) > maxHeadValue || n > maxHeadValue || len(head)+n+len(v) > maxHead {
			switch v[0] {
			case '[':
				v = []byte(`[]`)
			case '{':
				v = []byte(`{}`)
			default:
				v = []byte(`null`)
			}
			if n > maxHeadValue || len(head)+n > maxHead {
				continue
			}
		}
		head = append(head, name.of(data)...)
		head = append(head, ':')
		head = appendCompact(head, v)
		head = append(head, ',')
	}
	t.head = head
}

// close appends the events that end the answer here, in the order in which the API would:
// for each open part of an item that its text is done, and that it is; for each open item
// that it is, with the status incomplete; and response.incomplete with the reason
// max_output_tokens, with all items as they are, and the usage. The whole texts in them are
// those that the client has been sent.
//
// A call of a tool that is open stays so: there is no event that ends it, and the last one
// does not list it. The official clients take that well, while an ended item with half of
// its arguments would be run by those that do not look at its status: half a shell command
// is a command.
//
// With completed the last event is response.completed, with the status incomplete, which
// clients take for the end of the answer that they may parse. It is response.incomplete all
// the same if a call of a tool is open, or if not all of the output is known.
func (t *transcript) close(dst []byte, usage Usage, completed bool) []byte {
	if t.ended {
		return dst
	}
	if !t.begun {
		dst = t.event(dst, "response.created")
		dst = append(dst, `,"response":`...)
		dst = t.response(dst, `"in_progress"`, `null`, false, Usage{})
		dst = append(dst, "}\n\n"...)
	}
	if !t.lost {
		for i := range t.items {
			if item := &t.items[i]; !item.done && item.kind != itemTool {
				dst = t.closeItem(dst, item)
			}
		}
	}
	kind := "response.incomplete"
	if completed && !t.lost && t.openTools() == 0 {
		kind = "response.completed"
	}
	dst = t.event(dst, kind)
	dst = append(dst, `,"response":`...)
	dst = t.response(dst, `"incomplete"`, `{"reason":"max_output_tokens"}`, !t.lost, usage)
	return append(dst, "}\n\n"...)
}

// event appends the start of an event.
func (t *transcript) event(dst []byte, kind string) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, kind...)
	dst = append(dst, "\ndata: {\"type\":\""...)
	dst = append(dst, kind...)
	dst = append(dst, `","sequence_number":`...)
	dst = strconv.AppendInt(dst, t.sequence, 10)
	t.sequence++
	return dst
}

// response appends the response object.
func (t *transcript) response(dst []byte, status, details string, output bool, usage Usage) []byte {
	dst = append(dst, '{')
	if len(t.head) == 0 {
		dst = append(dst, `"id":"resp_0","object":"response","created_at":0,"model":"",`...)
	}
	dst = append(dst, t.head...)
	dst = append(dst, `"status":`...)
	dst = append(dst, status...)
	dst = append(dst, `,"error":null,"incomplete_details":`...)
	dst = append(dst, details...)
	dst = append(dst, `,"output":[`...)
	first := true
	for i := range t.items {
		item := &t.items[i]
		if !output || !item.done && item.kind == itemTool {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = item.appendTo(dst)
	}
	dst = append(dst, `],"usage":`...)
	if usage.Known {
		dst = appendResponsesUsage(dst, usage)
	} else {
		dst = append(dst, `null`...)
	}
	return append(dst, '}')
}

// closeItem appends the events that end an item and its parts.
func (t *transcript) closeItem(dst []byte, item *outputItem) []byte {
	for i := range item.parts {
		p := &item.parts[i]
		names := partNames[p.channel]
		if !p.textDone && !p.done {
			dst = t.about(dst, names.textDone, item, names.index, p.index)
			dst = append(dst, `,"`...)
			dst = append(dst, names.text...)
			dst = append(dst, `":"`...)
			dst = append(dst, p.text...)
			dst = append(dst, '"')
			if p.channel == channelContent {
				dst = append(dst, `,"logprobs":[]`...)
			}
			dst = append(dst, "}\n\n"...)
		}
		if p.added && !p.done {
			dst = t.about(dst, names.partDone, item, names.index, p.index)
			dst = append(dst, `,"part":`...)
			dst = p.appendTo(dst)
			dst = append(dst, "}\n\n"...)
		}
	}
	dst = t.event(dst, "response.output_item.done")
	dst = append(dst, `,"output_index":`...)
	dst = strconv.AppendInt(dst, item.index, 10)
	dst = append(dst, `,"item":`...)
	dst = item.appendTo(dst)
	return append(dst, "}\n\n"...)
}

// about appends the start of an event which is about a part of an item.
func (t *transcript) about(dst []byte, kind string, item *outputItem, index string, n int64) []byte {
	dst = t.event(dst, kind)
	dst = append(dst, `,"item_id":`...)
	r := responseReader{data: item.raw}
	if id := r.member(span{0, len(item.raw)}, `"id"`); id.end > 0 {
		dst = appendCompact(dst, id.of(item.raw))
	} else {
		dst = append(dst, `""`...)
	}
	dst = append(dst, `,"output_index":`...)
	dst = strconv.AppendInt(dst, item.index, 10)
	dst = append(dst, `,"`...)
	dst = append(dst, index...)
	dst = append(dst, `":`...)
	return strconv.AppendInt(dst, n, 10)
}

// partNames are what the API calls the parts of items, by channel.
var partNames = map[channel]struct{ kind, text, textDone, partDone, index string }{
	channelContent:   {"output_text", "text", "response.output_text.done", "response.content_part.done", "content_index"},
	channelRefusal:   {"refusal", "refusal", "response.refusal.done", "response.content_part.done", "content_index"},
	channelReasoning: {"reasoning_text", "text", "response.reasoning_text.done", "response.content_part.done", "content_index"},
	channelSummary:   {"summary_text", "text", "response.reasoning_summary_text.done", "response.reasoning_summary_part.done", "summary_index"},
}

// appendTo appends an item as it is now.
func (item *outputItem) appendTo(dst []byte) []byte {
	if item.done {
		return appendCompact(dst, item.raw)
	}
	dst = append(dst, '{')
	for name, value := range members(item.raw, span{0, len(item.raw)}) {
		switch string(name.of(item.raw)) {
		case `"status"`, `"content"`, `"summary"`, `"encrypted_content"`:
			continue
		}
		dst = append(dst, name.of(item.raw)...)
		dst = append(dst, ':')
		dst = appendCompact(dst, value.of(item.raw))
		dst = append(dst, ',')
	}
	dst = append(dst, `"status":"incomplete"`...)
	if item.kind == itemMessage {
		return append(item.appendParts(dst, "content", channelContent, channelRefusal), '}')
	}
	dst = item.appendParts(dst, "summary", channelSummary, channelSummary)
	for i := range item.parts {
		if item.parts[i].channel == channelReasoning {
			dst = item.appendParts(dst, "content", channelReasoning, channelReasoning)
			break
		}
	}
	return append(dst, '}')
}

// appendParts appends a member with the parts of two channels.
func (item *outputItem) appendParts(dst []byte, name string, a, b channel) []byte {
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":[`...)
	first := true
	for i := range item.parts {
		p := &item.parts[i]
		if p.channel != a && p.channel != b {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = p.appendTo(dst)
	}
	return append(dst, ']')
}

// appendTo appends a part as it is now.
func (p *outputPart) appendTo(dst []byte) []byte {
	names := partNames[p.channel]
	dst = append(dst, `{"type":"`...)
	dst = append(dst, names.kind...)
	dst = append(dst, `","`...)
	dst = append(dst, names.text...)
	dst = append(dst, `":"`...)
	dst = append(dst, p.text...)
	dst = append(dst, '"')
	if p.channel == channelContent {
		dst = append(dst, `,"annotations":[`...)
		dst = appendCompact(dst, p.annotations)
		dst = append(dst, `],"logprobs":[]`...)
	}
	return append(dst, '}')
}
