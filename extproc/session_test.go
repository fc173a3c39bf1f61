package extproc

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/budget"
	"google.golang.org/grpc/test/bufconn"
)

// charged fails unless a user was charged what the log says, once.
func charged(t *testing.T, r *rig, user string, line map[string]any) {
	t.Helper()
	b := r.user(user)
	if want := int64(line["input_tokens"].(float64) + line["output_tokens"].(float64)); b.Spent != want || b.Held != 0 {
		t.Errorf("%s: %d spent and %d held; the log says %d were used", user, b.Spent, b.Held, want)
	}
}

// Wherever a client goes away, the exchange settles once.
func TestClientAbort(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(p *peer)
		outcome string
		input   bool  // the prompt is charged
		output  int64 // tokens charged; -1: what was held
	}{
		{"before the decision", func(p *peer) {
			p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann"))
			p.next()
		}, "aborted", false, 0},
		{"awaiting a stream", func(p *peer) { p.request("ann", true) }, "aborted", true, 0},
		{"awaiting an answer", func(p *peer) { p.request("ann", false) }, "aborted", true, -1},
		{"a stream has begun", func(p *peer) { p.begin("ann") }, "aborted", true, 0},
		{"in mid-stream", func(p *peer) { p.begin("ann"); p.say("Good"); p.say(" morning") }, "aborted", true, 2},
		{"in mid-event", func(p *peer) {
			p.begin("ann")
			p.say("Good")
			p.send(responseBody(event(" morning")[:20], false))
		}, "aborted", true, 1},
		{"in mid-answer", func(p *peer) {
			p.request("ann", false)
			p.answer("application/json")
			p.send(responseBody(`{"choices": [`, false))
			p.next()
		}, "aborted", true, -1},
	} {
		for name, leave := range map[string]func(p *peer){
			"reset": func(p *peer) { p.hangUp() },
			"end": func(p *peer) {
				if err := p.stream.CloseSend(); err != nil {
					p.t.Error(err)
				}
				if err := p.end(); err != nil {
					p.t.Errorf("the stream ends with %v", err)
				}
				p.hangUp()
			},
		} {
			t.Run(tc.name+"/"+name, func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, r *rig) {
					p := r.dial()
					tc.prepare(p)
					synctest.Wait()
					held := r.user("ann").Held
					leave(p)
					synctest.Wait()
					l := r.exchangeLine("ann")
					if l["outcome"] != tc.outcome {
						t.Errorf("logged %v", l)
					}
					if !tc.input {
						if b := r.user("ann"); b.Spent != 0 {
							t.Errorf("%d spent, though nothing was forwarded", b.Spent)
						}
						return
					}
					charged(t, r, "ann", l)
					input := int64(l["input_tokens"].(float64))
					want := input + tc.output
					if tc.output < 0 {
						want = held
					}
					if b := r.user("ann"); input == 0 || b.Spent != want {
						t.Errorf("%d spent with %d of input; want %d", b.Spent, input, want)
					}
				})
			})
		}
	}
}

// Ends of every kind at the same moment: each exchange still settles once, with one
// line in the log which agrees with the ledger.
func TestEndsThatMeet(t *testing.T) {
	for seed := range uint64(20) {
		bubble(t, func(o *Options) { deadlines(o); o.DrainTimeout = -1 }, func(t *testing.T, r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			peers := make([]*peer, 12)
			for i := range peers {
				peers[i] = r.dial()
				peers[i].begin(fmt.Sprint("user", i))
				peers[i].say("Good")
			}
			time.Sleep(idleTimeout - time.Nanosecond)
			var ends []func()
			for _, p := range peers {
				switch rnd.IntN(4) {
				case 0:
					ends = append(ends, p.hangUp)
				case 1:
					// The stream may have ended before: an error is no fault here.
					ends = append(ends, func() { _ = p.stream.Send(responseBody(event(" morning"), false)) })
				case 2:
					ends = append(ends, func() { _ = p.stream.Send(responseBody("data: [DONE]\n\n", true)) })
				case 3: // the idle timeout alone
				}
			}
			ends = append(ends, r.stop)
			rnd.Shuffle(len(ends), func(i, j int) { ends[i], ends[j] = ends[j], ends[i] })
			for _, end := range ends {
				go end()
			}
			time.Sleep(time.Nanosecond)
			<-r.ended
			for i, p := range peers {
				user := fmt.Sprint("user", i)
				charged(t, r, user, r.exchangeLine(user))
				p.hangUp()
			}
		})
	}
}

