package exchange

import (
	"fmt"
	"strconv"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// A request's body in modes other than BUFFERED.
//
// FULL_DUPLEX_STREAMED: Envoy sends the body's pieces whether the headers are answered or
// not, and waits for ever. So nothing is answered until the body is whole, and nothing
// reaches the upstream before the decision.
//
// STREAMED: Envoy sends the body only when the headers are answered, and forwards them then.
// Each piece is answered with nothing in its place, and the last one with the whole body.
// A request that is refused has reached the upstream as headers only, and is reset there.
//
// NONE: The request is decided on when its headers are there, by an estimate.

// unseenInput is what a prompt of unknown length is taken for, in tokens.
const unseenInput = 1024

// clearedRequestBody takes a piece of a request's body out.
var clearedRequestBody = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{
	RequestBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
		BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_ClearBody{ClearBody: true}},
	}},
}}

// awaitBody answers the headers of a request that is metered.
func (x *Exchange) awaitBody(h headers) Ready {
	x.state = stateRequestBody
	switch r := x.can.request; {
	case x.observed:
		x.length = contentLength(h)
		return Ready{}
	case !r.seen:
		return x.askUnseen(contentLength(h))
	case r.withheld:
		return Ready{}
	}
	return x.send(x.headersAnswer())
}

// contentLength is a request's, in bytes; -1 if it is not known.
func contentLength(h headers) int64 {
	n, err := strconv.ParseInt(h.get("content-length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// collect takes a message of a request's body. It is true once the body is whole, or all
// of it that will come.
func (x *Exchange) collect(m *extprocv3.HttpBody) (body []byte, whole bool, answer Ready) {
	body = m.GetBody()
	pieces := x.can.request.pieces
	if n := int64(len(x.collected) + len(body)); n > x.policy.MaxRequest {
		return nil, false, x.refuse(413, fmt.Sprintf("the request body has %s%d bytes; at most %d are allowed", map[bool]string{true: "at least "}[pieces], n, x.policy.MaxRequest))
	}
	switch {
	case x.can.request.partial && !m.GetEndOfStream():
		return nil, false, x.refuse(413, fmt.Sprintf("the request body is longer than the %d bytes that Envoy's filter passes on with request_body_mode BUFFERED_PARTIAL; use BUFFERED and a request_body_buffer_limit of %d there", len(body), x.policy.MaxRequest))
	case !pieces:
		return body, true, Ready{}
	}
	if x.shed != ShedNone {
		return nil, false, x.overloaded() // nothing more is to be kept of it
	}
	x.pieces++
	if x.pieces > 1 || !m.GetEndOfStream() {
		x.collected = append(x.collected, body...)
		body = x.collected
	}
	switch {
	case m.GetEndOfStream():
		x.collected = nil
		return body, true, Ready{}
	case x.can.request.withheld:
		return nil, false, Ready{}
	}
	return nil, false, x.send(clearedRequestBody)
}

// bodyTrailers takes the trailers of a request whose body is being collected: they are its
// end. Where its pieces have been answered there is none left to put the body into.
func (x *Exchange) bodyTrailers() Ready {
	if x.observed {
		return x.observedBody(&extprocv3.HttpBody{EndOfStream: true})
	}
	if !x.can.request.withheld {
		return x.refuse(400, "a request with trailers cannot be metered with request_body_mode STREAMED; the filter needs BUFFERED")
	}
	x.trailed = true
	body := x.collected
	x.collected = nil
	return x.decide(body)
}

// askUnseen asks for a reservation for a request whose body of so many bytes is not seen,
// or cannot be read. Whether its answer is a stream is not known either; it is held like
// one, since it can be cut if it is.
func (x *Exchange) askUnseen(length int64) Ready {
	x.unseen = true
	x.request = &dialect.Request{Model: x.deployment, Stream: true, Choices: 1}
	x.record.Model = x.deployment
	x.model = x.policy.Count.Model(x.deployment)
	x.input = unseenInput
	if length >= 0 {
		x.input = max(1, length/bytesPerToken)
	}
	x.record.Input, x.record.InputSource = x.input, Estimated
	return x.ask()
}

// forward lets an admitted request go on, and says what is known of it.
func (x *Exchange) forward() Ready {
	r := x.forwardBody()
	// The message itself may be one that all exchanges share.
	r.Send[0] = &extprocv3.ProcessingResponse{
		Response:        r.Send[0].GetResponse(),
		DynamicMetadata: x.record.announcement(x.reservation.Held()),
	}
	return r
}

func (x *Exchange) forwardBody() Ready {
	most := x.forwardedCap()
	x.most = x.capped(most)
	x.holdHidden()
	if x.unseen {
		return x.send(x.headersAnswer())
	}
	body, changed := x.request.Body(most)
	changed = changed || x.coded != nil
	x.request.Release()
	m := continueSameBody
	switch r := x.can.request; {
	case r.withheld:
		send := []*extprocv3.ProcessingResponse{x.headersAnswer(), streamedRequestBody(body, !x.trailed)}
		if x.trailed {
			send = append(send, continueRequestTrailers())
		}
		return Ready{Send: send}
	case r.pieces && (changed || x.pieces > 1):
		m = continueRequestBody()
		m.GetRequestBody().GetResponse().BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: body}}
	case changed:
		m = continueRequestBody()
		replaceBody(m.GetRequestBody().GetResponse(), body)
	}
	return x.send(m)
}

// streamedRequestBody is a request's body in full duplex.
func streamedRequestBody(body []byte, eos bool) *extprocv3.ProcessingResponse {
	r := continueRequestBody()
	r.GetRequestBody().GetResponse().BodyMutation = &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: body, EndOfStream: eos}},
	}
	return r
}

// headersNotSeen refuses a request whose headers did not come.
func (x *Exchange) headersNotSeen() Ready {
	x.degrade(degradedHeaders)
	return x.refuse(500, "the filter is configured with request_header_mode SKIP, so that neither path nor identities can be seen; tokenbudget needs SEND (tokenbudget envoy filter prints a configuration)")
}
