package dialect

import "strings"

// The keys of a request to Anthropic's Messages API that are decided on, by the object
// they stand in.
var (
	messagesKeys = []string{"model", "messages", "system", "max_tokens", "stream", "thinking", "tools", "tool_choice",
		"mcp_servers", "container", "thread", "context_management", "compaction", "models", "fallbacks", "output_config", "output_format"}
	messagesMessageKeys = []string{"role", "content"}
	blockKeys           = []string{"type", "text", "source", "content", "input", "name", "thinking", "signature", "data", "id", "tool_use_id",
		"is_error", "title", "context", "citations", "cache_control", "caller"}
	sourceKeys   = []string{"type", "media_type", "data", "url", "file_id", "content"}
	toolKeys     = []string{"type", "name", "description", "input_schema", "cache_control", "defer_loading", "model"}
	thinkingKeys = []string{"type", "budget_tokens", "display"}
)

// leastThinking is the least budget of thinking that the API takes, in tokens. It also
// has to be less than max_tokens.
const leastThinking = 1024

// ParseRequest implements [API].
func (AnthropicMessages) ParseRequest(body []byte) (*Request, error) {
	if err := validate(body); err != nil {
		return nil, err
	}
	p := messagesRequest{requestReader: newRequestReader(body, "max_tokens")}
	p.r.prompt = &p.prompt
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.r, nil
}

// messagesRequest reads one request, whose body is valid JSON.
type messagesRequest struct {
	requestReader
	prompt messagesPrompt

	kind, display, level string // of thinking: words of the API, or ""
}

func (p *messagesRequest) parse() error {
	i, err := p.begin()
	if err != nil {
		return err
	}
	var messages bool
	for i = skipFiller(p.body, i+1); p.body[i] != '}'; i = skipFiller(p.body, i) {
		name := span{i, skipString(p.body, i)}
		key, err := decisionKey(name.of(p.body), messagesKeys)
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
		if err := p.member(key, name, value); err != nil {
			return err
		}
	}
	p.r.insert = i
	if !messages {
		return &BadRequest{`the request body has no "messages"`}
	}
	if p.uncapped {
		p.r.MaxOutput = 0
	}
	p.r.Effort = strings.TrimRight(p.kind+"/"+p.display+"/"+p.level, "/")
	if p.kind == "" && p.display == "" {
		p.r.Effort = p.level
	}
	return nil
}

// thinkingWord is one of the words that say how much a model thinks, and what it shows of
// that, or "".
func (p *messagesRequest) thinkingWord(at span) string {
	switch raw := at.of(p.body); string(raw) {
	case `"enabled"`, `"adaptive"`, `"disabled"`, `"omitted"`, `"summarized"`:
		return string(raw[1 : len(raw)-1])
	}
	return ""
}

// member reads a member of the request's object.
func (p *messagesRequest) member(key string, name, value span) (err error) {
	switch key {
	case "model":
		return p.model(value)
	case "stream":
		p.r.Stream, err = p.flag(key, value)
		return err
	case "max_tokens":
		if string(value.of(p.body)) == "0" { // fills a cache, and answers nothing; it must stay
			p.r.MaxOutput = 1
			return nil
		}
		return p.maxTokens(key, value)
	case "thinking":
		err = p.thinking(value)
	case "system":
		err = p.blocks(value, 0)
	case "tools":
		err = p.tools(value)
	case "output_config":
		for name, value := range members(p.body, value) {
			if string(name.of(p.body)) == `"effort"` {
				p.level = p.effort(value)
			}
		}
	case "tool_choice", "output_format":
	case "":
		if freeMember(name.of(p.body)) || value.end-value.start <= maxIgnored {
			return nil
		}
		fallthrough
	default: // it may change what the model reads
		if key == "models" || key == "fallbacks" {
			p.r.OtherModels = p.r.OtherModels || p.says(value)
		}
		p.r.opaque = p.r.opaque || p.body[value.start] != 'n'
	}
	p.prompt.members = append(p.prompt.members, chatMember{key, value})
	return err
}

