package dialect

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Route is what is known of a path.
type Route struct {
	API   API  // that a POST to it speaks; nil if none is known
	Exact bool // it is spelled as the API has it
	Free  bool // it belongs to an API, but a POST to it has no model at work; API is nil
}

// endpoint is a kind of path, by how it ends. {} stands for one segment.
type endpoint struct {
	end  string
	api  API
	free bool
}

// endpoints are the paths that are known. The first one counts that a path ends in, so a
// longer end stands before a shorter one. One without an API is of none that is metered
// yet. docs/paths.md has them, and those that are left out: they are unknown, so that a
// request with a body is refused until the configuration says that it is to pass.
var endpoints = []endpoint{
	{end: "/chat/completions", api: OpenAIChat{}},
	{end: "/completions", api: OpenAICompletions{}},
	{end: "/embeddings", api: OpenAIEmbeddings{}},

	{end: "/responses", api: OpenAIResponses{}},
	{end: "/responses/{}/cancel", free: true},
	{end: "/responses/input_tokens", free: true},

	{end: "/v1/messages", api: AnthropicMessages{}},
	{end: "/v1/messages/count_tokens", free: true},
}

// Metered returns the ends of the paths that are of an API, the longer of two first.
func Metered() (ends []string) {
	for _, e := range endpoints {
		if !e.free {
			ends = append(ends, e.end)
		}
	}
	return ends
}

// ForPath returns what is known of a path, which is the request's without its query.
// Only the end of it counts, because gateways and deployments put prefixes in front
// (/openai/v1/…, /openai/deployments/x/…). Exact is false where a lenient server might
// take the path for another one, or for this one although the API would not: in another
// letter case, with escapes, parameters or slashes too many, with dots behind it.
func ForPath(path string) Route {
	e := endpointOf(path)
	if e != nil && deploymentCalledChat(path) {
		return e.route(false)
	}
	var other *endpoint
	for _, reading := range Readings(path) {
		if r := endpointOf(reading); r != e && r != nil {
			other = r
		}
	}
	if other == nil {
		return e.route(true)
	}
	// One whose API is known is named, for the sake of the error's shape.
	if other.api == nil && e != nil && e.api != nil {
		other = e
	}
	return other.route(false)
}

// deploymentCalledChat says that a path may be that of the chat API, or that of the
// completions API of a deployment with this name.
func deploymentCalledChat(path string) bool {
	front, ok := strings.CutSuffix(path, "chat/completions")
	return ok && slices.ContainsFunc(deployments, func(before string) bool {
		return len(front) >= len(before) && strings.EqualFold(front[len(front)-len(before):], before)
	})
}

func (e *endpoint) route(exact bool) Route {
	switch {
	case e == nil:
		return Route{}
	case e.free:
		return Route{Exact: exact, Free: true}
	case e.api == nil:
		return Route{}
	}
	return Route{API: e.api, Exact: exact}
}

// endpointOf is the endpoint that a path ends in as it stands, or nil.
func endpointOf(path string) *endpoint {
	for i := range endpoints {
		if endsIn(path, endpoints[i].end) {
			return &endpoints[i]
		}
	}
	return nil
}

// endsIn compares segments from the last one on.
func endsIn(path, end string) bool {
	for end != "" {
		i, j := strings.LastIndexByte(path, '/'), strings.LastIndexByte(end, '/')
		if i < 0 {
			return false
		}
		if segment, want := path[i+1:], end[j+1:]; segment != want && (want != "{}" || segment == "") {
			return false
		}
		path, end = path[:i], end[:j]
	}
	return true
}

// plainLower says that no server reads a path in another way than it stands.
func plainLower(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && path[i-1] != '/':
		case c == '/' && (i == 0 || path[i-1] != '/') && i < len(path)-1:
		default:
			return false
		}
	}
	return true
}

// Readings are the ways in which lenient servers might read a path: in lower case,
// without escapes (three times over), without the parameters of segments, empty segments
// and white space; with its dots resolved or not; ended by what may begin a query, a
// fragment or parameters, or not. There is none of a path that nobody reads in another way.
func Readings(path string) []string {
	if plainLower(path) {
		return nil
	}
	return readings(strings.ToLower(unescaped(path)))
}

// unescaped is a path without escapes, and escapes of escapes.
func unescaped(path string) string {
	for range 3 {
		plain, err := url.PathUnescape(path)
		if err != nil || plain == path {
			break
		}
		path = plain
	}
	return path
}

// readings are those of a path without escapes, in its own letter case.
func readings(path string) []string {
	path = strings.ReplaceAll(path, "\\", "/")
	out := make([]string, 0, 4)
	for _, p := range []string{path, path[:end(path)]} {
		out = append(out, segments(p, false), segments(p, true))
	}
	return slices.Compact(out)
}

// end is where a path ends for those who see something else begin there.
func end(path string) int {
	if i := strings.IndexAny(path, "?#;\x00"); i >= 0 {
		return i
	}
	return len(path)
}

// segments is a path without what is empty or nothing in it.
func segments(path string, resolve bool) string {
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		switch segment = strings.TrimSpace(segment); {
		case segment == "", segment == ".":
		case segment == ".." && resolve:
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// maxDeployment is the longest name of a deployment, in bytes; as long as a model's.
const maxDeployment = 256

// deployments are what stands before the name of a model in a path, by the paths of which
// that is so: Azure's OpenAI service, and LocalAI and LiteLLM with OpenAI's former engines.
var (
	deployments    = []string{"/openai/deployments/", "/engines/"}
	deploymentEnds = []string{"/extensions/chat/completions", "/chat/completions", "/completions", "/embeddings"}
)

// Deployment returns the deployment that a path of Azure OpenAI names, as in
// /openai/deployments/NAME/chat/completions, or /v1/engines/NAME/completions, or "". The
// model is taken from there, and the body's is ignored. The path is the request's without
// its query. The letter case of what stands in front of the name does not matter: a client
// must not choose by it which of the two models is counted.
func Deployment(path string) string {
	for _, end := range deploymentEnds {
		front, ok := strings.CutSuffix(path, end)
		if !ok {
			continue
		}
		i := strings.LastIndexByte(front, '/')
		for _, before := range deployments {
			if i+1 < len(before) || !strings.EqualFold(front[i+1-len(before):i+1], before) {
				continue
			}
			name, err := url.PathUnescape(front[i+1:])
			if err != nil || len(name) > maxDeployment || !utf8.ValidString(name) {
				return ""
			}
			return name
		}
	}
	return ""
}
