package exchange

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
)

// What exchanges with Claude teach: nothing where more is billed than is seen, or where the
// provider reads something else than the body has.
func TestLearnAnthropic(t *testing.T) {
	text := strings.Repeat(manyWords, 50)
	counted := int64(count.New(count.Options{}).Model("claude").Encoding.CountString(text))
	in, out := counted*3/2, counted*4/3
	request := func(more string) string {
		return fmt.Sprintf(`{"model":"claude","max_tokens":100000,"messages":[{"role":"user","content":%q}]%s}`, text, more)
	}
	event := func(format string, args ...any) string { return fmt.Sprintf("event: x\ndata: "+format+"\n\n", args...) }
	start := event(`{"type":"message_start","message":{"content":[],"usage":{"input_tokens":%d,"output_tokens":1}}}`, in)
	delta := func(kind, key string) string {
		return event(`{"type":"content_block_delta","index":0,"delta":{"type":%q,%q:%q}}`, kind, key, text)
	}
	end := func(output int64, more string) string {
		return event(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":%d%s}}`, output, more) + event(`{"type":"message_stop"}`)
	}
	whole := func(blocks string) string {
		return fmt.Sprintf(`{"content":[%s{"type":"text","text":%q}],"usage":{"input_tokens":%d,"output_tokens":%d}}`, blocks, text, in, out)
	}
	const stream, json = "text/event-stream", "application/json"
	for _, tt := range []struct {
		name, more, kind, answer string
		input, output            bool // what is learned
	}{
		{"a stream", `,"stream":true`, stream, start + delta("text_delta", "text") + end(out, ""), true, true},
		{"a whole answer", "", json, whole(""), true, true},
		{"a summary of thinking", `,"stream":true`, stream, start + delta("thinking_delta", "thinking") + delta("text_delta", "text") + end(9*out, ""), true, false},
		{"thinking left out, and reported", `,"stream":true`, stream, start + delta("text_delta", "text") + end(out+5000, `,"output_tokens_details":{"thinking_tokens":5000}`), true, true},
		{"thinking in a whole answer", "", json, whole(`{"type":"thinking","thinking":"hm","signature":"s"},`), true, false},
		{"a call", "", json, whole(`{"type":"tool_use","id":"1","name":"f","input":{}},`), true, false},
		{"a call in a stream", `,"stream":true`, stream, start + event(`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"f"}}`) + delta("text_delta", "text") + end(out, ""), true, false},
		{"a search", `,"stream":true,"tools":[{"type":"web_search_20250305","name":"web_search"}]`, stream, start + delta("text_delta", "text") + end(out, ""), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counter := count.New(count.Options{Factors: new(count.Factors)})
			for range 15 {
				c := newConversation()
				c.limits = []budget.Limit{{Name: "all", Amount: 1e12, Period: budget.Day}}
				c.policy.Count = counter
				c.start(t)
				headers := func(pairs ...string) *extprocv3.HttpHeaders {
					m := &corev3.HeaderMap{}
					for i := 0; i < len(pairs); i += 2 {
						m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
					}
					return &extprocv3.HttpHeaders{Headers: m}
				}
				c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
					RequestHeaders: headers(":method", "POST", ":path", "/v1/messages", "content-type", json),
				}}))
				c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
					RequestBody: &extprocv3.HttpBody{Body: []byte(request(tt.more)), EndOfStream: true},
				}}))
				c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
					ResponseHeaders: headers(":status", "200", "content-type", tt.kind),
				}}))
				m := body(tt.answer)
				m.GetResponseBody().EndOfStream = true
				c.perform(c.x.Step(m))
				c.check(t)
				if c.record == nil || c.record.Outcome != Completed || c.record.InputSource != Reported || c.record.OutputSource != Reported {
					t.Fatalf("%+v", c.record)
				}
			}
			m := counter.Model("claude")
			if got := m.Input != 1200; got != tt.input {
				t.Errorf("the input's factor is %d thousandths; learned: %v, want %v", m.Input, got, tt.input)
			}
			if got := m.Output != 1200; got != tt.output {
				t.Errorf("the output's factor is %d thousandths; learned: %v, want %v", m.Output, got, tt.output)
			}
		})
	}
}
