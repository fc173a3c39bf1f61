package exchange

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/coding"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/sse"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// state is where an exchange stands.
type state uint8

const (
	// stateRequestHeaders waits for the first message. Method and path decide
	// whether the exchange is metered, passes or is refused.
	stateRequestHeaders state = iota

	// stateRequestBody waits for the whole body of a request that is metered. A
	// local reply of another filter can come instead, as response headers.
	stateRequestBody

	// stateReserving waits for the driver's answer to Ready.Reserve, which a limit that
	// throttles may delay. An answer to the request can come meanwhile; see answeredWaiting.
	stateReserving

	// stateAwaiting has forwarded the request, holds what it may cost, and waits
	// for the upstream's response headers.
	stateAwaiting

	// stateStreaming meters server-sent events. Whole events are forwarded once
	// the ledger has granted what they cost.
	stateStreaming

	// stateUnary forwards a JSON answer as it comes and keeps a bounded copy to
	// read its usage at the end.
	stateUnary

	// statePassing forwards everything: exchanges that are free, answers that are
	// errors, and answers that cannot be read. A reservation, if there is one, is
	// settled at the end.
	statePassing

	// stateCut has ended the client's answer. What still arrives is counted; the
	// end of the gRPC stream settles.
	stateCut

	// stateEnded has settled and recorded. Whatever comes is ignored.
	stateEnded
)

// String returns the state's name, for errors and tests.
func (s state) String() string {
	return [...]string{"RequestHeaders", "RequestBody", "Reserving", "Awaiting", "Streaming", "Unary", "Passing", "Cut", "Ended"}[s]
}

// Errors with which a driver is told to end the gRPC stream. Envoy then fails
// the exchange as its failure mode says; once an answer has begun, always closed.
var (
	// ErrProtocol: Envoy sent a message that cannot come in this state.
	ErrProtocol = errors.New("unexpected message")
	// ErrStopped: a deadline or a drain ended an exchange where no clean end was possible.
	ErrStopped = errors.New("stopped before the answer began")
)

// Ready is what an exchange wants done, in the order of its fields. What it
// refers to is valid until the next call of one of the exchange's methods.
type Ready struct {
	// Reserve asks the ledger for a reservation. The answer goes to
	// [Exchange.Reserved], or to [Exchange.Throttle] if the driver will ask again; nothing
	// else is set. What it refers to is valid until then.
	Reserve *budget.Request
	// Settle ends the reservation.
	Settle *Settlement
	// Kept says that the reservation has passed to [Policy.Background], and is not the driver's
	// any more. Nothing is settled then.
	Kept bool
	// Ending is the end of a response that another exchange has begun.
	Ending *Ending
	// Record is the outcome, once it is known. It may be kept.
	Record *Record
	// Send goes to Envoy.
	Send []*extprocv3.ProcessingResponse
	// Linger says that the client's answer has ended, and that the upstream may
	// still have sent something which is to be charged. Envoy ends the gRPC
	// stream within milliseconds; the driver bounds the wait and calls
	// [Exchange.End].
	Linger bool
	// End says that nothing more will be done: the gRPC stream is to be ended,
	// with Err or without an error.
	End bool
	Err error
}

// Settlement is the end of a reservation.
type Settlement struct {
	Reservation *budget.Reservation
	Amount      budget.Amount // what was really used
	Hold        bool          // or, where that is unknown: all that was held
}

// Apply settles. It reports whether this was the first settlement, as it must be.
func (s *Settlement) Apply() bool {
	if s.Hold {
		return s.Reservation.SettleHold()
	}
	return s.Reservation.Settle(s.Amount)
}

