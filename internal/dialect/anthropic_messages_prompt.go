package dialect

import "bytes"

// What the format adds, in tokens. What is not said to be a guess gives what the API
// reported in recordings of others; see internal/count/testdata/published_anthropic.jsonl.
const (
	// Seven for a conversation of one message, four for each further one. It is the
	// same with and without a system prompt.
	messagesPerMessage = 4
	messagesReply      = 3
	// What a call of a tool adds to its name and its input, and a result to its content.
	// Only the sum of both is known.
	messagesPerCall, messagesPerResult = 26, 16
	// What a tool adds to its text.
	messagesPerTool = 10
	// What is said of thinking where the request sets a budget for it.
	thinkingEnabled = 29
	// What the format of the answer adds to its schema.
	messagesFormat = 130
	// What stands around a document that consists of text.
	messagesPerText = 35
)

// Tools whose description Anthropic knows, from the documentation of each, the memory from
// recordings.
const (
	toolBash       = 245
	toolTextEditor = 700
	toolMemory     = 1060
	toolComputer   = 735 + 480 // and what it adds to the system prompt, which is 466 to 499
	toolset        = 3000      // of computer or browser; a guess
)

// What is held for what is not in the body. These are guesses within the wide range of what
// was recorded, and the reported usage settles them.
const (
	// hostedHold is for each tool that runs at the provider and puts what it finds into
	// the prompt, which is read again with each call: code, other models, servers of
	// MCP; and for the skills of a container. Recorded: 2,200 to 10,500.
	hostedHold = 5000
	// webHold is for searches and pages. Recorded: 2,200 to 490,000.
	webHold = 15_000
	// documentHold is for a document that is named by its URL or id, and for an earlier
	// part of the conversation that is kept at the provider.
	documentHold = 5000
	// messagesPerPage is a page of a PDF: its text, and its picture. Recorded: 1,600; the
	// documentation says 1,500 to 3,000, and the picture.
	messagesPerPage = 2000
)

// maxBlockDepth bounds blocks within blocks; what is deeper counts as JSON. A result of
// a tool may have a document in it, which may consist of texts.
const maxBlockDepth = 6

// messagesPrompt reads the prompt of a request to Anthropic's Messages API.
type messagesPrompt struct {
	members []chatMember // what else than messages the prompt consists of

	name  string // of the model asked for last, and what is known of it
	model *messagesModel
	texts messagesTexts // kept for its scratch space
}

// messagesTexts hands out the texts of a prompt, and adds up what is no text.
type messagesTexts struct {
	promptTexts
	model *messagesModel
}

// begin prepares for reading the texts of a body.
func (p *messagesPrompt) begin(body []byte, model string, count func([]byte)) *messagesTexts {
	if p.model == nil || p.name != model {
		p.name, p.model = model, messagesModelOf(model)
	}
	p.texts = messagesTexts{promptTexts{body: body, count: count, scratch: p.texts.scratch[:0]}, p.model}
	return &p.texts
}

// message implements [prompt].
func (p *messagesPrompt) message(raw []byte, model string, count func([]byte)) int64 {
	t := p.begin(raw, model, count)
	t.extra = messagesPerMessage
	at := span{0, len(raw)}
	if raw[0] != '{' {
		t.value(at)
		return t.extra
	}
	for name, value := range members(raw, at) {
		switch string(name.of(raw)) {
		case `"role"`:
			t.ignored(value)
		case `"content"`:
			t.blocks(value, 0)
		default: // everything else may reach the model, so it counts as it stands
			t.value(value)
		}
	}
	return t.extra
}

// rest implements [prompt].
func (p *messagesPrompt) rest(body []byte, model string, count func([]byte)) int64 {
	t := p.begin(body, model, count)
	t.extra = messagesReply
	tools, forced := false, false
	for _, member := range p.members {
		value := member.value
		switch member.key {
		case "system":
			t.blocks(value, 0)
		case "tools":
			tools = t.toolList(value) || tools
		case "tool_choice":
			kind := string(t.member(value, `"type"`).of(body))
			forced = kind == `"any"` || kind == `"tool"`
			t.ignored(value)
		case "mcp_servers":
			for range elements(body, value) {
				t.extra += hostedHold
			}
			t.value(value)
		case "container":
			if body[value.start] == '{' { // with skills
				t.extra += hostedHold
			}
			t.ignored(value)
		case "thread":
			if string(t.member(value, `"type"`).of(body)) != `"create"` && body[value.start] != 'n' {
				t.extra += documentHold
			}
			t.ignored(value)
		case "thinking":
			if string(t.member(value, `"type"`).of(body)) == `"enabled"` {
				t.extra += thinkingEnabled
			}
			t.ignored(value)
		case "output_config":
			if body[value.start] != '{' {
				t.value(value)
			}
			for name, value := range members(body, value) {
				if string(name.of(body)) == `"format"` {
					t.format(value)
				} else {
					t.ignored(value)
				}
			}
		case "output_format": // its former place
			t.format(value)
		default:
			t.ignored(value)
		}
	}
	switch {
	case tools && forced:
		t.extra += p.model.forced
	case tools:
		t.extra += p.model.tools
	}
	return t.extra
}

