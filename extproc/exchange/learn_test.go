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

const manyWords = "the river carries more water in spring than in any other season of the year, and "

// converse runs one exchange with what the upstream answers.
func converse(t *testing.T, counter *count.Counter, request, contentType, answer string) *Record {
	t.Helper()
	c := newConversation()
	c.limits = []budget.Limit{{Name: "all", Amount: 1e12, Period: budget.Day}}
	c.policy.Count = counter
	c.start(t)
	c.perform(c.x.Step(message(0, 0, nil)))
	c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(request), EndOfStream: true},
	}}))
	headers := &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		{Key: ":status", RawValue: []byte("200")}, {Key: "content-type", RawValue: []byte(contentType)},
	}}}
	c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: headers}}))
	m := body(answer)
	m.GetResponseBody().EndOfStream = true
	c.perform(c.x.Step(m))
	c.check(t)
	return c.record
}

// What an exchange teaches, and what it must not: only whole answers with usage, of
// models that are counted with a stand-in, and only what can be compared.
func TestLearn(t *testing.T) {
	prompt := strings.Repeat(manyWords, 50)
	text := strings.Repeat(manyWords, 50)
	chat := func(model string, stream bool, more string) string {
		return fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":%q}]%s}`, model, stream, prompt, more)
	}
	image := `{"model":"mystery","stream":true,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`
	counter := count.New(count.Options{})
	counted := int64(counter.Model("mystery").Encoding.CountString(text))
	usage := func(input, output, reasoning int64) string {
		return fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"completion_tokens_details":{"reasoning_tokens":%d}}`, input, output, reasoning)
	}
	delta := func(key string) string { return fmt.Sprintf(`data: {"choices":[{"delta":{%q:%q}}]}`+"\n\n", key, text) }
	last := func(usage string) string { return `data: {"choices":[],` + usage + "}\n\ndata: [DONE]\n\n" }
	unary := func(usage string) string {
		return fmt.Sprintf(`{"choices":[{"message":{"content":%q}}],%s}`, text, usage)
	}
	const stream, json = "text/event-stream", "application/json"
	in, out := counted*3/2, counted*4/3 // the prompt's overhead is small
	for _, tt := range []struct {
		name, request, kind, answer string
		input, output               bool // what is learned
	}{
		{"stream", chat("mystery", true, ""), stream, delta("content") + last(usage(in, out, 0)), true, true},
		{"unary", chat("mystery", false, ""), json, unary(usage(in, out, 0)), true, true},
		{"an exact model", chat("gpt-4o", true, ""), stream, delta("content") + last(usage(in, out, 0)), false, false},
		{"hidden reasoning", chat("mystery", true, ""), stream, delta("content") + last(usage(in, out+5000, 5000)), true, true},
		{"shown reasoning, counted", chat("mystery", true, ""), stream, delta("reasoning_content") + last(usage(in, out, 0)), true, true},
		{"a summary of reasoning", chat("mystery", true, ""), stream, delta("reasoning") + delta("content") + last(usage(in, 2*out, out)), true, false},
		{"unary reasoning", chat("mystery", false, ""), json, unary(usage(in, 2*out, out)), true, false},
		{"no usage", chat("mystery", true, ""), stream, delta("content") + "data: [DONE]\n\n", false, false},
		{"usage before the last text", chat("mystery", true, ""), stream, last(usage(in, out, 0)) + delta("content"), true, false},
		{"an image", image, stream, delta("content") + last(usage(in, out, 0)), false, true},
		{"a search", chat("mystery", true, `,"web_search_options":{}`), stream, delta("content") + last(usage(in, out, 0)), false, true},
		{"sound", chat("mystery", true, ""), stream, delta("content") + `data: {"choices":[{"delta":{"audio":{"data":"A"}}}]}` + "\n\n" + last(usage(in, out, 0)), true, false},
		{"an error in the stream", chat("mystery", true, ""), stream, delta("content") + `data: {"error":{}}` + "\n\n" + last(usage(in, out, 0)), false, false},
		{"an event of unknown kind", chat("mystery", true, ""), "text/plain", delta("content") + last(usage(in, out, 0)), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f count.Factors
			counter := count.New(count.Options{Factors: &f})
			for range 15 {
				converse(t, counter, tt.request, tt.kind, tt.answer)
			}
			m := counter.Model("mystery")
			if got := m.Input > 1400 && m.Input < 1500; got != tt.input || !got && m.Input != 1000 {
				t.Errorf("the input's factor is %d thousandths; learned: %v, want %v", m.Input, got, tt.input)
			}
			if got := m.Output > 1280 && m.Output < 1340; got != tt.output || !got && m.Output != 1000 {
				t.Errorf("the output's factor is %d thousandths; learned: %v, want %v", m.Output, got, tt.output)
			}
		})
	}
}

// What was learned is what the next exchange costs without a report.
func TestLearnedIsCharged(t *testing.T) {
	counter := count.New(count.Options{Factors: new(count.Factors)})
	text := strings.Repeat(manyWords, 60)
	request := fmt.Sprintf(`{"model":"mystery","stream":true,"messages":[{"role":"user","content":%q}]}`, text)
	said := fmt.Sprintf(`data: {"choices":[{"delta":{"content":%q}}]}`+"\n\n", text)
	before := converse(t, counter, request, "text/event-stream", said)
	usage := fmt.Sprintf(`data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`+"\n\n", 2*before.Input, 3*before.Output)
	for range 30 {
		converse(t, counter, request, "text/event-stream", said+usage)
	}
	after := converse(t, counter, request, "text/event-stream", said)
	if after.InputSource != Estimated || after.OutputSource != Estimated {
		t.Errorf("sources are %s and %s", after.InputSource, after.OutputSource)
	}
	m := counter.Model("mystery")
	if m.Input < 1800 || m.Output < 2000 {
		t.Fatalf("learned %d and %d thousandths", m.Input, m.Output)
	}
	if in, out := m.Input.Of(before.Input), m.Output.Of(before.Output); after.Input != in || after.Output != out {
		t.Errorf("charged %d and %d, want %d and %d", after.Input, after.Output, in, out)
	}
}
