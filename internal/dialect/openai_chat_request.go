package dialect

import (
	"math"
	"strconv"
)

// The keys of a chat request that are decided on, by the object they stand in.
var (
	chatKeys = []string{"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
		"tools", "tool_choice", "functions", "function_call", "response_format", "prediction", "documents", "prompt", "chat_template", "chat_template_kwargs",
		"web_search_options"}
	streamOptionsKeys = []string{"include_usage"}
	messageKeys       = []string{"role", "content", "name", "tool_call_id", "audio"}
	partKeys          = []string{"type", "text", "image_url", "input_audio", "video_url", "file", "cache_control"}
)

// ParseRequest implements [API].
func (OpenAIChat) ParseRequest(body []byte) (*Request, error) {
	if int64(len(body)) > math.MaxUint32 {
		return nil, &BadRequest{"the request body is larger than 4 GiB"}
	}
	if err := validate(body); err != nil {
		return nil, err
	}
	p := chatRequest{body: body, r: &Request{Choices: 1, capKey: "max_completion_tokens", body: body}}
	p.r.prompt = &p.prompt
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.r, nil
}

// chatRequest reads one request, whose body is valid JSON.
type chatRequest struct {
	body     []byte
	r        *Request
	prompt   chatPrompt
	uncapped bool // one of the caps is zero or negative
}

func (p *chatRequest) parse() error {
	i := skipFiller(p.body, 0)
	if p.body[i] != '{' {
		return &BadRequest{"the request body must be a JSON object"}
	}
	var messages bool
	var options optionsPlace
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
			p.r.opaque = p.r.opaque || addsToPrompt(name.of(p.body)) && p.body[value.start] != 'n'
		case "model":
			err = p.model(value)
		case "stream":
			p.r.Stream, err = p.flag(key, value)
		case "stream_options":
			err = p.streamOptions(value, &options)
		case "max_tokens", "max_completion_tokens":
			err = p.maxTokens(key, value)
		case "n":
			err = p.choices(value)
		case "web_search_options": // what is found goes into the prompt
			p.r.opaque = p.r.opaque || p.body[value.start] != 'n'
		case "tools":
			p.r.opaque = p.r.opaque || p.hostedTool(value)
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
	p.r.insert = i
	if !messages {
		return &BadRequest{`the request body has no "messages"`}
	}
	if p.uncapped {
		p.r.MaxOutput = 0
	}
	if p.r.Stream {
		p.askForUsage(options)
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

// hostedTool says that one of the tools is none that the client runs: its results go
// into the prompt unseen.
func (p *chatRequest) hostedTool(tools span) bool {
	for tool := range elements(p.body, tools) {
		for name, value := range members(p.body, tool) {
			kind := string(value.of(p.body))
			if string(name.of(p.body)) == `"type"` && kind != `"function"` && kind != `"custom"` {
				return true
			}
		}
	}
	return false
}

func (p *chatRequest) model(at span) error {
	switch p.body[at.start] {
	case 'n': // some servers know their one model
	case '"':
		var scratch []byte
		p.r.Model = string(unquote(at.of(p.body), &scratch))
		if len(p.r.Model) > 256 {
			return &BadRequest{`"model" is longer than 256 bytes`}
		}
	default:
		return &BadRequest{`"model" must be a string`}
	}
	return nil
}

// flag reads true, false or null, which is false.
func (p *chatRequest) flag(key string, at span) (set bool, err error) {
	switch p.body[at.start] {
	case 't':
		return true, nil
	case 'f', 'n':
		return false, nil
	}
	return false, &BadRequest{`"` + key + `" must be true or false`}
}

// number reads a number or null.
func (p *chatRequest) number(key string, at span) (n int64, ok bool, err error) {
	switch c := p.body[at.start]; {
	case c == 'n':
		return 0, false, nil
	case c == '-' || c >= '0' && c <= '9':
		return clampInteger(at.of(p.body)), true, nil
	}
	return 0, false, &BadRequest{`"` + key + `" must be a number`}
}

// maxTokens reads one of the two caps. The larger one counts, since it depends on
// the upstream which of them it obeys; a lowered cap replaces both.
func (p *chatRequest) maxTokens(key string, at span) error {
	n, ok, err := p.number(key, at)
	if err != nil {
		return err
	}
	if ok {
		p.r.MaxOutput = max(p.r.MaxOutput, n)
		p.r.capKey = key
		p.uncapped = p.uncapped || n == 0 // some servers take what is not positive for "no cap"
	}
	// A null is replaced, too: adding the key again would make it stand twice.
	p.r.caps = append(p.r.caps, capAt{at, n})
	return nil
}

func (p *chatRequest) choices(at span) error {
	n, ok, err := p.number("n", at)
	if ok && n > maxChoices {
		return &BadRequest{`"n" is larger than ` + strconv.Itoa(maxChoices)}
	}
	if ok {
		p.r.Choices = max(1, n)
	}
	return err
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

// says tells whether a value counts as text. Upstreams leave out members that they
// do not know, so that one of those can make a count too large by as much as the
// client likes.
func (p *chatRequest) says(value span) bool {
	switch p.body[value.start] {
	case 'n', 't', 'f':
		return false
	}
	return value.end-value.start > len(`""`)
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

// optionsPlace is where stream_options stands.
type optionsPlace struct {
	value   span // the whole value; zero if the key is absent
	object  bool // it is an object, not null
	members bool // which has members
	usage   span // the value of include_usage; zero if absent
}

func (p *chatRequest) streamOptions(at span, o *optionsPlace) error {
	o.value = at
	switch p.body[at.start] {
	case 'n':
		return nil
	case '{':
		o.object = true
	default:
		return &BadRequest{`"stream_options" must be an object`}
	}
	for name, value := range members(p.body, at) {
		o.members = true
		key, err := decisionKey(name.of(p.body), streamOptionsKeys)
		if err != nil {
			return err
		}
		if key == "" {
			continue
		}
		o.usage = value
		if p.r.WantsUsage, err = p.flag(key, value); err != nil {
			return err
		}
	}
	return nil
}

// askForUsage makes sure that the upstream reports its usage at the end of the
// stream. Whether the client asked for it, too, is kept in WantsUsage.
func (p *chatRequest) askForUsage(o optionsPlace) {
	r := p.r
	inside := o.value.end - 1 // before the object's closing brace
	switch {
	case r.WantsUsage:
	case o.usage.end > 0: // false or null
		r.edits = append(r.edits, edit{o.usage.start, o.usage.end, "true"})
	case o.object && o.members:
		r.edits = append(r.edits, edit{inside, inside, `,"include_usage":true`})
	case o.object:
		r.edits = append(r.edits, edit{inside, inside, `"include_usage":true`})
	case o.value.end > 0: // null
		r.edits = append(r.edits, edit{o.value.start, o.value.end, `{"include_usage":true}`})
	default:
		r.edits = append(r.edits, r.addMember(`"stream_options":{"include_usage":true}`))
	}
}
