package extproc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// throttling is a server whose limits are those.
func throttling(t *testing.T, limits ...budget.Limit) func(*Options) {
	return func(o *Options) {
		if err := o.Ledger.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		var err error
		if o.Ledger, err = budget.New(t.Context(), budget.Options{Limits: limits}); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	burst    = budget.Limit{Name: "burst", Unit: budget.Requests, Amount: 1, Period: budget.Minute, Action: budget.ActionThrottle, MaxDelay: 20 * time.Second}
	parallel = budget.Limit{Name: "parallel", Unit: budget.Streams, Amount: 1, Action: budget.ActionThrottle}
)

// untilNext sleeps until so long before the next minute.
func untilNext(d time.Duration) {
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute - d)))
}

// waits has a request wait, and checks how long Envoy is told to have patience.
func (p *peer) waits(user string, patience time.Duration) {
	p.t.Helper()
	m := p.request(user, true)
	if d := m.GetOverrideMessageTimeout(); d == nil || d.AsDuration() != patience || m.GetResponse() != nil {
		p.t.Fatalf("want patience for %v, got %v", patience, m)
	}
}

// waiting are the places that are taken.
func (r *rig) waiting() places {
	w := &r.server.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

// finish ends a stream that is admitted.
func (p *peer) finish() {
	p.t.Helper()
	p.answer(eventStream)
	p.send(responseBody("data: [DONE]\n\n", true))
	p.next()
}

// wantDenied reads a refusal by a limit.
func (p *peer) wantDenied(m *extprocv3.ProcessingResponse, limit string) {
	p.t.Helper()
	if i := m.GetImmediateResponse(); i.GetStatus().GetCode() != 429 || i.GetDetails() != "tokenbudget_denied{"+limit+"}" {
		p.t.Fatalf("want a refusal by %s, got %v", limit, m)
	}
}

// TestThrottleWindow: a request waits for the next window, holds nothing meanwhile, and is
// admitted in it.
func TestThrottleWindow(t *testing.T) {
	everyone := budget.Limit{Name: "everyone", Amount: 1000, Period: budget.Total}
	bubble(t, throttling(t, everyone, burst), func(t *testing.T, r *rig) {
		untilNext(15 * time.Second)
		first := r.dial()
		defer first.hangUp()
		first.begin("ann")
		first.send(responseBody("data: [DONE]\n\n", true))
		first.next()

		second := r.dial()
		defer second.hangUp()
		second.waits("bob", 25*time.Second)
		synctest.Wait()
		if n := r.metric("tokenbudget_waiting_requests"); n != 1 {
			t.Errorf("%v requests wait", n)
		}
		for _, b := range r.balances() {
			if b.Held != 0 {
				t.Errorf("%s holds %d for a request that waits", b.Limit, b.Held)
			}
		}
		began := time.Now()
		if second.next().GetRequestBody() == nil {
			t.Fatal("refused")
		}
		if d := time.Since(began); d < 15*time.Second || d > 15*time.Second+retrySpread {
			t.Errorf("waited %v", d)
		}
		second.finish()
		synctest.Wait()
		line := r.exchangeLine("bob")
		if ms := line["throttled_ms"].(float64); ms < 15000 || ms > 15050 || line["outcome"] != "completed" {
			t.Errorf("logged %v", line)
		}
		if n := r.metric("tokenbudget_throttled_seconds", "limit", "burst"); n != 1 {
			t.Errorf("%v waits were counted", n)
		}
		if n := r.metric("tokenbudget_waiting_requests"); n != 0 || r.waiting() != (places{}) {
			t.Errorf("%v requests wait at the end", n)
		}
	})
}

// TestThrottleOrder: of those that wait, who came first is admitted; the others are told
// when the next window ends, since that is too late for them.
func TestThrottleOrder(t *testing.T) {
	bubble(t, throttling(t, burst), func(t *testing.T, r *rig) {
		untilNext(18 * time.Second)
		first := r.dial()
		defer first.hangUp()
		first.begin("ann")
		first.send(responseBody("data: [DONE]\n\n", true))
		first.next()
		peers := make([]*peer, 4)
		for i := range peers {
			peers[i] = r.dial()
			defer peers[i].hangUp()
			peers[i].waits("bob", 25*time.Second)
			time.Sleep(2 * time.Second)
		}
		for i, p := range peers {
			if m := p.next(); i == 0 && m.GetRequestBody() == nil {
				t.Errorf("the first was refused: %v", m)
			} else if i > 0 {
				p.wantDenied(m, "burst")
			}
		}
		peers[0].finish()
	})
}

// TestThrottleStreams: a request waits until another one ends, or its time is over.
func TestThrottleStreams(t *testing.T) {
	bubble(t, throttling(t, parallel), func(t *testing.T, r *rig) {
		first := r.dial()
		defer first.hangUp()
		first.begin("ann")

		second := r.dial()
		defer second.hangUp()
		second.waits("bob", budget.DefaultMaxDelay+5*time.Second)
		time.Sleep(4 * time.Second)
		first.send(responseBody("data: [DONE]\n\n", true))
		first.next()
		began := time.Now()
		if second.next().GetRequestBody() == nil {
			t.Fatal("refused")
		}
		if d := time.Since(began); d > 3*retryEvery/2 {
			t.Errorf("waited %v after the other had ended", d)
		}

		third := r.dial()
		defer third.hangUp()
		third.waits("cat", budget.DefaultMaxDelay+5*time.Second)
		began = time.Now()
		third.wantDenied(third.next(), "parallel")
		if d := time.Since(began); d != budget.DefaultMaxDelay {
			t.Errorf("refused after %v", d)
		}
		second.finish()
	})
}

// TestThrottleIdle: a stream that has waited has the same deadlines as others.
func TestThrottleIdle(t *testing.T) {
	bubble(t, func(o *Options) {
		deadlines(o)
		throttling(t, parallel)(o)
	}, func(t *testing.T, r *rig) {
		first, second := r.dial(), r.dial()
		defer first.hangUp()
		defer second.hangUp()
		first.begin("ann")
		second.waits("bob", budget.DefaultMaxDelay+5*time.Second)
		time.Sleep(time.Second)
		first.send(responseBody("data: [DONE]\n\n", true))
		first.next()
		if second.next().GetRequestBody() == nil {
			t.Fatal("refused")
		}
		second.answer(eventStream)
		second.say("Good")
		began := time.Now()
		second.wantCut("(idle)")
		if d := time.Since(began); d < idleTimeout || d > 2*idleTimeout {
			t.Errorf("cut after %v of silence", d)
		}
		second.hangUp()
	})
}

// TestThrottleEnds: the client leaving, the shutdown and the exchange's deadline end a wait
// at once.
func TestThrottleEnds(t *testing.T) {
	for _, tc := range []struct {
		name    string
		end     func(r *rig, p *peer)
		outcome string
		after   time.Duration
	}{
		{"the client leaves", func(_ *rig, p *peer) { p.hangUp() }, "aborted", 0},
		{"shutdown", func(r *rig, p *peer) {
			r.stop()
			p.wantDenied(p.next(), "parallel")
		}, "denied", 0},
		{"deadline", func(_ *rig, p *peer) { p.wantDenied(p.next(), "parallel") }, "denied", 4 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(o *Options) {
				o.ExchangeTimeout = 5 * time.Second
				throttling(t, parallel)(o)
			}, func(t *testing.T, r *rig) {
				time.Sleep(time.Second)
				waiter := r.dial()
				defer waiter.hangUp()
				waiter.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "bob"))
				waiter.next() // its deadline runs from here on
				time.Sleep(time.Second)
				first := r.dial()
				defer first.hangUp()
				first.begin("ann")
				waiter.send(requestBody(chatBody("Good morning", true)))
				if d := waiter.next().GetOverrideMessageTimeout().AsDuration(); d != 4*time.Second+5*time.Second {
					t.Errorf("patience for %v", d)
				}
				began := time.Now()
				tc.end(r, waiter)
				synctest.Wait()
				if d := time.Since(began); d != tc.after {
					t.Errorf("it took %v", d)
				}
				if line := r.exchangeLine("bob"); line["outcome"] != tc.outcome {
					t.Errorf("logged %v", line)
				}
				if n := r.waiting(); n != (places{}) {
					t.Errorf("%v still wait", n)
				}
				first.hangUp()
			})
		})
	}
}

