package exchange

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// message makes one of the messages which Envoy could send, or nil for what comes
// from the other side (a deadline, the end of the stream).
func message(op, arg byte, rest []byte) *extprocv3.ProcessingRequest {
	set := func(kv ...string) *extprocv3.HttpHeaders {
		h := &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{}, EndOfStream: arg&1 != 0}
		for i := 0; i < len(kv); i += 2 {
			h.Headers.Headers = append(h.Headers.Headers, &corev3.HeaderValue{Key: kv[i], RawValue: []byte(kv[i+1])})
		}
		return h
	}
	switch op % 10 {
	case 0:
		path := []string{"/v1/chat/completions", "/v1/chat/completions?x", "/v1/models", "", "/v1/files"}[int(arg>>1)%5]
		m := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: set(":method", []string{"POST", "GET"}[int(arg>>4)%2], ":path", path)}}
		if arg&128 == 0 {
			m.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: extprocfilterv3.ProcessingMode_BUFFERED, ResponseBodyMode: extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED}
		}
		if len(rest) > 1 {
			m.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: mode(rest[0] % 6), ResponseBodyMode: mode(rest[1] % 6)}
		}
		m.ObservabilityMode = len(rest) > 2
		return m
	case 1:
		body := rest
		if arg&2 != 0 {
			body = []byte(`{"model":"gpt-4o","stream":` + []string{"true", "false"}[int(arg>>2)%2] + `,"messages":[{"role":"user","content":"hi"}],"n":` + []string{"1", "3"}[int(arg>>3)%2] + `}`)
		}
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: body, EndOfStream: arg&1 == 0}}}
	case 2:
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestTrailers{RequestTrailers: &extprocv3.HttpTrailers{}}}
	case 3:
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: set(
			":status", []string{"200", "500", "", "204"}[int(arg>>1)%4], "content-type", []string{"text/event-stream", "application/json", "text/html", ";"}[int(arg>>3)%4])}}
	case 4, 5, 6:
		body := rest
		if arg&2 != 0 {
			body = []byte("data: {\"choices\":[{\"index\":" + []string{"0", "1"}[int(arg>>2)%2] + ",\"delta\":{\"content\":\"some words here\"}}]}\n\n")
		}
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{Body: body, EndOfStream: arg&1 != 0}}}
	case 7:
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}}}
	case 8:
		return &extprocv3.ProcessingRequest{}
	}
	return nil
}

