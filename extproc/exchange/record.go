package exchange

import (
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenbudget/tokenbudget/budget"
)

// Namespace is the name of the dynamic metadata which Envoy is given, with the
// fields of [Record] under the names they have in the log.
const Namespace = "tokenbudget"

// Outcome is how an exchange ended.
type Outcome string

// The outcomes.
const (
	Completed     Outcome = "completed"      // the whole answer passed
	CutOff        Outcome = "cut"            // the answer was ended by a limit, a deadline or a drain
	Denied        Outcome = "denied"         // refused before it was forwarded
	Aborted       Outcome = "aborted"        // the client or Envoy gave up, or a deadline struck where no clean end is possible
	UpstreamError Outcome = "upstream_error" // the upstream answered with an error, or ended its stream with one
	Bypassed      Outcome = "bypassed"       // not metered
)

// Where the figures of a record come from.
const (
	Reported  = "reported"  // by the provider
	Counted   = "counted"   // here, with the model's own tokenizer
	Estimated = "estimated" // here, with a stand-in for the model's tokenizer, or from what was held
)

// Names in [Record.Limit] for what is no limit. A budget cannot have such a name.
const (
	LimitDeadline = "(deadline)" // the exchange took longer than it may
	LimitIdle     = "(idle)"     // the upstream was silent for longer than it may be
	LimitDrain    = "(drain)"    // the server shuts down
	LimitEvent    = "(event)"    // one event was larger than may be withheld
)

// Record is the outcome of one exchange: the line in the log and the metadata for
// Envoy's access log. It never holds text of a prompt or an answer.
type Record struct {
	RequestID    string
	Identities   []budget.Identity
	API          string
	Path         string // only of exchanges that are not metered
	Model        string
	Stream       bool
	Status       int // of the upstream's answer, or of ours; 0 if there was none
	Input        int64
	Output       int64
	Cached       int64
	Reasoning    int64
	InputSource  string
	OutputSource string
	Outcome      Outcome
	Limit        string          // that decided, or what stands in for it
	Reason       string          // why a request was refused other than by a limit
	Degraded     string          // what of the filter's modes is not as it should be: "request_body_mode=NONE,…"; see [Degradations]
	Truncated    int64           // messages that were dropped from the prompt
	Throttled    time.Duration   // how long it waited for limits that throttle
	ThrottledBy  string          // the last of these limits
	Shadow       []budget.Shadow // what limits would have done that only watch
	Background   bool            // the answer goes on at the provider, and what it costs will be told later
	Held         budget.Amount
	Duration     time.Duration
	TTFT         time.Duration // to the first text of a stream; 0 if there was none
}

// ShadowText says what limits would have done that only watch: "trial:denied,other:cut".
func (r *Record) ShadowText() string {
	var text []byte
	for i, s := range r.Shadow {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(append(append(text, s.Limit...), ':'), s.Outcome.String()...)
	}
	return string(text)
}

// metadata returns the record as dynamic metadata.
func (r *Record) metadata() *structpb.Struct {
	f := newFields(8+len(r.Identities), 9)
	f.about(r)
	f.text("outcome", string(r.Outcome))
	f.text("limit", r.Limit)
	f.number("input_tokens", r.Input)
	f.number("output_tokens", r.Output)
	f.number("cached_tokens", r.Cached)
	f.number("reasoning_tokens", r.Reasoning)
	f.text("input_source", r.InputSource)
	f.text("output_source", r.OutputSource)
	if r.Background {
		f.truth("background", true)
	}
	if r.Degraded != "" {
		f.text("degraded", r.Degraded)
	}
	if r.Truncated > 0 {
		f.number("truncated_messages", r.Truncated)
	}
	if r.Throttled > 0 {
		f.number("throttled_ms", r.Throttled.Milliseconds())
	}
	if len(r.Shadow) > 0 {
		f.text("shadow", r.ShadowText())
	}
	f.number("held", r.Held.Input+r.Held.Output)
	f.number("duration_ms", r.Duration.Milliseconds())
	f.number("ttft_ms", r.TTFT.Milliseconds())
	return f.metadata(r)
}

// announcement returns, as dynamic metadata, what is known of an exchange whose request is
// forwarded. Envoy merges what comes later into it, key by key. If nothing does, since the client has
// left and Envoy hears no more, then its access log has this at least. How it ended is not said: it
// is not known, and where Envoy does not show answers it stays so.
func (r *Record) announcement(held budget.Amount) *structpb.Struct {
	f := newFields(2+len(r.Identities), 2)
	f.about(r)
	f.number("input_tokens", r.Input)
	f.number("held", held.Input+held.Output)
	return f.metadata(r)
}

// fields collects values for metadata. All are in a few pieces: each by itself would be two
// allocations, for each exchange two times.
type fields struct {
	byName  map[string]*structpb.Value
	values  []structpb.Value
	texts   []structpb.Value_StringValue
	numbers []structpb.Value_NumberValue
	truths  [2]structpb.Value_BoolValue
	said    int // of truths

	all, ours structpb.Struct // ours is what the namespace holds
	space     structpb.Value
	kind      structpb.Value_StructValue
}

// newFields has room for so many texts and numbers, and for two truths.
func newFields(texts, numbers int) *fields {
	f := &fields{
		texts:   make([]structpb.Value_StringValue, 0, texts),
		numbers: make([]structpb.Value_NumberValue, 0, numbers),
	}
	n := texts + numbers + len(f.truths)
	f.byName = make(map[string]*structpb.Value, n)
	f.values = make([]structpb.Value, 0, n)
	return f
}

func (f *fields) add(name string) *structpb.Value {
	f.values = append(f.values, structpb.Value{})
	v := &f.values[len(f.values)-1]
	f.byName[name] = v
	return v
}

func (f *fields) text(name, value string) {
	f.texts = append(f.texts, structpb.Value_StringValue{StringValue: value})
	f.add(name).Kind = &f.texts[len(f.texts)-1]
}

func (f *fields) number(name string, n int64) {
	f.numbers = append(f.numbers, structpb.Value_NumberValue{NumberValue: float64(n)})
	f.add(name).Kind = &f.numbers[len(f.numbers)-1]
}

func (f *fields) truth(name string, is bool) {
	kind := &f.truths[f.said]
	f.said++
	kind.BoolValue = is
	f.add(name).Kind = kind
}

// about adds what is known of a request from its beginning, but for its identities.
func (f *fields) about(r *Record) {
	f.text("api", r.API)
	f.text("model", r.Model)
	f.truth("stream", r.Stream)
}

// endNames are what metadata always has once an exchange has ended. An announcement has none of them,
// and no identity of such a name either: it would look like the end of an exchange of which Envoy hears no more.
var endNames = map[string]bool{
	"outcome": true, "limit": true, "output_tokens": true, "cached_tokens": true, "reasoning_tokens": true,
	"input_source": true, "output_source": true, "duration_ms": true, "ttft_ms": true,
}

// metadata adds the identities, which hide nothing, and returns all.
func (f *fields) metadata(r *Record) *structpb.Struct {
	for _, id := range r.Identities {
		if _, taken := f.byName[id.Name]; !taken && !endNames[id.Name] {
			f.text(id.Name, id.Value)
		}
	}
	f.ours.Fields = f.byName
	f.kind.StructValue = &f.ours
	f.space.Kind = &f.kind
	f.all.Fields = map[string]*structpb.Value{Namespace: &f.space}
	return &f.all
}
