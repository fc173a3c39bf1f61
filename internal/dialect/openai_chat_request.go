package dialect

import "cmp"

// The keys of a chat request that are decided on, by the object they stand in.
var (
	chatKeys = []string{"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
		"tools", "tool_choice", "functions", "function_call", "response_format", "prediction", "documents", "prompt", "chat_template", "chat_template_kwargs",
		"web_search_options", "reasoning_effort", "reasoning", "extra_body", "models", "fallbacks", "best_of"}
	streamOptionsKeys = []string{"include_usage"}
	messageKeys       = []string{"role", "content", "name", "tool_call_id", "audio"}
	partKeys          = []string{"type", "text", "image_url", "input_audio", "video_url", "file", "cache_control"}
)

// ParseRequest implements [API].
func (OpenAIChat) ParseRequest(body []byte) (*Request, error) {
	if err := validate(body); err != nil {
		return nil, err
	}
	p := chatRequest{requestReader: newRequestReader(body, "")}
	p.r.prompt = &p.prompt
	if err := p.parse(); err != nil {
		return nil, err
	}
	if p.r.capKey == "" { // no cap is a number
		p.r.capKey = chatCapKey(p.r.Model)
	}
	return p.r, nil
}

// chatRequest reads one request, whose body is valid JSON.
type chatRequest struct {
	requestReader
	prompt chatPrompt
}

func (p *chatRequest) parse() error {
	i, err := p.begin()
	if err != nil {
		return err
	}
	var messages bool
	bestOf := int64(1)
	for i = skipFiller(p.body, i+1); p.body[i] != '}'; i = skipFiller(p.body, i) {
		name := span{i, skipString(p.body, i)}
		key, err := decisionKey(name.of(p.body), chatKeys)
		if err != nil {
			return err
		}
		i = skipFiller(p.body, name.end)
		if key == "messages" {
			messages = true
			if i, err = p.messages(i); err != nil {
				return err
			}
			continue
		}
		value := span{i, skipValue(p.body, i)}
		i = value.end
		switch key {
		case "":
			if addsToPrompt(name.of(p.body)) && p.body[value.start] != 'n' {
				p.r.opaque = true
				p.prompt.searches++
			}
		case "model", "models", "fallbacks", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n":
			err = p.common(key, value)
		case "best_of": // of vLLM; OpenAI's chat has none
			bestOf, err = p.choices(key, value)
		case "reasoning_effort":
			p.r.Effort = cmp.Or(p.effort(value), p.r.Effort)
		case "reasoning": // of OpenRouter
			p.r.Effort = cmp.Or(p.r.Effort, p.reasoning(value))
		case "extra_body": // LiteLLM merges its members into what it sends
			if err = p.extraBody(value); err == nil {
				p.r.opaque = p.r.opaque || p.says(value)
				p.prompt.members = append(p.prompt.members, chatMember{key, value})
			}
		case "web_search_options": // what is found goes into the prompt
			p.r.opaque = p.r.opaque || p.body[value.start] != 'n'
		case "tools":
			hosted := p.hostedTools(value)
			p.r.opaque = p.r.opaque || hosted > 0
			p.prompt.searches += hosted
			p.prompt.members = append(p.prompt.members, chatMember{key, value})
		case "documents", "prompt", "chat_template", "chat_template_kwargs": // of vLLM and others; OpenAI does not read them
			p.r.opaque = p.r.opaque || p.says(value)
			fallthrough
		default:
			p.prompt.members = append(p.prompt.members, chatMember{key, value})
		}
		if err != nil {
			return err
		}
	}
	if !messages {
		return &BadRequest{`the request body has no "messages"`}
	}
	p.r.shown = p.r.Choices
	p.r.Choices = max(p.r.Choices, bestOf)
	p.finish(i)
	return nil
}

// extraBody refuses members that are decided on where they are not looked for.
func (p *chatRequest) extraBody(at span) error {
	for name := range members(p.body, at) {
		key, err := decisionKey(name.of(p.body), chatKeys)
		if err == nil && key != "" {
			err = &BadRequest{`"extra_body" has the member "` + key + `", which some servers merge into the request; put it at the top`}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addsToPrompt says that some providers put what they find into the prompt if a request
// has this member: Azure, OpenRouter, xAI.
func addsToPrompt(raw []byte) bool {
	switch string(raw) {
	case `"data_sources"`, `"plugins"`, `"search_parameters"`:
		return true
	}
	return false
}

// hostedTools is how many of the tools are none that the client runs: their results go into
// the prompt unseen.
func (p *chatRequest) hostedTools(tools span) (n int64) {
	for tool := range elements(p.body, tools) {
		for name, value := range members(p.body, tool) {
			kind := string(value.of(p.body))
			if string(name.of(p.body)) == `"type"` && kind != `"function"` && kind != `"custom"` {
				n++
			}
		}
	}
	return n
}

// messages notes where each message of the array at i stands, and checks the keys
// that its count depends on. It returns the array's end. Messages are most of a
// body, so they are walked over once.
func (p *chatRequest) messages(i int) (end int, err error) {
	if p.body[i] != '[' {
		return i, &BadRequest{`"messages" must be an array`}
	}
	for i = skipFiller(p.body, i+1); p.body[i] != ']'; i = skipFiller(p.body, i) {
		start := i
		if i, err = p.message(i); err != nil {
			return i, err
		}
		p.r.messages = append(p.r.messages, message{uint32(start), uint32(i)})
	}
	return i + 1, nil
}

func (p *chatRequest) message(i int) (end int, err error) {
	if p.body[i] != '{' {
		return skipValue(p.body, i), nil
	}
	var system, padded bool
	for i = skipFiller(p.body, i+1); p.body[i] != '}'; i = skipFiller(p.body, i) {
		name := span{i, skipString(p.body, i)}
		key, err := decisionKey(name.of(p.body), messageKeys)
		if err != nil {
			return i, err
		}
		i = skipFiller(p.body, name.end)
		value := span{i, skipValue(p.body, i)}
		i = value.end
		switch key {
		case "":
			if !messageMember(name.of(p.body)) {
				p.r.opaque = p.r.opaque || p.says(value)
			}
		case "role":
			role := string(value.of(p.body))
			system = role == `"system"` || role == `"developer"`
		case "audio": // of an earlier answer; the model hears it again
			p.r.opaque = p.r.opaque || p.body[value.start] != 'n'
		case "content":
			padded = endsInWord(value.of(p.body))
			if err := p.parts(value); err != nil {
				return i, err
			}
		}
	}
	if system && !p.prompt.system {
		p.prompt.system, p.prompt.padded = true, padded
	}
	return i + 1, nil
}

// messageMember says that a member of a message, which is none of messageKeys, is one
// that models are known to read.
func messageMember(raw []byte) bool {
	switch string(raw) {
	case `"tool_calls"`, `"function_call"`, `"refusal"`:
		return true
	}
	return false
}

// parts checks the keys of a message's content, if it is a list of parts.
func (p *chatRequest) parts(content span) error {
	for part := range elements(p.body, content) {
		for name, value := range members(p.body, part) {
			key, err := decisionKey(name.of(p.body), partKeys)
			if err != nil {
				return err
			}
			switch key {
			case "":
				p.r.opaque = p.r.opaque || p.says(value)
			case "image_url", "input_audio", "video_url", "file":
				p.r.opaque = true
			}
		}
	}
	return nil
}
