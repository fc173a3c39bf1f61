package extproc

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/budget"
)

// gatedStore is a store in memory whose writes can be made to wait, or to fail.
type gatedStore struct {
	mu      sync.Mutex
	entries map[budget.Key]budget.Entry
	gate    chan struct{} // a Put waits until it is closed; nil: it does not wait
	err     error
}

func (s *gatedStore) set(gate chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate, s.err = gate, err
}

// open lets a Put that waits go on.
func (s *gatedStore) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

// used is what the store has for the limit named all.
func (s *gatedStore) used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, e := range s.entries {
		if k.Limit == "all" {
			return e.Used
		}
	}
	return 0
}

func (s *gatedStore) Get(_ context.Context, k budget.Key) (budget.Entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[k]
	return e, ok, nil
}

func (s *gatedStore) Put(_ context.Context, entries []budget.Entry) error {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for _, e := range entries {
		s.entries[e.Key] = e
	}
	return nil
}

func (s *gatedStore) Range(_ context.Context, f func(budget.Entry) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if !f(e) {
			break
		}
	}
	return nil
}

func (s *gatedStore) Err() error   { return nil }
func (s *gatedStore) Close() error { return nil }

// stored runs f with a rig whose ledger has a store.
func stored(t *testing.T, f func(t *testing.T, r *rig, s *gatedStore)) {
	s := &gatedStore{entries: make(map[budget.Key]budget.Entry)}
	bubble(t, func(o *Options) {
		var err error
		o.Ledger, err = budget.New(t.Context(), budget.Options{
			Limits: []budget.Limit{
				{Name: "all", Amount: 1_000_000, Period: budget.Total},
				{Name: "one", Unit: budget.Streams, Amount: 1, Per: []string{"user"}},
			},
			Store:      s,
			GrowthStep: 8,
		})
		if err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, r *rig) {
		defer s.open() // also if f fails
		f(t, r, s)
	})
}

// receive has the next message, or the end, come in over a channel.
func (p *peer) receive() chan error {
	c := make(chan error, 1)
	go func() {
		_, err := p.stream.Recv()
		c <- err
	}()
	return c
}

// Nothing leaves before it is in the store: no request before its hold, no text before
// the growth that pays for it, no end before the settlement. Text within a hold does
// not wait.
func TestWrittenBeforeItLeaves(t *testing.T) {
	stored(t, func(t *testing.T, r *rig, s *gatedStore) {
		p := r.dial()
		defer p.hangUp()
		waits := func(what string, done chan error) {
			t.Helper()
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatalf("%s has left before it was written (%v)", what, err)
			default:
			}
			before := s.used()
			s.open()
			if err := <-done; err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if s.used() == before {
				t.Errorf("%s has left, and the store has still %d", what, before)
			}
		}
		p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann"))
		p.next()
		s.set(make(chan struct{}), nil)
		p.send(requestBody(chatBody("Good morning", true)))
		waits("a request", p.receive())
		p.answer(eventStream)

		s.set(make(chan struct{}), nil)
		p.say("one two three") // within the hold
		p.send(responseBody(event(" four five six seven eight nine ten"), false))
		waits("text", p.receive())

		s.set(make(chan struct{}), nil)
		p.send(responseBody("data: [DONE]\n\n", true))
		waits("the end", p.receive())
	})
}

// With a store that fails, requests are refused, and an answer goes on as long as its
// hold suffices. More text, or an end, which the store does not have is not sent.
func TestStoreFails(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, more := range map[string]func(p *peer){
		"text": func(p *peer) { p.send(responseBody(event(strings.Repeat(" morning", 20)), false)) },
		"end":  func(p *peer) { p.send(responseBody("data: [DONE]\n\n", true)) },
	} {
		t.Run(name, func(t *testing.T) {
			stored(t, func(t *testing.T, r *rig, s *gatedStore) {
				r.wantErrors = true
				p := r.dial()
				defer p.hangUp()
				p.begin("ann")
				held := s.used()
				s.set(nil, broken)
				other := r.dial()
				defer other.hangUp()
				m := other.request("bob", true).GetImmediateResponse()
				if m.GetStatus().GetCode() != 503 {
					t.Fatalf("a request is answered with %v", m)
				}
				p.say("Good")
				more(p)
				if err := p.end(); status.Code(err) != codes.Unavailable {
					t.Errorf("the stream ended with %v", err)
				}
				if r.ledger.Err() == nil || s.used() != held {
					t.Errorf("Err = %v; the store has %d, held were %d", r.ledger.Err(), s.used(), held)
				}
				s.set(nil, nil)
				time.Sleep(time.Second)
				if err := r.ledger.Sync(t.Context()); err != nil {
					t.Error(err)
				}
				if got := s.used(); got != r.balances()[0].Spent || got == held {
					t.Errorf("the store that has recovered has %d, spent are %d", got, r.balances()[0].Spent)
				}
				// Neither the one that was broken off nor the one that was refused is under way.
				for _, user := range []string{"ann", "bob"} {
					p := r.dial()
					p.begin(user)
					p.hangUp()
				}
			})
		})
	}
}

// A client that leaves while its hold is written is no fault of the ledger's, and holds
// nothing.
func TestLeftWhileWritten(t *testing.T) {
	stored(t, func(t *testing.T, r *rig, s *gatedStore) {
		p := r.dial()
		p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann"))
		p.next()
		s.set(make(chan struct{}), nil)
		p.send(requestBody(chatBody("Good morning", true)))
		synctest.Wait()
		p.hangUp()
		synctest.Wait()
		s.open()
		synctest.Wait()
		if line := r.exchangeLine("ann"); line["outcome"] != "aborted" || line["input_tokens"] != 0. {
			t.Errorf("logged %v", line)
		}
	})
}
