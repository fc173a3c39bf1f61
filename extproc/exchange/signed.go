package exchange

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/coding"
)

// A request can be signed by its client, as those to AWS are (Signature Version 4 and 4a,
// "AWS Signature Version 4 for API requests" in the IAM User Guide): in the header
// authorization, or in the query of a presigned URL. The signature covers the body and some
// headers, so that the upstream refuses what was altered on its way. Nothing of either is
// altered then:
//
//   - The upstream is not asked for the usage of a stream. What was counted stands. Where that
//     would leave out reasoning that is not shown, the client is told to ask for it.
//   - A cap cannot be lowered. Where it would have to be, the request is refused, and told
//     how much it may ask for; see [budget.Request.Whole].
//   - A prompt is not shortened, but refused.
//
// Nobody checks the signature here: who fakes one is held, metered and cut as all others,
// and gives up what is done for them. A body that the signature does not cover (UNSIGNED-PAYLOAD)
// is left as it is, too: one rule for all that are signed.

// signature is what a client has signed of its request.
type signature struct {
	signed  bool
	headers string // their names in lower case, separated by semicolons
}

// The schemes of the header authorization all begin so: AWS4-HMAC-SHA256, AWS4-ECDSA-P256-SHA256.
const signedScheme = "aws4-"

// signatureOf finds a signature in the headers of a request. Of several the first counts.
func signatureOf(h headers) signature {
	for _, v := range h {
		switch v.GetKey() {
		case "authorization":
			raw := rawValue(v)
			if len(raw) < len(signedScheme) || !strings.EqualFold(string(raw[:len(signedScheme)]), signedScheme) {
				continue
			}
			_, list, _ := strings.Cut(string(raw), "SignedHeaders=")
			list, _, _ = strings.Cut(list, ",")
			return signature{true, strings.ToLower(strings.TrimSpace(list))}
		case ":path":
			if raw := rawValue(v); bytes.Contains(raw, presignedMember) {
				if s := presigned(string(raw)); s.signed {
					return s
				}
			}
		}
	}
	return signature{}
}

var presignedMember = []byte("X-Amz-Signature=")

// rawValue is a header's value, without a copy of it.
func rawValue(v *corev3.HeaderValue) []byte {
	if raw := v.GetRawValue(); len(raw) > 0 {
		return raw
	}
	return []byte(v.GetValue())
}

// presigned finds a signature in the query of a path.
func presigned(path string) signature {
	_, query, _ := strings.Cut(path, "?")
	if !strings.Contains(query, string(presignedMember)) {
		return signature{}
	}
	for part := range strings.SplitSeq(query, "&") {
		if list, ok := strings.CutPrefix(part, "X-Amz-SignedHeaders="); ok {
			if list, err := url.QueryUnescape(list); err == nil {
				return signature{true, strings.ToLower(list)}
			}
		}
	}
	return signature{signed: true}
}

// covers says that a header is among those that are signed.
func (s *signature) covers(name string) bool {
	for signed := range strings.SplitSeq(s.headers, ";") {
		if signed == name {
			return true
		}
	}
	return false
}

// unreadableSigned says why the body of a request cannot be read because of a signature; "" if it
// can. A body whose signature is spread over it is no JSON, but chunks of it with a signature each
// (aws-chunked). One that is compressed would have to be forwarded in another form than it is read.
func unreadableSigned(h headers, s signature) string {
	for v := range h.all("x-amz-content-sha256") {
		if len(v) >= len(streamingPayload) && strings.EqualFold(v[:len(streamingPayload)], streamingPayload) {
			return "a request body that is signed in chunks (x-amz-content-sha256: STREAMING-…) cannot be metered; sign it as a whole"
		}
	}
	if s.signed {
		if list, err := coding.Parse(h.all("content-encoding")); list != nil || err != nil {
			return "a request body that is compressed and signed cannot be metered; send it uncompressed"
		}
	}
	return ""
}

const streamingPayload = "STREAMING-"

// leaveSigned sees to it that the body of a signed request stays as it is. It returns why
// the request cannot be metered so; "" if it can.
func (x *Exchange) leaveSigned() string {
	if !x.request.AsksForUsage() {
		return ""
	}
	x.request.LeaveUsage()
	x.asked = 0
	if x.policy.Hidden.of(x.modelName(), x.request.Effort) == 0 {
		return ""
	}
	// Only the usage tells how long the reasoning was, so that without it a forged
	// signature would make most of it free.
	return `the request is signed, so it cannot be made to ask for its usage, which alone tells how much this model reasons; set "stream_options": {"include_usage": true}`
}

// askWhole asks the ledger for a signed request: what would lower its cap refuses it.
func (x *Exchange) askWhole(q *budget.Request) {
	if x.policy.OutputCap == CapNever || x.request.NoOutput {
		return // no cap is lowered
	}
	q.LeastSize = q.FullOutput
	switch {
	case x.uncut():
		if x.boundless() {
			q.LeastSize = math.MaxInt64
		}
	case x.policy.OutputCap == CapAlways || x.runsOn():
		x.wanted, q.Output = q.FullOutput, q.FullOutput
	default:
		return // what budgets lack cuts it
	}
	q.Whole = true
}

// boundless says that nothing bounds the output of a request that limits per request allow
// only so much: it has no cap, cannot be given one, and is not cut.
func (x *Exchange) boundless() bool {
	return x.signature.signed && x.policy.OutputCap != CapNever && !x.request.NoOutput && x.uncut() && !x.request.StatesCap()
}

// unalterable says what would have been done to a signed request, in place of the refusal by
// d, if it were not signed; "" for nothing.
func (x *Exchange) unalterable(d budget.Decision) string {
	if !x.signature.signed || x.unseen {
		return ""
	}
	room := d.Available()
	if d.PerRequest {
		room = d.Amount
	}
	if d.Unit != budget.OutputTokens {
		room -= x.input
	}
	name, each := x.request.CapName(), room/x.request.Choices
	enough := each >= max(1, x.request.LeastCap)
	switch countsOutput := d.Unit == budget.Tokens || d.Unit == budget.OutputTokens; {
	case d.PerRequest && (!countsOutput || !enough):
		if slices.Contains(x.policy.Truncate, d.Limit) {
			return "; the request is signed, so its prompt cannot be shortened"
		}
	case !countsOutput, !enough, x.request.NoOutput, x.policy.OutputCap == CapNever:
	case !x.request.StatesCap():
		return fmt.Sprintf("; the request is signed, so %s cannot be added: set it to %d or fewer", name, each)
	case x.request.MaxOutput > each:
		return fmt.Sprintf("; the request is signed, so its %s cannot be lowered: ask for %d or fewer", name, each)
	}
	return ""
}

// forwardedCap is what each choice's output is to be capped at in the body: a signed one stays
// as it is.
func (x *Exchange) forwardedCap() int64 {
	if x.signature.signed {
		return 0
	}
	return x.outputCap()
}
