package e2e

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// serveRoad lets the road's server serve as it does in production, with another Envoy in front.
func serveRoad(t *testing.T, r *road) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, lis) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	r.startEnvoy(t.Context(), t, lis.Addr().String(), r.up.URL(), false)
}

// backgroundLines waits for n lines of the ends of responses that went on in the background.
func backgroundLines(t *testing.T, r *road, user string, n int) []observer.LoggedEntry {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		lines := r.logs.FilterMessage("background").FilterField(zap.String("user", user)).All()
		if len(lines) >= n || time.Now().After(end) {
			if len(lines) != n {
				t.Fatalf("%d lines of the ends of %s's responses, want %d", len(lines), user, n)
			}
			return lines
		}
	}
}

// TestBackground: through a real Envoy a response in the background holds what it may cost until
// somebody else's GET shows its end.
func TestBackground(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	serveRoad(t, r)
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			hc, user := client(http2), "bg-"+strings.NewReplacer("/", "", ".", "").Replace(name)
			ask := func(method, path, user, body string) string {
				t.Helper()
				req, err := r.request(t.Context(), call{user: user, body: body})
				if err != nil {
					t.Fatal(err)
				}
				req.Method = method
				req.URL.Path = path
				if body == "" {
					req.Body, req.ContentLength = nil, 0
				}
				resp, got := send(t, hc, req)
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("%s %s: %s, %s", method, path, resp.Status, got)
				}
				return string(got)
			}
			begun := ask("POST", responsesPath, user, `{"model":"gpt-4o","input":"Hello!","background":true,"max_output_tokens":500}`)
			_, id, _ := strings.Cut(begun, `"id":"`)
			id, _, _ = strings.Cut(id, `"`)
			if b := r.balance(t, "user-year", user); b.Spent != 0 || b.Held < 500 {
				t.Errorf("while it goes on %d are spent and %d held", b.Spent, b.Held)
			}
			if got := ask("GET", responsesPath+"/"+id, "other", ""); !strings.Contains(got, `"status":"in_progress"`) {
				t.Fatalf("the first answer: %s", got)
			}
			for range 2 {
				if got := ask("GET", responsesPath+"/"+id, "other", ""); !strings.Contains(got, `"status":"completed"`) {
					t.Fatalf("the second answer: %s", got)
				}
			}
			line := backgroundLines(t, r, user, 1)[0].ContextMap()
			rec, err := standin.Load("openai-responses/basic")
			if err != nil {
				t.Fatal(err)
			}
			input, output := responsesUsage(t, rec)
			if b := r.balance(t, "user-year", user); b.Spent != input+output || b.Held != 0 {
				t.Errorf("%d are spent and %d held; the provider reports %d and %d", b.Spent, b.Held, input, output)
			}
			if line["output_tokens"] != output || line["output_source"] != "reported" || line["outcome"] != "completed" {
				t.Errorf("the line of its end: %v", line)
			}
			if first := r.exchanges(user)[0].ContextMap(); first["background"] != true || first["output_tokens"] != int64(0) || first["request_id"] != line["request_id"] || line["request_id"] == "" {
				t.Errorf("the line of the request: %v; of its end: %v", first, line)
			}
		})
	}
}

// TestBackgroundSDK: what the official SDK begins in the background, fetches, cancels, leaves and
// takes up again is charged as reported.
func TestBackgroundSDK(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := newRoad(t, roadOptions{limits: plenty(), interval: 5 * time.Millisecond})
	serveRoad(t, r)
	charged := make(map[string]int64)
	for _, name := range []string{"basic", "made-text"} {
		rec, err := standin.Load("openai-responses/" + name)
		if err != nil {
			t.Fatal(err)
		}
		input, output := responsesUsage(t, rec)
		charged[name] = input + output
	}
	for _, c := range sdkClients {
		if c.name != "openai" || c.language != "Python" {
			continue
		}
		t.Run(c.id(), func(t *testing.T) {
			type told struct {
				ID, Status   string
				OutputTokens *int64 `json:"output_tokens"`
			}
			var got struct {
				Fetched            []told
				Cancelled, Resumed told
				Last               string
			}
			user := c.id()
			runScript(t, c.script(ctx, t, "testdata/background.py"), map[string]any{
				"base_url": r.url + "/v1", "headers": map[string]string{"x-user": user},
			}, &got)
			if len(got.Fetched) != 3 || got.Fetched[0].Status != "in_progress" || got.Fetched[2].Status != "completed" || got.Fetched[2].OutputTokens == nil ||
				got.Cancelled.Status != "cancelled" || got.Last != "response.completed" || got.Resumed.OutputTokens == nil {
				t.Fatalf("the SDK says %+v", got)
			}
			backgroundLines(t, r, user, 3)
			if b, want := r.balance(t, "user-year", user), 2*charged["basic"]+charged["made-text"]; b.Spent != want || b.Held != 0 {
				t.Errorf("%d are spent and %d held; the provider reports %d in all", b.Spent, b.Held, want)
			}
		})
	}
}
