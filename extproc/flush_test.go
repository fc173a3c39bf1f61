package extproc

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/budget"
)

// backlog is a stream whose messages are all at hand. What is sent takes some time.
type backlog struct {
	canned
	answer   strings.Builder
	eos      bool          // of the last piece
	metadata bool          // the last message has some
	ends     bool          // Recv ends after the messages; else it waits for hangUp
	panics   bool          // Recv does, after the messages
	hangUp   chan struct{} // closed by the peer
	text     string        // that has to be among what was sent, for done
	done     chan struct{} // closed then
	send     func() error  // what Send does besides; nil: nothing
}

func newBacklog(texts ...string) *backlog {
	b := &backlog{hangUp: make(chan struct{}), done: make(chan struct{})}
	b.messages = []*extprocv3.ProcessingRequest{
		requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann"),
		requestBody(chatBody("Good morning", true)),
		responseHeaders(":status", "200", "content-type", eventStream),
	}
	for _, t := range texts {
		b.messages = append(b.messages, responseBody(event(t), false))
	}
	return b
}

func (b *backlog) Recv() (*extprocv3.ProcessingRequest, error) {
	if len(b.messages) > 0 {
		return b.canned.Recv()
	}
	if b.panics {
		panic("boom")
	}
	if !b.ends {
		<-b.hangUp
	}
	return nil, io.EOF
}

func (b *backlog) Send(m *extprocv3.ProcessingResponse) error {
	if s := bodyOf(m); s != nil {
		b.answer.Write(s.GetBody())
		b.eos = s.GetEndOfStream()
		if b.text != "" && strings.Contains(b.answer.String(), b.text) {
			close(b.done)
			b.text = ""
		}
	}
	b.metadata = m.GetDynamicMetadata() != nil
	if b.send != nil {
		if err := b.send(); err != nil {
			return err
		}
	}
	return b.canned.Send(m)
}

func numbered(n int) (texts []string, events string) {
	for i := range n {
		texts = append(texts, fmt.Sprint(" ", i))
		events += event(texts[i])
	}
	return texts, events
}

// What is at hand when the sending is slow leaves in fewer messages, whole and in order,
// and all of it before the receiver waits for more.
func TestBacklogIsMerged(t *testing.T) {
	s := newPlainServer(t)
	defer s.receivers.wait()
	defer s.receivers.close()
	s.atHand = time.Hour
	texts, want := numbered(1000)
	b := newBacklog(texts...)
	b.text = event(" 999")
	b.send = func() error { time.Sleep(time.Millisecond); return nil }
	ended := make(chan error)
	go func() { ended <- s.Process(b) }()
	select {
	case <-b.done:
	case <-time.After(time.Minute):
		t.Fatal("what was deferred does not leave")
	}
	close(b.hangUp)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := b.answer.String(); got != want {
		t.Errorf("%d bytes were sent, want %d; or in another order", len(got), len(want))
	}
	t.Logf("%d messages for %d chunks", b.sent-3, len(texts))
	if b.sent-3 >= len(texts)/2 {
		t.Errorf("%d messages for %d chunks", b.sent-3, len(texts))
	}
}

// A message that the receiver has waited for is answered before it waits for the next one,
// with no other goroutine and no timer in between.
func TestNoBacklogNoDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainServer(t)
		defer s.receivers.wait()
		defer s.receivers.close()
		texts, want := numbered(50)
		b := newBacklog(texts...)
		b.ends = true
		p := &waited{backlog: b, t: t}
		if err := s.Process(p); err != nil {
			t.Error(err)
		}
		if b.answer.String() != want || b.sent != 3+len(texts) {
			t.Errorf("%d messages with %d bytes", b.sent, b.answer.Len())
		}
	})
}

// waited is a stream whose messages come some time after they were asked for.
type waited struct {
	*backlog
	t     *testing.T
	asked int
}

func (w *waited) Recv() (*extprocv3.ProcessingRequest, error) {
	if w.sent != w.asked {
		w.t.Errorf("%d messages were answered by %d", w.asked, w.sent)
	}
	w.asked++
	time.Sleep(atHand)
	return w.backlog.Recv()
}

