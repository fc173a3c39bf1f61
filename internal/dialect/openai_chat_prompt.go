package dialect

// chatPrompt reads the prompt of a chat request.
type chatPrompt struct {
	members  []chatMember // what else than messages the prompt consists of
	searches int64        // what the provider may look up by itself: see tokensPerSearch
	system   bool         // there is a message of the system or the developer
	padded   bool         // and its text ends in a letter or digit, which a line feed does not join

	name  string // of the model asked for last, and what is known of it
	model *chatModel
	texts promptTexts // kept for its scratch space
}

// chatMember is a member of the request's object, by its key, that belongs to the
// prompt.
type chatMember struct {
	key   string
	value span
}

// What earlier calls of tools add to a message, besides the texts of the function's
// name and its arguments.
const (
	// callCookbook is known from openai-chat-tokens, and fits what users report of
	// tool_calls.
	callCookbook = 3
	// Calls in parallel are wrapped into one of "multi_tool_use.parallel". Users
	// report 49 tokens more for a second pair of call and result and 25 for each
	// further one, where the first took 24.
	parallelCookbook, parallelCall = 19, 5
	// callHarmony: <|start|>assistant<|channel|>commentary to=functions.NAME
	// <|constrain|>json<|message|>ARGUMENTS<|call|>
	callHarmony = 12
	// resultHarmony, over that of any message: <|start|>functions.NAME
	// to=assistant<|channel|>commentary<|message|>RESULT<|end|>
	resultHarmony = 6
	// resultName is the tokens of the name of a result's function, which only the
	// call has. A guess.
	resultName = 2
	// earlierAudio is the tokens of an earlier answer in sound, to which a message
	// refers: five seconds at one token for 50 ms. A guess.
	earlierAudio = 100
)

// Figures of the request as a whole.
const (
	// Choosing a function by its name costs this and the name. The figures are
	// known from litellm and openai-chat-tokens. To choose none costs one token.
	// The recordings of gpt-5-nano show no cost, so there is none in harmony.
	toolChoiceName, functionCallName, choiceNone = 7, 4, 1
	// joinedSystem is what a system message saves if tools are described in it.
	joinedSystem = 4
	// tokensPerPage is a page of a file: its text, and its picture. A guess, as is
	// bytesPerPage.
	tokensPerPage = 1500
	bytesPerPage  = 50_000
)

// What is not in the request, but in the prompt that is billed. It is held as this, and the
// reported usage settles it; see docs/accounting.md. Guesses.
const (
	// pagesPerFileID is the length of a file that the provider has.
	pagesPerFileID = 4
	// tokensPerSearch is what each tool and search that runs at the provider puts into
	// the prompt: five passages of 800 tokens. OpenAI's own web_search_options have none: by
	// the recording, what it finds is not reported with the prompt.
	tokensPerSearch = 4000
	// maxSearches bounds them: no provider offers more.
	maxSearches = 16
)

// harmonyPreface is the system message in front of every conversation with gpt-oss.
// Dates take the same tokens whatever they are.
const (
	harmonyPreface = "You are ChatGPT, a large language model trained by OpenAI.\n" +
		"Knowledge cutoff: 2024-06\nCurrent date: 2026-01-01\n\nReasoning: medium\n\n" +
		"# Valid channels: analysis, commentary, final. Channel must be included for every message."
	harmonyToolsPreface = "\nCalls to these tools must go to the commentary channel: 'functions'."
	harmonyInstructions = "# Instructions\n\n"
	harmonyTools        = "\n\n# Tools\n\n## functions\n\n"
	harmonyFormats      = "\n\n# Response Formats\n\n## "
)

// of looks up the model, once.
func (p *chatPrompt) of(name string) *chatModel {
	if p.model == nil || p.name != name {
		p.name, p.model = name, chatModelOf(name)
	}
	return p.model
}