// FuzzOrder feeds messages in any order. Whatever comes, an exchange settles
// once if it has reserved, at once or after a wait, records once, holds nothing afterwards, sends nothing
// after the end of the answer, and forwards no more tokens than were granted, whatever is deferred.
func FuzzOrder(f *testing.F) {
	natural := []byte{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 2, 0, 4, 2, 0, 4, 3, 0}
	f.Add(natural)
	f.Add([]byte{0, 0, 0, 1, 6, 0, 3, 8, 0, 4, 0, 3, '{', '}', 'x', 7, 0, 0})                        // unary, with trailers
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 2, 0, 9, 0, 0, 4, 2, 0})                              // stopped
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0})   // cut
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 66, 0, 4, 66, 0, 9, 32, 0, 4, 66, 0, 4, 66, 0})       // deferred, and cut
	f.Add([]byte{0, 4, 0, 1, 0, 2, 'h', 'i', 3, 2, 0, 4, 1, 0})                                      // bypassed
	f.Add([]byte{4, 0, 0, 0, 0, 0, 0, 0, 0})                                                         // out of order
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 0, 9, 'd', 'a', 't', 'a', ':', ' ', 'x', '\n', '\n'}) // strange data
	f.Add(append([]byte{9 + 10*13, 0, 0}, natural...))                                               // busy, and never asked again
	f.Add([]byte{9 + 10*13, 0, 0, 0, 0, 0, 1, 2, 0, 9, 8, 0, 9, 4, 0, 9, 8, 0, 3, 0, 0, 4, 3, 0})    // waits until it is not
	f.Add([]byte{9 + 10*13, 0, 0, 0, 0, 0, 1, 2, 0, 9, 16, 0, 9, 8, 0})                              // waits in vain
	f.Add([]byte{9 + 10*13, 0, 0, 0, 0, 0, 1, 2, 0, 9, 0, 0})                                        // stopped while it waits
	for request := range byte(6) {
		for answer := range byte(6) {
			modes := []byte{0, 0, 2, request, answer}
			f.Add(append(modes, natural[3:]...))
			f.Add(append(modes, 1, 3, 0, 1, 2, 0, 3, 0, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0, 4, 2, 0, 4, 3, 0)) // in pieces, and cut
			f.Add(append(modes, 1, 6, 0, 3, 8, 0, 4, 0, 3, '{', '}', 'x', 7, 0, 0))                               // unary, with trailers
			f.Add(append(modes, 4, 2, 0, 4, 3, 0))
		}
	}
	f.Add(append([]byte{0, 0, 3, 0, 0, 0}, natural[3:]...)) // observed
	f.Add([]byte{0, 0, 3, 0, 0, 0, 3, 0, 0, 4, 2, 0, 4, 3, 0})
	f.Add([]byte{0, 0, 0, 9, 64, 0, 1, 2, 0})                                                         // turned away
	f.Add([]byte{0, 0, 0, 1, 2, 0, 3, 8, 0, 4, 0, 3, '{', '}', 'x', 9, 32, 0, 4, 0, 1, 'x', 4, 1, 0}) // little is kept
	for _, out := range [][]byte{                                                                     // of order; each is in testdata/hostile/messages, too
		{8, 0, 0}, // nothing in the first message
		{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 2, 0, 8, 0, 0, 4, 3, 0}, // nothing in a later one
		{1, 2, 0}, {3, 0, 0, 4, 3, 0}, {4, 3, 0}, {7, 0, 0}, {2, 0, 0}, // something else first
		{0, 0, 0, 0, 0, 0}, {0, 0, 0, 1, 2, 0, 1, 2, 0}, {0, 0, 0, 3, 0, 0, 1, 2, 0, 4, 3, 0}, // twice, and too early
		{0, 0, 0, 1, 2, 0, 4, 3, 0}, {0, 0, 0, 1, 2, 0, 7, 0, 0}, // without headers
		{0, 0, 0, 1, 2, 0, 3, 0, 0, 3, 0, 0, 4, 3, 0},                            // headers twice
		{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 2, 0, 7, 0, 0, 7, 0, 0, 4, 3, 0},          // behind the trailers
		{0, 0, 0, 1, 2, 0, 3, 0, 0, 4, 3, 0, 4, 3, 0, 0, 0, 0, 1, 2, 0},          // behind the end
		{0, 0, 0, 1, 0, 1, 'x', 3, 0, 0, 4, 3, 0},                                // behind a refusal
		{0, 0, 0, 1, 2, 0, 3, 0, 0, 2, 0, 0, 4, 2, 0, 9, 0, 0, 9, 0, 0, 4, 3, 0}, // stopped twice, and then the rest
	} {
		f.Add(out)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		ledger, err := budget.New(t.Context(), budget.Options{
			Limits: []budget.Limit{
				{Name: "tokens", Unit: budget.Tokens, Amount: 25, Period: budget.Day}, {Name: "requests", Unit: budget.Requests, Amount: 2, Period: budget.Day},
				{Name: "streams", Unit: budget.Streams, Amount: 1, Action: budget.ActionThrottle, MaxDelay: time.Second}, {Name: "size", Unit: budget.OutputTokens, Amount: 10, PerRequest: true},
			},
			Now: clock, GrowthStep: 4,
		})
		if err != nil {
			t.Fatal(err)
		}
		c := &conversation{ledger: ledger, now: now}
		if len(script) > 0 && script[0] == 9+10*13 { // another request is under way
			busy, _, err := ledger.Reserve(t.Context(), budget.Request{Input: 1, Output: 1})
			if err != nil || busy == nil {
				t.Fatal("refused")
			}
			c.others = append(c.others, busy)
			script = script[min(3, len(script)):]
		}
		idle := func() {
			for _, r := range c.others {
				r.Settle(budget.Amount{})
			}
			c.others = nil
		}
		defer idle()
		reset := len(script)%2 == 1
		c.x = New(NewPolicy(Policy{ResetCut: reset, Growth: 4, UnaryHold: 8, MaxEvent: 200, MaxAnswer: 100, Pass: []string{"/v1/files"}, Now: clock}))
		for len(script) >= 3 && !c.ended {
			op, arg, n := script[0], script[1], int(script[2])
			script = script[3:]
			n = min(n, len(script))
			rest := script[:n]
			script = script[n:]
			c.flush = 0
			if arg&64 != 0 {
				c.flush = 3
			}
			switch m := message(op, arg, rest); {
			case m != nil:
				c.piece = m.GetResponseBody().GetBody()
				r := c.x.Step(m)
				if c.x.observed && len(r.Send) > 0 {
					t.Error("something is sent in observability mode")
				}
				if len(r.Send) == 0 && !r.End && r.Reserve == nil && m.GetResponseBody() != nil && !c.x.can.answer.ends && !c.x.observed && !c.closed && c.x.state != stateRequestHeaders && !c.ended {
					t.Error("a piece of the answer has no answer")
				}
				c.perform(r)
			case arg&128 != 0:
				c.perform(c.x.Flush())
			case arg&4 != 0:
				idle()
			case arg&8 != 0 && c.asked != nil:
				c.perform(Ready{Reserve: c.asked})
			case arg&16 != 0:
				now = now.Add(time.Second)
				c.now = now
			case arg&32 != 0:
				c.x.Lean()
			case arg&64 != 0:
				c.x.Shed(ShedAll)
			case arg&1 == 0:
				c.perform(c.x.Stop(LimitDrain))
			default:
				c.perform(c.x.End())
			}
		}
		c.perform(c.x.End())
		// A driver that goes on by mistake does no harm.
		c.perform(c.x.End())
		c.perform(c.x.Stop(LimitDeadline))
		c.perform(c.x.Step(message(4, 2, nil)))
		idle()
		c.check(t)
		if c.x.stream != nil {
			if n := counted(c.x.model.Encoding, c.client.String()); n > 10 {
				t.Errorf("%d tokens were delivered", n)
			}
		}
		if err := ledger.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