// TestThrottleAnswered: an answer that comes while the request waits reaches the client, and
// ends the wait.
func TestThrottleAnswered(t *testing.T) {
	bubble(t, throttling(t, parallel), func(t *testing.T, r *rig) {
		first, second := r.dial(), r.dial()
		defer first.hangUp()
		defer second.hangUp()
		first.begin("ann")
		second.waits("bob", budget.DefaultMaxDelay+5*time.Second)
		second.answer("text/plain")
		synctest.Wait()
		if n := r.waiting(); n != (places{}) {
			t.Errorf("%v still wait", n)
		}
		time.Sleep(2 * budget.DefaultMaxDelay) // nobody asks the ledger for it any more
		second.send(responseBody("no", true))
		if got := second.next().GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse(); string(got.GetBody()) != "no" || !got.GetEndOfStream() {
			t.Errorf("the client got %v", got)
		}
		synctest.Wait()
		if line := r.exchangeLine("bob"); line["outcome"] != "bypassed" || line["output_tokens"] != float64(0) {
			t.Errorf("logged %v", line)
		}
		first.hangUp()
	})
}

// TestThrottleLate: who begins to wait after the shutdown has begun is refused at once.
func TestThrottleLate(t *testing.T) {
	bubble(t, throttling(t, parallel), func(_ *testing.T, r *rig) {
		first, second := r.dial(), r.dial()
		defer first.hangUp()
		defer second.hangUp()
		first.begin("ann")
		second.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "bob"))
		second.next()
		r.stop()
		synctest.Wait()
		second.send(requestBody(chatBody("Good morning", true)))
		second.wantDenied(second.next(), "parallel")
		first.hangUp()
	})
}

