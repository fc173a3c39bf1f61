package dialect

import "strings"

// responsesPrompt reads the prompt of a request of the Responses API. It reaches the
// model as a prompt of chat does: instructions are a message of the system, and each item
// of the input is a message.
type responsesPrompt struct {
	chatPrompt
	text   span  // the input, if it is a text
	held   int64 // tokens for what is not in the body
	hidden bool  // there is an earlier conversation at the provider

	// Tokens of earlier reasoning: behind the user's last message, and all of it. Which of
	// them count is a matter of the model, and of reasoning.context. They belong to the rest
	// of the prompt, since what a message costs must not depend on where it stands; so they
	// count in full, too, where the messages are dropped which they are of.
	reasoning, allReasoning int64
	context                 reasoningContext
}

// reasoningContext says which earlier reasoning the model reads again.
type reasoningContext uint8

const (
	contextOfModel reasoningContext = iota
	contextCurrent                  // of the current turn
	contextAll
)

// What function tools add, instead of what they do in chat; and nothing is saved if there
// is a message of the system, too. Recordings of gpt-4o and gpt-4.1 have 0 to 3, those of
// gpt-5 and gpt-5.5 5 to 10.
const (
	toolsResponses        = 2
	toolsResponsesHarmony = 7
)

// What is held for what is not in the body, in tokens. How much that is nobody can tell
// beforehand; the reported usage settles it. Each figure is a guess at what is common, in
// brackets what recordings of OpenAI's API have.
const (
	// heldConversation stands for an earlier response, or a conversation.
	heldConversation = 4096
	heldTemplate     = 1024 // of a prompt that is named by its id
	// heldItem stands for an item that is named by its id, and for reasoning that is.
	heldItem = 512
	// heldSearch is for searching the web, in all its rounds (8,200 to 31,000, once
	// 116,000), heldFiles for searching files (900 to 3,700), heldTool for an interpreter
	// (800 to 6,000), MCP (400 to 12,000), pictures (400 to 3,200), a shell (200 to 1,500)
	// and what is not known.
	heldSearch = 12_000
	heldFiles  = 3000
	heldTool   = 2000
)

// heldTokens is what is held for a tool of a type, a raw string, if it runs at the
// provider or is described to the model by it.
func heldTokens(kind string) (n int64, hosted bool) {
	switch kind {
	case `"function"`, `"custom"`, `"namespace"`:
		return 0, false
	case `"web_search"`, `"web_search_preview"`, `"web_search_2025_08_26"`, `"web_search_preview_2025_03_11"`:
		return heldSearch, true
	case `"file_search"`:
		return heldFiles, true
	}
	return heldTool, true
}

// encryptedTokens is how many tokens of reasoning an encrypted text stands for, given as
// the raw JSON string of its base64. In recordings 825, 1,449 and 7,179 bytes are 29, 182
// and 1,792 tokens: some 700 bytes, and 3.6 for each token. Summaries of conversations
// (compaction) have 5 bytes for each.
func encryptedTokens(data []byte) int64 {
	return max(decodedSize(data)-700, 0) * 5 / 18
}

// message implements [prompt]. It reads one item.
func (p *responsesPrompt) message(raw []byte, model string, count func([]byte)) int64 {
	m, t := p.begin(raw, model, count)
	at := span{0, len(raw)}
	if raw[at.start] != '{' {
		t.extra = tokensPerMessage
		t.value(at)
		return t.extra
	}
	switch string(t.member(at, `"type"`).of(raw)) {
	case ``, `"message"`:
		t.responsesMessage(at, m)
	case `"function_call"`, `"custom_tool_call"`, `"mcp_call"`, `"tool_search_call"`:
		t.responsesCall(at, m)
	case `"function_call_output"`, `"custom_tool_call_output"`:
		t.responsesOutput(at, m)
	case `"reasoning"`:
		t.responsesReasoning(at)
	case `"item_reference"`:
		t.extra = heldItem
		for _, value := range members(raw, at) {
			t.ignored(value)
		}
	default:
		t.responsesItem(at)
	}
	return t.extra
}

