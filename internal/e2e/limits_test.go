package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// TestPerRequest: the upstream is told the limit per request, also of a stream, and a
// stream that passes it is cut there; a prompt that is too long never reaches it.
func TestPerRequest(t *testing.T) {
	const most = 20
	r := newRoad(t, roadOptions{interval: 2 * time.Millisecond, limits: []budget.Limit{
		perUser("user-year", budget.Tokens, 1e6),
		{Name: "prompt", Unit: budget.InputTokens, Amount: 30, PerRequest: true},
		{Name: "answer", Unit: budget.OutputTokens, Amount: most, PerRequest: true,
			Match: []budget.Condition{{Property: budget.OfModel, Any: []string{"gpt-4*"}}}},
	}})
	hc := client(true)
	resp, body, err := r.do(t.Context(), hc, call{
		id: "long", user: "u", body: `{"model":"gpt-4o","max_tokens":4000,"stream":true,"messages":[]}`,
		headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-repeat": "40"},
	})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	if n := count(t, body); n == 0 || n > most || !strings.Contains(string(body), ": tokenbudget: cut, limit answer\n") {
		t.Errorf("%d tokens were delivered:\n%s", n, body)
	}
	ex, err := r.up.WaitExchange(t.Context(), "long")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"model":"gpt-4o","max_tokens":20,"stream":true,"messages":[],"stream_options":{"include_usage":true}}`; string(ex.Body) != want {
		t.Errorf("the upstream got %s", ex.Body)
	}
	if _, err := r.finished("long"); err != nil {
		t.Fatal(err)
	}
	if b := r.balance(t, "user-year", "u"); b.Spent < most || b.Held != 0 {
		t.Errorf("charged: %+v", b)
	}

	resp, body, err = r.do(t.Context(), hc, call{id: "prompt", user: "u", body: `{"model":"gpt-4o","messages":[{"role":"user","content":"` + strings.Repeat("word ", 40) + `"}]}`})
	if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), `budget \"prompt\"`) || resp.Header.Get("x-tokenbudget-limit") != "prompt" {
		t.Errorf("%v %v %s", resp, err, body)
	}
	if _, reached := r.up.Exchange("prompt"); reached {
		t.Error("a refused request reached the upstream")
	}
}

// TestTruncate: a prompt that is too long reaches the upstream without its oldest
// turn, in one piece, and the client and the logs are told.
func TestTruncate(t *testing.T) {
	limits := []budget.Limit{
		perUser("user-year", budget.Tokens, 1e6),
		{Name: "size", Unit: budget.InputTokens, Amount: 40, PerRequest: true},
	}
	sizes, err := budget.NewSizes(limits)
	if err != nil {
		t.Fatal(err)
	}
	r := newRoad(t, roadOptions{interval: time.Millisecond, limits: limits, policy: exchange.Policy{Truncate: []string{"size"}, Sizes: sizes}})
	hc := client(true)
	recording := map[string]string{"x-standin-recording": "openai/chat-streaming"}
	old := `{"role":"user","content":"` + strings.Repeat("word ", 40) + `"}, {"role":"assistant","content":"Yes."}, `
	const before, behind = `{"model":"gpt-4o","stream":true,"messages":[{"role":"system","content":"Be brief."}, `, `{"role":"user","content":"Why?"}]`
	resp, _, err := r.do(t.Context(), hc, call{id: "long", user: "u", body: before + old + behind + `}`, headers: recording})
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("x-tokenbudget-truncated") != "2" {
		t.Fatalf("%v %v", resp, err)
	}
	ex, err := r.up.WaitExchange(t.Context(), "long")
	if err != nil {
		t.Fatal(err)
	}
	if want := before + behind + `,"stream_options":{"include_usage":true}}`; string(ex.Body) != want {
		t.Errorf("the upstream got %s", ex.Body)
	}
	if _, err := r.finished("long"); err != nil {
		t.Fatal(err)
	}
	if n := r.logs.FilterMessage("exchange").FilterField(zap.Int64("truncated_messages", 2)).Len(); n != 1 {
		t.Errorf("%d lines tell of it", n)
	}
	question := `{"role":"user","content":"` + strings.Repeat("word ", 40) + `"}]}`
	resp, body, err := r.do(t.Context(), hc, call{id: "question", user: "u", body: before + question, headers: recording})
	if err != nil || resp.StatusCode != http.StatusBadRequest || resp.Header.Get("x-tokenbudget-limit") != "size" {
		t.Errorf("%v %v %s", resp, err, body)
	}
	if _, reached := r.up.Exchange("question"); reached {
		t.Error("a refused request reached the upstream")
	}
	if err := r.envoy.Close(); err != nil { // it writes the rest of its log
		t.Fatal(err)
	}
	if n := strings.Count(r.envoy.Output(), `"truncated_messages":2`); n != 1 {
		t.Errorf("%d lines of the access log tell of it:\n%s", n, r.envoy.Output())
	}
}

// TestStreamsUnderWay: one request more than may be under way is refused, until one
// has ended.
func TestStreamsUnderWay(t *testing.T) {
	r := newRoad(t, roadOptions{interval: time.Millisecond, limits: []budget.Limit{
		{Name: "parallel", Unit: budget.Streams, Amount: 1, Per: []string{"user"}},
	}})
	hc := client(true)
	const body = `{"model":"gpt-4o","stream":true,"messages":[]}`
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
	status := func(id, user string) int {
		t.Helper()
		resp, body, err := r.do(t.Context(), hc, call{id: id, user: user, body: body, headers: map[string]string{"x-standin-recording": "openai/chat-streaming"}})
		if err != nil {
			t.Fatal(err)
		}
		if wait := resp.Header.Get("retry-after"); resp.StatusCode == http.StatusTooManyRequests && (wait != "1" || !strings.Contains(string(body), "under way")) {
			t.Errorf("told to wait for %s: %s", wait, body)
		}
		return resp.StatusCode
	}
	if got := status("second", "u"); got != http.StatusTooManyRequests {
		t.Errorf("the second: %d", got)
	}
	if got := status("other", "v"); got != http.StatusOK {
		t.Errorf("another user's: %d", got)
	}
	if err := first.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.finished("first"); err != nil {
		t.Fatal(err)
	}
	if got := status("third", "u"); got != http.StatusOK {
		t.Errorf("after the first has ended: %d", got)
	}
}
