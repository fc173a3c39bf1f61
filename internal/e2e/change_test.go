package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// TestLimitsChange: a limit that is lowered cuts the stream under way, as one that is used
// up does, and refuses the next request until it is raised.
func TestLimitsChange(t *testing.T) {
	r := newRoad(t, roadOptions{interval: 5 * time.Millisecond, limits: []budget.Limit{perUser("user-year", budget.Tokens, 1e6)}})
	set := func(n int64) {
		t.Helper()
		if err := r.ledger.SetLimits(t.Context(), []budget.Limit{perUser("user-year", budget.Tokens, n)}); err != nil {
			t.Fatal(err)
		}
	}
	hc := client(false)
	const body = `{"model":"gpt-4o","stream":true,"messages":[]}`
	// Half a minute of text, if nobody cuts it.
	req, err := r.request(t.Context(), call{id: "lowered", user: "u", body: body,
		headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-repeat": "200"}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hc.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	set(10)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(rest), ": tokenbudget: cut, limit user-year\n") || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("%v; the answer's end: %.300s", err, rest[max(0, len(rest)-300):])
	}
	if _, err := r.finished("lowered"); err != nil {
		t.Fatal(err)
	}
	ex, err := r.up.WaitExchange(t.Context(), "lowered")
	if err != nil || !ex.Cancelled() {
		t.Errorf("the upstream was not cancelled: %v, %+v", err, ex)
	}
	if b := r.balance(t, "user-year", "u"); b.Amount != 10 || b.Held != 0 || b.Debt() == 0 {
		t.Errorf("charged: %+v", b)
	}
	next := func(id string, want int) {
		t.Helper()
		resp, answer, err := r.do(t.Context(), hc, call{id: id, user: "u", body: body, headers: map[string]string{"x-standin-recording": "openai/chat-streaming"}})
		if err != nil || resp.StatusCode != want {
			t.Errorf("%v %v %s", resp, err, answer)
		}
	}
	next("refused", http.StatusTooManyRequests)
	set(1e6)
	next("raised", http.StatusOK)
	if _, err := r.finished("raised"); err != nil {
		t.Fatal(err)
	}
}
