package exchange

import (
	"fmt"
	"slices"
	"strings"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// Envoy says in its first message which body modes its filter is configured with
// (envoy.service.ext_proc.v3.ProtocolConfiguration), but for observability mode. Whether
// headers and trailers are skipped, only what comes and does not come tells.
//
// The tables below say what each mode allows. How Envoy behaves in each was measured with
// Envoy 1.40.0; docs/envoy.md has what comes of it.

// mode is a body mode of Envoy's filter.
type mode = extprocfilterv3.ProcessingMode_BodySendMode

const (
	modeNone     = extprocfilterv3.ProcessingMode_NONE
	modeStreamed = extprocfilterv3.ProcessingMode_STREAMED
	modeBuffered = extprocfilterv3.ProcessingMode_BUFFERED
	modePartial  = extprocfilterv3.ProcessingMode_BUFFERED_PARTIAL
	modeDuplex   = extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
	modeGRPC     = extprocfilterv3.ProcessingMode_GRPC // not supported
)

// requestMode is what a mode allows with a request's body.
type requestMode struct {
	usual    bool // it is the one to use
	seen     bool // the body comes here
	pieces   bool // in pieces, which are collected
	withheld bool // the headers are answered with the body: nothing is forwarded before the decision
	partial  bool // perhaps only the beginning of it comes
}

var requestModes = map[mode]*requestMode{
	modeBuffered: {usual: true, seen: true},
	modeDuplex:   {seen: true, pieces: true, withheld: true},
	modeStreamed: {seen: true, pieces: true},
	modePartial:  {seen: true, partial: true},
	modeNone:     {},
}

// answerMode is what a mode allows with an answer's body.
type answerMode struct {
	usual   bool // it is the one to use
	seen    bool // the body comes here
	live    bool // as it is produced; else in one message, when all has been
	ends    bool // it can be ended in the middle, which cancels the upstream; messages need not be answered one by one
	length  bool // a changed body needs a content-length
	partial bool // perhaps only the beginning of it comes
}

var answerModes = map[mode]*answerMode{
	modeDuplex:   {usual: true, seen: true, live: true, ends: true},
	modeStreamed: {seen: true, live: true},
	modeBuffered: {seen: true, length: true},
	modePartial:  {seen: true, partial: true},
	modeNone:     {},
}

// atOnce says that an answer comes whole, in one message.
func (a *answerMode) atOnce() bool { return a.seen && !a.live && !a.partial }

// abilities are what the modes of an exchange allow.
type abilities struct {
	request *requestMode
	answer  *answerMode
}

// setModes takes over the modes that Envoy states. What is not known allows nothing, and is
// refused by noteModes.
func (x *Exchange) setModes(request, answer mode) {
	x.mode.request, x.mode.response = request, answer
	x.can = abilities{requestModes[request], answerModes[answer]}
	if x.can.request == nil {
		x.can.request = requestModes[modeNone]
	}
	if x.can.answer == nil {
		x.can.answer = answerModes[modeNone]
	}
}

// Degradation is a setting of Envoy's filter in which less can be done than could be.
type Degradation struct {
	Mode string // the setting, as [Record.Degraded] has it
	Lost string // what cannot be done
	Set  string // what the filter's processing_mode is to have instead
}

// What of the filter's configuration is not as it should be, apart from its body modes.
const (
	degradedObserved      = "observability_mode=true"
	degradedHeaders       = "request_header_mode=SKIP"
	degradedAnswerHeaders = "response_header_mode=SKIP"
)

const (
	setRequest = "request_body_mode: BUFFERED"
	unusable   = "requests cannot be metered, and are refused"
	setAnswer  = "response_body_mode: FULL_DUPLEX_STREAMED, response_trailer_mode: SEND"
)

// degradations are all that an exchange can meet. Each part of [Record.Degraded] is one.
var degradations = []Degradation{
	{degradedObserved, "nothing is refused, shortened or cut; what an answer costs is charged when it is over", "observability_mode: false, " + setRequest + ", " + setAnswer},
	{degradedHeaders, "path and identities are not seen: the request is refused", "request_header_mode: SEND"},
	{degradedAnswerHeaders, "the status of an answer is not seen, so errors are charged as answers, and clients are not told what is left", "response_header_mode: SEND"},
	{requestSetting(modeStreamed), "a request's headers reach the upstream before the decision, and its body is forwarded in one piece", setRequest},
	{requestSetting(modeDuplex), "a request's body is forwarded without a content-length", setRequest + ", request_trailer_mode: SKIP"},
	{requestSetting(modePartial), "requests that are longer than Envoy's buffer are refused with 413", setRequest},
	{requestSetting(modeNone), "prompts are not seen: their tokens are estimated, limits on models do not apply, output caps are not lowered, and prompts that are too large are not refused", setRequest},
	{requestSetting(modeGRPC), unusable, setRequest},
	{answerSetting(modeGRPC), unusable, setAnswer},
	{answerSetting(modeStreamed), "a cut does not cancel the upstream, which goes on at your cost, unless degraded_cut is reset, which breaks the client's answer off", setAnswer},
	{answerSetting(modeBuffered), "clients get streams only when they are over, and a cut saves nothing of what the upstream produces", setAnswer},
	{answerSetting(modePartial), "clients get streams only when they are over, and of an answer that is longer than Envoy's buffer the rest is not seen: at least what was held is charged", setAnswer},
	{answerSetting(modeNone), "answers are not seen: what was held is charged, and nothing is cut", setAnswer},
}

func requestSetting(m mode) string { return "request_body_mode=" + m.String() }
func answerSetting(m mode) string  { return "response_body_mode=" + m.String() }

// Degradations explains what [Record.Degraded] says.
func Degradations(degraded string) (all []Degradation) {
	for part := range strings.SplitSeq(degraded, ",") {
		if i := slices.IndexFunc(degradations, func(d Degradation) bool { return d.Mode == part }); i >= 0 {
			all = append(all, degradations[i])
		}
	}
	return all
}

// degrade notes a setting that is not as it should be, if it is one of degradations: the
// number of settings that are told of is bounded.
func (x *Exchange) degrade(setting string) {
	switch {
	case Degradations(setting) == nil:
	case x.record.Degraded == "":
		x.record.Degraded = setting
	case !slices.Contains(strings.Split(x.record.Degraded, ","), setting):
		x.record.Degraded += "," + setting
	}
}

// noteModes notes what of an exchange's modes is not as it should be. unusable is why it
// cannot be metered at all, or may not be.
func (x *Exchange) noteModes() (unusable string) {
	request, answer := x.can.request, x.can.answer
	switch {
	case x.observed:
		x.degrade(degradedObserved)
		return ""
	case request.usual && answer.usual:
		return ""
	}
	if !request.usual {
		x.degrade(requestSetting(x.mode.request))
	}
	if !answer.usual {
		x.degrade(answerSetting(x.mode.response))
	}
	if requestModes[x.mode.request] == nil || answerModes[x.mode.response] == nil {
		return x.modesMessage("which cannot be metered")
	}
	if x.policy.RefuseDegraded {
		return x.modesMessage("which the server is configured to refuse (degraded: refuse)")
	}
	return ""
}

func (x *Exchange) modesMessage(which string) string {
	return fmt.Sprintf("the filter is configured with request_body_mode %v and response_body_mode %v, %s; tokenbudget needs BUFFERED and FULL_DUPLEX_STREAMED (tokenbudget envoy filter prints a configuration)",
		x.mode.request, x.mode.response, which)
}

// streams says that the answer is to be a stream which is metered as it passes, so that
// it needs to hold little at first. Any other is produced before anything can be done.
func (x *Exchange) streams() bool { return x.request.Stream && x.can.answer.live }

// runsOn says that the upstream goes on after a cut.
func (x *Exchange) runsOn() bool {
	return x.request.Stream && x.can.answer.live && !x.can.answer.ends && !x.policy.ResetCut
}

// headersAnswer lets the request's headers go on. The offer to compress the answer is
// taken out where the answer is read, unless the client has signed it, and so is what is about
// a compressed body.
func (x *Exchange) headersAnswer() *extprocv3.ProcessingResponse {
	switch {
	case x.coded != nil && !x.can.answer.seen:
		return continueDecoded
	case x.coded != nil:
		return continueDecodedUncompressed
	case !x.can.answer.seen || x.signature.covers("accept-encoding"):
		return continueRequestHeaders
	}
	return continueUncompressed
}