// Exchange is one HTTP exchange. It is not safe for concurrent use.
type Exchange struct {
	policy *Policy
	state  state
	mode   struct{ request, response mode }
	can    abilities // what the modes allow
	start  time.Time

	api         dialect.API
	request     *dialect.Request
	bare        bool   // it passes as long as it has no body
	deployment  string // of the path, "" if it names none; it is the model then
	model       count.Model
	path        string            // without the query
	authority   string            // the host that was asked
	asked       uint64            // the upstream, if it was asked for its usage and may reject that; see Rejected
	complaint   []byte            // the beginning of an answer that may do so; nil for others
	matched     []budget.Identity // headers that limits match
	signature   signature         // the client's, because of which nothing is altered
	prompt      int64             // tokens counted in the prompt, by the model's stand-in if it has one
	input       int64             // what the prompt costs: prompt times the model's factor, and earlier
	earlier     int64             // tokens of what the prompt goes on from that is not in the body, if they are known; see contexts.go
	wanted      int64             // tokens of output asked for in the reservation
	hidden      int64             // tokens of reasoning expected that is not shown, as far as they are held; see hidden.go
	least       int64             // tokens of output without which there is none
	most        int64             // tokens of output that the caps allow, all choices together; 0 if there are none
	reservation *budget.Reservation
	record      Record
	waiting     time.Time // since when the request waits for a limit that throttles; zero if it does not
	unforwarded bool      // the request has not reached the upstream
	unknown     bool      // what the answer costs cannot be known: the hold stands

	stream    dialect.Stream
	tools     dialect.ToolStream // the stream, if it knows of tools
	inTool    bool               // a call is under way that room was held for
	toolEnd   int64              // tokens of output that are held for it; see toolAhead
	parser    sse.Parser
	event     dialect.Event
	counters  []*tokens.Counter // by slot
	counts    []int64           // by slot: what the counter said last
	counted   int64             // tokens of output: the sum of counts, and estimates; see output for what they cost
	estimates int64             // of counted: what was not read, or is no text
	reported  dialect.Usage     // what the provider said last
	atReport  int64             // counted, when the provider said that
	unread    int64             // bytes of the answer which are not read, and estimated
	guessed   bool              // counted has estimates in it
	reasoned  bool              // the answer shows reasoning
	summed    bool              // it shows a summary of it
	done      bool              // the API's end marker has passed
	chunks    int64             // messages of the answer's body
	large     bool              // the last one is
	delivered int64             // tokens of output that the client got, by our count or the provider's
	burst     int64             // the most tokens that one message has brought, up to Policy.Growth
	refusedBy budget.Decision   // of the limit that cut the stream
	closing   []byte            // built once, for a cut
	spliced   []byte            // a message's bytes when some of them are left out
	answer    []byte            // of an unary exchange
	tooLong   bool              // the answer outgrew Policy.MaxAnswer
	stored    dialect.Stored    // what a unary answer says of how the provider keeps it

	// Of bodies that are compressed; see decode.go and decode_request.go:
	coded     coding.List     // the request, which goes on uncompressed
	decoder   *coding.Decoder // of the answer; nil if it is not compressed, or no more
	encoded   int64           // bytes of the answer that went into it
	plain     []byte          // what the last piece of the answer decoded to
	undecoded string          // why the rest of the answer cannot be decoded

	watch *watch // of an answer that passes; nil of all others

	// In modes other than the usual ones:
	observed   bool                   // in observability mode
	unseen     bool                   // the request's body is not seen
	blind      bool                   // of the answer nothing more comes here
	swallowing bool                   // the answer was cut, and what still comes is taken out
	trailed    bool                   // the request has trailers
	shut       bool                   // what still comes of the request's body is taken out
	pieces     int                    // messages of the request's body
	bodyBytes  int64                  // that have come of it, in observability mode
	length     int64                  // of the request's body, in bytes; -1 if it is not known
	collected  []byte                 // of the request's body
	early      *extprocv3.HttpHeaders // of an answer that came before the ledger's
	body       int64                  // bytes of the request's body
	shed       Shed                   // what becomes of the request's next message
	lean       bool                   // little is to be kept of the answer

	out passMessage
}

// New returns an exchange that waits for its first message.
func New(p *Policy) *Exchange {
	x := &Exchange{policy: p, start: p.Now()}
	// An Envoy that does not say its modes is too old to have others that work.
	x.setModes(modeBuffered, modeDuplex)
	x.out.init()
	return x
}

