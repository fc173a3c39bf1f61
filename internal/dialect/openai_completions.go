package dialect

import "strconv"

// OpenAICompletions is OpenAI's former completions API and what is compatible with it:
// POST …/completions, not …/chat/completions. A prompt is a text that the model goes on
// with, and a request may have many of them, as texts or as ids of tokens. Each is
// answered n times; best_of more are written and billed, of which the best ones come
// back. OpenAI bills the suffix with the prompt.
//
// What comes back of the prompt because of echo counts as output until the usage is
// reported.
type OpenAICompletions struct{}

var _ API = OpenAICompletions{}

// Name implements [API].
func (OpenAICompletions) Name() string { return "openai.completions" }

// defaultMaxTokens is what a choice may have at most if the request does not say it, in
// tokens (OpenAI's API reference, max_tokens of completions). vLLM and SGLang do the same.
const defaultMaxTokens = 16

// maxStreamed bounds the choices of a stream: each has to be ended by an event of its
// own if it is cut. OpenAI takes at most 20 prompts, with at most 128 choices each, but
// others take more.
const maxStreamed = 4096

var completionKeys = []string{"model", "prompt", "suffix", "stream", "stream_options", "max_tokens", "n", "best_of", "models", "fallbacks"}

// ParseRequest implements [API].
func (OpenAICompletions) ParseRequest(body []byte) (*Request, error) {
	if err := validate(body); err != nil {
		return nil, err
	}
	p := newRequestReader(body, "max_tokens")
	start, err := p.begin()
	if err != nil {
		return nil, err
	}
	texts := new(textPrompt)
	p.r.prompt = texts
	var prompt span
	bestOf, end := int64(1), start+1
	for name, value := range members(body, span{start, len(body)}) {
		end = value.end
		key, err := decisionKey(name.of(body), completionKeys)
		if err != nil {
			return nil, err
		}
		switch key {
		case "":
		case "prompt":
			prompt = value
		case "suffix":
			texts.suffix = value
		case "best_of":
			bestOf, err = p.choices(key, value)
		default:
			err = p.common(key, value)
		}
		if err != nil {
			return nil, err
		}
	}
	if prompt.end == 0 {
		return nil, &BadRequest{`the request body has no "prompt"`}
	}
	prompts := p.list(prompt)
	p.r.shown = prompts * p.r.Choices
	if p.r.Stream && p.r.shown > maxStreamed {
		return nil, &BadRequest{`a stream of more than ` + strconv.Itoa(maxStreamed) + ` choices cannot be metered; send fewer prompts at once, or a lower "n"`}
	}
	p.r.Choices = prompts * max(p.r.Choices, bestOf)
	p.finish(skipFiller(body, end))
	if p.r.MaxOutput == 0 && !p.uncapped {
		p.r.MaxOutput, p.r.assumed = defaultMaxTokens, true
	}
	return p.r, nil
}

// ParseAnswer implements [API].
func (OpenAICompletions) ParseAnswer(body []byte, text func([]byte)) (Usage, error) {
	return OpenAIChat{}.ParseAnswer(body, text) // which reads the text of choices, too
}

// NewStream implements [API].
func (OpenAICompletions) NewStream(req *Request) Stream {
	s := &chatStream{plain: true}
	s.init(req)
	return s
}

// Refuse implements [API], in the shape of OpenAI's error object.
func (OpenAICompletions) Refuse(status int, message string) []byte {
	return OpenAIChat{}.Refuse(status, message)
}

// list notes the prompts of a request as its messages: one text, one list of ids, or
// several of both. It returns how many there are, at least 1.
func (p *requestReader) list(at span) (n int64) {
	ids, some := true, false
	for element := range elements(p.body, at) {
		some = true
		if ids = isNumber(p.body[element.start]); !ids {
			break
		}
	}
	switch {
	case p.body[at.start] == 'n':
	case !some || ids:
		p.r.messages = []message{{uint32(at.start), uint32(at.end)}}
	default:
		for element := range elements(p.body, at) {
			p.r.messages = append(p.r.messages, message{uint32(element.start), uint32(element.end)})
		}
	}
	return max(1, int64(len(p.r.messages)))
}

func isNumber(c byte) bool { return c == '-' || c >= '0' && c <= '9' }

// textPrompt reads prompts that are texts or ids of tokens.
type textPrompt struct {
	suffix span // zero if there is none
	texts  promptTexts
}

// begin prepares for reading the texts of a body.
func (p *textPrompt) begin(body []byte, count func([]byte)) *promptTexts {
	p.texts = promptTexts{body: body, count: count, scratch: p.texts.scratch[:0]}
	return &p.texts
}

// message implements [prompt]. An id is a token, as long as it is as short as one.
func (p *textPrompt) message(raw []byte, _ string, count func([]byte)) int64 {
	const longestID = 10
	t := p.begin(raw, count)
	at := span{0, len(raw)}
	if raw[0] != '[' {
		t.value(at)
		return 0
	}
	for element := range elements(raw, at) {
		if isNumber(raw[element.start]) && element.end-element.start <= longestID {
			t.extra++
		} else {
			t.value(element)
		}
	}
	return t.extra
}

// rest implements [prompt].
func (p *textPrompt) rest(body []byte, _ string, count func([]byte)) int64 {
	if t := p.begin(body, count); p.suffix.end > 0 {
		t.value(p.suffix)
	}
	return 0
}

// turns implements [prompt]: a text has none.
func (p *textPrompt) turns([]byte, []message) []int32 { return nil }
