package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// TestThrottle: a request waits for longer than Envoy's message_timeout and is then
// answered. An Envoy that does not allow the server more time fails it, which is why the
// rendered configuration does.
func TestThrottle(t *testing.T) {
	const (
		timeout = 3 * time.Second // in which a busy machine must have told Envoy that the request waits
		delay   = 2 * timeout
	)
	const body = `{"model":"gpt-4o","stream":true,"messages":[]}`
	for _, tc := range []struct {
		name   string
		most   time.Duration
		status int
	}{
		{"allowed", exchange.MaxOverride, http.StatusOK},
		{"not allowed", 0, http.StatusGatewayTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRoad(t, roadOptions{
				interval: time.Millisecond,
				limits: []budget.Limit{
					perUser("user-year", budget.Tokens, 1e6),
					{Name: "parallel", Unit: budget.Streams, Amount: 1, Action: budget.ActionThrottle, MaxDelay: 20 * time.Second},
				},
				envoy: envoy.Options{MessageTimeout: timeout, MaxMessageTimeout: tc.most},
			})
			hc := client(true)
			req, err := r.request(t.Context(), call{id: "first", user: "u", body: body, headers: map[string]string{
				"x-standin-recording": "openai/chat-streaming", "x-standin-stall-after": "5",
			}})
			if err != nil {
				t.Fatal(err)
			}
			first, err := hc.Do(req)
			if err != nil || first.StatusCode != http.StatusOK {
				t.Fatalf("%v %v", first, err)
			}
			defer first.Body.Close()
			release := time.AfterFunc(delay, func() { first.Body.Close() })
			defer release.Stop()

			began := time.Now()
			resp, answer, err := r.do(t.Context(), hc, call{id: "second", user: "v", body: body, headers: map[string]string{"x-standin-recording": "openai/chat-streaming"}})
			if err != nil || resp.StatusCode != tc.status {
				t.Fatalf("%v %v", resp, err)
			}
			if _, err := r.finished("second"); err != nil {
				t.Fatal(err)
			}
			lines := r.exchanges("v")
			if len(lines) != 1 {
				t.Fatalf("%d lines", len(lines))
			}
			waited, _ := lines[0].ContextMap()["throttled_ms"].(int64)
			if tc.status != http.StatusOK {
				if _, reached := r.up.Exchange("second"); reached || waited == 0 {
					t.Errorf("reached the upstream: %t; %v", reached, lines[0].ContextMap())
				}
				return
			}
			if took := time.Since(began); took < delay || !strings.HasSuffix(string(answer), "data: [DONE]\n\n") {
				t.Errorf("answered after %v, ends in %q", took, tail(answer))
			}
			if least := (delay - timeout).Milliseconds(); waited < least {
				t.Errorf("throttled for %d ms, want at least %d", waited, least)
			}
			if err := r.envoy.Close(); err != nil { // it writes the rest of its log
				t.Fatal(err)
			}
			if n := strings.Count(r.envoy.Output(), `"throttled_ms":`); n != 1 {
				t.Errorf("%d lines of the access log tell of it:\n%s", n, r.envoy.Output())
			}
		})
	}
}

// TestThrottleClientLeaves: who leaves while the request waits is noticed at once, though
// nothing has been forwarded.
func TestThrottleClientLeaves(t *testing.T) {
	r := newRoad(t, roadOptions{
		interval: time.Millisecond,
		limits:   []budget.Limit{{Name: "parallel", Unit: budget.Streams, Amount: 1, Action: budget.ActionThrottle, MaxDelay: budget.MaxDelay}},
		envoy:    envoy.Options{MaxMessageTimeout: exchange.MaxOverride},
	})
	hold, _, err := r.ledger.Reserve(t.Context(), budget.Request{Output: 1})
	if err != nil || hold == nil {
		t.Fatal("refused")
	}
	defer hold.Settle(budget.Amount{})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() {
		select {
		case <-r.tap.of("left").waits:
		case <-time.After(patience):
		}
		leave()
	}()
	if resp, _, err := r.do(ctx, client(true), call{id: "left", user: "u", body: `{"model":"gpt-4o","stream":true,"messages":[]}`}); err == nil {
		t.Fatalf("answered with %d", resp.StatusCode)
	}
	if _, err := r.finished("left"); err != nil {
		t.Fatal(err)
	}
	lines := r.exchanges("u")
	if len(lines) != 1 || lines[0].ContextMap()["outcome"] != "aborted" {
		t.Fatalf("logged %v", lines)
	}
}

