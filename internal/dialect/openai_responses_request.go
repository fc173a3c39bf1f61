package dialect

import "math"

// The keys of a request that are decided on, by the object they stand in.
var (
	responsesKeys = []string{"model", "input", "instructions", "stream", "max_output_tokens", "background", "tools", "tool_choice",
		"text", "previous_response_id", "conversation", "prompt", "reasoning", "models", "fallbacks",
		"previous_input_messages", "chat_template_kwargs"}
	reasoningKeys = []string{"context", "effort"}
	itemKeys      = []string{"type", "role", "content", "call_id", "id", "name", "arguments", "input", "output", "summary", "encrypted_content",
		"result", "approval_request_id"}
	itemPartKeys = []string{"type", "text", "refusal", "image_url", "detail", "file_id", "file_url", "file_data", "input_audio"}
)

// leastResponsesCap is the lowest max_output_tokens that the API takes.
const leastResponsesCap = 16

// ParseRequest implements [API].
func (OpenAIResponses) ParseRequest(body []byte) (*Request, error) {
	if int64(len(body)) > math.MaxUint32 {
		return nil, &BadRequest{"the request body is larger than 4 GiB"}
	}
	if err := validate(body); err != nil {
		return nil, err
	}
	p := responsesRequest{requestReader: newRequestReader(body, "max_output_tokens")}
	p.r.WantsUsage, p.r.LeastCap = true, leastResponsesCap
	p.r.prompt = &p.prompt
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.r, nil
}

// responsesRequest reads one request, whose body is valid JSON.
type responsesRequest struct {
	requestReader
	prompt responsesPrompt
}

func (p *responsesRequest) parse() error {
	i := skipFiller(p.body, 0)
	if p.body[i] != '{' {
		return &BadRequest{"the request body must be a JSON object"}
	}
	input, elsewhere := false, false // where the prompt is
	for i = skipFiller(p.body, i+1); p.body[i] != '}'; i = skipFiller(p.body, i) {
		name := span{i, skipString(p.body, i)}
		key, err := decisionKey(name.of(p.body), responsesKeys)
		if err != nil {
			return err
		}
		i = skipFiller(p.body, name.end)
		if key == "input" && p.body[i] == '[' {
			input = true
			if i, err = p.items(i); err != nil {
				return err
			}
			continue
		}
		value := span{i, skipValue(p.body, i)}
		i = value.end
		null := p.body[value.start] == 'n'
		switch key {
		case "model":
			err = p.model(value)
		case "models", "fallbacks":
			p.r.OtherModels = p.r.OtherModels || p.says(value)
		case "stream":
			p.r.Stream, err = p.flag(key, value)
		case "background":
			p.r.Background, err = p.flag(key, value)
		case "max_output_tokens":
			err = p.maxTokens(key, value)
		case "input":
			switch {
			case null:
			case p.body[value.start] != '"':
				err = &BadRequest{`"input" must be a string or an array`}
			default:
				input, p.prompt.text = true, value
			}
		case "previous_response_id", "conversation":
			if !null {
				elsewhere, p.r.opaque = true, true
				p.earlier(key, value)
			}
		case "prompt":
			if !null {
				elsewhere, p.r.opaque = true, true
				p.prompt.held += heldTemplate
				p.prompt.members = append(p.prompt.members, chatMember{key, value})
			}
		case "tools":
			p.hostedTools(value)
			p.prompt.members = append(p.prompt.members, chatMember{key, value})
		case "reasoning":
			err = p.reasoning(value)
		case "previous_input_messages", "chat_template_kwargs": // of vLLM; OpenAI does not read them
			p.r.opaque = p.r.opaque || p.says(value)
			p.prompt.members = append(p.prompt.members, chatMember{key, value})
		case "instructions", "tool_choice", "text":
			p.prompt.members = append(p.prompt.members, chatMember{key, value})
			if key == "instructions" && !null {
				p.prompt.system = true
			}
		}
		if err != nil {
			return err
		}
	}
	p.r.insert = i
	if !input && !elsewhere {
		return &BadRequest{`the request body has no "input"`}
	}
	if p.uncapped {
		p.r.MaxOutput = 0
	}
	return nil
}

