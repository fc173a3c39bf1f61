package dialect

import (
	"math"
	"reflect"
	"slices"
	"strconv"
)

// Request is what a request asks for, as far as it is decided on. It is not safe
// for concurrent use.
//
// What its prompt costs is the sum of [Request.Message] over all messages, and
// [Request.Rest]. Each hands out texts, for the caller to count, and returns the
// tokens that come on top of them. Some of that depends on the model; the model
// asked for is not always the one that is counted as, so the caller names it.
type Request struct {
	Model      string
	Stream     bool
	WantsUsage bool   // the client itself asked for the usage of a stream
	Choices    int64  // answers asked for; ≥ 1
	MaxOutput  int64  // the cap on each answer in tokens; 0 if the request has none
	LeastCap   int64  // the lowest cap that the API takes, in tokens; 0 if any will do
	Effort     string // how the model is to reason, in one of few ways: a word that HiddenReasoning knows, or what else an API has; or ""
	Background bool   // the answer goes on at the provider without its client, so that it cannot be cut
	NoOutput   bool   // the API answers without output, such as with vectors; there is no cap then

	// OtherModels says that the request names further models, of which some servers take one
	// if the first fails: "models" of OpenRouter, "fallbacks" of LiteLLM and Anthropic; or one
	// that runs beside the first, as Anthropic's advisor does.
	OtherModels bool

	// Earlier is what the prompt goes on from that is kept at the provider.
	Earlier Earlier

	body     []byte
	messages []message
	prompt   prompt  // reads messages, and what else the prompt consists of
	capKey   string  // name of the cap's key if one is to be added
	caps     []capAt // the caps that are there
	edits    []edit  // changes that are made in any case
	thinking capAt   // of the output, how much may be thinking; it is to stay below the cap
	insert   int     // where the top-level object ends and a member can be added
	ask      []edit  // the change that asks for the usage of a stream; none if the client does
	alone    bool    // see OnlyAskedHere
	opaque   bool    // see Opaque
	assumed  bool    // MaxOutput is what the API has if the request says nothing
	shown    int64   // of Choices, how many come back; 0 for all
}

// message is the place of one message in the body. A body may consist of millions
// of them, so this is as small as it can be.
type message struct{ start, end uint32 }

// capAt is one cap of a request: its name, where its value stands, and what it is; nullCap for null.
type capAt struct {
	key string
	span
	value int64
}

const nullCap = -1 // no number becomes one

// prompt is how a dialect reads the prompt of its requests. count is called with
// each text, unquoted, which is valid during the call only; extra is the tokens
// that are to be added to the texts'. turns is [Request.Turns].
type prompt interface {
	message(raw []byte, model string, count func(text []byte)) (extra int64)
	rest(body []byte, model string, count func(text []byte)) (extra int64)
	turns(body []byte, messages []message) []int32
}

// Messages is the number of messages of the prompt. It is 0 after Release.
func (r *Request) Messages() int { return len(r.messages) }

// RawMessage is the JSON of message i, as it stands in the body. It is valid until
// Release.
func (r *Request) RawMessage(i int) []byte {
	return r.body[r.messages[i].start:r.messages[i].end:r.messages[i].end]
}

// Message calls count for each text of message i, unquoted and valid during the
// call only. It returns the tokens which the format, images and sound add for
// the given model. Both depend on nothing but Format, RawMessage(i) and model, so
// that what a message costs can be remembered.
func (r *Request) Message(i int, model string, count func(text []byte)) (extra int64) {
	return r.prompt.message(r.RawMessage(i), model, count)
}

// Rest is like Message for all of the prompt but its messages: tools, formats,
// what introduces the reply, and what these change about the messages.
func (r *Request) Rest(model string, count func(text []byte)) (extra int64) {
	if r.body == nil {
		return 0
	}
	return r.prompt.rest(r.body, model, count)
}

// Format tells apart in how many ways messages are read: the cost of one depends on it,
// besides what [Request.Message] names. It is "" after Release.
func (r *Request) Format() string {
	if r.prompt == nil {
		return ""
	}
	return reflect.TypeOf(r.prompt).String()
}

// Opaque says that the prompt has parts whose tokens are a mere guess, which the
// provider may not read, or to which it may add: images, sound, files, members that
// OpenAI's API does not have, and tools and searches that run at the provider.
// Whoever compares a count with what the provider reports learns nothing from it.
func (r *Request) Opaque() bool { return r.opaque }

// Output is the most output the request allows over all its choices, or 0 if it
// has no cap.
func (r *Request) Output() int64 {
	if r.MaxOutput > math.MaxInt64/r.Choices {
		return math.MaxInt64
	}
	return r.MaxOutput * r.Choices
}

// Body returns the body to forward, and whether it differs from the client's.
// With limit > 0 no choice may get more than that many tokens, or than LeastCap.
func (r *Request) Body(limit int64) (body []byte, changed bool) {
	edits := slices.Concat(r.edits, r.ask)
	if limit > 0 {
		limit = max(limit, r.LeastCap)
	}
	if r.assumed && r.MaxOutput < limit {
		limit = r.MaxOutput // told to servers that have another one, or none
	}
	if limit > 0 && !r.NoOutput && (r.MaxOutput == 0 || limit < r.MaxOutput || r.assumed) {
		n := strconv.FormatInt(limit, 10)
		// OpenAI refuses both caps at once, but not if one of them is null. So a null is
		// replaced only where there is nothing else, and only one.
		null := -1
		if !slices.ContainsFunc(r.caps, func(c capAt) bool { return c.value != nullCap }) {
			null = max(slices.IndexFunc(r.caps, func(c capAt) bool { return c.key == r.capKey }), 0)
		}
		for i, c := range r.caps {
			if c.value == 0 || c.value > limit || i == null {
				edits = append(edits, edit{c.start, c.end, n})
			}
		}
		if len(r.caps) == 0 {
			edits = append(edits, r.addMember(strconv.Quote(r.capKey)+":"+n))
		}
		if r.thinking.value >= limit {
			edits = append(edits, edit{r.thinking.start, r.thinking.end, strconv.FormatInt(r.lessThinking(limit), 10)})
		}
	}
	if len(edits) == 0 {
		return r.body, false
	}
	return applyEdits(r.body, edits), true
}

// lessThinking is how much thinking is left below a lower cap: the same part of it as of
// the one that the request has, or half.
func (r *Request) lessThinking(limit int64) int64 {
	part := 0.5
	if r.thinking.value < r.MaxOutput {
		part = float64(r.thinking.value) / float64(r.MaxOutput)
	}
	return min(max(int64(part*float64(limit)), r.LeastCap-1), limit-1)
}

// AsksForUsage says that the body to be forwarded asks for the usage of a stream, and the
// client's does not.
func (r *Request) AsksForUsage() bool { return len(r.ask) > 0 }

// OnlyAskedHere says that an upstream's complaint about stream_options can only be about
// what was added to the body: the client's has no such word, not even in other words.
func (r *Request) OnlyAskedHere() bool { return r.alone }

// LeaveUsage leaves the client's own stream options as they are.
func (r *Request) LeaveUsage() { r.ask, r.alone = nil, false }

// Release drops the body and what refers to it, once it has been forwarded: a
// stream outlives its request by minutes.
func (r *Request) Release() {
	r.body, r.messages, r.prompt, r.caps, r.edits, r.ask = nil, nil, nil, nil, nil, nil
}

// addMember is the edit that adds a member to the top-level object, which is
// known to have members.
func (r *Request) addMember(member string) edit {
	return edit{r.insert, r.insert, "," + member}
}
