package dialect

// plainChunk is a chunk of a streamed chat as nearly all are: one choice, with at most one
// piece of one text, and no usage. Its spans are of raw JSON values; one without an end is
// not there.
type plainChunk struct {
	id, created, model, fingerprint span
	choices, delta                  bool  // have begun
	number, reason                  span  // index and finish_reason of the choice
	index                           int64 // the first of these, below 1000
	text                            span  // a string that is not empty
	channel                         channel
	bare                            bool // it is the choice's own, as in the completions API
}

// read reads data in one pass, without the decoder. If it says true, [chatStream.eventDecoded]
// makes the same of data (FuzzPlainEvent). False says nothing and leaves c half filled: data is
// no JSON, or no such chunk, or has what is rare, such as escapes in names.
func (c *plainChunk) read(data []byte) bool {
	i, more := plainOpen(data, pastSpace(data, 0))
	return c.members(data, i, more)
}

// readOn is read where c has all that stands in front of the text already.
func (c *plainChunk) readOn(data []byte) bool {
	if c.text.end = plainString(data, c.text.start); c.text.end-c.text.start <= len(`""`) {
		return false
	}
	i, more := plainNext(data, c.text.end)
	if !c.bare {
		i, more = plainNext(data, c.deltaMembers(data, i, more))
	}
	i, more = plainNext(data, plainOneElement(data, c.choiceMembers(data, i, more)))
	return c.members(data, i, more)
}

// beforeText forgets what stands behind the text, and the text.
func (c *plainChunk) beforeText() {
	for _, s := range []*span{&c.id, &c.created, &c.model, &c.fingerprint, &c.number, &c.reason} {
		if s.start > c.text.start {
			*s = span{}
		}
	}
	if c.number.end == 0 {
		c.index = 0
	}
	c.text.end = 0
}

// members reads the chunk's members from i on. It and the two below go on where others have
// begun; more says whether there is a member.
func (c *plainChunk) members(b []byte, i int, more bool) bool {
	for more {
		name, at := plainName(b, i)
		if at < 0 {
			return false
		}
		var known *span
		switch string(name) {
		case "choices":
			if c.choices {
				return false
			}
			c.choices = true
			if peek(b, at) != '[' {
				return false
			}
			i, more = plainOpen(b, pastSpace(b, at+1))
			i = plainOneElement(b, c.choiceMembers(b, i, more))
		case "usage", "error", "x_groq":
			i = plainNull(b, at)
		case "id":
			known = &c.id
		case "created":
			known = &c.created
		case "model":
			known = &c.model
		case "system_fingerprint":
			known = &c.fingerprint
		default:
			i = plainValue(b, at, plainDepth)
		}
		if known != nil {
			if known.end > 0 {
				return false
			}
			i = plainValue(b, at, plainDepth)
			*known = span{at, i}
		}
		i, more = plainNext(b, i)
	}
	return i > 0 && c.choices && pastSpace(b, i) == len(b)
}

// choiceMembers returns the end of the choice, or -1.
func (c *plainChunk) choiceMembers(b []byte, i int, more bool) int {
	for more {
		name, at := plainName(b, i)
		if at < 0 {
			return -1
		}
		switch string(name) {
		case "delta":
			if c.delta {
				return -1
			}
			c.delta = true
			i, more = plainOpen(b, at)
			i = c.deltaMembers(b, i, more)
		case "index":
			if c.number.end > 0 {
				return -1
			}
			c.index, i = plainIndex(b, at)
			c.number = span{at, i}
		case "finish_reason":
			if c.reason.end > 0 {
				return -1
			}
			i = plainValue(b, at, plainDepth)
			c.reason = span{at, i}
		case "logprobs", "content_filter_results", "content_filter_offsets", "native_finish_reason", "stop_reason", "matched_stop", "token_ids":
			i = plainValue(b, at, plainDepth)
		case "text":
			i = c.piece(b, at, channelContent)
			c.bare = c.bare || c.text.start == at
		case "message":
			return -1
		default:
			i = plainNull(b, at)
		}
		i, more = plainNext(b, i)
	}
	return i
}

// deltaMembers returns the end of the delta, or -1. Two texts at once are not plain, for their
// order counts.
func (c *plainChunk) deltaMembers(b []byte, i int, more bool) int {
	for more {
		name, at := plainName(b, i)
		if at < 0 {
			return -1
		}
		switch string(name) {
		case "content":
			i = c.piece(b, at, channelContent)
		case "reasoning_content", "reasoning":
			i = c.piece(b, at, channelReasoning)
		case "refusal":
			i = c.piece(b, at, channelRefusal)
		case "role":
			i = plainValue(b, at, plainDepth)
		default:
			i = plainNull(b, at)
		}
		i, more = plainNext(b, i)
	}
	return i
}

// piece reads a string or null.
func (c *plainChunk) piece(b []byte, i int, of channel) int {
	if peek(b, i) != '"' {
		return plainNull(b, i)
	}
	end := plainString(b, i)
	if end-i <= len(`""`) {
		return end
	}
	if c.text.end > 0 {
		return -1
	}
	c.text, c.channel = span{i, end}, of
	return end
}

// plainEvent is [chatStream.Event] for a plain chunk, and does nothing if data is none.
func (s *chatStream) plainEvent(data []byte, ev *Event) bool {
	var c plainChunk
	if !s.before.read(data, &c) {
		return false
	}
	ev.reset()
	s.beginning, s.finishing = s.beginning[:0], s.finishing[:0]
	s.begins(c.index)
	keepFirstPlain(&s.id, c.id, data)
	keepFirstPlain(&s.created, c.created, data)
	keepFirstPlain(&s.model, c.model, data)
	keepFirstPlain(&s.fingerprint, c.fingerprint, data)
	if c.text.end > 0 {
		if key := (slotKey{c.index, c.channel, 0}); key != s.latest.key || !s.latest.known {
			s.latest = slotOf{key, s.slot(c.index, provisional(c.channel, 0)), true}
		}
		ev.Texts = append(ev.Texts, Text{s.latest.slot, unquote(c.text.of(data), &ev.scratch)})
		ev.Reasoning = c.channel == channelReasoning
		s.pieces = s.pieces || !c.bare
	}
	if c.reason.end > 0 && data[c.reason.start] == '"' {
		s.finishes(c.index)
	}
	return true
}

// slotOf is the slot of one text, so that it need not be looked up for each piece. It stays the
// same, for slots are never taken back.
type slotOf struct {
	key   slotKey
	slot  int
	known bool
}

func keepFirstPlain(dst *[]byte, at span, data []byte) {
	if at.end > 0 && *dst == nil {
		keepFirst(dst, at.of(data))
	}
}
