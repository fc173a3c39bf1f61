package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

const responsesPath = "/v1/responses"

// responsesRecordings are those of the Responses API.
func responsesRecordings(t *testing.T) (all []standin.Recording) {
	t.Helper()
	for _, name := range standin.Recordings() {
		if !strings.HasPrefix(name, "openai-responses/") {
			continue
		}
		rec, err := standin.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	if len(all) < 8 {
		t.Fatalf("only %d recordings", len(all))
	}
	return all
}

// TestResponsesRecordings lets every answer of the Responses API pass uncut: byte for
// byte, and charged as the provider says.
func TestResponsesRecordings(t *testing.T) {
	combinations(t, roadOptions{limits: plenty(), interval: standin.NoPause}, func(t *testing.T, r *road, hc *http.Client) {
		for _, rec := range responsesRecordings(t) {
			for _, split := range []string{"1", "97", "100000"} {
				t.Run(rec.Name+"/split="+split, func(t *testing.T) { responsesPass(t, r, hc, rec, split) })
			}
		}
	})
}

func responsesPass(t *testing.T, r *road, hc *http.Client, rec standin.Recording, split string) {
	id := strings.ReplaceAll(t.Name(), "/", "-")
	body := string(rec.Request)
	if rec.Request == nil {
		body = fmt.Sprintf(`{"model":"gpt-4o","stream":%v,"input":"hi"}`, rec.Stream())
	}
	req, err := r.request(t.Context(), call{id: id, user: id, body: body, headers: map[string]string{"x-standin-recording": rec.Name, "x-standin-split": split}})
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Path = responsesPath
	resp, got := send(t, hc, req)
	if resp.StatusCode != http.StatusOK || !bytes.Equal(got, rec.Body) {
		t.Fatalf("%s, got  %q\nwant %q", resp.Status, got, rec.Body)
	}
	if _, err := r.finished(id); err != nil {
		t.Fatal(err)
	}
	input, output := responsesUsage(t, rec)
	if b := r.balance(t, "user-year", id); b.Held != 0 || b.Spent != input+output {
		t.Errorf("charged %d, held %d; the provider reports %d and %d", b.Spent, b.Held, input, output)
	}
	fields := r.exchanges(id)[0].ContextMap()
	if fields["api"] != "openai.responses" || fields["outcome"] != "completed" || fields["output_source"] != "reported" || fields["output_tokens"] != output {
		t.Errorf("the log says %v", fields)
	}
}

// responsesUsage reads what an answer says it used: in a stream, its last event that has
// a response.
func responsesUsage(t *testing.T, rec standin.Recording) (input, output int64) {
	t.Helper()
	type usage struct {
		Input  int64 `json:"input_tokens"`
		Output int64 `json:"output_tokens"`
	}
	var whole struct {
		Usage    *usage
		Response struct{ Usage *usage }
	}
	for line := range strings.Lines(string(rec.Body)) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && strings.HasPrefix(data, "{") {
			if err := json.Unmarshal([]byte(data), &whole); err != nil {
				t.Fatal(err)
			}
		}
	}
	u := whole.Response.Usage
	if !rec.Stream() {
		if err := json.Unmarshal(rec.Body, &whole); err != nil {
			t.Fatal(err)
		}
		u = whole.Usage
	}
	if u == nil {
		t.Fatalf("%s has no usage", rec.Name)
	}
	return u.Input, u.Output
}

// responsesSDKs are the official SDKs, as commands that run a script with the cases.
func responsesSDKs(ctx context.Context, t *testing.T) map[string]*exec.Cmd {
	t.Helper()
	all := make(map[string]*exec.Cmd)
	for _, c := range sdkClients {
		if c.name == "openai" {
			all[c.id()] = c.script(ctx, t, map[string]string{"Python": "testdata/responses.py", "Node.js": "testdata/responses.cjs"}[c.language])
		}
	}
	return all
}

type responsesCase struct {
	Name    string            `json:"name"`
	BaseURL string            `json:"base_url"`
	Headers map[string]string `json:"headers"`
	Mode    string            `json:"mode"`
	Prompt  string            `json:"prompt"`
}

type responsesResult struct {
	Name, Text, Status, Reason, Last string
	FinalText                        string   `json:"final_text"`
	DoneTools                        []string `json:"done_tools"`
	FinalTools                       []string `json:"final_tools"`
	HelperError                      string   `json:"helper_error"`
	Usage                            *int64
	Tries                            int
	Error                            *struct {
		Type, Code, Message string
		Status              int
	}
}

func runResponsesSDK(t *testing.T, cmd *exec.Cmd, cases []responsesCase) map[string]responsesResult {
	t.Helper()
	var got struct{ Results []responsesResult }
	runScript(t, cmd, cases, &got)
	if len(got.Results) != len(cases) {
		t.Fatalf("%d results of %d cases", len(got.Results), len(cases))
	}
	results := make(map[string]responsesResult)
	for _, r := range got.Results {
		results[r.Name] = r
	}
	return results
}