// begin prepares for reading the texts of a body.
func (p *chatPrompt) begin(body []byte, model string, count func([]byte)) (*chatModel, *promptTexts) {
	m := p.of(model)
	p.texts = promptTexts{body: body, count: count, model: m, scratch: p.texts.scratch[:0]}
	return m, &p.texts
}

// message implements [prompt].
func (p *chatPrompt) message(raw []byte, model string, count func([]byte)) int64 {
	m, t := p.begin(raw, model, count)
	t.extra = tokensPerMessage
	at := span{0, len(raw)}
	if raw[at.start] != '{' {
		t.value(at)
		return t.extra
	}
	var role, content, calls span
	for name, value := range members(raw, at) {
		switch string(name.of(raw)) {
		case `"role"`:
			role = value
			t.value(value)
		case `"name"`:
			t.extra += tokensPerName
			t.value(value)
		case `"content"`:
			content = value
			t.content(value)
		case `"tool_calls"`:
			calls = value
		case `"function_call"`:
			t.functionCall(value)
		case `"tool_call_id"`:
			t.ignored(value)
		case `"audio"`:
			t.earlierAudio(value)
		default: // everything else may reach the model, so it counts as it stands
			t.value(value)
		}
	}
	n := int64(0)
	if calls.end > 0 {
		n = t.toolCalls(calls)
	}
	switch r := string(role.of(raw)); {
	case r == `"function"` && !m.harmony:
		t.extra -= 2
	case r == `"tool"` || r == `"function"`:
		t.extra += resultName
		if m.harmony {
			t.extra += resultHarmony
		}
	case r != `"assistant"` || !m.harmony:
	case n > 0 && (content.end-content.start <= len(`""`) || raw[content.start] == 'n'):
		t.extra -= tokensPerMessage + 1 // the calls are messages of their own
	default:
		t.extra += channelHarmony
	}
	return t.extra
}

// rest implements [prompt].
func (p *chatPrompt) rest(body []byte, model string, count func([]byte)) int64 {
	m, t := p.begin(body, model, count)
	t.extra = m.reply() + min(p.searches, maxSearches)*tokensPerSearch
	tools, format := false, false
	for _, member := range p.members {
		value := member.value
		switch member.key {
		case "tools", "functions":
			if body[value.start] != '[' {
				t.value(value)
				continue
			}
			tools = t.tools(value, member.key == "tools") || tools
		case "tool_choice":
			t.choice(value, toolChoiceName)
		case "function_call":
			t.choice(value, functionCallName)
		case "response_format":
			format = t.format(value) || format
		case "prediction":
			t.prediction(value)
		case "documents", "prompt", "chat_template", "chat_template_kwargs", "extra_body":
			t.value(value)
		}
	}
	if tools {
		t.extra += m.tools
	}
	switch {
	case m.preface:
		p.preface(t, tools, format)
	case m.harmony:
	case tools && p.system:
		t.extra -= joinedSystem
		if p.padded {
			t.extra++
		}
	}
	return t.extra
}

// preface adds what an upstream puts around the prompt of gpt-oss.
func (p *chatPrompt) preface(t *promptTexts, tools, format bool) {
	t.extra += tokensPerMessage + 1
	text := harmonyPreface
	if tools {
		text += harmonyToolsPreface
		t.count([]byte(harmonyTools))
	}
	t.count([]byte(text))
	switch {
	case p.system:
		t.count([]byte(harmonyInstructions))
	case tools || format:
		t.extra += tokensPerMessage + 1
	}
}

// promptTexts hands out the texts of a prompt, and adds up what is no text.
type promptTexts struct {
	body    []byte
	count   func([]byte)
	model   *chatModel
	extra   int64
	scratch []byte
}

func (t *promptTexts) emptyScratch() *[]byte {
	t.scratch = t.scratch[:0]
	return &t.scratch
}