// Step takes the next message from Envoy.
func (x *Exchange) Step(m *extprocv3.ProcessingRequest) Ready {
	if x.state == stateEnded {
		return Ready{}
	}
	// Envoy says its modes in the first message, whichever that is.
	if c := m.GetProtocolConfig(); c != nil {
		x.setModes(c.GetRequestBodyMode(), c.GetResponseBodyMode())
	}
	switch m := m.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders, nil:
		// The rest is in the message itself; see below.
	case *extprocv3.ProcessingRequest_RequestBody:
		return x.requestBody(m.RequestBody)
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return x.requestTrailers()
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return x.responseHeaders(m.ResponseHeaders)
	case *extprocv3.ProcessingRequest_ResponseBody:
		if x.watch != nil {
			return x.watchedBody(m.ResponseBody)
		}
		return x.responseBody(m.ResponseBody)
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		return x.responseTrailers()
	}
	return x.requestHeaders(m)
}

// unexpected ends an exchange whose peer does not keep to the protocol.
func (x *Exchange) unexpected(message string) Ready {
	err := fmt.Errorf("%w: %s in state %v", ErrProtocol, message, x.state)
	r := x.brokenOff()
	r.Err = err
	return r
}

func (x *Exchange) requestHeaders(m *extprocv3.ProcessingRequest) Ready {
	switch {
	case m.GetRequestHeaders() == nil:
		return x.unexpected("nothing of a request or an answer")
	case x.state != stateRequestHeaders:
		return x.unexpected("request headers")
	}
	msg := m.GetRequestHeaders()
	h := headers(msg.GetHeaders().GetHeaders())
	x.record = Record{RequestID: clip(h.get("x-request-id"), maxRequestID), Path: pathOnly(h.get(":path"))}
	if m.GetObservabilityMode() {
		x.observe()
	}

	q := askedFor(h, x.record.Path, !msg.GetEndOfStream())
	switch v := x.policy.judge(q); v {
	case verdictMeter:
	case verdictPass, verdictPassBare:
		if x.shed == ShedAll {
			return x.overloaded()
		}
		if x.bare = v == verdictPassBare; x.bare && !x.can.request.seen {
			return x.refuse(403, bareMessage)
		}
		x.watchFor(q.method, h.get(":authority"))
		return x.pass(Bypassed)
	default:
		return x.refuse(403, v.explain(q))
	}

	if x.policy.PlainPath && !plainPath(x.record.Path) {
		return x.refuse(403, fmt.Sprintf("servers may read the path %s in several ways, and budgets here depend on it; write it without escapes, \\, ;, // and /.", clip(x.record.Path, 200)))
	}
	x.deployment, x.path, x.authority = dialect.Deployment(x.record.Path), x.record.Path, h.get(":authority")
	x.api, x.record.API, x.record.Path = q.route.API, q.route.API.Name(), ""
	if unusable := x.noteModes(); unusable != "" {
		return x.refuse(500, unusable)
	}
	ids := x.policy.identify(h, m.GetMetadataContext())
	x.record.Identities, x.matched = ids.values, ids.matched
	if x.observed {
		ids.bad, ids.missing = "", "" // nobody can be told
	}
	switch {
	case x.shed != ShedNone:
		return x.overloaded()
	case ids.bad != "":
		return x.refuse(400, ids.bad)
	case ids.missing != "":
		return x.refuse(401, fmt.Sprintf("the request does not say its %q, which budgets here depend on", ids.missing))
	case msg.GetEndOfStream():
		return x.refuse(400, "the request has no body")
	}
	if !x.observed {
		x.signature = signatureOf(h)
	}
	if message := unreadableSigned(h, x.signature); message != "" && !x.observed {
		return x.refuse(415, message)
	}
	coded, refusal := x.requestCoding(h)
	if refusal != "" && !x.observed {
		return x.refuseCoding(refusal)
	}
	x.coded = coded
	if message := unreadable(h); message != "" && !x.observed {
		return x.refuse(415, message)
	}
	return x.awaitBody(h)
}

