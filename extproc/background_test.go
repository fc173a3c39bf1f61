package extproc

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

const (
	queued    = `{"id":"resp_1","object":"response","status":"queued","background":true,"output":[],"usage":null}`
	completed = `{"id":"resp_1","object":"response","status":"completed","background":true,"output":[],"usage":{"input_tokens":9,"output_tokens":57}}`
)

// background begins a response in the background, which is answered at once.
func (r *rig) background(user string) {
	r.t.Helper()
	p := r.dial()
	p.send(requestHeaders(":method", "POST", ":path", "/v1/responses", "x-user", user, "x-request-id", "r-"+user))
	p.next()
	p.send(requestBody(`{"model":"gpt-4o","input":"hi","background":true,"max_output_tokens":100}`))
	if p.next().GetRequestBody() == nil {
		r.t.Fatal("the request was refused")
	}
	p.answer("application/json")
	p.send(responseBody(queued, true))
	if got := bodyOf(p.next()); string(got.GetBody()) != queued || !got.GetEndOfStream() {
		r.t.Fatalf("the answer came back as %v", got)
	}
	if err := p.end(); err != nil {
		r.t.Error(err)
	}
}

// fetch asks for the response, up to the headers of the answer.
func (r *rig) fetch() *peer {
	r.t.Helper()
	p := r.dial()
	p.send(requestHeaders(":method", "GET", ":path", "/v1/responses/resp_1", "x-user", "other"))
	if p.next().GetRequestHeaders() == nil {
		r.t.Fatal("the request was refused")
	}
	p.answer("application/json")
	return p
}

// fetched has the answer come.
func (p *peer) fetched() {
	p.t.Helper()
	p.send(responseBody(completed[:50], false))
	p.next()
	p.send(responseBody(completed[50:], true))
	if got := bodyOf(p.next()); string(got.GetBody()) != completed[50:] || !got.GetEndOfStream() {
		p.t.Fatalf("the answer came back as %v", got)
	}
	if err := p.end(); err != nil {
		p.t.Error(err)
	}
}

// wantUser fails unless so much was spent by a user, and is held.
func (r *rig) wantUser(when, name string, spent, held int64) {
	r.t.Helper()
	synctest.Wait()
	if b := r.user(name); b.Spent != spent || b.Held != held {
		r.t.Errorf("%s: %s has spent %d and holds %d, want %d and %d", when, name, b.Spent, b.Held, spent, held)
	}
}

// What is held for a response in the background stays held until somebody has fetched it; two
// who do so at the same time settle it once.
func TestBackground(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.background("ann")
		r.wantUser("it goes on", "ann", 0, 108)
		first := r.exchangeLine("ann")
		if first["background"] != true || first["output_tokens"] != 0. || first["input_tokens"] != 0. || first["held"] != 108. || first["outcome"] != "completed" {
			t.Errorf("the line of the request: %v", first)
		}
		if n := r.metric("tokenbudget_background_responses"); n != 1 {
			t.Errorf("%v responses go on, want 1", n)
		}
		time.Sleep(20 * time.Minute)
		a, b := r.fetch(), r.fetch()
		b.fetched()
		r.wantUser("it was fetched", "ann", 66, 0)
		a.fetched()
		r.fetch().fetched()
		r.wantUser("and again", "ann", 66, 0)

		lines := r.log.lines("msg", "background")
		if len(lines) != 1 {
			t.Fatalf("lines of its end: %v", lines)
		}
		for key, want := range map[string]any{
			"request_id": "r-ann", "user": "ann", "api": "openai.responses", "model": "gpt-4o", "input_tokens": 9., "output_tokens": 57.,
			"input_source": "reported", "output_source": "reported", "outcome": "completed", "held": 108., "duration_ms": 1200000.,
		} {
			if lines[0][key] != want {
				t.Errorf("the line of its end has %s: %v, want %v", key, lines[0][key], want)
			}
		}
		if n := r.metric("tokenbudget_background_responses"); n != 0 {
			t.Errorf("%v responses go on, want none", n)
		}
		for kind, want := range map[string]float64{"input": 9, "output": 57} {
			if n := r.metric("tokenbudget_tokens_total", "api", "openai.responses", "kind", kind, "source", "reported"); n != want {
				t.Errorf("%v %s tokens are counted, want %v", n, kind, want)
			}
		}
		if n := r.metric("tokenbudget_background_ended_total", "by", "seen"); n != 1 {
			t.Errorf("%v ends were seen, want 1", n)
		}
	})
}