// responsesMessage reads a message; it costs what one of chat does.
func (t *promptTexts) responsesMessage(at span, m *chatModel) {
	t.extra = tokensPerMessage
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"role"`:
			if m.harmony && string(value.of(t.body)) == `"assistant"` {
				t.extra += channelHarmony
			}
			t.value(value)
		case `"content"`:
			t.responsesContent(value)
		case `"type"`, `"id"`, `"status"`, `"phase"`:
			t.ignored(value)
		default: // everything else may reach the model, so it counts as it stands
			t.value(value)
		}
	}
}

// responsesCall reads the call of a tool: a message of the assistant with nothing else.
func (t *promptTexts) responsesCall(at span, m *chatModel) {
	t.extra = tokensPerMessage + 1 + callCookbook
	if m.harmony {
		t.extra = callHarmony
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"type"`, `"id"`, `"call_id"`, `"status"`, `"namespace"`, `"execution"`, `"server_label"`, `"approval_request_id"`:
			t.ignored(value)
		default:
			t.value(value)
		}
	}
}

// responsesOutput reads what a tool of the client's answered.
func (t *promptTexts) responsesOutput(at span, m *chatModel) {
	t.extra = tokensPerMessage + 1 + resultName
	if m.harmony {
		t.extra += resultHarmony
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"output"`:
			t.responsesContent(value)
		case `"type"`, `"id"`, `"call_id"`, `"status"`:
			t.ignored(value)
		default:
			t.value(value)
		}
	}
}

// responsesReasoning reads an item of earlier reasoning, but for what it is about: that
// depends on where the item stands (see responsesPrompt.reasoning). OpenAI's models do not
// read a summary, and the recordings with one do not charge it. It counts where there is no
// encrypted text that it could be of, since other servers may read it.
func (t *promptTexts) responsesReasoning(at span) {
	encrypted := t.member(at, `"encrypted_content"`)
	if encrypted.end > 0 && t.body[encrypted.start] != '"' {
		encrypted = span{}
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"encrypted_content"`:
			t.data(value)
		case `"summary"`:
			if value.end-value.start > encrypted.end-encrypted.start {
				t.responsesContent(value)
			}
		case `"content"`:
			t.responsesContent(value)
		case `"type"`, `"id"`, `"status"`:
			t.ignored(value)
		default:
			t.value(value)
		}
	}
}

// responsesItem reads an item of any other kind: it counts as it stands, but pictures do
// as pictures.
func (t *promptTexts) responsesItem(at span) {
	t.extra = tokensPerMessage + 1
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"type"`, `"id"`, `"call_id"`, `"status"`, `"role"`, `"server_label"`, `"approval_request_id"`, `"container_id"`:
			t.ignored(value)
		case `"encrypted_content"`:
			t.extra += encryptedTokens(t.data(value).of(t.body))
		case `"result"`: // of making a picture
			t.responsesImage(t.data(value), false)
		case `"output"`, `"content"`:
			if t.body[value.start] == '{' {
				t.responsesPart(value)
			} else {
				t.responsesContent(value)
			}
		default:
			t.value(value)
		}
	}
}

// responsesContent reads a text, or parts.
func (t *promptTexts) responsesContent(at span) {
	if t.body[at.start] != '[' {
		t.value(at)
		return
	}
	for part := range elements(t.body, at) {
		if t.body[part.start] != '{' {
			t.value(part)
			continue
		}
		t.responsesPart(part)
	}
}

// responsesPart reads one part of a content.
func (t *promptTexts) responsesPart(at span) {
	kind := string(t.member(at, `"type"`).of(t.body))
	image, file := span{}, false
	low, pages := false, int64(1)
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"image_url"`:
			image = t.data(value)
		case `"detail"`:
			low = string(value.of(t.body)) == `"low"`
			t.ignored(value)
		case `"file_data"`:
			file = true
			pages += decodedSize(t.data(value).of(t.body)) / bytesPerPage
		case `"file_url"`:
			file = true
			pages = max(pages, pagesPerFileID)
			t.data(value)
		case `"input_audio"`:
			t.audio(value)
		case `"file_id"`:
			if t.body[value.start] == '"' {
				pages = max(pages, pagesPerFileID) // of a file; a picture is an input_image
			}
			t.ignored(value)
		case `"type"`, `"prompt_cache_breakpoint"`:
			t.ignored(value)
		case `"annotations"`, `"logprobs"`: // of an earlier answer; the model wrote none of it
		default:
			t.value(value)
		}
	}
	switch {
	case image.end > 0, kind == `"input_image"`, kind == `"computer_screenshot"`:
		t.responsesImage(image, low)
	case file, kind == `"input_file"`:
		t.extra += tokensPerPage * pages
	}
}

