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
	// All values are in three pieces: each by itself would be two allocations.
	values := make([]structpb.Value, 0, 19+len(r.Identities))
	texts := make([]structpb.Value_StringValue, 0, 8+len(r.Identities))
	numbers := make([]structpb.Value_NumberValue, 0, 9)
	fields := make(map[string]*structpb.Value, cap(values))
	add := func(name string) *structpb.Value {
		values = append(values, structpb.Value{})
		v := &values[len(values)-1]
		fields[name] = v
		return v
	}
	text := func(name, value string) {
		texts = append(texts, structpb.Value_StringValue{StringValue: value})
		add(name).Kind = &texts[len(texts)-1]
	}
	number := func(name string, n int64) {
		numbers = append(numbers, structpb.Value_NumberValue{NumberValue: float64(n)})
		add(name).Kind = &numbers[len(numbers)-1]
	}
	text("api", r.API)
	text("model", r.Model)
	add("stream").Kind = &structpb.Value_BoolValue{BoolValue: r.Stream}
	text("outcome", string(r.Outcome))
	text("limit", r.Limit)
	number("input_tokens", r.Input)
	number("output_tokens", r.Output)
	number("cached_tokens", r.Cached)
	number("reasoning_tokens", r.Reasoning)
	text("input_source", r.InputSource)
	text("output_source", r.OutputSource)
	if r.Background {
		add("background").Kind = &structpb.Value_BoolValue{BoolValue: true}
	}
	if r.Degraded != "" {
		text("degraded", r.Degraded)
	}
	if r.Truncated > 0 {
		number("truncated_messages", r.Truncated)
	}
	if r.Throttled > 0 {
		number("throttled_ms", r.Throttled.Milliseconds())
	}
	if len(r.Shadow) > 0 {
		text("shadow", r.ShadowText())
	}
	number("held", r.Held.Input+r.Held.Output)
	number("duration_ms", r.Duration.Milliseconds())
	number("ttft_ms", r.TTFT.Milliseconds())
	for _, id := range r.Identities {
		if _, taken := fields[id.Name]; !taken {
			text(id.Name, id.Value)
		}
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		Namespace: structpb.NewStructValue(&structpb.Struct{Fields: fields}),
	}}
}
