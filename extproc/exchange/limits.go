package exchange

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// shortWait is the longest wait for a limit that a client's own retries are worth.
// Clients of the official SDKs retry after up to a minute; told to wait longer,
// some of them sleep for hours and others hammer.
const shortWait = time.Minute

// deny refuses a request because a limit does. Tried with the official SDKs: a
// short wait is announced by Retry-After, a long one with x-should-retry: false,
// which keeps every client from retrying in vain.
func (x *Exchange) deny(d budget.Decision) Ready {
	x.record.Limit = d.Limit
	switch {
	case d.PerRequest:
		return x.denyTooLarge(d)
	case d.Unit == budget.Streams:
		return x.denyStream(d)
	}
	now := x.policy.Now()
	message := fmt.Sprintf("budget %q%s refuses this request: it allows %d %s%s, %d are left, and the request needs at least %d",
		d.Limit, ofSubject(d.Subject), d.Amount, spell(d.Unit), per(d.Window), d.Available(), d.Needed)
	why := x.unalterable(d)
	set := append(limitHeaders(d, now), header("x-tokenbudget-limit", d.Limit))
	wait := max(d.ResetAt.Sub(now), 0)
	switch {
	case d.Needed > d.Ceiling():
		message += ", which it never allows; make the request smaller"
	case d.ResetAt.IsZero():
		message += "; it does not reset"
	default:
		resets := "; it resets at "
		if d.Rolling {
			resets = "; there is room for it at "
		}
		message += resets + d.ResetAt.UTC().Format(time.RFC3339)
		set = append(set, header("retry-after", strconv.FormatInt(max(ceilSeconds(wait), 1), 10)))
		if wait <= shortWait {
			set = append(set, header("retry-after-ms", strconv.FormatInt(max(wait.Milliseconds(), 1), 10)))
			return x.answerWith(Denied, 429, message+why, set)
		}
	}
	set = append(set, header("x-should-retry", "false"))
	return x.answerWith(Denied, 429, message+why, set)
}

// denyTooLarge refuses a request that is too large by itself, whenever it comes.
func (x *Exchange) denyTooLarge(d budget.Decision) Ready {
	needs := "needs at least " + strconv.FormatInt(d.Needed, 10)
	if x.boundless() && d.Unit != budget.InputTokens {
		needs = "may have any number"
	}
	message := fmt.Sprintf("budget %q refuses this request: it allows %d %s in each request, and this one %s; make it smaller",
		d.Limit, d.Amount, spell(d.Unit), needs) + x.unalterable(d)
	return x.answerWith(Denied, 400, message, []*corev3.HeaderValueOption{header("x-tokenbudget-limit", d.Limit), header("x-should-retry", "false")})
}

// streamWait is when a client may try again who has too many requests under way. Any
// of them may end at any moment, so it is short; all who wait would come at once if
// it were much shorter.
const streamWait = time.Second

// denyStream refuses a request because as many are under way as may be.
func (x *Exchange) denyStream(d budget.Decision) Ready {
	message := fmt.Sprintf("budget %q%s refuses this request: requests under way are %d, which is as many as it allows; try again when one has ended",
		d.Limit, ofSubject(d.Subject), d.Amount-d.Remaining)
	set := append(limitHeaders(d, x.policy.Now()), header("x-tokenbudget-limit", d.Limit))
	return x.answerWith(Denied, 429, message, append(set, retryAfter(streamWait)...))
}

// retryAfter tells a client when to try again. The official SDKs read both.
func retryAfter(d time.Duration) []*corev3.HeaderValueOption {
	return []*corev3.HeaderValueOption{
		header("retry-after", strconv.FormatInt(ceilSeconds(d), 10)),
		header("retry-after-ms", strconv.FormatInt(d.Milliseconds(), 10)),
	}
}

// upstreamLimits are the headers about limits that an upstream sends. They speak
// of the key that all clients share, and would contradict ours.
var upstreamLimits = []string{
	"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
	"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
	"ratelimit", "ratelimit-policy",
}

