package dialect

// plainChunk is a chunk of a streamed chat as nearly all are: one choice, with at most one
// piece of one text, and no usage. Its spans are of raw JSON values; one without an end is
// not there.
type plainChunk struct {
	id, created, model, fingerprint span
	text                            span // a string that is not empty
	channel                         channel
	index                           int64 // of the choice, below 1000
	finished                        bool  // the choice ends
}

// readPlainChunk reads data in one pass, without the decoder. If it says true, [chatStream.chunk]
// makes the same of data (FuzzPlainEvent). False says nothing and leaves c half filled: data is no
// JSON, or no such chunk, or has what is rare, such as escapes in names.
func readPlainChunk(data []byte, c *plainChunk) bool {
	choices := span{}
	i, more := plainOpen(data, pastSpace(data, 0))
	for more {
		name, at := plainName(data, i)
		if at < 0 {
			return false
		}
		var known *span
		switch string(name) {
		case "choices":
			known = &choices
			i = c.choices(data, at)
		case "usage", "error", "x_groq":
			i = plainNull(data, at)
		case "id":
			known = &c.id
			i = plainValue(data, at, plainDepth)
		case "created":
			known = &c.created
			i = plainValue(data, at, plainDepth)
		case "model":
			known = &c.model
			i = plainValue(data, at, plainDepth)
		case "system_fingerprint":
			known = &c.fingerprint
			i = plainValue(data, at, plainDepth)
		default:
			i = plainValue(data, at, plainDepth)
		}
		if known != nil {
			if known.end > 0 {
				return false
			}
			*known = span{at, i}
		}
		i, more = plainNext(data, i)
	}
	return choices.end > 0 && i > 0 && pastSpace(data, i) == len(data)
}

// choices reads an array with one choice, and returns its end, or -1.
func (c *plainChunk) choices(b []byte, i int) int {
	if peek(b, i) != '[' {
		return -1
	}
	if i = c.choice(b, pastSpace(b, i+1)); i < 0 {
		return -1
	}
	if i = pastSpace(b, i); peek(b, i) != ']' {
		return -1
	}
	return i + 1
}

func (c *plainChunk) choice(b []byte, i int) int {
	var index, delta, reason bool // have been there
	i, more := plainOpen(b, i)
	for more {
		name, at := plainName(b, i)
		if at < 0 {
			return -1
		}
		switch string(name) {
		case "delta":
			if delta {
				return -1
			}
			delta = true
			i = c.delta(b, at)
		case "index":
			if index {
				return -1
			}
			index = true
			c.index, i = plainIndex(b, at)
		case "finish_reason":
			if reason {
				return -1
			}
			reason = true
			c.finished = peek(b, at) == '"'
			i = plainValue(b, at, plainDepth)
		case "logprobs", "content_filter_results", "content_filter_offsets", "native_finish_reason", "stop_reason", "matched_stop", "token_ids":
			i = plainValue(b, at, plainDepth)
		case "message":
			return -1
		default:
			i = plainNull(b, at)
		}
		i, more = plainNext(b, i)
	}
	return i
}

// delta reads what the choice's message is longer by. Two texts at once are not plain, for
// their order counts.
func (c *plainChunk) delta(b []byte, i int) int {
	i, more := plainOpen(b, i)
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
		case "role":
			i = plainValue(b, at, plainDepth)
		case "refusal":
			i = c.piece(b, at, channelRefusal)
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
	if !readPlainChunk(data, &c) {
		return false
	}
	ev.reset()
	s.finishing = s.finishing[:0]
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
	}
	if c.finished {
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
