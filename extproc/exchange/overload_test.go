package exchange

import (
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

func piece(body string, eos bool) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: eos},
	}}
}

// A stream that is to keep little goes on, until an event is left unfinished that is large.
// That event is estimated, once.
func TestLeanStream(t *testing.T) {
	c := newConversation()
	c.limits = []budget.Limit{{Name: "minute", Amount: 1_000_000, Period: budget.Minute}}
	c.start(t)
	c.perform(c.x.Step(message(0, 0, nil)))
	c.perform(c.x.Step(message(1, 2, nil)))
	c.perform(c.x.Step(message(3, 0, nil)))
	whole := "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n"
	c.perform(c.x.Step(piece(whole+"data: "+strings.Repeat("x", 2*leanEvent), false)))
	if n := c.x.Buffered(); n < 2*leanEvent || n > 3*leanEvent {
		t.Errorf("%d bytes are buffered", n)
	}
	c.perform(c.x.Step(piece("\n\n"+whole, false))) // it ends after all
	c.x.Lean()
	c.perform(c.x.Step(piece(whole+"data: "+strings.Repeat("x", leanEvent-100), false)))
	if c.closed {
		t.Fatal("cut for an event of a usual size")
	}
	before := c.x.counted
	c.perform(c.x.Step(piece(strings.Repeat("x", 200), false)))
	if !c.closed || !strings.Contains(c.client.String(), ": tokenbudget: cut, limit (overload)\n") {
		t.Fatal("not cut")
	}
	if n := c.x.Buffered(); n > 0 {
		t.Errorf("%d bytes are buffered after the cut", n)
	}
	c.perform(c.x.Step(piece("\n\n"+whole, true)))
	want := (int64(len("data: ")) + leanEvent + 100 + 2 + int64(len(whole))) / bytesPerToken
	if got := c.x.counted - before; got < want-1 || got > want+1 {
		t.Errorf("what was not read was estimated at %d tokens, want %d", got, want)
	}
	if c.record == nil || c.record.Outcome != CutOff || c.record.Limit != LimitOverload {
		t.Errorf("recorded %+v", c.record)
	}
	c.check(t)
}

// A stream that is only watched is not cut if little is to be kept of it: the rest of it is
// estimated.
func TestLeanObserved(t *testing.T) {
	c := newConversation()
	c.limits = []budget.Limit{{Name: "minute", Amount: 1_000_000, Period: budget.Minute}}
	c.start(t)
	c.perform(c.x.Step(message(0, 0, []byte{1, 1, 1})))
	c.perform(c.x.Step(message(1, 2, nil)))
	c.perform(c.x.Step(message(3, 0, nil)))
	c.x.Lean()
	c.perform(c.x.Step(piece("data: "+strings.Repeat("x", 2*leanEvent), false)))
	if n := c.x.Buffered(); n > 0 {
		t.Errorf("%d bytes are buffered", n)
	}
	c.perform(c.x.Step(piece(strings.Repeat("x", 2*leanEvent), false)))
	c.perform(c.x.Step(piece("\n\n", true)))
	want := int64(4 * leanEvent / bytesPerToken)
	if r := c.record; r == nil || r.Outcome != Completed || r.Limit != "" || r.OutputSource != Estimated || r.Output < want || r.Output > want+3 {
		t.Errorf("recorded %+v, want about %d tokens of output", c.record, want)
	}
	c.check(t)
}
