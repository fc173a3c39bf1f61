package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// cutCase is a recorded stream that ends behind one of its events.
type cutCase struct {
	kind   string // chat or completions
	name   string // of the recording, and the cut
	body   []byte
	said   chatSaid
	closed map[string]bool // choices that had not ended by themselves
}

// chatSaid is what a stream has said: texts and reasoning by the index of the choice, the arguments
// of calls by choice and call.
type chatSaid struct {
	Texts, Reasoning, Tools, Reasons map[string]string
}

func newChatSaid() chatSaid {
	return chatSaid{map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}}
}

func (s chatSaid) equal(other chatSaid) bool {
	return maps.Equal(s.Texts, other.Texts) && maps.Equal(s.Reasoning, other.Reasoning) && maps.Equal(s.Tools, other.Tools) &&
		maps.Equal(s.Reasons, other.Reasons)
}

// read takes in the data of a chunk.
func (s chatSaid) read(t *testing.T, data []byte) {
	t.Helper()
	var chunk struct {
		Choices []struct {
			Index json.Number
			Delta struct {
				Content   string
				Reasoning string      `json:"reasoning_content"`
				Tools     []toolDelta `json:"tool_calls"`
			}
			Text   string
			Reason string `json:"finish_reason"`
		}
	}
	if err := json.Unmarshal(data, &chunk); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	add := func(to map[string]string, key, text string) {
		if text != "" {
			to[key] += text
		}
	}
	for _, x := range chunk.Choices {
		index := x.Index.String()
		add(s.Texts, index, x.Delta.Content+x.Text)
		add(s.Reasoning, index, x.Delta.Reasoning)
		add(s.Reasons, index, x.Reason)
		for _, call := range x.Delta.Tools {
			add(s.Tools, fmt.Sprintf("%s/%d", index, call.Index), call.Function.Arguments)
		}
	}
}

type toolDelta struct {
	Index    int
	Function struct{ Arguments string }
}

// everyCut cuts a recording behind each of its events, and before the first.
func everyCut(t *testing.T, rec standin.Recording) (cases []cutCase) {
	t.Helper()
	api := dialect.ForPath(rec.Path).API
	request := rec.Request
	if request == nil {
		request = []byte(`{"model":"m","stream":true,"messages":[]}`)
	}
	for cut := range len(rec.Events) {
		req, err := api.ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		s := api.NewStream(req)
		c := cutCase{kind: strings.TrimPrefix(api.Name(), "openai."), name: fmt.Sprint(rec.Name, " ", cut), said: newChatSaid(), closed: map[string]bool{}}
		var ev dialect.Event
		for _, e := range rec.Events[:cut] {
			data, _ := bytes.CutPrefix(bytes.TrimSpace(e), []byte("data: "))
			s.Event(data, &ev)
			s.Forwarded()
			c.body = append(c.body, e...)
			c.said.read(t, data)
		}
		for choice := range req.Choices {
			if index := strconv.FormatInt(choice, 10); c.said.Reasons[index] == "" {
				c.said.Reasons[index], c.closed[index] = "length", true
			}
		}
		c.body = append(c.body, ": tokenbudget: cut, limit user-day\n"...)
		c.body = s.Close(c.body, dialect.Usage{Known: true, UncachedInput: 5, Output: 7})
		cases = append(cases, c)
	}
	return cases
}

// cutResult is what an SDK made of a stream.
type cutResult struct {
	chatSaid
	Error      string
	FinalError string `json:"final_error"`
}

// TestSDKEveryCut: whichever event a stream of chats or completions is cut behind, the official SDKs
// get what came before it, each choice ends once, and nothing is raised: event by event, and by the
// accumulators. These raise LengthFinishReasonError as they do for the API's own ends by length:
// Python's where it is asked for the whole answer, both at once if a tool is strict.
func TestSDKEveryCut(t *testing.T) {
	var cases []cutCase
	for _, name := range standin.Recordings() {
		rec, err := standin.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if api := dialect.ForPath(rec.Path).API; rec.Stream() && api != nil && (api.Name() == "openai.chat" || api.Name() == "openai.completions") {
			cases = append(cases, everyCut(t, rec)...)
		}
	}
	if len(cases) < 230 {
		t.Errorf("only %d cuts", len(cases))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(r.Header.Get("x-case"))
		if err != nil || i >= len(cases) {
			http.Error(w, "no such case", http.StatusNotFound)
			return
		}
		w.Header().Set("content-type", "text/event-stream")
		_, _ = w.Write(cases[i].body)
	}))
	defer server.Close()
	type request struct {
		BaseURL string `json:"base_url"`
		Case    int    `json:"case"`
		Kind    string `json:"kind"`
		Helper  bool   `json:"helper"`
		Strict  bool   `json:"strict"` // with a tool whose arguments the helper parses
	}
	var requests []request
	for i, c := range cases {
		requests = append(requests, request{server.URL, i, c.kind, false, false})
		if c.kind == "chat" {
			requests = append(requests, request{server.URL, i, c.kind, true, false})
		}
		if strings.HasPrefix(c.name, "openai/made-") {
			requests = append(requests, request{server.URL, i, c.kind, true, true})
		}
	}
	for _, client := range sdkClients {
		if client.name != "openai" {
			continue
		}
		t.Run(client.id(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the SDK may have to be installed
			defer cancel()
			var got []cutResult
			script := map[string]string{"Python": "testdata/cuts.py", "Node.js": "testdata/cuts.cjs"}[client.language]
			runScript(t, client.script(ctx, t, script), requests, &got)
			if len(got) != len(requests) {
				t.Fatalf("%d results of %d cuts", len(got), len(requests))
			}
			raised := 0
			for i, r := range requests {
				c, g := cases[r.Case], got[i]
				length := slices.Contains(slices.Collect(maps.Values(c.said.Reasons)), "length")
				if r.Strict && length { // at once, except that Python's first looks at a second event
					raised++
					if !strings.HasPrefix(g.Error+g.FinalError, "LengthFinishReasonError") {
						t.Errorf("%s, with a strict tool: error %q", c.name, g.Error)
					}
					continue
				}
				wantFinal := ""
				if r.Helper && length && client.language == "Python" {
					raised++
					wantFinal = "LengthFinishReasonError"
				}
				if r.Helper && client.language == "Node.js" {
					g.Reasoning = c.said.Reasoning // it keeps the last piece of what it does not know
				}
				if g.Error != "" || g.FinalError != wantFinal || !g.equal(c.said) {
					t.Errorf("%s, %+v: error %q, at the end %q, want %q\ngot  %v\nwant %v", c.name, r, g.Error, g.FinalError, wantFinal, g.chatSaid, c.said)
				}
			}
			t.Logf("%d cuts, %d reads; %d accumulators raised LengthFinishReasonError", len(cases), len(requests), raised)
		})
	}
}

// runScript gives a script its input as JSON, and reads its output.
func runScript(t *testing.T, cmd *exec.Cmd, in, out any) {
	t.Helper()
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(output, out); err != nil {
		t.Fatalf("%v in %.2000s", err, output)
	}
}
