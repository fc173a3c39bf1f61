package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/sse"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// spoken is what a stream of Anthropic's says, read in a way that has nothing in common
// with the server's.
type spoken struct {
	text, thinking, tool string
	reason               string
	output               int64
}

func speak(t *testing.T, events [][]byte) (s spoken) {
	t.Helper()
	for _, e := range events {
		var ev struct {
			Type  string
			Delta struct {
				Text        string
				Thinking    string
				PartialJSON string `json:"partial_json"`
				StopReason  string `json:"stop_reason"`
			}
			Usage struct {
				Output int64 `json:"output_tokens"`
			}
		}
		_, data, ok := bytes.Cut(e, []byte("\ndata: "))
		if !ok {
			continue
		}
		data, _, _ = bytes.Cut(data, []byte("\n"))
		if err := json.Unmarshal(data, &ev); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		s.text += ev.Delta.Text
		s.thinking += ev.Delta.Thinking
		s.tool += ev.Delta.PartialJSON
		if ev.Type == "message_delta" {
			s.reason, s.output = ev.Delta.StopReason, ev.Usage.Output
		}
	}
	return s
}

// TestAnthropicCutAnywhere: whatever event a stream is cut behind, the official SDKs get
// all that came before it, take the end for that of a limit, and raise nothing. The
// answers are recorded ones: text, thinking, calls of tools of both kinds.
func TestAnthropicCutAnywhere(t *testing.T) {
	const closed = 4242 // tokens of output that the closing events tell
	answers := make(map[string][]byte)
	want := make(map[string]spoken)
	for _, name := range standin.Recordings() {
		rec, err := standin.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, "anthropic/") || !rec.Stream() {
			continue
		}
		for n := range len(rec.Events) + 1 {
			id := fmt.Sprintf("/%s/%d", strings.TrimPrefix(name, "anthropic/"), n)
			stream := dialect.AnthropicMessages{}.NewStream(&dialect.Request{Model: "claude-sonnet-4-5"})
			var parser sse.Parser
			var ev dialect.Event
			parser.Feed(bytes.Join(rec.Events[:n], nil))
			for b, ok := parser.Next(); ok; b, ok = parser.Next() {
				stream.Event(b.Data, &ev)
				stream.Forwarded()
			}
			answer := append(bytes.Join(rec.Events[:n], nil), ": tokenbudget: cut, limit x\n"...)
			answers[id] = stream.Close(answer, dialect.Usage{Known: true, Output: closed})
			want[id] = speak(t, rec.Events[:n])
			if s := want[id]; s.reason == "" {
				s.reason, s.output = "max_tokens", closed
				want[id] = s
			}
		}
	}
	if len(want) < 230 {
		t.Errorf("only %d cuts", len(want))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "text/event-stream; charset=utf-8")
		_, _ = w.Write(answers[strings.TrimSuffix(r.URL.Path, "/v1/messages")])
	}))
	defer server.Close()

	var cases []clientCase
	for id := range want {
		for _, helper := range []bool{false, true} {
			cases = append(cases, clientCase{
				Name: fmt.Sprint(id, helper), API: "messages", BaseURL: server.URL + id, Stream: true, Prompt: "Hello!", Headers: map[string]string{}, Helper: helper,
			})
		}
	}
	for _, c := range sdkClients {
		if c.name == "openai" {
			continue
		}
		t.Run(c.id(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the SDK may have to be installed
			defer cancel()
			got := c.run(ctx, t, cases)
			bad := 0
			for id, w := range want {
				for _, helper := range []bool{false, true} {
					r := got[fmt.Sprint(id, helper)]
					ok := r.Error == nil && r.Tries == 1 && r.Text == w.text && r.Thinking == w.thinking && r.Tool == w.tool &&
						r.FinishReason == w.reason && r.Usage != nil && *r.Usage == w.output
					if !ok {
						if bad++; bad < 10 {
							t.Errorf("%s, helper %v: %+v\nwant %+v", id, helper, r, w)
							if r.Error != nil {
								t.Errorf("%+v", *r.Error)
							}
						}
					}
				}
			}
			t.Logf("%d cuts, each read in two ways; %d not as they should be", len(want), bad)
		})
	}
}
