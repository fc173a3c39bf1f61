package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// plenty are limits which nothing reaches.
func plenty() []budget.Limit {
	return []budget.Limit{perUser("user-year", budget.Tokens, 1e9), perUser("requests", budget.Requests, 1e6)}
}

// withoutUsage takes the events out which carry usage and nothing else.
func withoutUsage(t *testing.T, stream []byte) []byte {
	t.Helper()
	var out []byte
	for _, e := range bytes.SplitAfter(stream, []byte("\n\n")) {
		var chunk struct {
			Choices []json.RawMessage
			Usage   json.RawMessage
		}
		data, _ := bytes.CutPrefix(bytes.TrimSpace(e), []byte("data:"))
		if json.Unmarshal(data, &chunk) == nil && chunk.Choices != nil && len(chunk.Choices) == 0 && string(chunk.Usage) != "null" && len(chunk.Usage) > 0 {
			continue
		}
		out = append(out, e...)
	}
	return out
}

// TestRecordings lets every recorded answer of OpenAI's APIs for chats, texts and vectors pass uncut: byte for byte, less
// the usage chunk which this filter asked for, and charged as the provider says.
func TestRecordings(t *testing.T) {
	combinations(t, roadOptions{limits: plenty(), interval: standin.NoPause}, func(t *testing.T, r *road, hc *http.Client) {
		n := 0
		for _, name := range standin.Recordings() {
			if !strings.HasPrefix(name, "openai/") && !strings.HasPrefix(name, "openai-compatible/") && !strings.HasPrefix(name, "anthropic/") {
				continue
			}
			n++
			rec, err := standin.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, split := range []string{"", "1", "97"} {
				t.Run(name+"/split="+split, func(t *testing.T) { passes(t, r, hc, rec, split) })
			}
		}
		if n < 46 {
			t.Errorf("only %d recordings were tried", n)
		}
	})
}

func passes(t *testing.T, r *road, hc *http.Client, rec standin.Recording, split string) {
	id := strings.ReplaceAll(t.Name(), "/", "-")
	c := call{id: id, user: id, body: string(rec.Request), headers: map[string]string{"x-standin-recording": rec.Name}}
	if split != "" {
		c.headers["x-standin-split"] = split
	}
	if rec.Request == nil {
		c.body = `{"model":"gpt-4o","stream":true,"messages":[]}`
	}
	req, err := r.request(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Path != "" {
		req.URL.Path = rec.Path
	}
	resp, body := send(t, hc, req)
	if resp.StatusCode != rec.Status {
		t.Fatalf("%s %s", resp.Status, body)
	}
	ex, err := r.up.WaitExchange(t.Context(), id)
	if err != nil || !ex.Completed {
		t.Fatalf("the upstream has not sent all: %v", err)
	}
	want := ex.Sent
	asked := strings.Contains(c.body, `"include_usage": true`)
	if rec.Stream() && !asked && !strings.HasPrefix(rec.Name, "anthropic/") { // which always tells its usage
		want = withoutUsage(t, want)
		if len(want) == len(ex.Sent) && rec.Name != "openai-compatible/stream" {
			t.Error("the upstream sent no usage: it was not asked for")
		}
	}
	if !bytes.Equal(body, want) {
		t.Errorf("got  %q\nwant %q", body, want)
	}

	if _, err := r.finished(id); err != nil {
		t.Fatal(err)
	}
	input, output := reportedUsage(ex.Sent, rec.Stream())
	if strings.HasPrefix(rec.Name, "anthropic/") {
		input, output = anthropicUsage(t, ex.Sent)
	}
	b := r.balance(t, "user-year", id)
	if b.Held != 0 || b.Spent != input+output {
		t.Errorf("charged %d, held %d; the provider reports %d and %d", b.Spent, b.Held, input, output)
	}
	if n := r.balance(t, "requests", id); n.Spent != 1 {
		t.Errorf("charged %d requests", n.Spent)
	}
	fields := r.exchanges(id)[0].ContextMap()
	outcome := "completed"
	if rec.Status != http.StatusOK {
		outcome = "upstream_error"
	}
	if fields["outcome"] != outcome || outcome == "completed" && (fields["output_source"] != "reported" || fields["output_tokens"] != output) {
		t.Errorf("the log says %v", fields)
	}
	if h := resp.Header.Get("x-ratelimit-remaining-tokens"); outcome == "completed" && (len(h) < 9 || resp.Header.Get("ratelimit") == "") {
		t.Errorf("x-ratelimit-remaining-tokens is %q: not ours", h)
	}
}

// reportedUsage reads what an answer says it used.
func reportedUsage(sent []byte, stream bool) (input, output int64) {
	if stream {
		if _, u := content(sent); u != nil {
			return u.Prompt, u.Completion
		}
		return 0, 0
	}
	var answer struct {
		Usage struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
			Total      int64 `json:"total_tokens"`
		}
	}
	if err := json.Unmarshal(sent, &answer); err != nil {
		return 0, 0
	}
	// Gemini's thoughts are in the total only.
	return answer.Usage.Prompt, max(answer.Usage.Completion, answer.Usage.Total-answer.Usage.Prompt)
}

