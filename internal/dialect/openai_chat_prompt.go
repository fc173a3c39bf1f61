package dialect

// chatPrompt reads the prompt of a chat request.
type chatPrompt struct{}

// message implements [prompt].
func (chatPrompt) message(raw []byte, _ string, count func([]byte)) int64 {
	t := textsOf{body: raw, count: count}
	at := whole(raw)
	t.extra = tokensPerMessage
	if raw[at.start] != '{' {
		t.value(at)
		return t.extra
	}
	for name, value := range members(raw, at) {
		switch string(name.of(raw)) {
		case `"name"`:
			t.extra += tokensPerName
			t.value(value)
		case `"content"`:
			if raw[value.start] != '[' {
				t.value(value)
				continue
			}
			for part := range elements(raw, value) {
				t.part(part)
			}
		case `"tool_call_id"`, `"audio"`: // references, which no model reads as text
		default: // everything else may reach the model, so it counts as it stands
			t.value(value)
		}
	}
	return t.extra
}

// rest implements [prompt].
func (chatPrompt) rest(body []byte, _ string, count func([]byte)) int64 {
	t := textsOf{body: body, count: count, extra: tokensPerReply}
	for name, value := range members(body, whole(body)) {
		switch string(name.of(body)) {
		case `"tools"`, `"functions"`, `"response_format"`, `"prediction"`, `"documents"`, `"prompt"`, `"chat_template"`, `"chat_template_kwargs"`:
			t.value(value)
		}
	}
	return t.extra
}

// textsOf hands out the texts of a body, and adds up what is no text.
type textsOf struct {
	body    []byte
	count   func([]byte)
	extra   int64
	scratch []byte
}

// value hands out a value as it stands: a string unquoted, anything else as the
// JSON that it is. What holds nothing is left out.
func (t *textsOf) value(at span) {
	v := at.of(t.body)
	switch v[0] {
	case 'n', 't', 'f':
		return
	case '"', '{', '[':
		if len(v) == len(`""`) {
			return
		}
	}
	if v[0] == '"' {
		t.scratch = t.scratch[:0]
		v = unquote(v, &t.scratch)
	}
	t.count(v)
}

// part reads one part of a message's content.
func (t *textsOf) part(at span) {
	if t.body[at.start] != '{' {
		t.value(at)
		return
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"image_url"`:
			t.extra += tokensPerImage
		case `"input_audio"`, `"video_url"`, `"file"`:
			t.extra += tokensPerFile
		case `"type"`, `"cache_control"`:
		default:
			t.value(value)
		}
	}
}