// value hands out a value as it stands: a string unquoted, anything else as the
// JSON that it is. What holds nothing is left out.
func (t *promptTexts) value(at span) {
	v := at.of(t.body)
	switch v[0] {
	case 'n', 't', 'f':
		return
	case '"':
		v = unquote(v, t.emptyScratch())
	case '{', '[':
		if len(v) == len(`{}`) {
			return
		}
	}
	if len(v) > 0 {
		t.count(v)
	}
}

// ignored is for a value that no model reads as it is commonly used, such as an id.
// A longer one counts: chat templates differ, and some hand out all that there is.
func (t *promptTexts) ignored(at span) {
	if at.end-at.start > maxIgnored {
		t.value(at)
	}
}

// earlierAudio reads the reference to an earlier answer in sound.
func (t *promptTexts) earlierAudio(at span) {
	if t.body[at.start] != '{' {
		t.value(at)
		return
	}
	t.extra += earlierAudio
	for _, value := range members(t.body, at) {
		t.ignored(value)
	}
}

// content reads the content of a message: a text, or parts.
func (t *promptTexts) content(at span) {
	if t.body[at.start] != '[' {
		t.value(at)
		return
	}
	for part := range elements(t.body, at) {
		t.part(part)
	}
}

// part reads one part of a message's content.
func (t *promptTexts) part(at span) {
	if t.body[at.start] != '{' {
		t.value(at)
		return
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"image_url"`:
			t.image(value)
		case `"input_audio"`:
			t.audio(value)
		case `"file"`:
			t.file(value)
		case `"video_url"`:
			t.video(value)
		case `"type"`, `"cache_control"`:
			t.ignored(value)
		default:
			t.value(value)
		}
	}
}

// image reads an object of url and detail, or the URL alone, which some servers
// accept.
func (t *promptTexts) image(at span) {
	url, low := at, false
	if t.body[at.start] == '{' {
		url = span{}
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"url"`:
			url = t.data(value)
		case `"detail"`:
			low = string(value.of(t.body)) == `"low"`
			t.ignored(value)
		default:
			t.value(value)
		}
	}
	width, height := imageSize(url.of(t.body))
	t.extra += t.model.image.tokens(width, height, low)
}

// data is a value that is no text, such as an image, if it is a string. Anything else
// counts as it stands.
func (t *promptTexts) data(at span) span {
	if t.body[at.start] == '"' {
		return at
	}
	t.value(at)
	return span{}
}

// video reads an object with the URL of a video. What it costs is not known.
func (t *promptTexts) video(at span) {
	t.extra += tokensPerFile
	for name, value := range members(t.body, at) {
		if string(name.of(t.body)) == `"url"` {
			t.data(value)
		} else {
			t.value(value)
		}
	}
}

// audio reads a sound that is sent along.
func (t *promptTexts) audio(at span) {
	var data span
	if t.body[at.start] != '{' {
		data = t.data(at)
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"data"`:
			data = t.data(value)
		case `"format"`:
			t.ignored(value)
		default:
			t.value(value)
		}
	}
	t.extra += audioTokens(data.of(t.body))
}

// file reads a file that is sent along, or a reference to one.
func (t *promptTexts) file(at span) {
	pages := int64(1)
	if t.body[at.start] != '{' {
		pages += decodedSize(t.data(at).of(t.body)) / bytesPerPage
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"file_data"`:
			pages += decodedSize(t.data(value).of(t.body)) / bytesPerPage
		case `"file_id"`:
			if len(value.of(t.body)) > len(`""`) && t.body[value.start] == '"' {
				pages = max(pages, pagesPerFileID)
			}
			t.ignored(value)
		default:
			t.value(value)
		}
	}
	t.extra += tokensPerPage * pages
}

