package exchange

import (
	"bytes"
	"fmt"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// An answer's body in modes other than FULL_DUPLEX_STREAMED: each message has one answer,
// which lets it pass, puts something else in its place, or takes it out.

var (
	unchangedBody = &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{}}
	clearedBody   = &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
		BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_ClearBody{ClearBody: true}},
	}}
)

// inPlace is the answer to the piece of a body that came last: body is to leave in its
// place.
func (p *passMessage) inPlace(m mode, body []byte) *extprocv3.ProcessingResponse {
	p.message.Response = &p.plain
	switch {
	case bytes.Equal(body, p.piece):
		p.plain.ResponseBody = unchangedBody
	case len(body) == 0:
		p.plain.ResponseBody = clearedBody
	default:
		r := &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: body}}}
		if a := answerModes[m]; a != nil && a.length { // nil: observed in a mode that is not known, and nothing is sent
			r.HeaderMutation = &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{header("content-length", strconv.Itoa(len(body)))}}
		}
		p.plain.ResponseBody = &extprocv3.BodyResponse{Response: r}
	}
	return &p.message
}

// cutRunning is a cut where the answer cannot be ended from here: m has the closing events.
// The client has the end of its answer, and what the upstream goes on to send is taken out.
// Or the exchange is reset behind them, which cancels the upstream.
func (x *Exchange) cutRunning(m *extprocv3.ProcessingResponse) Ready {
	r := x.send(m)
	if !x.policy.ResetCut {
		x.swallowing = true
		return r
	}
	r.Send = []*extprocv3.ProcessingResponse{m, {Response: &extprocv3.ProcessingResponse_ImmediateResponse{
		// Its status and body reach nobody: the answer has begun, so that Envoy breaks it off.
		ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_TooManyRequests},
			Details: "tokenbudget_cut{" + x.record.Limit + "}",
		},
	}}}
	r.Linger = true
	return r
}

// swallow takes out a piece of an answer that was cut.
func (x *Exchange) swallow(eos bool) Ready {
	m := x.out.responseBody(x.mode.response, nil, eos)
	m.DynamicMetadata = nil // the cut's
	if !eos {
		return x.send(m)
	}
	r := x.finish(CutOff)
	m.DynamicMetadata = r.Record.metadata()
	r.Send, r.End = x.out.list(m), true
	return r
}

// beginning takes the part of an answer that Envoy's buffer could hold; the rest passes
// unseen. Nothing has reached the client yet.
func (x *Exchange) beginning(body []byte) Ready {
	switch x.state {
	case stateStreaming:
		x.parser.Feed(body)
		for {
			block, ok := x.parser.Next()
			if !ok {
				break
			}
			if _, ok := x.meter(block); !ok {
				return x.refuseBeginning()
			}
		}
		x.guess(x.parser.Pending())
	case stateUnary:
		x.guess(len(body))
	case statePassing:
		if !x.passesUnread() {
			return x.send(x.out.responseBody(x.mode.response, body, false))
		}
		x.guess(len(body))
	default:
		return x.unexpected("response body")
	}
	if d, ok := x.reservation.Spend(x.output()); !ok {
		x.refusedBy = d
		return x.refuseBeginning()
	}
	x.answerUnseen("the rest of the answer was not seen")
	return x.send(x.out.responseBody(x.mode.response, body, false))
}

// refuseBeginning gives the client a refusal in place of an answer that is too long already.
// Envoy then cancels the upstream, should it not be done. What it has produced is not known.
func (x *Exchange) refuseBeginning() Ready {
	x.unknown = true
	x.record.Limit = x.refusedBy.Limit
	return x.answerWith(CutOff, 429, fmt.Sprintf("budget %q is used up by this answer, of which Envoy's filter passes on the beginning only; it needs response_body_mode FULL_DUPLEX_STREAMED", x.refusedBy.Limit),
		[]*corev3.HeaderValueOption{header("x-tokenbudget-limit", x.refusedBy.Limit), header("x-should-retry", "false")})
}

// answerUnseen notes that of an answer nothing more will come here: what it costs is not
// known, and the end of the gRPC stream is its end.
func (x *Exchange) answerUnseen(why string) {
	x.state, x.record.Outcome = statePassing, Completed
	x.unknown, x.blind = true, true
	x.record.Reason = why
}

// answeredEarly takes the headers of an answer that came before the request was whole. done
// is false if nothing was forwarded of the prompt.
func (x *Exchange) answeredEarly(m *extprocv3.HttpHeaders) (r Ready, done bool) {
	switch {
	case x.state == stateRequestHeaders && !x.can.request.seen && !x.observed && !m.GetEndOfStream():
		// Of a request nothing has come. If it is not another filter that answers, such as
		// with an error, then the request was forwarded, unseen.
		if status := headers(m.GetHeaders().GetHeaders()).get(":status"); len(status) == 3 && status[0] == '2' {
			return x.headersNotSeen(), true
		}
	case x.state == stateRequestBody && x.observed:
		return x.observedEarly(m), true
	}
	return Ready{}, false
}

// answeredByOther lets an answer pass that is not the upstream's. What still comes of the
// request is taken out, since it was not decided on.
func (x *Exchange) answeredByOther() {
	x.shut = x.state == stateRequestBody && x.can.request.pieces
	x.state, x.record.Outcome, x.record.Reason = statePassing, Bypassed, "answered by another filter"
}

// withoutHeaders takes the first piece of an answer whose headers did not come. What it is
// follows from its first byte, and from what was asked for.
func (x *Exchange) withoutHeaders(body []byte) {
	x.degrade(degradedAnswerHeaders)
	first := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(first) > 0 && first[0] == '{':
		x.state = stateUnary
	case x.request.Stream:
		x.beginStream()
	default:
		x.state, x.record.Outcome = statePassing, Completed
	}
}

// cannotStop says that nothing more of the answer comes here, or only copies do: it goes on
// without this server, and what is known of it by now is charged.
func (x *Exchange) cannotStop() bool {
	return x.observed || x.blind || x.state == stateAwaiting && !x.can.answer.seen
}

// lostEnd is how an exchange stands whose end did not come as a message: Envoy keeps that
// of an answer with trailers to itself if response_trailer_mode is SKIP, and that of an
// answer which it does not show. It is like an abort then, unless the answer was whole.
func (x *Exchange) lostEnd(o Outcome) Outcome {
	a := x.can.answer
	switch x.state {
	case stateAwaiting:
		if !a.seen {
			x.unknown = true
			x.record.Reason = "the answer was not seen"
			return Completed
		}
		x.unknown = x.unseen || x.uncut()
	case stateStreaming:
		switch {
		case x.done && o == Aborted:
			return Completed // only its end was not waited for
		case x.observed && x.chunks == 0:
			x.answerUnseen("observability mode: the answer was not seen")
			return Completed
		}
		x.unknown = !a.live && x.chunks == 0 // all may have been produced
	case stateUnary:
		if x.observed && x.chunks == 0 {
			x.answerUnseen("observability mode: the answer was not seen")
			return Completed
		}
		x.unknown = true
		if !a.ends && len(x.answer) > 0 {
			if x.readAnswer(); !x.unknown {
				return Completed
			}
			x.record.Outcome = ""
		}
	case statePassing:
		if o == Completed && !x.blind {
			return Aborted
		}
	}
	return o
}
