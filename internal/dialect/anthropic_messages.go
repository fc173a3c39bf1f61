package dialect

import (
	"encoding/json"
	"strings"
)

// AnthropicMessages is Anthropic's Messages API: POST …/v1/messages.
//
// Anthropic publishes no tokenizer, so texts are counted with a stand-in, times a
// factor that is learned. What the format, images and tools add are the figures of
// Anthropic's documentation, as far as there are any; docs/accounting.md has them.
//
// Figures of the API come from its reference and from the types of the official
// SDKs (anthropic-sdk-python 2.12, anthropic-sdk-typescript 1.13).
//
// Caveats: a thinking block that is cut has no signature, and the API takes it back
// only with one; a client that goes on with the conversation has to leave it out. A
// request with "fallbacks" may be answered by another model than the one it names,
// which is the one that limits match; see [Request.OtherModels].
type AnthropicMessages struct{}

var _ API = AnthropicMessages{}

// Name implements [API].
func (AnthropicMessages) Name() string { return "anthropic.messages" }

// Refuse implements [API], in the shape and with the types of Anthropic's errors.
func (AnthropicMessages) Refuse(status int, message string) []byte {
	kind := "invalid_request_error"
	switch {
	case status == 401:
		kind = "authentication_error"
	case status == 403:
		kind = "permission_error"
	case status == 404:
		kind = "not_found_error"
	case status == 413:
		kind = "request_too_large"
	case status == 429:
		kind = "rate_limit_error"
	case status == 503:
		kind = "overloaded_error"
	case status >= 500:
		kind = "api_error"
	}
	type object struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(struct {
		Type  string `json:"type"`
		Error object `json:"error"`
	}{"error", object{kind, message}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return body
}

// Shape is the API in whose shape an error is told at a path that is not metered: the one
// whose paths begin like it, or OpenAI's, which most clients understand.
func Shape(path string) API {
	if strings.Contains(path, "/v1/messages") {
		return AnthropicMessages{}
	}
	return OpenAIChat{}
}

// ParseAnswer implements [API].
func (AnthropicMessages) ParseAnswer(body []byte, text func([]byte)) (Usage, error) {
	json := answers.Get().(*scanner)
	defer func() {
		if json.reset(nil); len(body) <= maxPooled {
			answers.Put(json)
		}
	}()
	s := messagesStream{json: json, whole: true, data: body}
	json.reset(body)
	var ev Event
	err := s.message(&ev)
	if err == nil && !blank(body[json.dec.InputOffset():]) {
		err = errTrailing
	}
	if err != nil {
		return Usage{}, jsonError(err, json.dec.InputOffset())
	}
	u := s.usage()
	if ev.Failed && !u.Known && len(ev.Texts) == 0 {
		return Usage{}, ErrFailed
	}
	for _, t := range ev.Texts {
		text(t.Bytes)
	}
	// A report speaks for blocks that are not known, too. If there is none, and nothing else than
	// them, the answer is of a shape that is not known.
	if len(ev.Texts) > 0 && (!u.Known || u.Output == 0) {
		for _, b := range s.unknown {
			text(body[b.start:b.end])
		}
	}
	return u, nil
}

// NewStream implements [API].
func (AnthropicMessages) NewStream(req *Request) Stream {
	s := &messagesStream{json: newLenientScanner()}
	if req != nil {
		s.model, s.summary = req.Model, summarizes(req.Model)
	}
	return s
}
