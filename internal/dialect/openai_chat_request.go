package dialect

import (
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// The keys of a chat request that are decided on, by the object they stand in.
var (
	chatKeys = []string{"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
		"tools", "functions", "response_format", "prediction", "documents", "prompt", "chat_template", "chat_template_kwargs"}
	streamOptionsKeys = []string{"include_usage"}
	messageKeys       = []string{"role", "content", "name", "tool_call_id", "audio"}
	partKeys          = []string{"type", "text", "image_url", "input_audio", "video_url", "file", "cache_control"}
)

// ParseRequest implements [API].
func (OpenAIChat) ParseRequest(body []byte) (*Request, error) {
	p := chatRequest{json: newStrictScanner(), r: &Request{Choices: 1, Overhead: tokensPerReply, capKey: "max_completion_tokens", body: body}}
	p.json.reset(body)
	if err := p.parse(); err != nil {
		return nil, jsonError(err, p.json.dec.InputOffset())
	}
	return p.r, nil
}

// chatRequest reads one request.
type chatRequest struct {
	json     *scanner
	r        *Request
	uncapped bool // one of the caps is zero or negative
}

func (p *chatRequest) parse() error {
	if p.json.dec.PeekKind() != jsontext.KindBeginObject {
		if _, err := p.json.dec.ReadValue(); err != nil {
			return err
		}
		return &BadRequest{"the request body must be a JSON object"}
	}
	var messages bool
	var options optionsPlace
	err := p.json.object(func(name []byte) error {
		key, err := decisionKey(name, chatKeys)
		if err != nil {
			return err
		}
		switch key {
		case "model":
			return p.model()
		case "messages":
			messages = true
			return p.list(key, p.message)
		case "stream":
			p.r.Stream, _, err = p.flag(key)
			return err
		case "stream_options":
			return p.streamOptions(&options)
		case "max_tokens", "max_completion_tokens":
			return p.maxTokens(key)
		case "n":
			return p.choices()
		case "tools", "functions", "response_format", "prediction", "documents", "prompt", "chat_template", "chat_template_kwargs":
			return p.count()
		}
		return p.json.dec.SkipValue()
	})
	if err != nil {
		return err
	}
	p.r.insert = int(p.json.dec.InputOffset()) - 1
	if _, err := p.json.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return &BadRequest{"the request body has data after its JSON object"}
	}
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

// value reads the next value and where it stands in the body.
func (p *chatRequest) value() (jsontext.Value, span, error) {
	v, err := p.json.dec.ReadValue()
	end := int(p.json.dec.InputOffset())
	return v, span{end - len(v), end}, err
}

// count reads the next value and counts it as text of the prompt, unless null.
func (p *chatRequest) count() error {
	v, at, err := p.value()
	// Values without text are left out; a body of millions of them is not worth a
	// list that is larger than itself.
	if err == nil && holdsText(v) {
		p.r.prompt = append(p.r.prompt, at)
	}
	return err
}

func (p *chatRequest) model() error {
	v, _, err := p.value()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case jsontext.KindNull: // some servers know their one model
	case jsontext.KindString:
		var scratch []byte
		p.r.Model = string(unquote(v, &scratch))
		if len(p.r.Model) > 256 {
			return &BadRequest{`"model" is longer than 256 bytes`}
		}
	default:
		return &BadRequest{`"model" must be a string`}
	}
	return nil
}

// flag reads true, false or null, which is false.
func (p *chatRequest) flag(key string) (set bool, at span, err error) {
	v, at, err := p.value()
	if err != nil {
		return false, at, err
	}
	switch v.Kind() {
	case jsontext.KindTrue:
		return true, at, nil
	case jsontext.KindFalse, jsontext.KindNull:
		return false, at, nil
	}
	return false, at, &BadRequest{`"` + key + `" must be true or false`}
}

// number reads a number or null.
func (p *chatRequest) number(key string) (n int64, at span, ok bool, err error) {
	v, at, err := p.value()
	if err != nil {
		return 0, at, false, err
	}
	switch v.Kind() {
	case jsontext.KindNull:
		return 0, at, false, nil
	case jsontext.KindNumber:
		return clampInteger(v), at, true, nil
	}
	return 0, at, false, &BadRequest{`"` + key + `" must be a number`}
}

// maxTokens reads one of the two caps. The larger one counts, since it depends on
// the upstream which of them it obeys; a lowered cap replaces both.
func (p *chatRequest) maxTokens(key string) error {
	n, at, ok, err := p.number(key)
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

func (p *chatRequest) choices() error {
	n, _, ok, err := p.number("n")
	if ok && n > maxChoices {
		return &BadRequest{`"n" is larger than ` + strconv.Itoa(maxChoices)}
	}
	if ok {
		p.r.Choices = max(1, n)
	}
	return err
}

// list reads an array whose elements are read by element.
func (p *chatRequest) list(key string, element func() error) error {
	ok, err := p.json.array(element)
	if err == nil && !ok {
		return &BadRequest{`"` + key + `" must be an array`}
	}
	return err
}

func (p *chatRequest) message() error {
	p.r.Overhead += tokensPerMessage
	if p.json.dec.PeekKind() != jsontext.KindBeginObject {
		return p.count()
	}
	return p.json.object(func(name []byte) error {
		key, err := decisionKey(name, messageKeys)
		if err != nil {
			return err
		}
		switch key {
		case "name":
			p.r.Overhead += tokensPerName
			return p.count()
		case "content":
			if p.json.dec.PeekKind() == jsontext.KindBeginArray {
				return p.list(key, p.part)
			}
		case "tool_call_id", "audio": // references, which no model reads as text
			return p.json.dec.SkipValue()
		}
		// Everything else may reach the model, so it counts as it stands.
		return p.count()
	})
}

// part reads one part of a message's content.
func (p *chatRequest) part() error {
	if p.json.dec.PeekKind() != jsontext.KindBeginObject {
		return p.count()
	}
	return p.json.object(func(name []byte) error {
		key, err := decisionKey(name, partKeys)
		if err != nil {
			return err
		}
		switch key {
		case "image_url":
			p.r.Overhead += tokensPerImage
		case "input_audio", "video_url", "file":
			p.r.Overhead += tokensPerFile
		case "type", "cache_control":
		default:
			return p.count()
		}
		return p.json.dec.SkipValue()
	})
}

// optionsPlace is where stream_options stands.
type optionsPlace struct {
	value   span // the whole value; zero if the key is absent
	object  bool // it is an object, not null
	members bool // which has members
	usage   span // the value of include_usage; zero if absent
}

func (p *chatRequest) streamOptions(o *optionsPlace) error {
	if p.json.dec.PeekKind() != jsontext.KindBeginObject {
		v, at, err := p.value()
		if err == nil && v.Kind() != jsontext.KindNull {
			err = &BadRequest{`"stream_options" must be an object`}
		}
		o.value = at
		return err
	}
	o.object = true
	err := p.json.object(func(name []byte) error {
		o.members = true
		key, err := decisionKey(name, streamOptionsKeys)
		if err != nil {
			return err
		}
		if key == "" {
			return p.json.dec.SkipValue()
		}
		p.r.WantsUsage, o.usage, err = p.flag(key)
		return err
	})
	o.value.end = int(p.json.dec.InputOffset())
	return err
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
