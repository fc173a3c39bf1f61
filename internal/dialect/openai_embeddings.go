package dialect

import "github.com/go-json-experiment/json/jsontext"

// OpenAIEmbeddings is OpenAI's embeddings API and what is compatible with it:
// POST …/embeddings. It has a prompt and no output, so a request is refused beforehand
// or not at all. The answer has its usage behind the vectors.
//
// Input is a text, a list of texts, a list of ids of tokens, or a list of such lists.
// vLLM also takes messages. These, and other shapes, count as the JSON they are.
type OpenAIEmbeddings struct{}

var _ API = OpenAIEmbeddings{}

// Name implements [API].
func (OpenAIEmbeddings) Name() string { return "openai.embeddings" }

var embeddingKeys = []string{"model", "models", "fallbacks", "input", "messages"}

// ParseRequest implements [API].
func (OpenAIEmbeddings) ParseRequest(body []byte) (*Request, error) {
	if err := validate(body); err != nil {
		return nil, err
	}
	p := newRequestReader(body, "")
	start, err := p.begin()
	if err != nil {
		return nil, err
	}
	texts := new(textPrompt)
	p.r.prompt, p.r.NoOutput = texts, true
	found := false
	for name, value := range members(body, span{start, len(body)}) {
		key, err := decisionKey(name.of(body), embeddingKeys)
		if err != nil {
			return nil, err
		}
		switch key {
		case "model", "models", "fallbacks":
			err = p.common(key, value)
		case "input":
			found = true
			p.list(value)
			p.r.opaque = p.r.opaque || p.holdsObjects(value)
		case "messages":
			found = true
			texts.suffix = value
			p.r.opaque = true
		}
		if err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, &BadRequest{`the request body has no "input"`}
	}
	return p.r, nil
}

// holdsObjects says that an element is none of the API's shapes: some servers take
// images in an object.
func (p *requestReader) holdsObjects(at span) bool {
	for element := range elements(p.body, at) {
		if p.body[element.start] == '{' {
			return true
		}
	}
	return p.body[at.start] == '{'
}

// ParseAnswer implements [API]. There are no texts.
func (OpenAIEmbeddings) ParseAnswer(body []byte, _ func([]byte)) (Usage, error) {
	json := answers.Get().(*scanner)
	defer func() {
		if json.reset(nil); len(body) <= maxPooled {
			answers.Put(json)
		}
	}()
	json.reset(body)
	var u Usage
	failed, vectors := false, false
	err := json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"usage"`:
		case `"error"`:
			failed = json.dec.PeekKind() != jsontext.KindNull
			return json.dec.SkipValue()
		case `"data"`:
			v, err := json.dec.ReadValue()
			vectors = vectors || err == nil && holdsText(v)
			return err
		default:
			return json.dec.SkipValue()
		}
		return json.object(func(name []byte) (err error) {
			switch string(name) {
			case `"prompt_tokens"`:
				u.UncachedInput, u.Known, err = json.integer()
			default:
				err = json.dec.SkipValue()
			}
			return err
		})
	})
	if err == nil && !blank(body[json.dec.InputOffset():]) {
		err = errTrailing
	}
	if err != nil {
		return Usage{}, jsonError(err, json.dec.InputOffset())
	}
	if failed && !u.Known && !vectors {
		return Usage{}, ErrFailed
	}
	return u, nil
}

// NewStream implements [API]. The API has no streams; what comes as one counts as it
// stands.
func (OpenAIEmbeddings) NewStream(req *Request) Stream { return OpenAICompletions{}.NewStream(req) }

// Refuse implements [API], in the shape of OpenAI's error object.
func (OpenAIEmbeddings) Refuse(status int, message string) []byte {
	return OpenAIChat{}.Refuse(status, message)
}
