package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/internal/coding"
)

// An answer that is compressed. The offer to compress is taken out of requests, but there are
// upstreams that do it all the same, and in observability mode the offer stays. What is read
// is what the pieces decode to, and that is what leaves: the client did not ask this server for
// a coding, or asked in vain, and can always take identity (RFC 9110, section 12.5.3).
//
// Each piece is decoded as far as it goes, and then takes the way of any other piece. What a
// piece decodes to is bounded by Policy.MaxAnswer, and by what package coding allows.

// LimitEncoding stands in [Record.Limit] for what is no limit: a stream was compressed, and its
// data is corrupt, ends early or expands too much. A budget cannot have such a name.
const LimitEncoding = "(encoding)"

// keptPlain is how large a buffer for decoded bytes is kept for the next piece, in bytes.
const keptPlain = 16 << 10

// leanDecoder is how much memory the decoder of a stream may have that is to keep little, in
// bytes: that of gzip has less.
const leanDecoder = 256 << 10

// answerCoding reads how an answer is compressed. refusal says why it cannot be read; of an
// answer without a body, or with one that does not come here, there is nothing to read.
func (x *Exchange) answerCoding(h headers) (list coding.List, refusal string) {
	list, named, err := h.codings()
	switch {
	case err != nil:
		return nil, fmt.Sprintf("the upstream's answer has content-encoding %q and cannot be metered; switch compression off there", named)
	case list != nil && x.can.answer.partial:
		return nil, fmt.Sprintf("the upstream's answer has content-encoding %q and cannot be metered with response_body_mode BUFFERED_PARTIAL; use FULL_DUPLEX_STREAMED, or switch compression off there", named)
	}
	return list, ""
}

// codings reads the content codings of a body. named is how the headers have them, to be shown.
func (h headers) codings() (list coding.List, named string, err error) {
	if !h.has("content-encoding") {
		return nil, "", nil
	}
	list, err = coding.Parse(h.all("content-encoding"))
	return list, clip(strings.Join(slices.Collect(h.all("content-encoding")), ", "), 40), err
}

// encodedHeaders are those of an answer that are about the bytes as the upstream has
// compressed them: digests (RFC 9530, and its predecessors), and ranges.
var encodedHeaders = []string{"content-encoding", "content-length", "content-md5", "digest", "content-digest", "repr-digest", "accept-ranges"}

// beginDecoding has the answer's body decoded, and takes out of its headers, whose answer is r,
// what will not be true any more. A strong entity tag becomes a weak one, since it names other
// bytes (RFC 9110, section 8.8.3). Vary stays: the upstream knows what it goes by.
func (x *Exchange) beginDecoding(list coding.List, r *extprocv3.ProcessingResponse, h headers) {
	x.decoder = coding.NewDecoder(list)
	common := r.GetResponseHeaders().GetResponse()
	if common.HeaderMutation == nil {
		common.HeaderMutation = &extprocv3.HeaderMutation{}
	}
	m := common.HeaderMutation
	for _, name := range encodedHeaders {
		if h.has(name) && !slices.Contains(m.RemoveHeaders, name) {
			m.RemoveHeaders = append(m.RemoveHeaders, name)
		}
	}
	if tag := h.get("etag"); strings.HasPrefix(tag, `"`) {
		m.SetHeaders = append(m.SetHeaders, header("etag", "W/"+tag))
	}
}

// decode returns what the next bytes of an answer decode to. If they cannot be decoded, what
// could be is returned, and undecoded says why not all.
func (x *Exchange) decode(body []byte, eos bool) []byte {
	x.plain = x.plain[:0]
	x.encoded += int64(len(body))
	err := x.decoder.Decode(body, eos, x.takePlain)
	if len(x.plain) > largeMessage {
		x.large = true
	}
	if err != nil {
		x.undecoded = err.Error()
	}
	if err != nil || eos {
		x.stopDecoding()
	}
	return x.plain
}

// errPiece ends what one piece of an answer may become.
var errPiece = errors.New("one piece of it expands to more than may be kept of an answer")

// takePlain keeps decoded bytes.
func (x *Exchange) takePlain(b []byte) error {
	var fits bool
	if x.plain, fits = appendUpTo(x.plain, b, int64(x.policy.MaxAnswer)); !fits {
		return errPiece
	}
	return nil
}

