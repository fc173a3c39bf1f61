// Package doctor looks at a running Envoy for what prevents metering, cutting, or a restart of the server
// without a failed request.
//
//	dump, err := doctor.Parse(configDump)
//	findings := doctor.Examine(dump, doctor.Options{MaxRequestBody: 16 << 20})
//
// [Parse] reads the answer of Envoy's admin interface to /config_dump, in which Envoy writes what
// it runs with, whoever gave it the configuration: a file, Istio, Envoy Gateway. [Examine] finds
// the ext_proc filters that lead to tokenbudget, and follows each to its cluster, its neighbours in
// the chain, and the routes on which it is on. Each [Finding] says where, what, and what to do.
//
// # Which filters are ours
//
// Those whose cluster is [Options.Cluster]; or, if that is empty, whose name, cluster, stat_prefix or
// receiving_namespaces have "tokenbudget" in them.
//
// # Caveats
//
//   - Filters within a matcher (ExtensionWithMatcher), and scoped routes, are not followed.
//   - Which route a request takes is judged by its path alone, and regular expressions by Go's
//     syntax, which is that of Envoy's RE2.
//   - What a configuration of one's own needs beyond that (who may reach Envoy's admin interface, or
//     the model API past Envoy) is not to be seen there.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxFindings bounds what is told of a configuration in which everything is wrong.
const maxFindings = 500

// Finding is one thing that prevents metering, cutting, or a restart without a failed request.
type Finding struct {
	Rule  string `json:"rule"`  // a short name, the same for the same fault
	Where string `json:"where"` // listener, filter, route or cluster
	What  string `json:"what"`  // what is wrong, and what comes of it
	Fix   string `json:"fix"`   // the setting that mends it
}

// Options are what the server's configuration asks of Envoy's.
type Options struct {
	Cluster           string        // of the server; empty: names tell, see the package comment
	MaxRequestBody    int64         // bytes
	MessageTimeout    time.Duration // that the server needs for the largest request
	MaxMessageTimeout time.Duration // that it asks for while a request is throttled; 0: none
	StripHeaders      []string      // headers that only Envoy may set, in lower case
	FailOpen          bool          // failure_mode_allow is meant
}

const (
	metadataNamespace = "tokenbudget"
	jwtNamespace      = "envoy.filters.http.jwt_authn"

	// leastStreams is how many streams at a time a cluster must allow: Envoy's default of 1024 is soon
	// reached by requests that last for minutes.
	leastStreams = 10_000

	// leastIdle is Envoy's own default: models think for minutes before they answer.
	leastIdle = 5 * time.Minute

	defaultBuffer         = 1 << 20 // per_connection_buffer_limit_bytes
	defaultMessageTimeout = 200 * time.Millisecond
)

// modelPaths are paths of model APIs. A route on which the filter is off should take none of them.
var modelPaths = []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"}

// Examine returns what is wrong, in the order of the listeners; at most 500
// findings.
func Examine(d *Dump, o Options) []Finding {
	e := &examination{dump: d, opts: o, seen: make(map[Finding]bool)}
	found, others := 0, []string{}
	e.collect()
	for _, l := range d.listeners {
		for _, m := range l.managers {
			n, before := 0, found
			for i, f := range m.Filters {
				if p := f.proc(); p != nil && e.ours(f, p) {
					found++
					if !f.Disabled { // those that are on for some routes only may be for different ones
						n++
					}
					e.filter(l, m, i, p)
				} else if p != nil {
					others = append(others, cmp.Or(p.cluster(), f.Name))
				}
			}
			if found == before {
				e.bypass(l, m)
			}
			if n > 1 {
				e.add("twice", l.where(m), "two filters lead to tokenbudget: each request is held and charged twice", "remove one of them")
			}
		}
	}
	if found == 0 {
		slices.Sort(others)
		hint := ""
		if others = slices.Compact(others); len(others) > 0 {
			hint = "; if one of these clusters is tokenbudget's, name it with -cluster: " + strings.Join(others[:min(len(others), 10)], ", ")
		}
		e.add("no-filter", "listeners", "no ext_proc filter leads to tokenbudget: nothing is metered",
			`add what "tokenbudget envoy filter" prints`+hint)
	}
	return e.findings
}

