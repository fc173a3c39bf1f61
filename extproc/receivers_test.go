package extproc

import (
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"weak"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// silent is a stream that ends, without a message, when it is told to.
type silent struct {
	canned
	end <-chan struct{}
}

func (s *silent) Recv() (*extprocv3.ProcessingRequest, error) {
	<-s.end
	return nil, io.EOF
}

// One receiver serves one exchange after the other; of many at a time only some stay,
// and none after the end. A goroutine that stayed would fail the bubble.
func TestReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainServer(t)
		process := func(streams int, end <-chan struct{}) {
			for range streams {
				go func() {
					if err := s.Process(&silent{end: end}); err != nil {
						t.Error(err)
					}
				}()
			}
		}
		waiting := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := len(s.receivers.places); n != want {
				t.Errorf("%d receivers wait, want %d", n, want)
			}
		}
		over := make(chan struct{})
		close(over)
		for range 10 {
			process(1, over)
			waiting(1)
		}
		end := make(chan struct{})
		process(2*maxIdleReceivers, end)
		waiting(0)
		close(end)
		waiting(maxIdleReceivers)
		end = make(chan struct{})
		process(1, end)
		waiting(maxIdleReceivers - 1)

		s.receivers.close()
		waited := make(chan struct{})
		go func() {
			s.receivers.wait()
			close(waited)
		}()
		synctest.Wait()
		select {
		case <-waited:
			t.Error("one is still at work")
		default:
		}
		close(end)
		<-waited
	})
}

// A receiver that waits keeps nothing of its last exchange, which may be large.
func TestReceiversLetGo(t *testing.T) {
	s := newPlainServer(t)
	defer s.receivers.wait()
	defer s.receivers.close()
	over := make(chan struct{})
	close(over)
	for i := range 3 { // the first in a new receiver, the others in the same
		last := func() weak.Pointer[silent] {
			stream := &silent{end: over}
			if err := s.Process(stream); err != nil {
				t.Fatal(err)
			}
			return weak.Make(stream)
		}()
		for n := 0; last.Value() != nil; n++ {
			if n == 100 {
				t.Fatalf("exchange %d stays", i)
			}
			runtime.GC()
		}
	}
}

// unreadable is a stream whose next message makes the reader panic.
type unreadable struct{ canned }

func (*unreadable) Recv() (*extprocv3.ProcessingRequest, error) { panic("boom") }

// A message that makes its reader panic ends its own exchange only, and its receiver
// serves the next one.
func TestReceivePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainServer(t)
		defer s.receivers.wait()
		defer s.receivers.close()
		over := make(chan struct{})
		close(over)
		for range 3 {
			if err := s.Process(new(unreadable)); status.Code(err) != codes.Internal {
				t.Errorf("the stream ends with %v, want Internal", err)
			}
			synctest.Wait() // for the receiver to be back
			if err := s.Process(&silent{end: over}); err != nil {
				t.Errorf("the next one ends with %v", err)
			}
			synctest.Wait()
			if n := len(s.receivers.places); n != 1 {
				t.Errorf("%d receivers wait, want 1", n)
			}
		}
	})
}

// A log that panics whatever it is told ends no other exchange, and what was used is charged.
func TestLogPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainServer(t)
		defer s.receivers.wait()
		defer s.receivers.close()
		s.opts.Log = s.opts.Log.WithOptions(zap.Hooks(func(zapcore.Entry) error { panic("boom") }))
		for range 3 {
			stream := &canned{messages: unaryExchange()}
			if err := s.Process(stream); status.Code(err) != codes.Internal {
				t.Errorf("the stream ends with %v, want Internal", err)
			}
			if stream.sent != len(unaryExchange()) {
				t.Errorf("%d messages were sent", stream.sent)
			}
		}
		all, err := s.opts.Ledger.Balances(t.Context())
		if err != nil || len(all) == 0 {
			t.Fatalf("balances %v, error %v", all, err)
		}
		for _, b := range all {
			if b.Held != 0 || b.Spent == 0 {
				t.Errorf("limit %s: %d spent, %d held", b.Limit, b.Spent, b.Held)
			}
		}
	})
}

// waitsForUpstream is a stream that stays silent after its messages, and drops the answers.
type waitsForUpstream struct {
	canned
	forwarded weak.Pointer[extprocv3.ProcessingResponse]
	reached   chan struct{}
	end       <-chan struct{}
}

func (s *waitsForUpstream) Recv() (*extprocv3.ProcessingRequest, error) {
	if len(s.messages) > 0 {
		return s.canned.Recv()
	}
	close(s.reached)
	<-s.end
	return nil, io.EOF
}

func (s *waitsForUpstream) Send(m *extprocv3.ProcessingResponse) error {
	if m.GetRequestBody().GetResponse().GetBodyMutation() != nil {
		s.forwarded = weak.Make(m)
	}
	return nil
}

// While the upstream thinks, the body that it was sent is not kept: it may be large.
func TestForwardedBodyLetGo(t *testing.T) {
	s := newPlainServer(t)
	defer s.receivers.wait()
	defer s.receivers.close()
	end, ended := make(chan struct{}), make(chan error)
	stream := &waitsForUpstream{reached: make(chan struct{}), end: end}
	stream.messages = []*extprocv3.ProcessingRequest{
		requestHeaders(":method", "POST", ":path", "/v1/chat/completions"), requestBody(chatBody("Good morning", true)),
	}
	go func() { ended <- s.Process(stream) }()
	<-stream.reached
	if stream.forwarded == (weak.Pointer[extprocv3.ProcessingResponse]{}) {
		t.Error("no other body was forwarded")
	}
	for n := 0; stream.forwarded.Value() != nil; n++ {
		if n == 100 {
			t.Error("the forwarded body stays")
			break
		}
		runtime.GC()
	}
	close(end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