// pass lets everything that follows through.
func (x *Exchange) pass(o Outcome) Ready {
	x.state, x.record.Outcome = statePassing, o
	return x.send(continueRequestHeaders)
}

func (x *Exchange) requestBody(m *extprocv3.HttpBody) Ready {
	switch x.state {
	case statePassing:
		if x.bare && len(m.GetBody()) > 0 {
			return x.refuse(403, bareMessage)
		}
		if x.shut {
			return x.send(clearedRequestBody)
		}
		return x.send(x.out.requestBody(x.mode.request, m))
	case stateRequestBody:
		if x.observed {
			return x.observedBody(m)
		}
	case stateRequestHeaders:
		return x.headersNotSeen()
	default:
		if x.observed {
			return Ready{} // the answer came before all of it
		}
		return x.unexpected("request body")
	}
	body, whole, answer := x.collect(m)
	if !whole {
		return answer
	}
	return x.decide(body)
}

// decide reads a whole request and asks for its reservation.
func (x *Exchange) decide(body []byte) Ready {
	if x.shed != ShedNone {
		return x.overloaded()
	}
	if x.coded != nil {
		plain, status, message := x.decodeRequest(body)
		switch {
		case status == 0:
			body = plain
		case !x.observed:
			return x.refuse(status, message)
		}
	}
	x.body = int64(len(body))
	req, err := x.api.ParseRequest(body)
	if err != nil {
		if x.observed {
			return x.askUnseen(int64(len(body)))
		}
		var bad *dialect.BadRequest
		if !errors.As(err, &bad) {
			bad = &dialect.BadRequest{Message: "the request cannot be read"}
		}
		return x.refuse(400, bad.Message)
	}
	if x.policy.OneModel && req.OtherModels {
		return x.refuse(400, `the request names further models ("models", "fallbacks", or a tool's "model"), and budgets here depend on the model; name one, as "model"`)
	}
	x.request = req
	x.askForUsage()
	if x.signature.signed {
		if message := x.leaveSigned(); message != "" {
			return x.refuse(400, message)
		}
	}
	x.record.Model, x.record.Stream = cmp.Or(req.Model, x.deployment), req.Stream
	x.model = x.policy.Count.Model(cmp.Or(x.deployment, req.Model))
	x.holdEarlier()
	x.prompt = x.policy.Count.Prompt(x.model, req)
	x.input = x.model.Input.Of(x.prompt) + x.earlier
	x.record.Input, x.record.InputSource = x.input, x.countedSource()
	return x.ask()
}

// ask asks for the reservation.
func (x *Exchange) ask() Ready {
	full := x.demand()
	x.state = stateReserving
	q := &budget.Request{
		Identities: x.record.Identities,
		Model:      strings.ToLower(cmp.Or(x.deployment, x.request.Model)), // a lenient upstream must not make another model of it
		Path:       x.path,
		Headers:    x.matched,
		Input:      x.input,
		Output:     x.wanted,
		MinOutput:  x.least,
		FullOutput: full,
		Watch:      x.observed,
	}
	switch {
	case x.unseen || x.observed:
	case x.signature.signed:
		x.askWhole(q)
	default:
		x.truncate(q)
	}
	return Ready{Reserve: q}
}

func (x *Exchange) countedSource() string {
	if x.model.Estimated {
		return Estimated
	}
	return Counted
}

// inputSource is where our own figure of the prompt comes from.
func (x *Exchange) inputSource() string {
	if x.unseen {
		return Estimated
	}
	return x.countedSource()
}

