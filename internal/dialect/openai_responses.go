package dialect

import "strconv"

// OpenAIResponses is OpenAI's Responses API: POST …/v1/responses.
//
// # What is not in the body
//
// Much of what the model reads may be kept by the provider: an earlier response, a
// conversation, a template, files, and what tools find that run there. A stated number of
// tokens is held in its place (see heldTokens), and the reported usage settles it.
//
// # Background
//
// The answer to a request with "background": true goes on at the provider when its
// client has left. It cannot be cut, so it is held like an answer that is no stream
// ([Request.Background]). Unless its usage came in a stream, it comes with a later GET: see
// [StoredPath] and [ReadStored].
//
// # A cut
//
// See responsesStream.Close. A call of a tool that is cut is left open, and is no part of
// the last event: nothing marks it as finished.
type OpenAIResponses struct{}

var _ API = OpenAIResponses{}

// Name implements [API].
func (OpenAIResponses) Name() string { return "openai.responses" }

// Refuse implements [API]. The shape is that of OpenAI's other APIs.
func (OpenAIResponses) Refuse(status int, message string) []byte {
	return OpenAIChat{}.Refuse(status, message)
}

// ParseAnswer implements [API].
func (OpenAIResponses) ParseAnswer(body []byte, text func([]byte)) (Usage, error) {
	if err := wellFormed(body); err != nil {
		return Usage{}, err
	}
	r := responseReader{data: body}
	var scratch []byte
	r.text = func(_ slotKey, raw []byte) {
		scratch = scratch[:0]
		if v := plainText(raw, &scratch); len(v) > 0 {
			text(v)
		}
	}
	at := span{skipFiller(body, 0), len(body)}
	if r.refused(at) {
		return Usage{}, ErrFailed
	}
	r.response(at)
	r.usage.Extra = r.extra
	return r.usage, nil
}

// refused says that what came is an error and no response. A response that has failed is one: a
// model may have been at work, and what it wrote be billed.
func (r *responseReader) refused(at span) (failed bool) {
	for name, value := range members(r.data, at) {
		switch v := value.of(r.data); string(name.of(r.data)) {
		case `"error"`:
			failed = failed || v[0] != 'n'
		case `"output"`, `"usage"`:
			if v[0] != 'n' {
				return false
			}
		case `"object"`:
			if string(v) == `"response"` {
				return false
			}
		}
	}
	return failed
}

// wellFormed checks that data is one JSON value, as an answer may have it: names may
// come twice, and texts need not be UTF-8.
func wellFormed(data []byte) error {
	if plainlyValid(data) {
		return nil
	}
	return decodeBy(&answers, data)
}

// plainText is a raw string unquoted, or any other value as it stands.
func plainText(raw []byte, scratch *[]byte) []byte {
	if len(raw) > 0 && raw[0] == '"' {
		return unquote(raw, scratch)
	}
	return raw
}

// responseReader reads the parts of a response: whole answers have them, and the events
// of streams. The JSON has been checked.
type responseReader struct {
	data   []byte
	text   func(key slotKey, raw []byte) // is called with each whole text, raw
	usage  Usage
	extra  int64 // tokens, estimated, of what is no text
	shown  bool  // some of the texts is reasoning, or a summary of it
	summed bool  // some is a summary
}

// The texts of an item of the output, besides those of [chatStream].
const (
	channelSummary channel = iota + 16 // of reasoning
	channelCode                        // of an interpreter, a shell, a patch
	channelQuery                       // of a search
	channelOther
)

// tokensPerPartialImage is what OpenAI's guide to image generation says that each
// picture costs which is sent on the way to the last one.
const tokensPerPartialImage = 100

// response reads the response object at at.
func (r *responseReader) response(at span) {
	for name, value := range members(r.data, at) {
		switch string(name.of(r.data)) {
		case `"output"`:
			if r.data[value.start] != '[' {
				r.take(slotKey{0, channelOther, 0}, value)
			}
			index := int64(0)
			for item := range elements(r.data, value) {
				r.item(index, item)
				index++
			}
		case `"usage"`:
			r.readUsage(value)
		}
	}
}

// item reads one item of the output. What tools answer that run at the provider is
// no text of the model's. What the model writes for them is.
func (r *responseReader) item(index int64, at span) {
	if r.data[at.start] != '{' {
		r.take(slotKey{index, channelOther, 0}, at)
		return
	}
	kind := r.member(at, `"type"`)
	switch string(kind.of(r.data)) {
	case `"message"`, `""`, ``:
		r.parts(index, r.member(at, `"content"`), channelContent)
	case `"reasoning"`:
		r.parts(index, r.member(at, `"summary"`), channelSummary)
		r.parts(index, r.member(at, `"content"`), channelReasoning)
	case `"code_interpreter_call"`, `"program"`:
		r.take(slotKey{index, channelCode, 0}, r.member(at, `"code"`))
	case `"shell_call"`:
		r.commands(index, r.member(r.member(at, `"action"`), `"commands"`))
	case `"local_shell_call"`:
		r.commands(index, r.member(r.member(at, `"action"`), `"command"`))
	case `"apply_patch_call"`:
		r.take(slotKey{index, channelCode, 0}, r.member(r.member(at, `"operation"`), `"diff"`))
	case `"computer_call"`:
		r.take(slotKey{index, channelOther, 0}, r.member(at, `"action"`))
		r.take(slotKey{index, channelOther, 1}, r.member(at, `"actions"`))
	case `"file_search_call"`:
		r.take(slotKey{index, channelQuery, 0}, r.member(at, `"queries"`))
	case `"web_search_call"`:
		r.take(slotKey{index, channelQuery, 0}, r.member(r.member(at, `"action"`), `"query"`))
	case `"image_generation_call"`:
		if v := r.member(at, `"result"`); v.end-v.start > len(`null`) {
			r.extra += tokensPerImage
		}
	case `"function_call"`, `"custom_tool_call"`, `"mcp_call"`, `"mcp_approval_request"`, `"tool_search_call"`:
		r.take(slotKey{index, channelName, 0}, r.member(at, `"name"`))
		r.take(slotKey{index, channelArguments, 0}, r.member(at, `"arguments"`))
		r.take(slotKey{index, channelArguments, 0}, r.member(at, `"input"`))
	case `"mcp_list_tools"`, `"compaction"`, `"program_output"`, `"tool_search_output"`, `"additional_tools"`,
		`"function_call_output"`, `"custom_tool_call_output"`, `"computer_call_output"`, `"mcp_approval_response"`,
		`"shell_call_output"`, `"local_shell_call_output"`, `"apply_patch_call_output"`:
	default:
		r.take(slotKey{index, channelOther, 0}, at)
	}
}

