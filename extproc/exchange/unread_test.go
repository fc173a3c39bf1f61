package exchange

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// An answer of a kind that is not read is not free: it costs a token for four
// bytes, and ends when they are used up. Where it ends depends on its pieces, so
// this is no conversation that is replayed.
func TestUnreadAnswerEnds(t *testing.T) {
	c := newConversation()
	c.limits = []budget.Limit{{Name: "output", Unit: budget.OutputTokens, Amount: 20, Period: budget.Day}}
	c.policy.Growth = 5
	c.start(t)
	c.perform(c.x.Step(message(0, 0, nil)))
	c.perform(c.x.Step(message(1, 2, nil)))
	headers := &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		{Key: ":status", RawValue: []byte("200")}, {Key: "content-type", RawValue: []byte("text/plain")},
	}}}
	c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: headers}}))
	for range 10 {
		c.perform(c.x.Step(body(strings.Repeat("x", 40))))
	}
	if n := c.client.Len(); n != 80 || !c.closed {
		t.Errorf("the client got %d bytes, closed: %v", n, c.closed)
	}
	c.now = c.now.Add(time.Second)
	c.perform(c.x.End())
	c.check(t)
	if r := c.record; r.Outcome != CutOff || r.Limit != "output" || r.Output != 100 || r.OutputSource != Estimated {
		t.Errorf("recorded %s", describe(r))
	}
}