// Reserved takes the ledger's answer to [Ready.Reserve]: a reservation, or a
// decision that denies it, or the error of a store that could not be read.
func (x *Exchange) Reserved(res *budget.Reservation, d budget.Decision, err error) Ready {
	if x.state != stateReserving {
		return x.unexpected("a reservation")
	}
	x.endWait()
	switch {
	case err != nil:
		return x.refuse(503, "the budget cannot be checked at the moment; nothing was forwarded")
	case !d.Allowed:
		return x.deny(d)
	}
	x.state, x.reservation = stateAwaiting, res
	if x.observed {
		return x.observedOn()
	}
	return x.forward()
}

func (x *Exchange) requestTrailers() Ready {
	// The rendered configuration skips them; they are of no interest, but another
	// configuration may send them, and Envoy waits for an answer.
	switch x.state {
	case statePassing, stateAwaiting:
		return x.send(continueRequestTrailers())
	case stateRequestBody:
		return x.bodyTrailers()
	case stateRequestHeaders:
		return x.headersNotSeen()
	}
	if x.observed {
		return Ready{}
	}
	return x.unexpected("request trailers")
}

func (x *Exchange) responseHeaders(m *extprocv3.HttpHeaders) Ready {
	if x.state == stateReserving {
		return x.answeredWaiting(func() Ready { return x.responseHeaders(m) })
	}
	switch x.state {
	case stateRequestHeaders, stateRequestBody:
		// Envoy or another filter has answered before the request was there, with a
		// 400 for its path or a 413 for its body. Nothing was forwarded, so there is
		// nothing to meter.
		if r, done := x.answeredEarly(m); done {
			return r
		}
		x.answeredByOther()
	case stateAwaiting, statePassing:
	default:
		return x.unexpected("response headers")
	}
	h := headers(m.GetHeaders().GetHeaders())
	status, _ := strconv.Atoi(h.get(":status"))
	x.record.Status = status
	r := continueResponseHeaders()
	if x.watch != nil {
		x.beginWatch(status, h)
	}
	if x.state == stateAwaiting {
		coded, refusal := x.answerCoding(h)
		unread := m.GetEndOfStream() || !x.can.answer.seen // there is nothing to decode
		switch kind := mediaType(h.get("content-type")); {
		case status < 200 || status > 299:
			x.state, x.record.Outcome = statePassing, UpstreamError
			if x.complains(status) {
				x.complaint = []byte{}
			}
			// A timeout, be it Envoy's, tells nothing of what the upstream has done.
			x.unknown = status == 504 && (x.unseen || x.uncut())
			r.GetResponseHeaders().GetResponse().HeaderMutation = remove(h, nil, false)
		case !x.can.answer.seen:
			x.answerUnseen("the answer was not seen")
			x.limitHeaders(r, h, false)
		case m.GetEndOfStream():
			x.record.Outcome, x.unknown = Completed, true
		case refusal != "":
			// The offer to compress was taken out, so this upstream compresses
			// whatever it is told. What cannot be read cannot be cut.
			x.unknown = true
			return x.replace(UpstreamError, 502, refusal)
		case kind == "text/event-stream":
			x.beginStream()
			x.limitHeaders(r, h, true)
		case kind == "application/json":
			x.state = stateUnary
			x.limitHeaders(r, h, false)
		default:
			x.state, x.record.Outcome = statePassing, Completed
			x.limitHeaders(r, h, true)
		}
		x.truncatedHeader(r)
		if coded != nil && !unread {
			x.beginDecoding(coded, r, h)
		}
	}
	if m.GetEndOfStream() {
		return x.last(r)
	}
	return x.send(r)
}

// beginStream begins to meter server-sent events.
func (x *Exchange) beginStream() {
	x.state = stateStreaming
	x.record.Stream = x.record.Stream || x.unseen
	x.openStream()
	x.parser.Reset(x.policy.MaxEvent)
}