type examination struct {
	dump     *Dump
	opts     Options
	findings []Finding
	seen     map[Finding]bool
	metered  map[string]bool // clusters to which a route leads on which a filter of ours is on, anywhere
}

func (e *examination) add(rule, where, what, fix string) {
	f := Finding{rule, where, what, fix}
	if !e.seen[f] && len(e.findings) < maxFindings {
		e.seen[f] = true
		e.findings = append(e.findings, f)
	}
}

// ours reports whether a filter leads to tokenbudget.
func (e *examination) ours(f httpFilter, p *extProc) bool {
	if e.opts.Cluster != "" {
		return p.cluster() == e.opts.Cluster
	}
	return strings.Contains(f.Name+" "+p.cluster()+" "+p.StatPrefix, "tokenbudget") ||
		slices.Contains(p.Metadata.Receiving.Untyped, metadataNamespace)
}

// filter examines one filter of ours and all around it.
func (e *examination) filter(l listener, m manager, at int, p *extProc) {
	where := l.where(m) + ", filter " + m.Filters[at].Name
	e.settings(where, p)
	e.modes(where, p.Mode)
	e.restart(where, p)
	e.neighbours(where, m, at)
	e.manager(l.where(m), m)
	if p.cluster() == "" {
		e.add("cluster", where, "the filter has no cluster of Envoy's (envoy_grpc): its connection cannot be examined", "use envoy_grpc with a cluster as rendered")
	} else {
		e.serverCluster(p.cluster())
	}
	e.routes(l, m, m.Filters[at])
}

// settings are those of the filter itself.
func (e *examination) settings(where string, p *extProc) {
	if p.Observability {
		e.add("observability", where, "observability_mode: nothing is refused or cut", "remove observability_mode")
	}
	if p.FailOpen && !e.opts.FailOpen {
		e.add("fail-open", where, "failure_mode_allow: requests pass unmetered while the server is away", "failure_mode_allow: false; or, if it is meant so, tokenbudget doctor -fail-open")
	}
	timeout := cmp.Or(p.MessageTimeout.Duration, defaultMessageTimeout)
	if timeout < e.opts.MessageTimeout {
		e.add("message-timeout", where, fmt.Sprintf("message_timeout is %v: Envoy gives up on large requests while their prompts are counted", timeout),
			fmt.Sprintf("message_timeout: %gs", e.opts.MessageTimeout.Seconds()))
	}
	if p.MaxMessageTimeout.Duration < e.opts.MaxMessageTimeout {
		e.add("max-message-timeout", where, fmt.Sprintf("max_message_timeout is %v: Envoy gives up on requests that a budget throttles", p.MaxMessageTimeout.Duration),
			fmt.Sprintf("max_message_timeout: %gs", e.opts.MaxMessageTimeout.Seconds()))
	}
	if !slices.Contains(p.Metadata.Forwarding.Untyped, jwtNamespace) {
		e.add("forwarding-namespaces", where, "the server sees no JWT: all use is booked under (none)",
			"metadata_options.forwarding_namespaces.untyped: ["+jwtNamespace+"]")
	}
	if !slices.Contains(p.Metadata.Receiving.Untyped, metadataNamespace) {
		e.add("receiving-namespaces", where, "Envoy drops what the server reports: the access log shows no cut",
			"metadata_options.receiving_namespaces.untyped: ["+metadataNamespace+"]")
	}
}

// modes are those of the filter or of a route's override; nil if a route has none.
func (e *examination) modes(where string, m *processingMode) {
	if m == nil {
		m = &processingMode{}
	}
	for _, c := range []struct{ rule, field, is, want, what string }{
		{"request-header-mode", "request_header_mode", cmp.Or(m.RequestHeader, "DEFAULT"), "SEND", "the server sees neither path nor identities"},
		{"request-body-mode", "request_body_mode", cmp.Or(m.RequestBody, "NONE"), "BUFFERED", "the prompt is not counted before it has left, or not at all"},
		{"response-header-mode", "response_header_mode", cmp.Or(m.ResponseHeader, "DEFAULT"), "SEND", "the server cannot tell errors from answers"},
		{"response-body-mode", "response_body_mode", cmp.Or(m.ResponseBody, "NONE"), "FULL_DUPLEX_STREAMED", "answers cannot be cut with the upstream cancelled"},
	} {
		sent := c.is == "DEFAULT" && c.want == "SEND" // which is Envoy's default for headers
		if c.is != c.want && !sent {
			e.add(c.rule, where, c.field+" is "+c.is+": "+c.what, "processing_mode."+c.field+": "+c.want)
		}
	}
	if m.ResponseBody == "FULL_DUPLEX_STREAMED" && m.ResponseTrailer != "SEND" {
		e.add("response-trailer-mode", where, "response_trailer_mode is not SEND, which full duplex needs", "processing_mode.response_trailer_mode: SEND")
	}
}