// responsesImage adds an image, given as its URL.
func (t *promptTexts) responsesImage(url span, low bool) {
	width, height := imageSize(url.of(t.body))
	t.extra += t.model.image.tokens(width, height, low)
}

// rest implements [prompt].
func (p *responsesPrompt) rest(body []byte, model string, count func([]byte)) int64 {
	m, t := p.begin(body, model, count)
	t.extra = m.reply() + p.held
	if p.text.end > 0 {
		t.extra += tokensPerMessage + 1
		t.value(p.text)
	}
	tools, format := false, false
	for _, member := range p.members {
		value := member.value
		switch member.key {
		case "instructions":
			if body[value.start] != 'n' {
				t.extra += tokensPerMessage + 1
				t.responsesContent(value)
			}
		case "tools":
			if body[value.start] != '[' {
				t.value(value)
				continue
			}
			tools = t.tools(value, false) || tools
		case "tool_choice":
			t.choice(value, toolChoiceName)
		case "text":
			format = t.responsesFormat(value) || format
		case "prompt", "previous_input_messages", "chat_template_kwargs":
			t.value(value)
		}
	}
	switch {
	case m.tools == 0: // nothing comes on top in the format that is published
	case tools && m.harmony:
		t.extra += toolsResponsesHarmony
	case tools:
		t.extra += toolsResponses
	}
	if m.preface {
		p.preface(t, tools, format)
	}
	if p.context == contextCurrent || p.context == contextOfModel && dropsReasoning(model) {
		t.extra += p.reasoning
	} else {
		t.extra += p.allReasoning
	}
	return t.extra
}

// dropsReasoning says that a model does not read the reasoning of earlier turns again.
// OpenAI's API says so of those before gpt-5.6.
func dropsReasoning(model string) bool {
	model = bareModel(model)
	for _, later := range [...]string{"gpt-5.6", "gpt-5.7", "gpt-5.8", "gpt-5.9"} {
		if strings.HasPrefix(model, later) {
			return false
		}
	}
	for _, known := range [...]string{"gpt-5", "o1", "o3", "o4", "codex-mini", "gpt-oss"} {
		if strings.HasPrefix(model, known) {
			return true
		}
	}
	return false
}

// responsesFormat reads the options of the answer's text, and says whether a format is
// described to the model.
func (t *promptTexts) responsesFormat(at span) bool {
	format := t.member(at, `"format"`)
	for name, value := range members(t.body, at) {
		if value != format {
			t.ignored(value)
		}
		t.ignored(name)
	}
	if t.body[at.start] != '{' {
		t.ignored(at)
	}
	if format.end == 0 {
		return false
	}
	if schema := t.member(format, `"schema"`); schema.end == 0 || t.body[schema.start] != '{' {
		t.ignored(format)
		return false
	}
	t.schemaFormat(format)
	return true
}