// appendUpTo appends b to buf, whose memory grows to the most bytes it may have and no further. fits
// is false if it would have more; it is as it was then.
func appendUpTo(buf, b []byte, most int64) (longer []byte, fits bool) {
	n := int64(len(buf) + len(b))
	if n > most {
		return buf, false
	}
	if n > int64(cap(buf)) {
		buf = append(make([]byte, 0, max(n, min(int64(2*cap(buf)), most))), buf...)
	}
	return append(buf, b...), true
}

// stopDecoding gives back what the decoder has.
func (x *Exchange) stopDecoding() {
	if x.decoder != nil {
		x.decoder.Close()
		x.decoder = nil
	}
}

// letGoPlain keeps no large buffer for the next piece.
func (x *Exchange) letGoPlain() {
	if cap(x.plain) > keptPlain {
		x.plain = nil
	}
}

// decoderMemory is what decoding takes, in bytes.
func (x *Exchange) decoderMemory() (n int64) {
	if x.decoder != nil {
		n = x.decoder.Memory()
	}
	return n + int64(cap(x.plain))
}

// unreadableRest says what becomes of an answer whose rest cannot be decoded, but for a stream.
// It has begun, so that Envoy breaks it off, unless it holds it back with response_body_mode
// BUFFERED: then the client gets the error in its place.
func (x *Exchange) unreadableRest() Ready {
	if x.reservation != nil && x.record.Outcome != UpstreamError {
		x.unknown = true
	}
	return x.replace(UpstreamError, 502, "the upstream's answer cannot be read: "+x.undecoded)
}

// cutUnreadable ends a stream whose rest cannot be decoded; out may still leave. An unfinished
// event is estimated, but by no more than has come: a bomb is not to use up a budget.
func (x *Exchange) cutUnreadable(out []byte, eos bool) Ready {
	x.record.Reason = "the upstream's answer cannot be read: " + x.undecoded
	switch {
	case !x.done:
	case eos || x.can.answer.ends || x.observed:
		// The answer is complete; only what frames it is wrong.
		x.undecoded = ""
		return x.last(x.out.responseBody(x.mode.response, out, true))
	default: // Envoy would pass on what comes behind it, so that is taken out
		x.state, x.swallowing, x.record.Limit = stateCut, true, LimitEncoding
		return x.send(x.out.responseBody(x.mode.response, out, false))
	}
	x.guess(int(min(int64(x.parser.Pending()), x.encoded)))
	x.closing = append(x.closing[:0], out...)
	x.parser.Reset(x.policy.MaxEvent)
	return x.cut(LimitEncoding, x.closing, eos)
}

// restBeforeTrailers lets the rest of an answer leave that its decoder has handed out only at the
// end, which trailers are: that of gzip keeps up to a window.
func (x *Exchange) restBeforeTrailers(rest []byte, trailers *extprocv3.ProcessingResponse) Ready {
	if !x.can.answer.ends && !x.observed {
		// Each piece of the body has had its answer, and there is none left to put it into.
		x.undecoded = "its end comes with trailers, which needs response_body_mode FULL_DUPLEX_STREAMED"
		return x.unreadableRest()
	}
	var r Ready
	if x.state == statePassing && x.passesUnread() {
		r = x.passUnread(rest, true)
	} else {
		r = x.last(x.out.responseBody(x.mode.response, rest, true))
	}
	r.Send = x.out.beforeTrailers(trailers)
	return r
}

// countHeldBack counts what the decoder of an answer that breaks off has got and not handed out:
// it has reached the server. That the data ends early is no fault of it.
func (x *Exchange) countHeldBack() {
	if x.decoder == nil || x.state != stateStreaming && x.state != stateCut {
		return
	}
	x.parser.Feed(nil) // copies what is withheld, which x.plain may have
	rest := x.decode(nil, true)
	x.undecoded = ""
	if x.stream == nil || x.parser.Err() != nil {
		x.guess(len(rest))
		return
	}
	x.parser.Feed(rest)
	x.countRest(false)
}

// Close gives back what the exchange has that does not end by itself. A driver calls it when
// nothing more will be done, such as after a panic; after an end it does nothing.
func (x *Exchange) Close() {
	x.stopDecoding()
	x.unwatch()
}