func (x *Exchange) responseBody(m *extprocv3.HttpBody) Ready {
	if x.state == stateReserving {
		x.degrade(degradedAnswerHeaders)
		return x.answeredWaiting(func() Ready { return x.responseBody(m) })
	}
	body, eos := m.GetBody(), m.GetEndOfStream()
	x.chunks++
	x.large = x.large || len(body) > largeMessage
	if !x.can.answer.usual {
		x.out.piece = body
		eos = eos || x.can.answer.atOnce()
	}
	switch {
	case x.state == stateAwaiting:
		x.withoutHeaders(body)
	case x.state == stateRequestBody && !x.observed:
		// As in responseHeaders, where Envoy does not send those.
		x.degrade(degradedAnswerHeaders)
		x.answeredByOther()
	}
	if x.can.answer.partial && !eos {
		return x.beginning(body)
	}
	if x.decoder != nil {
		if body = x.decode(body, eos); x.undecoded != "" && x.state != stateStreaming && x.state != stateCut {
			return x.unreadableRest()
		}
	}
	switch x.state {
	case stateStreaming:
		return x.streamed(body, eos)
	case stateCut:
		return x.afterCut(body, eos)
	case stateUnary:
		x.keepAnswer(body)
		if eos {
			x.readAnswer()
		}
	case statePassing:
		x.keepComplaint(body, eos)
		if x.passesUnread() {
			return x.passUnread(body, eos)
		}
	default:
		return x.unexpected("response body")
	}
	msg := x.out.responseBody(x.mode.response, body, eos)
	if eos {
		return x.last(msg)
	}
	return x.send(msg)
}

func (x *Exchange) responseTrailers() Ready {
	trailers := continueResponseTrailers()
	var rest []byte
	if x.decoder != nil {
		if rest = x.decode(nil, true); x.undecoded != "" && x.state != stateStreaming && x.state != stateCut {
			return x.unreadableRest()
		}
	}
	switch x.state {
	case stateStreaming:
		// The end of the body, a cut's included, leaves before the trailers, which
		// are the end of the stream.
		r := x.streamed(rest, true)
		r.Send = x.out.beforeTrailers(trailers)
		return r
	case stateCut:
		r := x.afterCut(rest, true)
		if x.swallowing {
			r.Send = x.out.beforeTrailers(trailers)
		}
		return r
	case stateUnary:
		x.keepAnswer(rest)
		x.readAnswer()
	case stateAwaiting:
		x.answerUnseen("the answer was not seen")
	case statePassing:
		x.keepComplaint(rest, true)
	default:
		return x.unexpected("response trailers")
	}
	if len(rest) > 0 {
		return x.restBeforeTrailers(rest, trailers)
	}
	return x.last(trailers)
}

// keepAnswer keeps a copy of an unary answer, as far as the bound allows.
func (x *Exchange) keepAnswer(body []byte) {
	if x.tooLong || x.lean || len(x.answer)+len(body) > x.policy.MaxAnswer {
		x.tooLong, x.answer = true, nil
		return
	}
	x.answer = append(x.answer, body...)
}

// readAnswer reads the usage of an unary answer, or counts its texts.
func (x *Exchange) readAnswer() {
	x.record.Outcome = Completed
	if x.tooLong {
		x.unknown = true
		return
	}
	count := func(text []byte) { x.counted += int64(x.model.Encoding.Count(text)) }
	// What the provider says of a whole answer stands, so its texts need not be
	// counted, unless it says nothing of them. Those of a model whose tokenizer is not
	// known are: only both figures tell how far its stand-in is off.
	compare := x.model.Estimated
	usage, err := x.api.ParseAnswer(x.answer, func(text []byte) {
		if compare {
			count(text)
		}
	})
	if !plausible(usage) {
		usage = dialect.Usage{Extra: usage.Extra}
	}
	if !compare && !x.request.NoOutput && (!usage.Known || usage.Output == 0) {
		_, err = x.api.ParseAnswer(x.answer, count)
	}
	if errors.Is(err, dialect.ErrFailed) {
		x.record.Outcome, x.answer = UpstreamError, nil
		return
	}
	if err == nil {
		x.readStored()
	}
	// So it is with sound, pictures and reasoning that is sealed. They teach nothing.
	if x.guessed = usage.Extra > 0; !usage.Known || usage.Output == 0 {
		x.counted += usage.Extra
		x.estimates += usage.Extra
	}
	x.reported, x.atReport, x.answer = usage, x.counted, nil
	// An answer without usage and without text is of a shape that is not known.
	x.unknown = !usage.Known && (err != nil || x.counted == 0)
	// In the background more is to come, whatever there is by now.
	x.unknown = x.unknown || x.request.Background && (usage.Output == 0 || x.stored.Status.GoesOn())
}

