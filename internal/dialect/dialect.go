// Package dialect reads and writes the wire formats of model APIs: what a
// request asks for, what a piece of an answer adds, what the provider says it
// used, and how an answer or a refusal is ended so that the API's own clients
// take it well.
//
// A dialect is a leaf: it knows bytes and nothing of budgets, tokens or Envoy.
// Text which has to be counted is handed out as text; the caller counts it.
//
//	Request  ParseRequest ─► what is decided on, the prompt's texts, and edits
//	                         which change only what they must: every other byte
//	                         of the body stays as the client sent it
//	Answer   ParseAnswer  ─► a whole JSON answer: texts and usage
//	Stream   Event        ─► one SSE event: text deltas by slot, usage, the end
//	         Close        ─► the events which end an answer that was cut
//	Refusal  Refuse       ─► an error body in the API's own shape
//
// Decisions and the upstream must see the same bytes. Requests with duplicate
// keys anywhere, with keys we decide on spelled in another letter case or with
// escapes, with trailing data or invalid UTF-8 are therefore refused
// ([BadRequest]) instead of guessed at.
//
// One file holds one API; see [ForPath] for which are known.
package dialect

import "errors"

// API is one wire protocol. Implementations are stateless and safe for
// concurrent use.
type API interface {
	// Name is the API's name in logs and metrics, such as "openai.chat".
	Name() string
	// ParseRequest reads a request's body, which it keeps a reference to. The
	// error is a [*BadRequest] that may be shown to the client.
	ParseRequest(body []byte) (*Request, error)
	// ParseAnswer reads a whole JSON answer and calls text for each piece of
	// text in it. The usage is unknown if the answer says nothing of it; its Extra stands all
	// the same. The error is [ErrFailed] for an error in place of an answer.
	ParseAnswer(body []byte, text func([]byte)) (Usage, error)
	// NewStream returns the reader for the streamed answer to req.
	NewStream(req *Request) Stream
	// Refuse returns the body of an error answer with the given HTTP status.
	Refuse(status int, message string) []byte
}

// Stream reads one streamed answer. It is not safe for concurrent use.
type Stream interface {
	// Event reads the data of one server-sent event into ev. What ev refers to
	// is valid until the next call. Data that is not understood comes out as
	// text of the overflow slot: it is never free by accident.
	Event(data []byte, ev *Event)
	// Forwarded says that the event read last has been passed on to the client:
	// what it ended has ended for the client, too, and Close will not end it again.
	Forwarded()
	// Ended says that all that was asked for has ended by itself, as far as it was
	// passed on. Usage may follow, and the end marker.
	Ended() bool
	// Close appends the events which end the answer here, in the way in which
	// the API says that a length limit was reached. usage is what the caller
	// counted; it is told to clients who asked for it.
	Close(dst []byte, usage Usage) []byte
}

// ToolStream is a [Stream] that knows of the calls of tools in its answer. Where calls may follow
// each other without an end, or be under way at the same time, [Event.Calls] says that one
// begins; else it is 0, and one begins where none was under way.
type ToolStream interface {
	Stream
	// InTool says that a call of a tool is under way, or begins with the event read last.
	InTool() bool
}

// CompletedStream is a [Stream] whose API has two ways of saying that a length limit was
// reached.
type CompletedStream interface {
	Stream
	// CloseCompleted makes Close take the way that fewer clients take for an error.
	CloseCompleted()
}

// MaxSlots bounds the texts of one stream that are told apart. What comes beyond
// shares the last slot; its count is then the sum over its pieces.
const MaxSlots = 256

// Text is a piece of one of the texts that an answer consists of: the content of
// a choice, its reasoning, the arguments of one tool call. Pieces of one slot,
// joined, are one text to the tokenizer.
type Text struct {
	Slot  int // in [0, MaxSlots)
	Bytes []byte
}

// Event is what one server-sent event says. Reuse it from call to call.
type Event struct {
	Texts     []Text
	Extra     int64 // tokens, estimated, of what is not text: sound, images
	Reasoning bool  // some of Texts is the model's reasoning, or a summary of it
	Summary   bool  // it is a summary: the reasoning itself is not shown
	Usage     Usage // of the whole answer so far, if Known
	UsageOnly bool  // the event carries usage and nothing else: it exists because usage was asked for
	Done      bool  // the API's end marker
	Failed    bool  // the upstream reports an error inside the stream
	Calls     int   // of tools: how many are under way now that one begins; see [ToolStream]

	scratch []byte
}

func (e *Event) reset() {
	*e = Event{Texts: e.Texts[:0], scratch: e.scratch[:0]}
}

// LetGo drops what refers to the data that was read last, and the memory that an event with
// many texts took.
func (e *Event) LetGo() {
	if cap(e.Texts) > MaxSlots {
		e.Texts = nil
	}
	clear(e.Texts[:cap(e.Texts)])
	if cap(e.scratch) > maxScratch {
		e.scratch = nil
	}
}

// maxScratch bounds the memory for unquoted texts that an event keeps, in bytes.
const maxScratch = 64 << 10

// Usage is a provider's own count, normalised: the parts of the input do not
// overlap. The zero value is unknown, which is not zero.
type Usage struct {
	Known         bool
	UncachedInput int64 // tokens of the prompt that no cache served
	CacheRead     int64 // tokens of the prompt read from a cache
	CacheWrite    int64 // tokens of the prompt written to a cache
	Output        int64 // tokens of the answer, reasoning included
	Reasoning     int64 // of Output: tokens of hidden or visible reasoning
	Unseen        bool  // the answer may show less than Output counts, without Reasoning saying how much

	// Extra is no report, and need not be Known: tokens, estimated, of what a whole answer has
	// besides text. Streams have [Event.Extra].
	Extra int64
}

// Input is the whole prompt.
func (u Usage) Input() int64 { return u.UncachedInput + u.CacheRead + u.CacheWrite }

// ErrFailed says that what came with a status of success is an error of the API, with no text and
// no usage: nothing was produced.
var ErrFailed = errors.New("the answer is an error")

// BadRequest is a request that cannot be decided on. Its message is for the
// client and holds nothing of the prompt.
type BadRequest struct{ Message string }

func (e *BadRequest) Error() string { return e.Message }
