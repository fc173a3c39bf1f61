package exchange

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// TestMemoryIsBounded: an answer without an end, whatever it consists of, takes no more memory
// than what may be withheld of it.
func TestMemoryIsBounded(t *testing.T) {
	const (
		bound  = 1 << 20 // of an event, and of the copy of an unary answer
		piece  = 64 << 10
		pieces = 512 // 32 MiB in all
		most   = 8 * bound
	)
	fill := func(s string) []byte { return bytes.Repeat([]byte(s), piece/len(s)) }
	var choices []byte
	for i := range 400 {
		choices = fmt.Appendf(choices, "data: {\"choices\":[{\"index\":%d,\"delta\":{\"content\":\" a\",\"tool_calls\":[{\"index\":%d,\"function\":{\"arguments\":\"b\"}}]},\"finish_reason\":\"stop\"}]}\n\n", i*i*1000, i*7919)
	}
	for _, tt := range []struct {
		name, kind string
		first      string
		next       []byte
	}{
		{"an event", "text/event-stream", "data: ", fill("x")},
		{"a field that nobody reads", "text/event-stream", "id: ", fill("x")},
		{"data fields", "text/event-stream", "", fill("data: x\n")},
		{"line feeds", "text/event-stream", "", fill("\n")},
		{"carriage returns", "text/event-stream", "", fill("\r")},
		{"comments", "text/event-stream", "", fill(": x\n\n")},
		{"empty events", "text/event-stream", "", fill("data:\n\n")},
		{"choices and tools", "text/event-stream", "", choices},
		{"text", "text/event-stream", "", fill("data: {\"choices\":[{\"delta\":{\"content\":\"xx\"}}]}\n\n")},
		{"a JSON answer", "application/json", `{"x":"`, fill("x")},
		{"HTML", "text/html", "<html>", fill("x")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newConversation()
			c.limits = []budget.Limit{{Name: "all", Unit: budget.Tokens, Amount: 1e15, Period: budget.Year}}
			c.policy.MaxEvent, c.policy.MaxAnswer, c.policy.Growth = bound, bound, 1e9
			c.start(t)
			c.perform(c.x.Step(message(0, 0, nil)))
			c.perform(c.x.Step(message(1, 2, nil)))
			c.perform(c.x.Step(responseHeaders("200", tt.kind, nil, false)))
			m := body("")
			step := func(b []byte) {
				m.Request.(*extprocv3.ProcessingRequest_ResponseBody).ResponseBody.Body = b
				c.x.Step(m) // what is sent is not kept
			}
			step([]byte(tt.first))
			before := live()
			grown := int64(0)
			for i := range pieces {
				// Each piece is a slice of its own, as it is when it was received.
				step(bytes.Clone(tt.next))
				if i%64 == 63 {
					grown = max(grown, live()-before)
				}
			}
			if grown > most {
				t.Errorf("%d bytes more are alive", grown)
			}
			c.perform(c.x.End())
			c.check(t)
		})
	}
}

// live is how much of the heap is in use.
func live() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