// Stop ends the exchange from this side: a deadline has passed or the server
// drains. limit is one of the names that stand in for a limit. A stream of which
// something has arrived is cut; anything else can only be broken off.
func (x *Exchange) Stop(limit string) Ready {
	switch x.state {
	case stateEnded:
		return Ready{}
	case stateCut:
		if !x.swallowing {
			return Ready{}
		}
		limit = x.record.Limit
	}
	if x.Cuttable() {
		if x.done {
			// The answer is complete; only the upstream has not closed it.
			return x.last(x.out.responseBody(x.mode.response, nil, true))
		}
		return x.cut(limit, nil, false)
	}
	if x.cannotStop() {
		return x.brokenOff()
	}
	x.record.Limit = limit
	r := x.brokenOff()
	r.Err = ErrStopped
	return r
}

// End is called when the gRPC stream has ended, for whatever reason. It settles
// what has not been settled.
func (x *Exchange) End() Ready {
	if x.state == stateEnded {
		return Ready{End: true}
	}
	return x.brokenOff()
}

// Unsent is called in place of [Exchange.End] when a message could not be sent. A
// request that was to be forwarded by it has cost nothing.
func (x *Exchange) Unsent() Ready {
	x.unforwarded = x.state == stateAwaiting
	x.out.merged.bytes = nil
	return x.End()
}

// brokenOff ends an exchange that did not come to its own end.
func (x *Exchange) brokenOff() Ready {
	o := cmp.Or(x.record.Outcome, Aborted) // an error the upstream reported stands
	x.countHeldBack()
	if x.state == stateStreaming || x.state == stateCut {
		if n := x.parser.Pending(); n > freeBlock && x.parser.Err() == nil {
			x.guess(n) // of an event that has no end
		}
	}
	switch x.state {
	case stateCut:
		o = CutOff
	case stateReserving:
		x.record.Input, x.record.InputSource = 0, "" // nothing was forwarded, and nothing is charged
	default:
		o = x.lostEnd(o)
	}
	r := x.finish(o)
	r.Send, r.End = x.out.flush(x), true // Envoy may be there still
	return r
}

// Cuttable says that [Exchange.Stop] would end the client's answer in good form:
// a stream is under way and something of it has arrived. Envoy takes the end of a
// stream from this side only then.
func (x *Exchange) Cuttable() bool {
	return x.state == stateStreaming && x.chunks > 0 && x.can.answer.ends && !x.observed
}

// send is a Ready with one message.
func (x *Exchange) send(m *extprocv3.ProcessingResponse) Ready {
	return Ready{Send: x.out.list(m)}
}

// last is a Ready with the last message of an exchange that ended by itself.
func (x *Exchange) last(m *extprocv3.ProcessingResponse) Ready {
	r := x.finish(cmp.Or(x.record.Outcome, Completed))
	m.DynamicMetadata = r.Record.metadata()
	r.Send, r.End = x.out.list(m), true
	return r
}

// How much of what a client chooses is repeated in the log, in bytes.
const (
	maxRequestID = 200
	maxPath      = 1000
)