// TestThrottleBounds: as many wait as may; others are refused at once.
func TestThrottleBounds(t *testing.T) {
	for name, full := range map[string]places{
		"requests": {requests: maxWaiting},
		"bytes":    {bytes: maxWaitingBytes},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, throttling(t, parallel), func(t *testing.T, r *rig) {
				r.server.waiting.all = full
				first, second := r.dial(), r.dial()
				defer first.hangUp()
				defer second.hangUp()
				first.begin("ann")
				second.wantDenied(second.request("bob", true), "parallel")
				synctest.Wait()
				if r.server.waiting.all != full || len(r.server.waiting.each) > 0 {
					t.Error("a request that does not wait is counted")
				}
				first.hangUp()
			})
		})
	}
}

// TestWaitingOfOne: a flood for one counter gets half of the places, and the next one
// half of the rest; all of them come back.
func TestWaitingOfOne(t *testing.T) {
	for name, size := range map[string]int64{"requests": 1, "bytes": maxWaitingBytes / 128} {
		var w waiting
		most := min(maxWaiting, maxWaitingBytes/size)
		took := make(map[string]int64)
		for _, counter := range []string{"a", "b", "c"} {
			for w.enter(counter, size) {
				took[counter]++
			}
		}
		if took["a"] != most/2 || took["b"] != most/4 || took["c"] != most/8 {
			t.Errorf("%s: %v of %d", name, took, most)
		}
		for counter, n := range took {
			for range n {
				w.leave(counter, size)
			}
		}
		if w.all != (places{}) || len(w.each) != 0 {
			t.Errorf("%s: %v remain, %v", name, w.all, w.each)
		}
	}
}

// TestThrottleOfOne: a user whose requests have half of the places keeps nobody else from
// waiting.
func TestThrottleOfOne(t *testing.T) {
	each := parallel
	each.Per = []string{"user"}
	bubble(t, throttling(t, each), func(_ *testing.T, r *rig) {
		users := []string{"ann", "bob"}
		for _, user := range users {
			p := r.dial()
			defer p.hangUp()
			p.begin(user)
		}
		patience := budget.DefaultMaxDelay + 5*time.Second
		for range maxWaiting / 2 {
			p := r.dial()
			defer p.hangUp()
			p.waits("ann", patience)
		}
		late := r.dial()
		defer late.hangUp()
		late.wantDenied(late.request("ann", true), "parallel")
		other := r.dial()
		defer other.hangUp()
		other.waits("bob", patience)
	})
}

// A handler that is lost while a request waits gives its place back.
func TestThrottleProtocol(t *testing.T) {
	bubble(t, throttling(t, parallel), func(t *testing.T, r *rig) {
		first, second := r.dial(), r.dial()
		defer first.hangUp()
		defer second.hangUp()
		first.begin("ann")
		second.waits("bob", budget.DefaultMaxDelay+5*time.Second)
		second.send(requestBody("what is this?")) // of another length
		if got := status.Code(second.end()); got != codes.InvalidArgument {
			t.Errorf("ended with %v", got)
		}
		synctest.Wait()
		if n := r.waiting(); n != (places{}) {
			t.Errorf("%v still wait", n)
		}
		first.hangUp()
	})
}

// An alarm that had rung, for another reason, before a request began to wait does not put
// off when the ledger is asked again.
func TestThrottleAlarm(t *testing.T) {
	bubble(t, deadlines, func(t *testing.T, r *rig) {
		now := time.Now()
		e := &session{
			server: r.server, x: exchange.New(exchange.NewPolicy(exchange.Policy{})),
			alarm: time.NewTimer(time.Hour), last: now, idle: idleTimeout, deadline: now.Add(time.Hour),
			pause: pause{request: new(budget.Request), next: now.Add(retryEvery)},
		}
		if got := e.overdue(); got.Reserve != nil {
			t.Error("asked too early")
		}
		<-e.alarm.C
		if d := time.Since(now); d != retryEvery {
			t.Errorf("it rings after %v", d)
		}
		if got := e.overdue(); got.Reserve == nil {
			t.Error("not asked")
		}
	})
}

// TestShadowMetric: what a limit would have done that only watches is logged and counted.
func TestShadowMetric(t *testing.T) {
	trial := budget.Limit{Name: "trial", Amount: 12, Period: budget.Total, Action: budget.ActionShadow}
	bubble(t, throttling(t, trial), func(t *testing.T, r *rig) {
		for _, user := range []string{"ann", "bob"} {
			p := r.dial()
			p.begin(user)
			p.say(" a b c d e f g h i j k l m n o p")
			p.send(responseBody("data: [DONE]\n\n", true))
			p.next()
			p.hangUp()
		}
		synctest.Wait()
		for user, want := range map[string]string{"ann": "trial:cut", "bob": "trial:denied"} {
			if line := r.exchangeLine(user); line["shadow"] != want || line["outcome"] != "completed" || line["limit"] != "" {
				t.Errorf("logged %v", line)
			}
		}
		for _, outcome := range []string{"cut", "denied"} {
			if n := r.metric("tokenbudget_shadow_total", "limit", "trial", "outcome", outcome); n != 1 {
				t.Errorf("%v %s", n, outcome)
			}
		}
	})
}
