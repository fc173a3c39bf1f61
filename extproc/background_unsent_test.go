package extproc

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// unsendable is a stream of which the message that carries a piece of the answer cannot be sent.
type unsendable struct{ canned }

func (s *unsendable) Send(m *extprocv3.ProcessingResponse) error {
	if bodyOf(m) != nil {
		return errors.New("the stream is gone")
	}
	return s.canned.Send(m)
}

// process serves an exchange whose answer cannot be sent.
func (r *rig) process(messages ...*extprocv3.ProcessingRequest) {
	r.t.Helper()
	synctest.Wait()     // the server serves
	r.server.atHand = 0 // no piece is deferred
	if err := r.server.Process(&unsendable{canned{messages: messages}}); err == nil {
		r.t.Error("all was sent")
	}
}

// A response whose end is shown by an answer that could not be sent is settled, and holds nothing.
func TestBackgroundEndUnsent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.background("ann")
		r.process(
			requestHeaders(":method", "GET", ":path", "/v1/responses/resp_1"),
			responseHeaders(":status", "200", "content-type", "application/json"),
			responseBody(completed, false),
		)
		r.wantUser("its end was shown", "ann", 66, 0)
		if n := r.metric("tokenbudget_background_responses"); n != 0 {
			t.Errorf("%v responses go on, want none", n)
		}
	})
}

// A stream in the background of which a piece could not be sent goes on, and is settled once.
func TestBackgroundStreamUnsent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.process(
			requestHeaders(":method", "POST", ":path", "/v1/responses", "x-user", "ann"),
			requestBody(`{"model":"gpt-4o","input":"hi","background":true,"stream":true,"max_output_tokens":100}`),
			responseHeaders(":status", "200", "content-type", eventStream),
			responseBody("data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"queued\"}}\n\n", false),
		)
		r.wantUser("it goes on", "ann", 0, 108)
		if n := r.metric("tokenbudget_background_responses"); n != 1 {
			t.Errorf("%v responses go on, want 1", n)
		}
		time.Sleep(time.Minute)
		r.fetch().fetched()
		r.wantUser("it was fetched", "ann", 66, 0)
		if n := r.metric("tokenbudget_background_responses"); n != 0 {
			t.Errorf("%v responses go on, want none", n)
		}
	})
}