// finish settles and records, once.
func (x *Exchange) finish(o Outcome) Ready {
	defer func() { x.state = stateEnded }()
	x.endWait()
	x.stopDecoding()
	rec := &x.record
	rec.Outcome, rec.Path = o, clip(rec.Path, maxPath)
	rec.Duration = x.policy.Now().Sub(x.start)
	r := Ready{Record: rec, Ending: x.endWatch()}
	if x.reservation == nil {
		return r
	}
	rec.Held = x.reservation.Held()
	used, hold := x.used()
	if !x.unforwarded {
		rec.Shadow = x.reservation.Shadows(used.Output)
	}
	if id := x.storedID(); id != "" {
		x.policy.Background.doubt(id)
	}
	if hold {
		if r.Ending, r.Kept = x.keepOpen(); r.Kept {
			rec.Input, rec.Output = 0, 0
			return r
		}
	}
	r.Settle = &Settlement{Reservation: x.reservation, Amount: used, Hold: hold}
	rec.Input, rec.Output = used.Input, used.Output
	if x.reported.Known {
		rec.Cached, rec.Reasoning = x.reported.CacheRead, x.reported.Reasoning
	}
	x.learn()
	x.learnHidden()
	x.learnContext()
	return r
}

// output is what the answer has cost so far by our own count. Estimates are not of
// the stand-in's making, so its factor is not theirs.
func (x *Exchange) output() int64 {
	return x.model.Output.Of(x.counted-x.estimates) + x.estimates
}

// goesOn says that the provider goes on with an answer whose client has left, or was cut
// off, before its usage was known.
func (x *Exchange) goesOn() bool {
	return x.stream != nil && x.request.Background && x.reported.Output == 0 && !x.done
}

// learn compares what was counted with what the provider reported, if both are of
// one whole exchange and of the same texts.
func (x *Exchange) learn() {
	if !x.model.Estimated || x.unseen || !x.reported.Known || x.record.Outcome != Completed {
		return
	}
	var input, output count.Pair
	if !x.request.Opaque() {
		input = count.Pair{Counted: x.prompt, Reported: x.reported.Input()}
	}
	// Reasoning that is hidden was not counted. Reasoning that is shown was, but it
	// may be a summary of what is billed; of an unary answer we cannot tell.
	hidden := x.reported.Reasoning
	alike := hidden == 0 || !x.reasoned && x.stream != nil
	if alike && !x.reported.Unseen && !x.guessed && x.counted == x.atReport {
		output = count.Pair{Counted: x.counted, Reported: x.reported.Output - hidden}
	}
	x.policy.Count.Learn(x.model, input, output)
}

// used is what the exchange cost: the provider's own figures if they came, else
// the greater of what we take it for and what was reported on the way. hold says
// that it is unknown, and used is then what was held.
func (x *Exchange) used() (used budget.Amount, hold bool) {
	rec := &x.record
	rec.InputSource, rec.OutputSource = x.inputSource(), x.countedSource()
	switch {
	case x.unforwarded:
		return budget.Amount{}, false
	case x.unknown || x.goesOn():
		rec.OutputSource = Estimated
		return x.reservation.Held(), true
	case rec.Outcome == UpstreamError && x.stream == nil:
		// The upstream answered with an error instead of an answer: nothing was
		// produced, and nothing is billed.
		return budget.Amount{}, false
	}
	used = budget.Amount{Input: x.input, Output: x.output()}
	if n := x.withHidden(used.Output); x.counted > 0 && n > used.Output {
		used.Output = n // the text comes when the reasoning is done
		rec.OutputSource = Estimated
	}
	if x.guessed {
		rec.OutputSource = Estimated
	}
	if x.state == statePassing || x.undecoded != "" {
		// Not read at all, or not to its end: the estimate is rough, and the hold stands at least.
		rec.OutputSource = Estimated
		used.Output = max(used.Output, x.reservation.Held().Output)
	}
	if x.reported.Known {
		if n := x.reported.Input(); n > 0 {
			rec.InputSource, used.Input = Reported, n
		}
		// The provider knows best, but only at the end: a figure from before the
		// last text, or of nothing where there was text, is none.
		final := rec.Outcome == Completed && x.counted == x.atReport && x.reported.Output > 0
		if final || x.reported.Output >= used.Output {
			rec.OutputSource, used.Output = Reported, x.reported.Output
		}
	}
	used.Input = min(used.Input, math.MaxInt64/4)
	used.Output = min(used.Output, math.MaxInt64/4)
	return used, false
}