// toolCalls reads the calls of tools in a message of the assistant, and returns
// how many there are.
func (t *promptTexts) toolCalls(at span) (n int64) {
	if t.body[at.start] != '[' {
		t.value(at)
		return 0
	}
	for call := range elements(t.body, at) {
		n++
		function := t.member(call, `"function"`)
		if function.end == 0 {
			t.count(call.of(t.body)) // a call of another kind
			continue
		}
		t.functionCall(function)
		for name, value := range members(t.body, call) {
			switch string(name.of(t.body)) {
			case `"function"`:
			case `"id"`, `"type"`, `"index"`:
				t.ignored(value)
			default:
				t.value(value)
			}
		}
	}
	if n > 1 && !t.model.harmony {
		t.extra += parallelCookbook + n*parallelCall
	}
	return n
}

func (t *promptTexts) functionCall(at span) {
	if t.body[at.start] == 'n' {
		return
	}
	t.extra += callCookbook
	if t.model.harmony {
		t.extra += callHarmony - callCookbook
	}
	if t.body[at.start] != '{' {
		t.value(at)
		return
	}
	for _, value := range members(t.body, at) {
		t.value(value)
	}
}

// choice reads which function is to be called: a word, or its name in an object.
// perName is what the format adds to a name.
func (t *promptTexts) choice(at span, perName int64) {
	switch v := at.of(t.body); {
	case v[0] == '{':
		function := t.member(at, `"function"`)
		if function.end == 0 {
			function = at
		}
		name := t.member(function, `"name"`)
		switch {
		case name.end == 0, at.end-at.start-(name.end-name.start) > 2*maxIgnored:
			t.value(at) // a choice of another kind, or one that says more
		case !t.model.harmony:
			t.extra += perName
			t.value(name)
		case name.end-name.start > maxIgnored:
			t.value(name)
		}
	case string(v) == `"none"` && !t.model.harmony:
		t.extra += choiceNone
	case len(v) > len(`"required"`):
		t.value(at)
	}
}

// format reads the format of the answer, and says whether it is described to the
// model. A schema is, in JSON; so the harmony format does it. The word
// "json_object" alone takes no tokens in the recordings.
func (t *promptTexts) format(at span) bool {
	described := t.member(at, `"json_schema"`)
	if described.end == 0 || t.body[described.start] != '{' {
		if at.end-at.start > maxIgnored {
			t.value(at)
		}
		return false
	}
	for _, value := range members(t.body, at) {
		if value != described {
			t.ignored(value)
		}
	}
	t.schemaFormat(described)
	return true
}

// schemaFormat hands out the description of a format with a JSON schema.
func (t *promptTexts) schemaFormat(described span) {
	text := []byte(harmonyFormats)
	for name, value := range members(t.body, described) {
		v := value.of(t.body)
		switch string(name.of(t.body)) {
		case `"name"`, `"description"`:
			if v[0] == '"' {
				v = unquote(v, t.emptyScratch())
			}
			text = append(append(text, v...), "\n\n"...)
		case `"strict"`, `"type"`:
			if len(v) > maxIgnored {
				text = append(text, v...)
			}
		default:
			text = appendCompact(text, v)
		}
	}
	t.count(text)
}

// prediction reads the answer that the client predicts. What the provider rejects
// of it is billed as output, so it is held as if all of it were.
func (t *promptTexts) prediction(at span) {
	if t.body[at.start] != '{' {
		t.value(at)
		return
	}
	for name, value := range members(t.body, at) {
		switch string(name.of(t.body)) {
		case `"content"`:
			t.content(value)
		case `"type"`:
			t.ignored(value)
		default:
			t.value(value)
		}
	}
}

// appendCompact appends JSON without the white space between its tokens.
func appendCompact(dst, v []byte) []byte {
	for i := 0; i < len(v); {
		switch v[i] {
		case ' ', '\t', '\n', '\r':
			i++
		case '"':
			end := skipString(v, i)
			dst = append(dst, v[i:end]...)
			i = end
		default:
			dst = append(dst, v[i])
			i++
		}
	}
	return dst
}

// endsInWord says that a raw JSON string ends in a letter or digit.
func endsInWord(v []byte) bool {
	if len(v) < 3 || v[0] != '"' {
		return false
	}
	c := v[len(v)-2]
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
}