// neighbours are the other filters of the chain.
func (e *examination) neighbours(where string, m manager, at int) {
	for i, f := range m.Filters {
		kind := f.kind()
		switch behind := i > at; {
		case behind && kind == "decompressor":
			e.add("decompressor", where, "the decompressor "+f.Name+" stands between the filter and the router: the end of streams hangs",
				"remove it; accept-encoding is taken out of requests, so that answers come uncompressed")
		case behind && kind == "compressor":
			e.add("compressor", where, "the compressor "+f.Name+" stands between the filter and the router: it sees no accept-encoding, or the server sees what it has compressed",
				"put it in front of the filter, where it compresses what leaves")
		case behind && kind == "jwt_authn":
			e.add("jwt-order", where, f.Name+" stands behind the filter: the server sees no JWT", "put it in front of the filter")
		case i != at && f.proc() != nil && !f.Disabled && f.proc().fullDuplex() && !e.ours(f, f.proc()):
			e.add("two-full-duplex", where, f.Name+" is in FULL_DUPLEX_STREAMED as well, where Envoy has open bugs with two such filters",
				"give the other filter another mode, or join the two servers")
		}
	}
}

// manager is the connection manager.
func (e *examination) manager(where string, m manager) {
	if d := m.Common.MaxStreamDuration.Duration; d > 0 {
		e.add("max-stream-duration", where, fmt.Sprintf("max_stream_duration is %v: longer answers break off", d), "remove max_stream_duration")
	}
	removed := m.removed()
	for _, h := range e.opts.StripHeaders {
		if !slices.Contains(removed, h) {
			e.add("set-by-envoy", where, "clients can send "+h+", which only Envoy may set: they choose whose budget they use",
				"early_header_mutation_extensions with remove: "+h)
		}
	}
}

// serverCluster is the way to the server.
func (e *examination) serverCluster(name string) {
	where := "cluster " + name
	c, found := e.dump.clusters[name]
	if !found {
		e.add("cluster", where, "there is no such cluster: every request fails, or passes unmetered", `add the cluster that "tokenbudget envoy filter" prints`)
		return
	}
	http2 := c.http2()
	switch {
	case http2 == nil:
		e.add("http2", where, "the cluster does not speak HTTP/2, which gRPC needs", "explicit_http_config.http2_protocol_options")
	case http2.Keepalive == nil || http2.Keepalive.Interval.Duration == 0:
		e.add("keepalive", where, "no HTTP/2 keepalive: a server that is dead while an answer is running is not noticed, and the client hangs",
			"http2_protocol_options.connection_keepalive: {interval: 2s, timeout: 2s}")
	}
	if !e.breakers(where, c) {
		e.serverRetries(where, c)
	}
	if d := c.options().Common.MaxStreamDuration.Duration; d > 0 {
		e.add("max-stream-duration", where, fmt.Sprintf("max_stream_duration is %v: longer answers break off", d), "remove max_stream_duration")
	}
}

// breakers are the limits on streams at a time. It reports whether they are too low.
func (e *examination) breakers(where string, c cluster) (low bool) {
	requests, pending := int64(1024), int64(1024)
	for _, t := range c.Breakers.Thresholds {
		if t.Priority == "" || t.Priority == "DEFAULT" {
			if t.MaxRequests != nil {
				requests = int64(*t.MaxRequests)
			}
			if t.MaxPending != nil {
				pending = int64(*t.MaxPending)
			}
		}
	}
	if low = requests < leastStreams || pending < leastStreams; low {
		e.add("circuit-breaker", where, fmt.Sprintf("max_requests is %d and max_pending_requests %d: a stream is a request for minutes, and more are refused", requests, pending),
			"circuit_breakers.thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]")
	}
	return low
}