// parts reads the parts of a message or of reasoning.
func (r *responseReader) parts(index int64, at span, c channel) {
	if at.end > 0 && r.data[at.start] != '[' {
		r.take(slotKey{index, c, 0}, at)
		return
	}
	n := int64(0)
	for part := range elements(r.data, at) {
		r.part(slotKey{index, c, n}, part)
		n++
	}
}

// part reads one part. Its channel is that of the item's other parts, unless it is a
// refusal or a transcript.
// One without any text that is known counts as the JSON it is.
func (r *responseReader) part(key slotKey, at span) {
	known := false
	for name, value := range members(r.data, at) {
		switch string(name.of(r.data)) {
		case `"text"`:
			r.take(key, value)
		case `"refusal"`:
			r.take(slotKey{key.choice, channelRefusal, key.tool}, value)
		case `"transcript"`:
			r.take(slotKey{key.choice, channelTranscript, key.tool}, value)
		default:
			continue
		}
		known = true
	}
	if !known {
		r.take(slotKey{key.choice, channelOther, key.tool}, at)
	}
}

func (r *responseReader) commands(index int64, at span) {
	n := int64(0)
	for command := range elements(r.data, at) {
		r.take(slotKey{index, channelCode, n}, command)
		n++
	}
}

// take hands out a text, if there is one.
func (r *responseReader) take(key slotKey, at span) {
	raw := at.of(r.data)
	if len(raw) <= len(`""`) || raw[0] == 'n' || raw[0] == 't' || raw[0] == 'f' {
		return
	}
	r.summed = r.summed || key.channel == channelSummary
	r.shown = r.shown || r.summed || key.channel == channelReasoning
	r.text(key, raw)
}

// member is the value of the first member with the given raw name; its end is 0 if there
// is none.
func (r *responseReader) member(object span, raw string) span {
	for name, value := range members(r.data, object) {
		if string(name.of(r.data)) == raw {
			return value
		}
	}
	return span{}
}

// readUsage reads a usage object. null, another kind, or an object without the two
// counts is unknown.
func (r *responseReader) readUsage(at span) {
	var input, cached, written, output, reasoning int64
	var hasInput, hasOutput bool
	for name, value := range members(r.data, at) {
		switch string(name.of(r.data)) {
		case `"input_tokens"`:
			input, hasInput = r.number(value)
		case `"output_tokens"`:
			output, hasOutput = r.number(value)
		case `"input_tokens_details"`:
			cached, _ = r.number(r.member(value, `"cached_tokens"`))
			written, _ = r.number(r.member(value, `"cache_write_tokens"`))
		case `"output_tokens_details"`:
			reasoning, _ = r.number(r.member(value, `"reasoning_tokens"`))
		}
	}
	if !hasInput || !hasOutput {
		return
	}
	// Both are part of input_tokens.
	cached = min(cached, input)
	written = min(written, input-cached)
	r.usage = Usage{
		Known:         true,
		UncachedInput: input - cached - written,
		CacheRead:     cached,
		CacheWrite:    written,
		Output:        output,
		Reasoning:     min(reasoning, output),
	}
}

// number reads a number as [scanner.integer] does.
func (r *responseReader) number(at span) (n int64, ok bool) {
	v := at.of(r.data)
	if len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return 0, false
	}
	return clampInteger(v), true
}

// appendUsage appends the usage object of the API.
func appendResponsesUsage(dst []byte, u Usage) []byte {
	dst = append(dst, `{"input_tokens":`...)
	dst = strconv.AppendInt(dst, u.Input(), 10)
	dst = append(dst, `,"input_tokens_details":{"cached_tokens":`...)
	dst = strconv.AppendInt(dst, u.CacheRead, 10)
	dst = append(dst, `},"output_tokens":`...)
	dst = strconv.AppendInt(dst, u.Output, 10)
	dst = append(dst, `,"output_tokens_details":{"reasoning_tokens":`...)
	dst = strconv.AppendInt(dst, u.Reasoning, 10)
	dst = append(dst, `},"total_tokens":`...)
	dst = strconv.AppendInt(dst, u.Input()+u.Output, 10)
	return append(dst, '}')
}