// format reads the format of the answer: its schema, or nothing.
func (t *messagesTexts) format(at span) {
	if t.body[at.start] != '{' {
		t.value(at)
		return
	}
	t.extra += messagesFormat
	t.count(appendCompact(nil, at.of(t.body)))
}

// blocks reads content: a text, a block, or a list of blocks.
func (t *messagesTexts) blocks(at span, depth int) {
	if t.body[at.start] != '[' {
		t.block(at, depth)
		return
	}
	for block := range elements(t.body, at) {
		t.block(block, depth)
	}
}

// block reads one block of content.
func (t *messagesTexts) block(at span, depth int) {
	if t.body[at.start] != '{' || depth > maxBlockDepth {
		t.value(at)
		return
	}
	kind := string(t.member(at, `"type"`).of(t.body))
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"type"`, `"id"`, `"tool_use_id"`, `"cache_control"`, `"citations"`, `"caller"`, `"is_error"`, `"file_id"`:
			t.ignored(value)
		case `"signature"`:
			if kind != `"thinking"` { // of which no model reads it
				t.value(value)
			}
		case `"source"`:
			if (kind == `"image"` || kind == `"document"`) && t.body[value.start] == '{' {
				t.source(value, kind == `"image"`, depth)
			} else { // of a search result
				t.value(value)
			}
		case `"content"`:
			t.blocks(value, depth+1)
		case `"data"`:
			if kind == `"redacted_thinking"` {
				t.hidden(value)
			} else {
				t.value(value)
			}
		case `"encrypted_content"`, `"encrypted_index"`, `"encrypted_stdout"`:
			t.hidden(value)
		default:
			t.value(value)
		}
	}
	switch kind {
	case `"tool_use"`, `"server_tool_use"`, `"mcp_tool_use"`:
		t.extra += messagesPerCall
	case `"tool_result"`, `"mcp_tool_result"`:
		t.extra += messagesPerResult
	}
}

// hidden estimates what is encrypted by its length.
func (t *messagesTexts) hidden(at span) {
	if data := t.data(at); data.end > 0 {
		t.extra += int64(float64(data.end-data.start) / bytesPerHidden)
	}
}

// source reads where an image or a document comes from.
func (t *messagesTexts) source(at span, image bool, depth int) {
	kind := string(t.member(at, `"type"`).of(t.body))
	base64 := kind == `"base64"`
	var data, media span
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"type"`:
			t.ignored(value)
		case `"media_type"`:
			media = value
			t.ignored(value)
		case `"url"`, `"file_id"`: // no text that the model reads
			t.data(value)
		case `"content"`:
			t.blocks(value, depth+1)
		case `"data"`:
			if base64 {
				data = t.data(value)
			} else {
				t.value(value)
			}
		default:
			t.value(value)
		}
	}
	encoded := bytes.Trim(data.of(t.body), `"`)
	switch {
	case image:
		width, height := encodedImageSize(encoded)
		t.extra += t.model.image.of(width, height)
	case base64 && string(media.of(t.body)) == `"application/pdf"`:
		t.extra += messagesPerPage * (1 + decodedSize(encoded)/bytesPerPage)
	case base64:
		t.hidden(data)
	case kind == `"text"`, kind == `"content"`:
		t.extra += messagesPerText
	default:
		t.extra += documentHold
	}
}

// toolList hands out the text of tools. It reports whether there are any.
func (t *messagesTexts) toolList(at span) (found bool) {
	if t.body[at.start] != '[' {
		t.value(at)
		return false
	}
	var text []byte
	for tool := range elements(t.body, at) {
		found = true
		var kind span
		text = text[:0]
		for name, value := range members(t.body, tool) {
			switch string(name.of(t.body)) {
			case `"type"`:
				if kind = value; value.end-value.start <= maxIgnored {
					continue
				}
			case `"cache_control"`, `"strict"`, `"defer_loading"`, `"eager_input_streaming"`, `"allowed_callers"`:
				if value.end-value.start <= maxIgnored {
					continue
				}
			}
			text = append(append(text, name.of(t.body)...), ':')
			text = append(appendCompact(text, value.of(t.body)), ',')
		}
		if t.body[tool.start] != '{' {
			text = append(text, tool.of(t.body)...)
		}
		t.count(text)
		t.extra += messagesPerTool + toolCost(kind.of(t.body))
	}
	return found
}

// toolCost is what a tool costs beside its text, by its type as raw JSON.
func toolCost(kind []byte) int64 {
	has := func(prefix string) bool { return bytes.HasPrefix(kind, []byte(prefix)) }
	switch {
	case len(kind) == 0, kind[0] == 'n', string(kind) == `"custom"`:
		return 0
	case has(`"bash_`):
		return toolBash
	case has(`"text_editor_`):
		return toolTextEditor
	case has(`"memory_`):
		return toolMemory
	case has(`"web_`):
		return webHold
	case has(`"computer_toolset_`), has(`"browser_toolset_`):
		return toolset
	case has(`"computer_`):
		return toolComputer
	}
	return hostedHold
}
