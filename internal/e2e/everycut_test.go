package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// cutCase is a recorded stream that ends behind one of its events.
type cutCase struct {
	kind  string // chat or completions
	name  string // of the recording
	body  []byte
	texts map[string]string // by index
	ended map[string]bool   // choices that had ended by themselves
}

// everyCut cuts a recording behind each of its events, and before the first.
func everyCut(t *testing.T, rec standin.Recording) (cases []cutCase) {
	t.Helper()
	api := dialect.ForPath(rec.Path).API
	request := rec.Request
	if request == nil {
		request = []byte(`{"model":"m","stream":true,"messages":[]}`)
	}
	kind := strings.TrimPrefix(api.Name(), "openai.")
	for cut := range len(rec.Events) {
		req, err := api.ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		s := api.NewStream(req)
		c := cutCase{kind: kind, name: rec.Name, texts: map[string]string{}, ended: map[string]bool{}}
		var body []byte
		var ev dialect.Event
		for _, e := range rec.Events[:cut] {
			data, _ := bytes.CutPrefix(bytes.TrimSpace(e), []byte("data: "))
			s.Event(data, &ev)
			s.Forwarded()
			body = append(body, e...)
			var chunk struct {
				Choices []struct {
					Index  json.Number
					Delta  struct{ Content string }
					Text   string
					Reason *string `json:"finish_reason"`
				}
			}
			if err := json.Unmarshal(data, &chunk); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			for _, x := range chunk.Choices {
				c.texts[x.Index.String()] += x.Delta.Content + x.Text
				c.ended[x.Index.String()] = c.ended[x.Index.String()] || x.Reason != nil
			}
		}
		body = append(body, ": tokenbudget: cut, limit user-day\n"...)
		body = s.Close(body, dialect.Usage{Known: true, UncachedInput: 5, Output: 7})
		c.body = body
		cases = append(cases, c)
	}
	return cases
}

// TestSDKEveryCut: whichever event a stream is cut behind, the official SDK gets the text
// before it, each choice ends once, and nothing is raised.
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
	if len(cases) < 150 {
		t.Errorf("only %d cuts", len(cases))
	}
	kinds := make([]string, len(cases))
	for i, c := range cases {
		kinds[i] = c.kind
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
	for _, requirement := range sdkVersions {
		t.Run(requirement, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			python, err := envoyrun.PythonVenv(ctx, strings.ReplaceAll(requirement, "==", "-"), requirement)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(ctx, python, append([]string{"testdata/cuts.py", server.URL}, kinds...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			var got []struct {
				Texts, Reasons map[string]string
				Error          string
			}
			if err := json.Unmarshal(out, &got); err != nil || len(got) != len(cases) {
				t.Fatalf("%v: %d results of %d cuts", err, len(got), len(cases))
			}
			for i, c := range cases {
				g := got[i]
				if len(c.texts) == 0 {
					c.texts["0"] = "" // of the closing event alone
				}
				if g.Error != "" || !maps.Equal(g.Texts, c.texts) {
					t.Errorf("%s, cut %d: %q, texts %.100q, want %.100q", c.name, i, g.Error, g.Texts, c.texts)
				}
				for index := range c.texts {
					if r := g.Reasons[index]; r == "" || !c.ended[index] && r != "length" {
						t.Errorf("%s, cut %d: choice %s ends with %q", c.name, i, index, r)
					}
				}
			}
			t.Logf("%d cuts", len(cases))
		})
	}
}
