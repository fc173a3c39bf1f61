package exchange

import (
	"fmt"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// counted is what the contents of a stream that the tests made cost.
func counted(enc *tokens.Encoding, stream string) (n int) {
	text := map[string]string{}
	for e := range strings.SplitSeq(stream, "\n\n") {
		before, after, ok := strings.Cut(e, `"index":`)
		index, content, found := strings.Cut(after, `,"delta":{"content":"`)
		// Clients read the lines that begin with data, and no others (WHATWG HTML, section 9.2.6).
		data := strings.HasPrefix(before[strings.LastIndexAny(before, "\r\n")+1:], "data")
		if !ok || !found || !data {
			continue
		}
		content, _, _ = strings.Cut(content, `"`)
		text[index] += content
	}
	for _, s := range text {
		n += enc.CountString(s)
	}
	return n
}

// streaming returns an exchange in mid-stream, on a budget that nothing reaches.
func streaming(tb testing.TB) *Exchange {
	tb.Helper()
	ledger, err := budget.New(tb.Context(), budget.Options{Limits: []budget.Limit{
		{Name: "a", Unit: budget.Tokens, Amount: 1e15, Period: budget.Year},
		{Name: "b", Unit: budget.OutputTokens, Amount: 1e15, Period: budget.Year},
	}, GrowthStep: 1e12})
	if err != nil {
		tb.Fatal(err)
	}
	x := New(NewPolicy(Policy{Growth: 1e12}))
	x.Step(message(0, 0, nil))
	r := x.Step(message(1, 2, nil))
	res, d, err := ledger.Reserve(tb.Context(), *r.Reserve)
	if err != nil || !d.Allowed {
		tb.Fatal(d, err)
	}
	x.Reserved(res, d, nil)
	x.Step(message(3, 0, nil))
	if x.state != stateStreaming {
		tb.Fatalf("state is %v", x.state)
	}
	tb.Cleanup(func() {
		if s := x.End().Settle; s != nil {
			s.Apply()
		}
		if err := ledger.Close(tb.Context()); err != nil {
			tb.Log(err) // the context has ended; nothing is stored
		}
	})
	return x
}

// chunk is one event of a stream as OpenAI sends it.
const chunk = `data: {"id":"chatcmpl-C4HqHBe4xca0k0EzsCnf1t6V3YFXp","object":"chat.completion.chunk","created":1755137933,"model":"gpt-5-nano-2025-08-07","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":null}],"obfuscation":"LcdzdJdMMgDHt6"}` + "\n\n"

func body(s string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{Body: []byte(s)}}}
}

// TestChunkAllocations: a chunk that passes allocates nothing, whether it holds
// one event, several, or parts of them.
func TestChunkAllocations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chunks []string
	}{
		{"one event", []string{chunk}},
		{"ten events", []string{strings.Repeat(chunk, 10)}},
		{"split events", []string{chunk[:100], chunk[100:200], chunk[200:] + chunk[:50], chunk[50:]}},
		{"keep-alive", []string{": ping\n\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := streaming(t)
			var messages []*extprocv3.ProcessingRequest
			for _, c := range tt.chunks {
				messages = append(messages, body(c))
			}
			pass := func() {
				for _, m := range messages {
					x.Step(m)
				}
			}
			for range 100 {
				pass() // buffers reach their size
			}
			if n := testing.AllocsPerRun(200, pass); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func BenchmarkChunk(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			x := streaming(b)
			m := body(strings.Repeat(chunk, n))
			b.SetBytes(int64(n * len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				x.Step(m)
			}
		})
	}
}
