package exchange

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/tokenbudget/tokenbudget/internal/coding"
)

// A request whose body is compressed is decoded when it is whole, decided on, and forwarded
// uncompressed, without the headers that are about the compressed bytes. So upstream and
// decision see the same, whatever the upstream makes of content codings.

// requestCoding reads how a request's body is compressed. refusal says why it cannot be read.
func (x *Exchange) requestCoding(h headers) (list coding.List, refusal string) {
	list, named, err := h.codings()
	switch {
	case errors.Is(err, coding.ErrTooMany):
		return nil, fmt.Sprintf("a request body with content-encoding %q cannot be metered: these are more than %d codings; send it uncompressed", named, coding.MaxLayers)
	case err != nil:
		return nil, fmt.Sprintf("a request body with content-encoding %q cannot be metered; send it uncompressed, or with one of %s", named, coding.Accepted)
	case list != nil && !x.can.request.seen:
		return nil, fmt.Sprintf("a request body with content-encoding %q cannot be metered with request_body_mode NONE; send it uncompressed", named)
	}
	return list, ""
}

// refuseCoding refuses a request for its content coding, and says which there may be (RFC 9110,
// section 15.5.16).
func (x *Exchange) refuseCoding(message string) Ready {
	x.record.Reason = message
	accepted := coding.Accepted
	if !x.can.request.seen {
		accepted = "identity"
	}
	return x.answerWith(Denied, 415, message, []*corev3.HeaderValueOption{header("accept-encoding", accepted)})
}

// errBody says that a request's body is larger than it may be.
var errBody = errors.New("the request body is too large")

// decodeRequest returns what a request's body decodes to: as many bytes as an uncompressed one
// may have, at most. If it cannot be decoded, status and message are those to refuse it with.
func (x *Exchange) decodeRequest(body []byte) (plain []byte, status int, message string) {
	d := coding.NewDecoder(x.coded)
	defer d.Close()
	most := x.policy.MaxRequest
	err := d.Decode(body, true, func(b []byte) error {
		var fits bool
		if plain, fits = appendUpTo(plain, b, most); !fits {
			return errBody
		}
		return nil
	})
	switch {
	case err == nil:
		return plain, 0, ""
	case errors.Is(err, errBody):
		return nil, 413, fmt.Sprintf("the request body has more than %d bytes when it is decoded (content-encoding %s); at most %d are allowed", most, x.coded, most)
	case errors.Is(err, coding.ErrExpands), errors.Is(err, coding.ErrWindow):
		return nil, 413, fmt.Sprintf("the request body is not accepted: %v; send it uncompressed", err)
	}
	return nil, 400, fmt.Sprintf("the request body is not what its content-encoding says: %v", err)
}

// decodedHeaders are those of a request that are about its body as the client has compressed it.
var decodedHeaders = []string{"content-encoding", "content-md5", "digest", "content-digest", "repr-digest"}