// A panic ends its own exchange and no other. Nobody knows what it used, so its hold
// is charged, unless it has settled before.
func TestPanic(t *testing.T) {
	var armed atomic.Bool
	bomb := func() {
		if armed.CompareAndSwap(true, false) {
			panic("boom")
		}
	}
	for _, tc := range []struct {
		name    string
		prepare func(p *peer)
		trigger func(p *peer)
		inLog   bool // it is the log that panics
		settled bool // the panic comes after the settlement
	}{
		{name: "at the response's headers", trigger: func(p *peer) {
			p.send(responseHeaders(":status", "200", "content-type", eventStream))
		}},
		{name: "at the first text", prepare: func(p *peer) { p.answer(eventStream) }, trigger: func(p *peer) {
			p.send(responseBody(event("SECRET"), false))
		}},
		{name: "at the end", prepare: func(p *peer) { p.answer(eventStream); p.say("Good") }, trigger: func(p *peer) {
			p.send(responseBody("data: [DONE]\n\n", true))
		}},
		// This one strikes the handler's goroutine, the others the receiver's.
		{name: "at a deadline", prepare: func(p *peer) { p.answer(eventStream); p.say("Good") }, trigger: func(*peer) {
			// Time passes by itself.
		}},
		{name: "in the log", inLog: true, settled: true, prepare: func(p *peer) { p.answer(eventStream); p.say("Good") }, trigger: func(p *peer) {
			p.send(responseBody("data: [DONE]\n\n", true))
			p.next()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			configure := func(o *Options) {
				deadlines(o)
				if !tc.inLog {
					o.Policy.Now = func() time.Time { bomb(); return time.Now() }
				}
			}
			bubble(t, configure, func(t *testing.T, r *rig) {
				r.wantErrors = true
				if tc.inLog {
					r.log.before = func(line []byte) {
						if strings.Contains(string(line), `"msg":"exchange"`) {
							bomb()
						}
					}
				}
				other := r.dial()
				defer other.hangUp()
				p := r.dial()
				defer p.hangUp()
				p.request("ann", true)
				if tc.prepare != nil {
					tc.prepare(p)
				}
				other.begin("bob")
				other.say("Good")
				synctest.Wait()
				held := r.user("ann").Held
				if held == 0 {
					t.Fatal("nothing is held")
				}

				// The other one must not be the first to meet a deadline.
				time.Sleep(idleTimeout / 2)
				other.say(" and")
				armed.Store(true)
				tc.trigger(p)
				if err := p.end(); status.Code(err) != codes.Internal {
					t.Errorf("the stream ends with %v, want Internal", err)
				} else if strings.Contains(err.Error(), "boom") {
					t.Errorf("Envoy is told what the panic said: %v", err)
				}
				if armed.Load() {
					t.Error("there was no panic")
				}

				b := r.user("ann")
				if b.Held != 0 || b.Spent == 0 || !tc.settled && b.Spent != held {
					t.Errorf("%d spent and %d held, of a hold of %d", b.Spent, b.Held, held)
				}
				if n := r.metric("tokenbudget_panics_total"); n != 1 {
					t.Errorf("%v panics counted", n)
				}
				lines := r.log.lines("level", "error")
				if len(lines) != 1 || lines[0]["panic"] != "boom" || !strings.Contains(lines[0]["stack"].(string), "extproc") {
					t.Errorf("logged %v", lines)
				}
				if strings.Contains(r.log.text(), "SECRET") {
					t.Error("the log shows text of the answer")
				}

				other.say(" morning")
				other.send(responseBody("data: [DONE]\n\n", true))
				other.next()
				if err := other.end(); err != nil {
					t.Errorf("the other stream ends with %v", err)
				}
				if l := r.exchangeLine("bob"); l["outcome"] != "completed" {
					t.Errorf("the other: logged %v", l)
				}
			})
		})
	}
}

// What cannot be understood ends the stream with an error, so that Envoy fails the
// request, and settles.
func TestProtocolError(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial()
		defer p.hangUp()
		p.request("ann", true)
		p.send(requestBody("{}"))
		if err := p.end(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("the stream ends with %v, want InvalidArgument", err)
		}
		charged(t, r, "ann", r.exchangeLine("ann"))
		if lines := r.log.lines("level", "warn"); len(lines) != 1 {
			t.Errorf("logged %v", lines)
		}
	})
}

// A peer that sends and never reads blocks the server's sending. It must block
// neither the drain nor a deadline. This one runs in real time: a bubble's clock
// stands still while a goroutine waits for a mutex.
func TestPeerThatNeverReads(t *testing.T) {
	for name, configure := range map[string]func(*Options){
		"drain":    func(o *Options) { o.DrainTimeout = -1 },
		"deadline": func(o *Options) { o.DrainTimeout, o.ExchangeTimeout = -1, 3*time.Second }, // the answer must have begun by then
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { // with a limit that is not reached
				ledger, err := budget.New(t.Context(), budget.Options{Limits: []budget.Limit{{Name: "user", Amount: 1e9, Period: budget.Total, Per: []string{"user"}}}})
				if err != nil {
					t.Fatal(err)
				}
				o.Ledger = ledger
				configure(o)
			})
			r.server.grace = 10 * time.Millisecond
			p := r.dial()
			defer p.hangUp()
			p.begin("ann")
			text := ": " + strings.Repeat("x", 10_000) + "\n\n" // a long comment, which costs something
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				// More than the windows of HTTP/2 and the connection's buffer hold.
				for range 1000 {
					if p.stream.Send(responseBody(text, false)) != nil {
						return
					}
				}
			}()
			time.Sleep(50 * time.Millisecond) // for the windows to fill; if they do not, the test is only weaker
			if name == "drain" {
				r.stop()
			}
			for wait := time.Now(); len(r.log.lines("msg", "exchange")) == 0; time.Sleep(time.Millisecond) {
				if time.Since(wait) > time.Minute {
					t.Fatal("the exchange does not end")
				}
			}
			r.stop()
			select {
			case <-r.ended:
			case <-time.After(time.Minute):
				t.Fatal("Serve does not return")
			}
			p.hangUp()
			<-sent
			l := r.exchangeLine("ann")
			charged(t, r, "ann", l)
			if l["outcome"] != "aborted" { // a limit has nothing to do with it
				t.Errorf("logged %v", l)
			}
			if err := r.conn.Close(); err != nil {
				t.Error(err)
			}
			if err := r.ledger.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A listener that fails is an error, and no end.
func TestServeReportsErrors(t *testing.T) {
	lis := bufconn.Listen(1)
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if err := New(Options{Log: zap.NewNop()}).Serve(t.Context(), failed{lis}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Serve returned %v", err)
	}
}

// failed is a listener whose Accept fails for good.
type failed struct{ net.Listener }

func (failed) Accept() (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
