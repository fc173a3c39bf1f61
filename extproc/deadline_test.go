package extproc

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	exchangeTimeout = 10 * time.Minute
	idleTimeout     = time.Minute
)

func deadlines(o *Options) { o.ExchangeTimeout, o.IdleTimeout = exchangeTimeout, idleTimeout }

// A stream that falls silent is cut; every message postpones that.
func TestIdleTimeout(t *testing.T) {
	bubble(t, deadlines, func(t *testing.T, r *rig) {
		p := r.dial()
		defer p.hangUp()
		p.begin("ann")
		p.say("Good")
		for range 3 {
			time.Sleep(idleTimeout - time.Second)
			p.say(" morning")
		}
		at := time.Now()
		p.wantCut("(idle)")
		if d := time.Since(at); d != idleTimeout {
			t.Errorf("cut after a silence of %v, want %v", d, idleTimeout)
		}
		p.hangUp()
		synctest.Wait()
		if l := r.exchangeLine("ann"); l["outcome"] != "cut" || l["limit"] != "(idle)" {
			t.Errorf("logged %v", l)
		}
	})
}

// Before a stream has begun, silence is no fault: models think for minutes.
func TestSilenceBeforeTheAnswer(t *testing.T) {
	bubble(t, deadlines, func(t *testing.T, r *rig) {
		p := r.dial()
		defer p.hangUp()
		p.request("ann", true)
		time.Sleep(4 * idleTimeout)
		p.answer(eventStream)
		time.Sleep(4 * idleTimeout)
		p.say("Good")
		at := time.Now()
		p.wantCut("(idle)")
		if d := time.Since(at); d > 2*idleTimeout {
			t.Errorf("cut after a silence of %v", d)
		}
	})
}

// No exchange lasts longer than it may, however busy it is: one that can be cut is
// cut, others are broken off.
func TestExchangeTimeout(t *testing.T) {
	t.Run("streaming", func(t *testing.T) {
		bubble(t, deadlines, func(t *testing.T, r *rig) {
			p := r.dial()
			defer p.hangUp()
			at := time.Now()
			p.begin("ann")
			for time.Since(at) < exchangeTimeout-idleTimeout {
				time.Sleep(idleTimeout / 2)
				p.say(" a")
			}
			p.wantCut("(deadline)")
			if d := time.Since(at); d != exchangeTimeout {
				t.Errorf("cut after %v, want %v", d, exchangeTimeout)
			}
			p.hangUp()
			synctest.Wait()
			if l := r.exchangeLine("ann"); l["outcome"] != "cut" || l["limit"] != "(deadline)" {
				t.Errorf("logged %v", l)
			}
		})
	})
	for name, prepare := range map[string]func(p *peer){
		"awaiting":       func(p *peer) { p.request("ann", true) },
		"no event":       func(p *peer) { p.begin("ann") },
		"unary":          func(p *peer) { p.request("ann", false); p.answer("application/json") },
		"passing":        func(p *peer) { p.send(requestHeaders(":method", "GET", ":path", "/health", "x-user", "ann")); p.next() },
		"passing answer": func(p *peer) { p.request("ann", true); p.answer("text/html") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, deadlines, func(t *testing.T, r *rig) {
				p := r.dial()
				defer p.hangUp()
				at := time.Now()
				prepare(p)
				if err := p.end(); status.Code(err) != codes.Unavailable {
					t.Errorf("the stream ends with %v, want Unavailable", err)
				}
				if d := time.Since(at); d != exchangeTimeout {
					t.Errorf("ended after %v, want %v", d, exchangeTimeout)
				}
				// Whether it counts as aborted is for the state machine to say.
				if lines := r.log.lines("msg", "exchange"); len(lines) != 1 || lines[0]["limit"] != "(deadline)" {
					t.Errorf("logged %v", lines)
				}
			})
		})
	}
}

// A request that does not come is not waited for as long as an answer is.
func TestNoRequest(t *testing.T) {
	for name, prepare := range map[string]func(p *peer){
		"nothing sent": func(*peer) {},
		"no body": func(p *peer) {
			p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann", "content-length", "2000000"))
			p.next()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, deadlines, func(t *testing.T, r *rig) {
				p := r.dial()
				defer p.hangUp()
				at := time.Now()
				prepare(p)
				if err := p.end(); status.Code(err) != codes.Unavailable {
					t.Errorf("the stream ends with %v, want Unavailable", err)
				}
				if d := time.Since(at); d != idleTimeout {
					t.Errorf("ended after %v, want %v", d, idleTimeout)
				}
				if lines := r.log.lines("msg", "exchange"); len(lines) != 1 || lines[0]["limit"] != "(idle)" || lines[0]["outcome"] != "aborted" {
					t.Errorf("logged %v", lines)
				}
			})
		})
	}
}

// After a cut the server waits for Envoy to hang up, but not for ever. What arrives
// meanwhile is charged and not forwarded.
func TestLingerEnds(t *testing.T) {
	for _, hangsUp := range []bool{true, false} {
		t.Run(map[bool]string{true: "hangs up", false: "stays"}[hangsUp], func(t *testing.T) {
			bubble(t, deadlines, func(t *testing.T, r *rig) {
				p := r.dial()
				defer p.hangUp()
				p.begin("ann")
				p.say("Good")
				time.Sleep(idleTimeout)
				p.wantCut("(idle)")
				at := time.Now()
				time.Sleep(cutGrace / 2)
				synctest.Wait()
				if b := r.user("ann"); b.Held == 0 {
					t.Fatal("settled before Envoy has hung up")
				}
				p.send(responseBody(event(" morning to all of you"), false))
				synctest.Wait()
				want := cutGrace
				if hangsUp {
					p.hangUp()
					want = cutGrace / 2
					synctest.Wait()
				} else if err := p.end(); err != nil {
					t.Errorf("the stream ends with %v", err)
				}
				if d := time.Since(at); d != want {
					t.Errorf("the stream ended after %v, want %v", d, want)
				}
				l := r.exchangeLine("ann")
				if l["outcome"] != "cut" || l["output_tokens"] != 6.0 { // "Good", " morning", " to", " all", " of", " you"
					t.Errorf("logged %v", l)
				}
			})
		})
	}
}
