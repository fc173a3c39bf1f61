package exchange

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/apikeys"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/glob"
)

// Policy is what the state machine decides by. It is shared by all exchanges and
// must not be changed while one uses it.
type Policy struct {
	Keys        *apikeys.Keys // those that are known; needed if a source reads them
	KeyHeaders  []string      // where requests show them, in lower case
	Identities  []Identity    // one that is missing counts as budget.None, unless it is required
	Pass        []string      // path patterns that are free (* matches any text)
	Deny        []string      // path patterns that are refused; stronger than Pass
	PassUnknown bool          // paths of no known API pass unmetered, else requests with a body are refused

	// MatchHeaders are the headers that limits match, in lower case.
	MatchHeaders []string
	// WatchHeaders are those, of others, that limits match which only watch.
	WatchHeaders []string
	// PlainPath refuses metered requests whose path servers may read in several ways,
	// because limits depend on it.
	PlainPath bool

	// OneModel refuses requests that let the upstream choose among models, because limits
	// depend on the model.
	OneModel bool

	// Truncate names the limits per request that shorten a prompt instead of refusing
	// it. Sizes are the ledger's limits per request; they are needed if there are names.
	Truncate []string
	Sizes    *budget.Sizes

	// OutputCap says whose output cap is lowered to what is left of the budget.
	OutputCap OutputCap
	// IncludeUsage says whether upstreams are asked for the usage of streams. Rejected knows
	// those which do not take that.
	IncludeUsage IncludeUsage
	Rejected     *Rejected
	// Hidden is what reasoning that is not shown takes, by model.
	Hidden *Hidden
	// Contexts remembers how long the context of responses is that providers keep.
	Contexts *Contexts
	// Background has the responses that go on at their provider, each for BackgroundTimeout at
	// most; if that is negative, they are charged what was held at once.
	Background        *Background
	BackgroundTimeout time.Duration
	// SilentCut leaves out the SSE comment which names the limit of a cut.
	SilentCut bool
	// RefuseDegraded refuses exchanges in modes of Envoy's filter other than the usual ones,
	// with 500. Else the best is done that they allow; see [Degradations].
	RefuseDegraded bool
	// ResetCut breaks an answer off behind its closing events, where it cannot be ended in
	// good form: the upstream is cancelled. Else the rest of it is taken out, and charged.
	ResetCut bool
	// Growth is how much output a stream asks for at first, in tokens.
	Growth int64
	// CutCompleted ends a cut answer of the Responses API with response.completed instead
	// of response.incomplete.
	CutCompleted bool
	// ToolGrace is how much output is held ahead when a call of a tool begins, in tokens:
	// a call that is not longer is not cut.
	ToolGrace int64
	// UnaryHold is what is held for the output of an unary answer whose request
	// has no cap, in tokens for each choice.
	UnaryHold int64
	// MaxRequest bounds a request's body, in bytes; a larger one gets a 413.
	MaxRequest int64
	// MaxEvent bounds the bytes withheld for one unfinished server-sent event, in bytes.
	MaxEvent int
	// MaxAnswer bounds the copy of an unary answer that is kept to read its
	// usage, in bytes. A longer one passes, and costs what was held.
	MaxAnswer int

	Count *count.Counter   // counts prompts; nil is one that knows OpenAI's models
	Now   func() time.Time // the clock; nil is time.Now
}

// OutputCap is a setting of [Policy].
type OutputCap uint8

// The values of [OutputCap].
const (
	CapUnary  OutputCap = iota // unary answers, which cannot be cut
	CapAlways                  // streams, too
	CapNever                   // none: an unary answer may go into debt
)

// The defaults of a [Policy].
const (
	DefaultGrowth     = 128
	DefaultToolGrace  = 64
	DefaultUnaryHold  = 16384 // the longest answer of most models
	DefaultMaxRequest = 16 << 20
	DefaultMaxEvent   = 4 << 20
	DefaultMaxAnswer  = 16 << 20
)