// freeMember says that no model reads a member, however long it is.
func freeMember(raw []byte) bool {
	switch string(raw) {
	case `"metadata"`, `"stop_sequences"`, `"cache_control"`, `"diagnostics"`, `"anthropic_beta"`, `"betas"`,
		`"billing_policy"`, `"fallback_credit_token"`:
		return true
	}
	return false
}

// thinking notes how the model is to think, and how much: that has to stay below the cap.
func (p *messagesRequest) thinking(at span) error {
	for name, value := range members(p.body, at) {
		key, err := decisionKey(name.of(p.body), thinkingKeys)
		if err != nil {
			return err
		}
		switch key {
		case "type":
			p.kind = p.thinkingWord(value)
		case "display":
			p.display = p.thinkingWord(value)
		}
		if key != "budget_tokens" {
			continue
		}
		n, ok, err := p.number(key, value)
		if err != nil {
			return err
		}
		if ok {
			p.r.thinking, p.r.LeastCap = capAt{"budget_tokens", value, n}, leastThinking+1
		}
	}
	return nil
}

// messages notes where each message of the array at i stands, and checks the keys that
// its count depends on. It returns the array's end.
func (p *messagesRequest) messages(i int) (end int, err error) {
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

func (p *messagesRequest) message(i int) (end int, err error) {
	if p.body[i] != '{' {
		return skipValue(p.body, i), nil
	}
	for i = skipFiller(p.body, i+1); p.body[i] != '}'; i = skipFiller(p.body, i) {
		name := span{i, skipString(p.body, i)}
		key, err := decisionKey(name.of(p.body), messagesMessageKeys)
		if err != nil {
			return i, err
		}
		i = skipFiller(p.body, name.end)
		value := span{i, skipValue(p.body, i)}
		i = value.end
		switch key {
		case "":
			p.r.opaque = p.r.opaque || p.says(value)
		case "content":
			if err := p.blocks(value, 0); err != nil {
				return i, err
			}
		}
	}
	return i + 1, nil
}

// blocks checks the keys of content: a text, a block, or a list of blocks.
func (p *messagesRequest) blocks(at span, depth int) error {
	if p.body[at.start] != '[' {
		return p.block(at, depth)
	}
	for block := range elements(p.body, at) {
		if err := p.block(block, depth); err != nil {
			return err
		}
	}
	return nil
}

func (p *messagesRequest) block(at span, depth int) error {
	if p.body[at.start] != '{' {
		return nil
	}
	if depth > maxBlockDepth {
		p.r.opaque = true
		return nil
	}
	for name, value := range members(p.body, at) {
		key, err := decisionKey(name.of(p.body), blockKeys)
		if err != nil {
			return err
		}
		switch key {
		case "":
			p.r.opaque = p.r.opaque || p.says(value)
		case "type":
			switch string(value.of(p.body)) {
			case `"text"`, `"tool_use"`, `"tool_result"`, `"search_result"`:
			default: // thinking, too: of earlier turns it may be left out
				p.r.opaque = true
			}
		case "citations": // of an earlier answer, which the model does not read
			p.r.opaque = p.r.opaque || p.body[value.start] == '[' && p.says(value)
		case "content":
			err = p.blocks(value, depth+1)
		case "source":
			err = p.source(value, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// source checks the keys of where an image or a document comes from.
func (p *messagesRequest) source(at span, depth int) error {
	for name, value := range members(p.body, at) {
		key, err := decisionKey(name.of(p.body), sourceKeys)
		if err == nil && key == "content" {
			err = p.blocks(value, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tools checks the keys of tools. What those find that run at the provider goes into
// the prompt unseen, and one that is put off may stay out of it.
func (p *messagesRequest) tools(at span) error {
	for tool := range elements(p.body, at) {
		for name, value := range members(p.body, tool) {
			key, err := decisionKey(name.of(p.body), toolKeys)
			if err != nil {
				return err
			}
			switch key {
			case "type":
				kind := string(value.of(p.body))
				p.r.opaque = p.r.opaque || kind != `"custom"` && kind != "null"
			case "model": // whose advice the answer's model may take
				p.r.OtherModels = p.r.OtherModels || p.says(value)
			case "defer_loading":
				p.r.opaque = p.r.opaque || p.body[value.start] == 't'
			}
		}
	}
	return nil
}