// One that was deferred leaves by itself when nothing follows, and takes no time for it:
// in the bubble every message is at hand.
func TestDeferredLeaves(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial()
		defer p.hangUp()
		p.begin("ann")
		at := time.Now()
		for range 50 {
			p.say(" morning")
			synctest.Wait()
		}
		if d := time.Since(at); d != 0 {
			t.Errorf("that took %v", d)
		}
		p.send(responseBody("data: [DONE]\n\n", true))
		if m := p.next(); !bodyOf(m).GetEndOfStream() || m.GetDynamicMetadata() == nil {
			t.Errorf("the end is %v", m)
		}
	})
}

// However an answer ends, what was deferred leaves before that, and the end is as it would
// be without a backlog.
func TestEndsBehindBacklog(t *testing.T) {
	texts, events := numbered(20)
	for name, tc := range map[string]struct {
		last             *extprocv3.ProcessingRequest
		body             string // behind the events
		eos              bool
		metadata, panics bool
		err              codes.Code
	}{
		"end":      {last: responseBody("data: [DONE]\n\n", true), body: "data: [DONE]\n\n", eos: true, metadata: true},
		"trailers": {last: &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}}}, metadata: true},
		"mistake":  {last: requestBody("{}"), err: codes.InvalidArgument},
		"peer":     {},
		"panic":    {panics: true, err: codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPlainServer(t)
			defer s.receivers.wait()
			defer s.receivers.close()
			s.atHand = time.Hour
			b := newBacklog(texts...)
			b.ends, b.panics = true, tc.panics
			if tc.last != nil {
				b.messages = append(b.messages, tc.last)
			}
			if err := s.Process(b); status.Code(err) != tc.err {
				t.Errorf("the stream ends with %v", err)
			}
			if got := b.answer.String(); got != events+tc.body || b.eos != tc.eos || b.metadata != tc.metadata {
				t.Errorf("sent %q, end of stream %v, metadata %v", got, b.eos, b.metadata)
			}
		})
	}
}

// A cut takes along what is deferred, or leaves after it, with its metadata.
func TestCutBehindBacklog(t *testing.T) {
	ledger, err := budget.New(t.Context(), budget.Options{Limits: []budget.Limit{{Name: "all", Amount: 200, Period: budget.Total}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ledger.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for range 20 {
		s := New(Options{Ledger: ledger, Log: zap.NewNop()})
		s.atHand = time.Hour
		b := newBacklog(strings.Repeat("a ", 10), strings.Repeat("a ", 10), strings.Repeat("a ", 500), "never")
		b.ends = true
		if err := s.Process(b); err != nil {
			t.Error(err)
		}
		s.receivers.close()
		s.receivers.wait()
		want := event(strings.Repeat("a ", 10)) + event(strings.Repeat("a ", 10)) + ": tokenbudget: cut, limit all\n"
		if got := b.answer.String(); !strings.HasPrefix(got, want) || strings.Contains(got, "never") || !b.eos || !b.metadata {
			t.Fatalf("sent %q, end of stream %v, metadata %v", got, b.eos, b.metadata)
		}
		if err := ledger.SetLimits(t.Context(), []budget.Limit{{Name: "all", Amount: 200 + ledgerSpent(t, ledger), Period: budget.Total}}); err != nil {
			t.Fatal(err)
		}
	}
}

func ledgerSpent(t *testing.T, l *budget.Ledger) int64 {
	t.Helper()
	all, err := l.Balances(t.Context())
	if err != nil || len(all) != 1 || all[0].Held != 0 {
		t.Fatalf("balances %v, %v", all, err)
	}
	return all[0].Spent
}

// A stream that breaks while something is deferred settles once, and ends.
func TestBacklogOfGonePeer(t *testing.T) {
	s := newPlainServer(t)
	defer s.receivers.wait()
	defer s.receivers.close()
	s.atHand = time.Hour
	texts, _ := numbered(500)
	b := newBacklog(texts...)
	sent := 0
	b.send = func() error {
		if sent++; sent > 3 { // the first piece of the answer
			return errors.New("gone")
		}
		return nil
	}
	if err := s.Process(b); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ends with %v", err)
	}
	close(b.hangUp)
	all, err := s.opts.Ledger.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, bal := range all {
		if bal.Held != 0 || bal.Spent == 0 {
			t.Errorf("limit %s: %d spent, %d held", bal.Limit, bal.Spent, bal.Held)
		}
	}
}