// TestThrottleAnswered: an upstream that has only a request's headers, because the request
// waits, answers them. The client gets its answer at once, and nothing is charged.
func TestThrottleAnswered(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "http1", true: "http2"}[http2], func(t *testing.T) {
			began, asked := make(chan struct{}), make(chan *seen, 1)
			up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex() // of HTTP/1.1: answer before the body is there
				close(began)
				<-(<-asked).waits
				w.Header().Set("content-type", "application/json")
				w.WriteHeader(http.StatusUnauthorized)
				for range 5 {
					_, _ = w.Write([]byte(" "))
					_ = http.NewResponseController(w).Flush()
					time.Sleep(20 * time.Millisecond)
				}
				_, _ = w.Write([]byte(`{"error":{}}`))
			}))
			up.Config.Protocols = new(http.Protocols)
			up.Config.Protocols.SetHTTP1(true)
			up.Config.Protocols.SetUnencryptedHTTP2(true)
			up.Start()
			defer up.Close()
			c := modeCase{set: map[string]string{"request_body_mode": "STREAMED"}}
			r := newRoad(t, roadOptions{
				limits: []budget.Limit{
					perUser("user-year", budget.Tokens, 1e6),
					{Name: "parallel", Unit: budget.Streams, Amount: 1, Action: budget.ActionThrottle, MaxDelay: budget.MaxDelay},
				},
				upstream: up.URL, http2: http2,
				envoy: envoy.Options{MaxMessageTimeout: exchange.MaxOverride},
				edit:  func(b []byte) []byte { return c.filter(t, b) },
			})
			hold, _, err := r.ledger.Reserve(t.Context(), budget.Request{Output: 1})
			if err != nil || hold == nil {
				t.Fatal("refused")
			}
			defer hold.Settle(budget.Amount{})
			asked <- r.tap.of("early")
			// Envoy forwards headers with the first piece, unless that is the whole body.
			m := &modeRoad{road: r, modeCase: &c, hc: client(true), more: began}
			from := time.Now()
			got := m.ask(t, "early", streamAsked, nil)
			if got.err != nil || got.status != http.StatusUnauthorized || string(got.body) != `     {"error":{}}` {
				t.Fatalf("%d, %q, %v", got.status, got.body, got.err)
			}
			if d := time.Since(from); d > budget.MaxDelay/2 {
				t.Errorf("answered after %v", d)
			}
			if _, err := r.finished("early"); err != nil {
				t.Fatal(err)
			}
			lines := r.exchanges("early")
			if len(lines) != 1 || lines[0].ContextMap()["outcome"] != "bypassed" {
				t.Fatalf("logged %v", lines)
			}
		})
	}
}

// TestRefuseAndShadow: a running stream finishes on a limit that refuses, into debt, and on
// one that only watches; the next request is refused by the first, and what the second would
// have done is told.
func TestRefuseAndShadow(t *testing.T) {
	soft := perUser("soft", budget.Tokens, 20)
	soft.Action = budget.ActionRefuse
	trial := perUser("trial", budget.Tokens, 10)
	trial.Action = budget.ActionShadow
	r := newRoad(t, roadOptions{interval: time.Millisecond, limits: []budget.Limit{soft, trial}})
	hc := client(true)
	const body = `{"model":"gpt-4o","stream":true,"messages":[]}`
	stream := call{id: "first", user: "u", body: body, headers: map[string]string{"x-standin-recording": "openai/chat-streaming"}}
	resp, answer, err := r.do(t.Context(), hc, stream)
	if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(answer), "tokenbudget") || !strings.HasSuffix(string(answer), "data: [DONE]\n\n") {
		t.Fatalf("%v %v %s", resp, err, answer)
	}
	if got := resp.Header.Get("x-ratelimit-limit-tokens"); got != "20" {
		t.Errorf("the headers tell of a limit of %s", got)
	}
	if _, err := r.finished("first"); err != nil {
		t.Fatal(err)
	}
	if b := r.balance(t, "soft", "u"); b.Debt() == 0 || b.Held != 0 {
		t.Errorf("charged %+v", b)
	}
	if b := r.balance(t, "trial", "u"); b.Debt() == 0 || b.Spent != r.balance(t, "soft", "u").Spent {
		t.Errorf("charged %+v", b)
	}
	if n := r.logs.FilterMessage("exchange").FilterField(zap.String("shadow", "trial:cut")).Len(); n != 1 {
		t.Errorf("%d lines tell of the shadow", n)
	}
	stream.id = "second"
	resp, answer, err = r.do(t.Context(), hc, stream)
	if err != nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("x-tokenbudget-limit") != "soft" {
		t.Errorf("%v %v %s", resp, err, answer)
	}
	if err := r.envoy.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(r.envoy.Output(), `"shadow":"trial:cut"`); n != 1 {
		t.Errorf("%d lines of the access log tell of it:\n%s", n, r.envoy.Output())
	}
}
