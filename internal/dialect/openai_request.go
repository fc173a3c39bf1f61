package dialect

import (
	"math"
	"strconv"
)

// requestReader reads what the requests of OpenAI's APIs for text have in common. Their
// body is valid JSON.
type requestReader struct {
	body     []byte
	r        *Request
	options  optionsPlace
	firstCap string // the key of the first cap
	uncapped bool   // one of the caps is zero or negative
}

// newRequestReader returns a reader. capKey is the key under which a cap is added.
func newRequestReader(body []byte, capKey string) requestReader {
	return requestReader{body: body, r: &Request{Choices: 1, capKey: capKey, body: body}}
}

// begin returns where the request's object begins.
func (p *requestReader) begin() (int, error) {
	if int64(len(p.body)) > math.MaxUint32 {
		return 0, &BadRequest{"the request body is larger than 4 GiB"}
	}
	i := skipFiller(p.body, 0)
	if p.body[i] != '{' {
		return 0, &BadRequest{"the request body must be a JSON object"}
	}
	return i, nil
}

// common reads a member that several APIs have.
func (p *requestReader) common(key string, value span) (err error) {
	switch key {
	case "model":
		err = p.model(value)
	case "models", "fallbacks":
		p.r.OtherModels = p.r.OtherModels || p.says(value)
	case "stream":
		p.r.Stream, err = p.flag(key, value)
	case "stream_options":
		err = p.streamOptions(value)
	case "max_tokens", "max_completion_tokens":
		err = p.maxTokens(key, value)
	case "n":
		p.r.Choices, err = p.choices(key, value)
	}
	return err
}

// finish is called at the end of the request's object.
func (p *requestReader) finish(end int) {
	p.r.insert = end
	if p.uncapped {
		p.r.MaxOutput = 0
	}
	if p.r.Stream {
		p.askForUsage()
	}
}

func (p *requestReader) model(at span) error {
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
func (p *requestReader) flag(key string, at span) (set bool, err error) {
	switch p.body[at.start] {
	case 't':
		return true, nil
	case 'f', 'n':
		return false, nil
	}
	return false, &BadRequest{`"` + key + `" must be true or false`}
}

// number reads a number or null.
func (p *requestReader) number(key string, at span) (n int64, ok bool, err error) {
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
func (p *requestReader) maxTokens(key string, at span) error {
	n, ok, err := p.number(key, at)
	if err != nil {
		return err
	}
	if ok {
		p.r.MaxOutput = max(p.r.MaxOutput, n)
		p.r.capKey = key
		p.uncapped = p.uncapped || n == 0 // some servers take what is not positive for "no cap"
	}
	if !ok {
		n = nullCap // it can be replaced, too: adding the key again would make it stand twice
	}
	if len(p.r.caps) == 0 {
		p.firstCap = key
	}
	p.r.caps = append(p.r.caps, capAt{at, n})
	return nil
}

// choices reads how many answers are asked for.
func (p *requestReader) choices(key string, at span) (n int64, err error) {
	n, ok, err := p.number(key, at)
	if ok && n > maxChoices {
		return 0, &BadRequest{strconv.Quote(key) + " is larger than " + strconv.Itoa(maxChoices)}
	}
	return max(1, n), err
}

// says tells whether a value counts as text. Upstreams leave out members that they
// do not know, so that one of those can make a count too large by as much as the
// client likes.
func (p *requestReader) says(value span) bool {
	switch p.body[value.start] {
	case 'n', 't', 'f':
		return false
	}
	return value.end-value.start > len(`""`)
}

// optionsPlace is where stream_options stands.
type optionsPlace struct {
	value   span // the whole value; zero if the key is absent
	object  bool // it is an object, not null
	members bool // which has members
	usage   span // the value of include_usage; zero if absent
}

func (p *requestReader) streamOptions(at span) error {
	o := &p.options
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
func (p *requestReader) askForUsage() {
	r, o := p.r, p.options
	inside := o.value.end - 1 // before the object's closing brace
	switch {
	case r.WantsUsage:
	case o.usage.end > 0: // false or null
		r.ask = []edit{{o.usage.start, o.usage.end, "true"}}
	case o.object && o.members:
		r.ask = []edit{{inside, inside, `,"include_usage":true`}}
	case o.object:
		r.ask = []edit{{inside, inside, `"include_usage":true`}}
	case o.value.end > 0: // null
		r.ask = []edit{{o.value.start, o.value.end, `{"include_usage":true}`}}
	default:
		r.ask = []edit{r.addMember(`"stream_options":{"include_usage":true}`)}
		r.alone = !mentionsOptions(p.body)
	}
}
