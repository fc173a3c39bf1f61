package exchange

import (
	"fmt"
	"mime"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// passMessage is the one message that most exchanges send most often: a piece of
// a body. It is built once and used again for each piece, so that passing a
// piece on allocates nothing. It is valid until the next one is made.
type passMessage struct {
	message  extprocv3.ProcessingResponse
	streamed extprocv3.StreamedBodyResponse
	duplex   extprocv3.ProcessingResponse_ResponseBody
	plain    extprocv3.ProcessingResponse_ResponseBody // for body modes other than full duplex
	piece    []byte                                    // in these: what came last
	muted    bool                                      // nothing is sent
	sends    [2]*extprocv3.ProcessingResponse
	merged   merged // what the next piece begins with

	// What lies between message and streamed.
	body     extprocv3.BodyResponse
	common   extprocv3.CommonResponse
	mutation extprocv3.BodyMutation
	chosen   extprocv3.BodyMutation_StreamedResponse
}

func (p *passMessage) init() {
	p.chosen.StreamedResponse = &p.streamed
	p.mutation.Mutation = &p.chosen
	p.common.BodyMutation = &p.mutation
	p.body.Response = &p.common
	p.duplex.ResponseBody = &p.body
}

// list returns m as the messages to send, without allocating.
func (p *passMessage) list(m *extprocv3.ProcessingResponse) []*extprocv3.ProcessingResponse {
	if p.muted {
		return nil
	}
	p.sends[0] = m
	return p.sends[:1]
}

// responseBody is the answer to a piece of a response's body.
func (p *passMessage) responseBody(m mode, body []byte, eos bool) *extprocv3.ProcessingResponse {
	if m != modeDuplex {
		return p.inPlace(m, body)
	}
	p.streamed.Body, p.streamed.EndOfStream = p.merged.take(body), eos
	p.message.Response = &p.duplex
	return &p.message
}

// beforeTrailers returns what ends an answer that has trailers: the body's last
// message, which then is not the end of the stream, and the trailers.
func (p *passMessage) beforeTrailers(trailers *extprocv3.ProcessingResponse) []*extprocv3.ProcessingResponse {
	trailers.DynamicMetadata, p.message.DynamicMetadata = p.message.DynamicMetadata, nil
	if len(p.streamed.Body) == 0 || p.muted {
		return p.list(trailers)
	}
	p.streamed.EndOfStream = false
	p.sends = [2]*extprocv3.ProcessingResponse{&p.message, trailers}
	return p.sends[:]
}

// requestBody is the answer to a piece of a request's body that passes.
func (p *passMessage) requestBody(mode mode, m *extprocv3.HttpBody) *extprocv3.ProcessingResponse {
	if mode == modeDuplex {
		return streamedRequestBody(m.GetBody(), m.GetEndOfStream())
	}
	return continueRequestBody()
}

// Answers that are always the same. gRPC only reads them.
var (
	continueRequestHeaders = requestHeadersWithout()
	// The answer must come uncompressed to be read, so the offer to compress it is
	// taken out.
	continueUncompressed = requestHeadersWithout("accept-encoding")
	// A compressed body goes on uncompressed.
	continueDecoded             = requestHeadersWithout(decodedHeaders...)
	continueDecodedUncompressed = requestHeadersWithout(append([]string{"accept-encoding"}, decodedHeaders...)...)
	// Most bodies go on as they are.
	continueSameBody = continueRequestBody()
)

// requestHeadersWithout lets a request go on, without some of its headers.
func requestHeadersWithout(names ...string) *extprocv3.ProcessingResponse {
	r := &extprocv3.CommonResponse{}
	if len(names) > 0 {
		r.HeaderMutation = &extprocv3.HeaderMutation{RemoveHeaders: names}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: r},
	}}
}

func continueRequestBody() *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{
		RequestBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{}},
	}}
}

func continueRequestTrailers() *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{
		RequestTrailers: &extprocv3.TrailersResponse{},
	}}
}

func continueResponseHeaders() *extprocv3.ProcessingResponse {
	r := &struct { // in one piece
		message extprocv3.ProcessingResponse
		chosen  extprocv3.ProcessingResponse_ResponseHeaders
		headers extprocv3.HeadersResponse
		common  extprocv3.CommonResponse
	}{}
	r.headers.Response = &r.common
	r.chosen.ResponseHeaders = &r.headers
	r.message.Response = &r.chosen
	return &r.message
}

func continueResponseTrailers() *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{
		ResponseTrailers: &extprocv3.TrailersResponse{},
	}}
}

// replaceBody puts another body in place of the client's. Envoy answers 500 if
// the length is not set along with it.
func replaceBody(r *extprocv3.CommonResponse, body []byte) {
	r.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: body}}
	r.HeaderMutation = &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{
		header("content-length", strconv.Itoa(len(body))),
	}}
}

// header sets a header, in place of what is there.
func header(name, value string) *corev3.HeaderValueOption {
	h := &struct {
		option corev3.HeaderValueOption
		value  corev3.HeaderValue
	}{}
	h.value.Key, h.value.RawValue = name, []byte(value)
	h.option.Header, h.option.AppendAction = &h.value, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	return &h.option
}

// refuse answers a request in the API's own error shape, for a reason that is no
// limit.
func (x *Exchange) refuse(status int, message string) Ready {
	return x.replace(Denied, status, message)
}

// replace gives the client an error in place of an answer, for a reason that is
// no limit.
func (x *Exchange) replace(o Outcome, status int, message string) Ready {
	x.record.Reason = message
	return x.answerWith(o, status, message, nil)
}

// answerWith answers a request instead of the upstream.
func (x *Exchange) answerWith(o Outcome, status int, message string, set []*corev3.HeaderValueOption) Ready {
	api := x.api
	if api == nil {
		api = dialect.Shape(x.record.Path)
	}
	if x.observed {
		return x.observedRefusal(o)
	}
	x.record.Status = status
	r := x.finish(o)
	set = append(set, header("content-type", "application/json"))
	details := "tokenbudget_" + string(o)
	if x.record.Limit != "" {
		details += "{" + x.record.Limit + "}"
	}
	r.Send = x.out.list(&extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(status)},
			Headers: &extprocv3.HeaderMutation{SetHeaders: set},
			Body:    api.Refuse(status, message),
			Details: details,
		}},
		DynamicMetadata: r.Record.metadata(),
	})
	r.End = true
	return r
}

// mediaType is the content type without its parameters, in lower case.
func mediaType(contentType string) string {
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		return t
	}
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

func pathOnly(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// clip bounds what of a client's text is repeated in a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:n], ""), len(s))
}