// remove is the mutation that takes out of an answer what its upstream says about
// limits, but for what is set instead, and the length if length is true. It names
// only what is there: most answers have none of it, and Envoy looks up each name.
func remove(h headers, set []*corev3.HeaderValueOption, length bool) *extprocv3.HeaderMutation {
	m := &extprocv3.HeaderMutation{SetHeaders: set}
	sets := func(name string) bool {
		return slices.ContainsFunc(set, func(o *corev3.HeaderValueOption) bool { return o.GetHeader().GetKey() == name })
	}
	for _, name := range upstreamLimits {
		if h.has(name) && !sets(name) {
			m.RemoveHeaders = append(m.RemoveHeaders, name)
		}
	}
	for _, v := range h {
		if name := v.GetKey(); strings.HasPrefix(name, "anthropic-ratelimit-") || strings.HasPrefix(name, "anthropic-priority-") {
			m.RemoveHeaders = append(m.RemoveHeaders, name)
		}
	}
	if length && h.has("content-length") {
		m.RemoveHeaders = append(m.RemoveHeaders, "content-length")
	}
	return m
}

// limitHeaders tells a client of a metered answer with the headers h how much is
// left. An answer that may be cut or lose its usage chunk has no length that is
// known beforehand.
func (x *Exchange) limitHeaders(r *extprocv3.ProcessingResponse, h headers, stream bool) {
	var set []*corev3.HeaderValueOption
	if d := x.reservation.Strictest(); d.Limit != "" {
		set = limitHeaders(d, x.policy.Now())
	}
	r.GetResponseHeaders().GetResponse().HeaderMutation = remove(h, set, stream)
}

// truncatedHeader tells a client with the answer, an error included, that the upstream
// saw less than it was sent.
func (x *Exchange) truncatedHeader(r *extprocv3.ProcessingResponse) {
	if x.record.Truncated == 0 {
		return
	}
	common := r.GetResponseHeaders().GetResponse()
	if common.HeaderMutation == nil {
		common.HeaderMutation = &extprocv3.HeaderMutation{}
	}
	m := common.HeaderMutation
	m.SetHeaders = append(m.SetHeaders, header("x-tokenbudget-truncated", strconv.FormatInt(x.record.Truncated, 10)))
}

// limitHeaders are OpenAI's x-ratelimit headers and the IETF's RateLimit fields
// (draft-ietf-httpapi-ratelimit-headers). The draft's registered units have no
// tokens, so the unit is a parameter of our own.
func limitHeaders(d budget.Decision, now time.Time) []*corev3.HeaderValueOption {
	names := &limitNames[0]
	if d.Unit == budget.Requests {
		names = &limitNames[1]
	}
	set := make([]*corev3.HeaderValueOption, 0, 8) // with room for those of a refusal
	if d.Unit != budget.Streams {                  // of which OpenAI has no headers
		set = append(set,
			header(names.limit, strconv.FormatInt(d.Amount, 10)),
			header(names.remaining, strconv.FormatInt(d.Remaining, 10)),
		)
	}
	var buf [128]byte
	policy := strconv.AppendInt(append(strconv.AppendQuote(buf[:0], d.Limit), ";q="...), d.Amount, 10)
	var more [128]byte
	left := strconv.AppendInt(append(strconv.AppendQuote(more[:0], d.Limit), ";r="...), d.Remaining, 10)
	if !d.ResetAt.IsZero() {
		wait := max(d.ResetAt.Sub(now), 0).Truncate(time.Millisecond)
		set = append(set, header(names.reset, wait.String()))
		policy = strconv.AppendInt(append(policy, ";w="...), ceilSeconds(d.Window), 10)
		left = strconv.AppendInt(append(left, ";t="...), ceilSeconds(wait), 10)
	}
	policy = strconv.AppendQuote(append(policy, ";tokenbudget-unit="...), d.Unit.String())
	return append(set, header("ratelimit-policy", string(policy)), header("ratelimit", string(left)))
}

// limitNames are the names of OpenAI's headers, for tokens and for requests.
var limitNames = [2]struct{ limit, remaining, reset string }{
	{"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
	{"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
}

func ceilSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// ofSubject says whose counter it is: " of team=search".
func ofSubject(ids []budget.Identity) string {
	if len(ids) == 0 {
		return ""
	}
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = id.Name + "=" + clip(id.Value, 64)
	}
	return " of " + strings.Join(parts, ", ")
}

func spell(u budget.Unit) string { return strings.ReplaceAll(u.String(), "_", " ") }

func per(window time.Duration) string {
	if window == 0 {
		return " in all"
	}
	s := window.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-len("0s")]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-len("0m")]
	}
	return " in " + s
}