// A response that nobody fetches is charged what was held: in time, or when the server ends.
func TestBackgroundForgotten(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.background("ann")
		time.Sleep(exchange.DefaultBackgroundTimeout - time.Second)
		r.wantUser("before its time", "ann", 0, 108)
		time.Sleep(time.Second + expireEvery)
		r.wantUser("behind it", "ann", 108, 0)
		r.background("bob") // whose response has the same name, which is free again
		time.Sleep(3 * time.Minute)
		r.stop()
		<-r.ended
		r.wantUser("the server has ended", "bob", 108, 0)
		for by, want := range map[string]float64{"deadline": 1, "shutdown": 1, "seen": 0} {
			if n := r.metric("tokenbudget_background_ended_total", "by", by); n != want {
				t.Errorf("%v have ended by %s, want %v", n, by, want)
			}
		}
		if lines := r.log.lines("msg", "background"); len(lines) != 2 || lines[0]["user"] != "ann" || lines[1]["user"] != "bob" || lines[1]["output_tokens"] != 100. {
			t.Errorf("lines of their ends: %v", lines)
		} else {
			for i, want := range []time.Duration{exchange.DefaultBackgroundTimeout, 3 * time.Minute} {
				if got := time.Duration(lines[i]["duration_ms"].(float64)) * time.Millisecond; got < want || got > want+time.Minute {
					t.Errorf("line %d tells of a duration of %v, want %v", i, got, want)
				}
			}
		}
	})
}

// Other settings and limits leave what goes on as it is: it is settled on the limits that admitted it.
func TestBackgroundSettingsChange(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.background("ann")
		r.server.Set(Settings{Policy: exchange.Policy{BackgroundTimeout: -1}})
		r.setLimits(
			budget.Limit{Name: "user", Amount: 150, Period: budget.Total, Per: []string{"user"}},
			budget.Limit{Name: "new", Amount: 1000, Period: budget.Total},
		)
		r.wantUser("the limits have changed", "ann", 0, 108)
		r.fetch().fetched()
		r.wantUser("it was fetched", "ann", 66, 0)
		r.background("bob") // nobody is told whose it is by these settings
		synctest.Wait()
		for _, b := range r.balances() {
			if b.Limit == "new" && (b.Spent != 108 || b.Held != 0) {
				t.Errorf("where nothing is kept %d are spent and %d held, want 108 and 0", b.Spent, b.Held)
			}
		}
	})
}

// While the server drains, what goes on is still settled by who fetches it.
func TestBackgroundDrain(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, r *rig) {
		r.background("ann")
		p := r.fetch()
		r.stop()
		time.Sleep(time.Second)
		p.fetched()
		<-r.ended
		r.wantUser("it was fetched", "ann", 66, 0)
	})
}

// A log that panics when it is told of the end of a response leaves none held, and breaks neither the
// server nor the answer that showed the end.
func TestBackgroundLogPanics(t *testing.T) {
	hook := zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "background" {
			panic("boom")
		}
		return nil
	})
	for by, tc := range map[string]struct {
		end   func(*rig)
		spent int64
	}{
		"seen":     {func(r *rig) { r.fetch().fetched() }, 66},
		"deadline": {func(*rig) { time.Sleep(exchange.DefaultBackgroundTimeout + expireEvery) }, 108},
		"shutdown": {func(r *rig) { r.stop(); <-r.ended }, 108},
	} {
		t.Run(by, func(t *testing.T) {
			bubble(t, func(o *Options) { o.Log = o.Log.WithOptions(hook) }, func(_ *testing.T, r *rig) {
				r.wantErrors = true
				r.background("ann")
				tc.end(r)
				r.wantUser("it has ended", "ann", tc.spent, 0)
				if n := r.metric("tokenbudget_panics_total"); n != 1 {
					t.Errorf("%v panics are counted, want 1", n)
				}
			})
		})
	}
}