// TestResponsesCutEverywhereSDK cuts every streamed recording behind each of its events.
// The official SDKs read what is left to the end, without an exception, and what they got
// is a beginning of the whole. A call of a tool that was cut is not among the finished
// ones.
func TestResponsesCutEverywhereSDK(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	recordings := make(map[string]standin.Recording)
	for _, rec := range responsesRecordings(t) {
		if rec.Stream() {
			recordings[strings.TrimPrefix(rec.Name, "openai-responses/")] = rec
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// /NAME/CUT/FORM/responses
		part := strings.Split(req.URL.Path, "/")
		cut, err := strconv.Atoi(part[2])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("content-type", "text/event-stream")
		_, _ = w.Write(cutStream(recordings[part[1]], cut, part[3] == "completed"))
	}))
	defer server.Close()
	var cases []responsesCase
	for name, rec := range recordings {
		for cut := range rec.Events {
			for _, form := range []string{"incomplete", "completed"} {
				for _, mode := range []string{"create", "helper"} {
					// Two of the recordings lack the events that begin the parts of messages,
					// without which the accumulators fail, cut or not.
					if mode == "helper" && (name == "stream" || name == "stream-refusal") {
						continue
					}
					at := fmt.Sprintf("%s/%d/%s", name, cut, form)
					cases = append(cases, responsesCase{Name: at + "/" + mode, BaseURL: server.URL + "/" + at, Mode: mode, Prompt: "Hello!"})
				}
			}
		}
	}
	for sdk, cmd := range responsesSDKs(ctx, t) {
		t.Run(sdk, func(t *testing.T) {
			helped := 0
			got := runResponsesSDK(t, cmd, cases)
			for _, c := range cases {
				part := strings.Split(c.Name, "/")
				cut, err := strconv.Atoi(part[1])
				if err != nil {
					t.Fatal(err)
				}
				s, rec := got[c.Name], recordings[part[0]]
				ended := wroteBefore(t, rec, cut)
				switch {
				case s.Error != nil:
					t.Errorf("%s: %+v", c.Name, *s.Error)
				case ended.terminal:
				case s.Status != "incomplete" || s.Reason != "max_output_tokens":
					t.Errorf("%s: the status is %q, the reason %q", c.Name, s.Status, s.Reason)
				case s.Text != ended.text || s.FinalText != ended.text:
					t.Errorf("%s: the text is %q, at the end %q, want %q", c.Name, s.Text, s.FinalText, ended.text)
				case len(s.DoneTools) != ended.tools || len(s.FinalTools) != ended.tools:
					t.Errorf("%s: %v and %v are done, want %d calls", c.Name, s.DoneTools, s.FinalTools, ended.tools)
				case s.HelperError != "" && (s.Last == "response.completed" || !strings.Contains(s.HelperError, "response.completed")):
					t.Errorf("%s: the helper says %q", c.Name, s.HelperError)
				case s.HelperError != "":
					helped++
				}
			}
			t.Logf("%d helpers missed response.completed", helped)
		})
	}
}

// before is what a stream has said up to a cut.
type before struct {
	text     string
	tools    int  // calls that are done
	terminal bool // it has ended
}

func wroteBefore(t *testing.T, rec standin.Recording, cut int) (b before) {
	t.Helper()
	for _, e := range rec.Events[:cut] {
		_, data, ok := strings.Cut(string(e), "data: ")
		if !ok || strings.HasPrefix(data, "[DONE]") {
			continue // a comment, or the end that some servers send
		}
		var event struct {
			Type  string
			Delta any
			Item  struct{ Type string }
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatal(err)
		}
		switch delta, _ := event.Delta.(string); event.Type {
		case "response.output_text.delta", "response.refusal.delta":
			b.text += delta
		case "response.output_item.done":
			if event.Item.Type != "message" && event.Item.Type != "reasoning" {
				b.tools++
			}
		case "response.completed", "response.incomplete":
			b.terminal = true
		}
	}
	return b
}

// cutStream is a recorded stream that is cut behind some of its events.
func cutStream(rec standin.Recording, cut int, completed bool) []byte {
	s := dialect.OpenAIResponses{}.NewStream(nil)
	if c, ok := s.(dialect.CompletedStream); ok && completed {
		c.CloseCompleted()
	}
	var ev dialect.Event
	var out []byte
	for _, e := range rec.Events[:cut] {
		if _, data, ok := bytes.Cut(bytes.TrimSpace(e), []byte("data: ")); ok {
			s.Event(data, &ev)
			s.Forwarded()
		}
		out = append(out, e...)
	}
	return s.Close(out, dialect.Usage{Known: true, UncachedInput: 8, Output: 5})
}
