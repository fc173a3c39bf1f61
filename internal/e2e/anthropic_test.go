package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// anthropicUsage is what an answer of Anthropic's says that it used, streamed or not, read
// in a way that has nothing in common with the server's: later figures replace earlier
// ones, cached input comes on top, and so does what is not the message's own.
func anthropicUsage(t *testing.T, sent []byte) (input, output int64) {
	t.Helper()
	last := make(map[string]any)
	take := func(data []byte) {
		var ev struct {
			Message struct{ Usage map[string]any }
			Usage   map[string]any
		}
		if err := json.Unmarshal(data, &ev); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		for _, u := range []map[string]any{ev.Message.Usage, ev.Usage} {
			for k, v := range u {
				if v != nil {
					last[k] = v
				}
			}
		}
	}
	if bytes.HasPrefix(sent, []byte("event:")) {
		for line := range bytes.Lines(sent) {
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				take(data)
			}
		}
	} else {
		take(sent)
	}
	add := func(u map[string]any) {
		for _, k := range []string{"input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"} {
			n, _ := u[k].(float64)
			input += int64(n)
		}
		n, _ := u["output_tokens"].(float64)
		output += int64(n)
	}
	add(last)
	iterations, _ := last["iterations"].([]any)
	for _, i := range iterations {
		if u := i.(map[string]any); u["type"] != "message" {
			add(u)
		}
	}
	return input, output
}

const messagesBody = `{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":true,"messages":[{"role":"user","content":"Hello!"}]}`

// messagesRequest is a request to Anthropic's API, with its key where its clients put it.
func (r *road) messagesRequest(t *testing.T, id, user, body string) *http.Request {
	t.Helper()
	req, err := r.request(t.Context(), call{id: id, user: user, body: body, headers: map[string]string{
		"x-api-key": "sk-ant-secret", "anthropic-version": "2023-06-01",
	}})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Del("authorization")
	req.URL.Path = "/v1/messages"
	return req
}

// TestAnthropic: a stream that is cut and one that is refused, through Envoy; the key is
// in no log.
func TestAnthropic(t *testing.T) {
	combinations(t, roadOptions{limits: []budget.Limit{
		{Name: "user-year", Unit: budget.Tokens, Amount: 22, Per: []string{"user"}, Period: budget.Year},
	}}, func(t *testing.T, r *road, hc *http.Client) {
		name := strings.ReplaceAll(t.Name(), "/", "-")
		rec, err := standin.Load("anthropic/stream_basic")
		if err != nil {
			t.Fatal(err)
		}
		resp, body := send(t, hc, r.messagesRequest(t, name+"-cut", name, messagesBody))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", resp.Status, body)
		}
		const closing = ": tokenbudget: cut, limit user-year\n" + "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n" +
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":"
		before, after, ok := strings.Cut(string(body), closing)
		if !ok || !strings.HasPrefix(string(rec.Body), before) || !strings.HasSuffix(after, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n") {
			t.Errorf("cut: %s", body)
		}
		if !strings.Contains(before, "Hi there") || strings.Contains(before, "with?") {
			t.Errorf("the cut is at another place: %s", before)
		}
		if _, err := r.finished(name + "-cut"); err != nil {
			t.Fatal(err)
		}

		resp, body = send(t, hc, r.messagesRequest(t, name+"-refused", name, messagesBody))
		var refusal struct {
			Type  string
			Error struct{ Type, Message string }
		}
		if err := json.Unmarshal(body, &refusal); err != nil || resp.StatusCode != http.StatusTooManyRequests || refusal.Type != "error" ||
			refusal.Error.Type != "rate_limit_error" || !strings.Contains(refusal.Error.Message, "user-year") || resp.Header.Get("x-should-retry") != "false" {
			t.Errorf("refused: %s %s %v", resp.Status, body, resp.Header)
		}
		lines := r.exchanges(name)
		if len(lines) != 2 {
			t.Fatalf("%d lines of %s", len(lines), name)
		}
		for i, want := range []string{"cut", "denied"} {
			if f := lines[i].ContextMap(); f["outcome"] != want || f["api"] != "anthropic.messages" || f["model"] != "claude-sonnet-4-5" {
				t.Errorf("the log says %v", f)
			}
		}
		for _, l := range r.logs.All() {
			if s, _ := json.Marshal(l.ContextMap()); bytes.Contains(s, []byte("sk-ant")) || strings.Contains(l.Message, "sk-ant") {
				t.Errorf("the key is in the log: %s %s", l.Message, s)
			}
		}
		if strings.Contains(r.envoy.Output(), "sk-ant") {
			t.Error("the key is in Envoy's access log")
		}
	})
}

// unaryText is the text of a whole answer, OpenAI's or Anthropic's.
func unaryText(t *testing.T, body []byte) (text string) {
	t.Helper()
	var answer struct {
		Content []struct{ Text string }
		Choices []struct {
			Message struct{ Content string }
			Text    string
		}
		Output []struct {
			Content []struct{ Text string }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	for _, b := range answer.Content {
		text += b.Text
	}
	for _, c := range answer.Choices {
		text += c.Message.Content + c.Text
	}
	for _, item := range answer.Output {
		for _, part := range item.Content {
			text += part.Text
		}
	}
	return text
}