// TestUsageInjected: the upstream is asked for usage even if the client says no,
// and sees the client's body unchanged otherwise.
func TestUsageInjected(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	hc := client(false)
	for i, tt := range []struct{ sent, want string }{
		{`{"model":"gpt-4o",  "stream":true, "messages":[]}`, `{"model":"gpt-4o",  "stream":true, "messages":[],"stream_options":{"include_usage":true}}`},
		{`{"stream_options":{"include_usage":false},"model":"gpt-4o","stream":true,"messages":[]}`, `{"stream_options":{"include_usage":true},"model":"gpt-4o","stream":true,"messages":[]}`},
	} {
		id := fmt.Sprint("inject-", i)
		resp, body, err := r.do(t.Context(), hc, call{id: id, user: id, body: tt.sent, headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "accept-encoding": "gzip"}})
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", resp, err)
		}
		ex, err := r.up.WaitExchange(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if string(ex.Body) != tt.want {
			t.Errorf("the upstream got %s", ex.Body)
		}
		if e := ex.Header.Get("accept-encoding"); e != "" {
			t.Errorf("the upstream may compress: %q", e)
		}
		if _, usage := content(body); usage != nil {
			t.Error("the client got a usage chunk it did not ask for")
		}
	}
}

// TestUnaryCapLowered: an unary answer cannot be cut, so the upstream is told not
// to produce more than what is left.
func TestUnaryCapLowered(t *testing.T) {
	r := newRoad(t, roadOptions{limits: []budget.Limit{perUser("user-year", budget.Tokens, 500)}, interval: standin.NoPause})
	resp, _, err := r.do(t.Context(), client(false), call{id: "unary", user: "u", body: `{"model":"gpt-4o","max_tokens":4000,"messages":[]}`, headers: map[string]string{"x-standin-recording": "openai/chat-basic"}})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	ex, err := r.up.WaitExchange(t.Context(), "unary")
	if err != nil {
		t.Fatal(err)
	}
	// 500 less a guard of 10 and a prompt of 3.
	if want := `{"model":"gpt-4o","max_tokens":487,"messages":[]}`; string(ex.Body) != want {
		t.Errorf("the upstream got %s", ex.Body)
	}
}

// TestRefusals: what is refused never reaches the upstream.
func TestRefusals(t *testing.T) {
	r := newRoad(t, roadOptions{limits: []budget.Limit{
		{Name: "user-minute", Unit: budget.Tokens, Amount: 20, Per: []string{"user"}, Period: budget.Year},
		{Name: "all", Unit: budget.Tokens, Amount: 1e9, Period: budget.Year},
	}, interval: standin.NoPause})
	hc := client(true)
	for _, tt := range []struct {
		name, path, body string
		status           int
		message          string
		header           map[string]string
	}{
		{"budget", chatPath, `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 40) + `"}]}`, 429, `budget \"user-minute\" of user=budget`,
			map[string]string{"x-tokenbudget-limit": "user-minute", "x-should-retry": "false"}},
		{"no JSON", chatPath, `hello`, 400, "not valid JSON", nil},
		{"unknown API", "/v1/audio/speech", `{}`, 403, "paths.pass", nil},
		{"too large", chatPath, `{"messages":["` + strings.Repeat("x", 17<<20) + `"]}`, 413, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := strings.ReplaceAll(tt.name, " ", "-")
			req, err := r.request(t.Context(), call{id: id, user: id, body: tt.body})
			if err != nil {
				t.Fatal(err)
			}
			req.URL.Path = tt.path
			resp, body := send(t, hc, req)
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.message) {
				t.Errorf("%s %s", resp.Status, body)
			}
			for k, v := range tt.header {
				if got := resp.Header.Get(k); got != v {
					t.Errorf("%s is %q, want %q", k, got, v)
				}
			}
			if _, reached := r.up.Exchange(id); reached {
				t.Error("it reached the upstream")
			}
			if b := r.balance(t, "user-minute", id); b.Spent != 0 || b.Held != 0 {
				t.Errorf("it was charged: %+v", b)
			}
		})
	}
}

// TestGetPasses: what has no body and no metered API is left alone.
func TestGetPasses(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty()})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-standin-id", "models")
	resp, body := send(t, client(false), req)
	if _, reached := r.up.Exchange("models"); !reached {
		t.Errorf("it did not reach the upstream: %s %s", resp.Status, body)
	}
}

// TestParallelStreams: many streams at once on one budget cannot overrun it, and
// use what there is.
func TestParallelStreams(t *testing.T) {
	const limit = 10_000
	r := newRoad(t, roadOptions{limits: []budget.Limit{{Name: "all", Unit: budget.Tokens, Amount: limit, Period: budget.Year}}, interval: 10 * time.Millisecond})
	hc := client(true)
	done := make(chan error, 32)
	for i := range cap(done) {
		go func() {
			id := fmt.Sprint("parallel-", i)
			_, _, err := r.do(t.Context(), hc, call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
				headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-repeat": "60", "x-standin-burst": "1"}})
			if err == nil {
				_, err = r.finished(id)
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	var delivered int64
	for i := range cap(done) {
		delivered += 3 + count(t, r.tap.of(fmt.Sprint("parallel-", i)).out.Bytes())
	}
	b := r.balances(t)[0]
	t.Logf("charged %d of %d, delivered %d", b.Spent, limit, delivered)
	if b.Held != 0 || b.Spent > limit || delivered > b.Spent || delivered < limit*93/100 {
		t.Errorf("delivered %d, spent %d, held %d; the limit is %d", delivered, b.Spent, b.Held, limit)
	}
}