// reasoning reads how much the model is to reason, and which earlier reasoning it is to
// read again.
func (p *responsesRequest) reasoning(at span) error {
	for name, value := range members(p.body, at) {
		key, err := decisionKey(name.of(p.body), reasoningKeys)
		if err != nil {
			return err
		}
		switch key {
		case "":
			continue
		case "effort":
			p.r.Effort = p.effort(value)
			continue
		}
		switch string(value.of(p.body)) {
		case `null`, `"auto"`:
		case `"current_turn"`:
			p.prompt.context = contextCurrent
		default:
			p.prompt.context = contextAll
		}
	}
	return nil
}

// hostedTools holds what tools may bring into the prompt that run at the provider.
func (p *responsesRequest) hostedTools(tools span) {
	hosted := 0
	for tool := range elements(p.body, tools) {
		for name, value := range members(p.body, tool) {
			if string(name.of(p.body)) != `"type"` {
				continue
			}
			if n, held := heldTokens(string(value.of(p.body))); held && hosted < maxSearches {
				hosted++
				p.r.opaque = true
				p.prompt.held += n
			}
			break
		}
	}
}

// items notes where each item of the array at i stands, and checks the keys that its
// count depends on. It returns the array's end.
func (p *responsesRequest) items(i int) (end int, err error) {
	for i = skipFiller(p.body, i+1); p.body[i] != ']'; i = skipFiller(p.body, i) {
		start := i
		if i, err = p.item(i); err != nil {
			return i, err
		}
		p.r.messages = append(p.r.messages, message{uint32(start), uint32(i)})
	}
	return i + 1, nil
}

func (p *responsesRequest) item(i int) (end int, err error) {
	if p.body[i] != '{' {
		return skipValue(p.body, i), nil
	}
	var kind, role, encrypted span
	for i = skipFiller(p.body, i+1); p.body[i] != '}'; i = skipFiller(p.body, i) {
		name := span{i, skipString(p.body, i)}
		key, err := decisionKey(name.of(p.body), itemKeys)
		if err != nil {
			return i, err
		}
		i = skipFiller(p.body, name.end)
		value := span{i, skipValue(p.body, i)}
		i = value.end
		switch key {
		case "":
			if !itemMember(name.of(p.body)) {
				p.r.opaque = p.r.opaque || p.says(value)
			}
		case "type":
			kind = value
		case "role":
			role = value
		case "content", "output":
			if err := p.itemParts(value); err != nil {
				return i, err
			}
		case "encrypted_content":
			encrypted = value
			p.r.opaque = p.r.opaque || p.says(value)
		case "result":
			p.r.opaque = p.r.opaque || p.says(value)
		}
	}
	switch string(kind.of(p.body)) {
	case ``, `"message"`:
		switch string(role.of(p.body)) {
		case `"system"`, `"developer"`:
			p.prompt.system = true
		case `"user"`:
			p.prompt.reasoning = 0
		}
	case `"function_call"`, `"function_call_output"`, `"custom_tool_call"`, `"custom_tool_call_output"`:
	case `"reasoning"`:
		p.r.opaque = true
		n := int64(heldItem) // the provider has it under its id
		if v := encrypted.of(p.body); len(v) > len(`""`) && v[0] == '"' {
			n = tokensPerMessage + encryptedTokens(v)
		}
		p.prompt.reasoning += n
		p.prompt.allReasoning += n
	default:
		p.r.opaque = true
	}
	return i + 1, nil
}

// itemMember says that a member of an item, which is none of itemKeys, is one that the
// API has in messages and calls of functions.
func itemMember(raw []byte) bool {
	switch string(raw) {
	case `"status"`, `"phase"`, `"namespace"`:
		return true
	}
	return false
}

// itemParts checks the keys of an item's content, if it is a list of parts.
func (p *responsesRequest) itemParts(content span) error {
	for part := range elements(p.body, content) {
		for name, value := range members(p.body, part) {
			key, err := decisionKey(name.of(p.body), itemPartKeys)
			if err != nil {
				return err
			}
			switch key {
			case "":
				if string(name.of(p.body)) != `"annotations"` && string(name.of(p.body)) != `"logprobs"` {
					p.r.opaque = p.r.opaque || p.says(value)
				}
			case "image_url", "file_id", "file_url", "file_data", "input_audio":
				p.r.opaque = p.r.opaque || p.body[value.start] != 'n'
			}
		}
	}
	return nil
}