// withDefaults returns p with what is unset filled in.
func (p Policy) withDefaults() Policy {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&p.Growth, DefaultGrowth)
	set(&p.ToolGrace, DefaultToolGrace)
	set(&p.UnaryHold, DefaultUnaryHold)
	set(&p.MaxRequest, DefaultMaxRequest)
	if p.MaxEvent <= 0 {
		p.MaxEvent = DefaultMaxEvent
	}
	if p.MaxAnswer <= 0 {
		p.MaxAnswer = DefaultMaxAnswer
	}
	if p.Hidden == nil {
		p.Hidden = NewHidden()
	}
	if p.Contexts == nil {
		p.Contexts = NewContexts()
	}
	if p.Background == nil {
		p.Background = NewBackground()
	}
	if p.BackgroundTimeout == 0 {
		p.BackgroundTimeout = DefaultBackgroundTimeout
	}
	if p.Rejected == nil {
		p.Rejected = NewRejected()
	}
	if p.Count == nil {
		p.Count = count.New(count.Options{})
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	return p
}

// NewPolicy returns a copy of p with its defaults filled in, ready for [New].
func NewPolicy(p Policy) *Policy {
	p = p.withDefaults()
	return &p
}

// Identity says where one identity of a request is read from: the first source
// that has a value wins.
type Identity struct {
	Name     string
	Sources  []Source
	Required bool // a request without it is refused
}

// Source is a claim of a verified JWT, a request header, or a value of the API key that the
// request shows. One of the three is set.
type Source struct {
	JWT    string // a claim; dots go into nested objects
	Header string // a header's name in lower case
	APIKey string // a name among the subjects of [Policy.Keys]
}

// jwtNamespace is where Envoy's JWT filter leaves the payload of the token it
// verified. It reaches this server only if forwarding_namespaces names it.
const jwtNamespace = "envoy.filters.http.jwt_authn"

// claim returns a string claim of the JWT which Envoy verified. The namespace
// holds one payload under each name that payload_in_metadata gave it.
func claim(metadata *corev3.Metadata, name string) string {
	payloads := metadata.GetFilterMetadata()[jwtNamespace].GetFields()
	// Several tokens, in the order of their payloads' names: always the same one.
	for _, key := range slices.Sorted(maps.Keys(payloads)) {
		fields, rest := payloads[key].GetStructValue().GetFields(), name
		for nested := true; nested; {
			// A name with dots may be the claim's own, such as a URL.
			if v := fields[rest].GetStringValue(); v != "" {
				return v
			}
			var head string
			head, rest, nested = strings.Cut(rest, ".")
			fields = fields[head].GetStructValue().GetFields()
		}
	}
	return ""
}

// headers are the headers of a message.
type headers []*corev3.HeaderValue

// get returns the first value of a header, or "".
func (h headers) get(name string) string {
	for _, v := range h {
		if v.GetKey() == name {
			if raw := v.GetRawValue(); len(raw) > 0 {
				return string(raw)
			}
			return v.GetValue()
		}
	}
	return ""
}

// all returns every value of a header.
func (h headers) all(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range h {
			if v.GetKey() != name {
				continue
			}
			value := v.GetValue()
			if raw := v.GetRawValue(); len(raw) > 0 {
				value = string(raw)
			}
			if !yield(value) {
				return
			}
		}
	}
}

// has says that there is a header of the given name.
func (h headers) has(name string) bool {
	return slices.ContainsFunc(h, func(v *corev3.HeaderValue) bool { return v.GetKey() == name })
}

// plainPath says that there is nothing in path which servers read differently.
func plainPath(path string) bool {
	return !strings.ContainsAny(path, `%\;#`) && !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

func matchAny(patterns []string, path string) bool {
	for _, p := range patterns {
		if glob.Match(p, path) {
			return true
		}
	}
	return false
}
