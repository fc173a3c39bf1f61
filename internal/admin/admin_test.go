package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
)

var (
	start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.FixedZone("", 3600)) // shown in UTC
	end   = start.AddDate(0, 0, 1)
)

// balances has every kind of counter: with and without an end, in debt, for all and
// for a compound subject, and numbers that a float cannot hold.
var balances = []budget.Balance{
	{Limit: "org", Unit: budget.Tokens, WindowStart: start, Amount: 1<<62 + 1, Spent: 1<<53 + 1, Held: 7},
	{
		Limit: "day", Unit: budget.Requests, Subject: []budget.Identity{{Name: "team", Value: "search"}, {Name: "user", Value: "ann"}},
		WindowStart: start, WindowEnd: end, Amount: 10, Spent: 12, Held: 1, Parent: "org",
	},
	{
		Limit: "day", Unit: budget.Requests, Subject: []budget.Identity{{Name: "team", Value: "search"}, {Name: "user", Value: "bob"}},
		WindowStart: start, WindowEnd: end, Amount: 10, Spent: 3, Held: 2,
	},
	{
		Limit: "day", Unit: budget.OutputTokens, Subject: []budget.Identity{{Name: "team", Value: budget.None}, {Name: "user", Value: "ann"}},
		WindowStart: start, WindowEnd: end, Amount: 10, Spent: 1, Held: 0,
	},
	{
		Limit: "parallel", Unit: budget.Streams, Subject: []budget.Identity{{Name: "team", Value: budget.Overflow}},
		WindowStart: time.Unix(0, 0), Amount: 3, Held: 2,
	},
}

const wantBudgets = `{
  "budgets": [
    {
      "name": "org",
      "subject": {},
      "unit": "tokens",
      "window_start": "2026-02-28T23:00:00Z",
      "window_end": null,
      "limit": 4611686018427387905,
      "spent": 9007199254740993,
      "held": 7,
      "debt": 0,
      "remaining": 4602678819172646905
    },
    {
      "name": "day",
      "subject": {
        "team": "search",
        "user": "ann"
      },
      "unit": "requests",
      "window_start": "2026-02-28T23:00:00Z",
      "window_end": "2026-03-01T23:00:00Z",
      "limit": 10,
      "spent": 12,
      "held": 1,
      "debt": 2,
      "remaining": 0,
      "parent": "org"
    },
    {
      "name": "day",
      "subject": {
        "team": "search",
        "user": "bob"
      },
      "unit": "requests",
      "window_start": "2026-02-28T23:00:00Z",
      "window_end": "2026-03-01T23:00:00Z",
      "limit": 10,
      "spent": 3,
      "held": 2,
      "debt": 0,
      "remaining": 5
    },
    {
      "name": "day",
      "subject": {
        "team": "(none)",
        "user": "ann"
      },
      "unit": "output_tokens",
      "window_start": "2026-02-28T23:00:00Z",
      "window_end": "2026-03-01T23:00:00Z",
      "limit": 10,
      "spent": 1,
      "held": 0,
      "debt": 0,
      "remaining": 9
    },
    {
      "name": "parallel",
      "subject": {
        "team": "(overflow)"
      },
      "unit": "streams",
      "window_start": "1970-01-01T00:00:00Z",
      "window_end": null,
      "limit": 3,
      "spent": 0,
      "held": 2,
      "debt": 0,
      "remaining": 1
    }
  ]
}
`

const wantUsage = `{
  "usage": [
    {
      "name": "day",
      "unit": "output_tokens",
      "spent": 1,
      "held": 0
    },
    {
      "name": "day",
      "unit": "requests",
      "spent": 15,
      "held": 3
    },
    {
      "name": "org",
      "unit": "tokens",
      "spent": 9007199254740993,
      "held": 7
    },
    {
      "name": "parallel",
      "unit": "streams",
      "spent": 0,
      "held": 2
    }
  ]
}
`

const wantUsageByTeam = `{
  "by": "team",
  "usage": [
    {
      "name": "day",
      "value": "(none)",
      "unit": "output_tokens",
      "spent": 1,
      "held": 0
    },
    {
      "name": "day",
      "value": "search",
      "unit": "requests",
      "spent": 15,
      "held": 3
    },
    {
      "name": "parallel",
      "value": "(overflow)",
      "unit": "streams",
      "spent": 0,
      "held": 2
    }
  ]
}
`

const wantModels = `{
  "models": [
    {
      "name": "claude-9",
      "input": {
        "ratio": 1.25,
        "tokens": 2030
      },
      "output": {
        "ratio": 1.2,
        "tokens": 2000
      }
    }
  ]
}
`

func TestHandler(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "A counter."})
	reg.MustRegister(counter)
	counter.Add(3)
	working := Options{
		Balances:   func(context.Context) ([]budget.Balance, error) { return balances, nil },
		Gatherer:   reg,
		Ready:      func() error { return nil },
		Identities: func() []string { return []string{"team", "user", "feature"} },
	}
	with := func(change func(*Options)) Options {
		o := working
		change(&o)
		return o
	}
	empty := with(func(o *Options) { o.Balances = func(context.Context) ([]budget.Balance, error) { return nil, nil } })
	draining := with(func(o *Options) { o.Ready = func() error { return errors.New("draining") } })
	learned := with(func(o *Options) {
		o.Models = func() []count.Learned {
			return []count.Learned{{Name: "claude-9", Input: count.Estimate{Ratio: 1.25, Tokens: 2030}, Output: count.Estimate{Ratio: 1.2, Tokens: 2000}}}
		}
	})
	storeDown := with(func(o *Options) {
		o.Balances = func(context.Context) ([]budget.Balance, error) { return nil, errors.New("disk on fire") }
	})

	const json, text = "application/json", "text/plain; charset=utf-8"
	for _, tc := range []struct {
		name, method, target string
		options              Options
		status               int
		kind                 string // content type
		body                 string // the whole body; if it begins with "…", a part of it
	}{
		{"alive", "GET", "/healthz", working, 200, text, "ok\n"},
		{"alive while draining", "GET", "/healthz", draining, 200, text, "ok\n"},
		{"ready", "GET", "/readyz", working, 200, text, "ready\n"},
		{"not ready", "GET", "/readyz", draining, 503, text, "draining\n"},
		{"overview", "GET", "/", working, 200, text, "…/v1/budgets\n"},
		{"metrics", "GET", "/metrics", working, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "…\ntest_total 3\n"},
		{"head", "HEAD", "/healthz", working, 200, text, "ok\n"}, // net/http leaves the body out

		{"budgets", "GET", "/v1/budgets", working, 200, json, wantBudgets},
		{"budgets while draining", "GET", "/v1/budgets", draining, 200, json, wantBudgets},
		{"no budgets", "GET", "/v1/budgets", empty, 200, json, "{\n  \"budgets\": []\n}\n"},
		{"budgets, store down", "GET", "/v1/budgets", storeDown, 503, json, "{\n  \"error\": \"the budget's store cannot be read: disk on fire\"\n}\n"},

		{"usage", "GET", "/v1/usage", working, 200, json, wantUsage},
		{"usage by team", "GET", "/v1/usage?by=team", working, 200, json, wantUsageByTeam},
		{"usage by what no budget counts", "GET", "/v1/usage?by=feature", working, 200, json, "{\n  \"by\": \"feature\",\n  \"usage\": []\n}\n"},
		{"no usage", "GET", "/v1/usage", empty, 200, json, "{\n  \"usage\": []\n}\n"},
		{"usage, store down", "GET", "/v1/usage", storeDown, 503, json, "…disk on fire"},
		{"usage by nothing known", "GET", "/v1/usage?by=planet", working, 400, json, "…by=\\\"planet\\\" is no identity; known are [\\\"team\\\" \\\"user\\\" \\\"feature\\\"]"},
		{"usage by nothing known, store down", "GET", "/v1/usage?by=planet", storeDown, 400, json, "…is no identity"},

		{"models", "GET", "/v1/models", learned, 200, json, wantModels},
		{"no models", "GET", "/v1/models", working, 200, json, "{\n  \"models\": []\n}\n"},

		{"no such path", "GET", "/v1/nothing", working, 404, text, "404 page not found\n"},
		{"below the overview", "GET", "/index.html", working, 404, text, "404 page not found\n"},
		{"writing budgets", "POST", "/v1/budgets", working, 405, text, "Method Not Allowed\n"},
		{"deleting usage", "DELETE", "/v1/usage", working, 405, text, "Method Not Allowed\n"},
		{"writing metrics", "PUT", "/metrics", working, 405, text, "Method Not Allowed\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			Handler(tc.options).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tc.method, tc.target, nil))
			if w.Code != tc.status {
				t.Errorf("status %d, want %d", w.Code, tc.status)
			}
			if got := w.Header().Get("content-type"); got != tc.kind {
				t.Errorf("content-type %q, want %q", got, tc.kind)
			}
			got := w.Body.String()
			if part, ok := strings.CutPrefix(tc.body, "…"); ok {
				if !strings.Contains(got, part) {
					t.Errorf("%q is not in the body:\n%s", part, got)
				}
			} else if got != tc.body {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.body)
			}
			if tc.status == http.StatusMethodNotAllowed && w.Header().Get("allow") != "GET, HEAD" {
				t.Errorf("allow: %q", w.Header().Get("allow"))
			}
		})
	}
}

// A client that goes away ends the reading of the store.
func TestBalancesGetTheRequestsContext(t *testing.T) {
	type key struct{}
	var got any
	h := Handler(Options{
		Balances: func(ctx context.Context) ([]budget.Balance, error) {
			got = ctx.Value(key{})
			return nil, nil
		},
		Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil },
	})
	ctx := context.WithValue(t.Context(), key{}, "here")
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/v1/budgets", nil))
	if got != "here" {
		t.Error("the store was not read with the request's context")
	}
}

// patience bounds waits that end at once unless something is broken.
const patience = time.Minute

// serving runs Serve, and returns its address and what it returns.
func serving(ctx context.Context, t *testing.T, h http.Handler) (addr string, served <-chan error) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, lis, h, nil) }()
	return lis.Addr().String(), done
}

// ended waits until Serve has returned.
func ended(t *testing.T, served <-chan error) {
	t.Helper()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Serve does not return")
	}
}

// connect opens a connection, asks for a page if one is named, and returns the
// connection with its reader.
func connect(t *testing.T, addr, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if path != "" {
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
	}
	return conn, bufio.NewReader(conn)
}

func page(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Serve ends with its context, though connections are open: one that is idle
// between requests, and one on which nothing was ever asked.
func TestServeEndsWithIdleConnections(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	addr, served := serving(ctx, t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") }))
	conn, r := connect(t, addr, "/")
	if got := page(t, r); got != "page" {
		t.Fatalf("got %q", got)
	}
	connect(t, addr, "")
	stop()
	ended(t, served)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection ends with %v, want EOF", err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}

// A request under way when the context ends is answered before Serve returns; one
// that does not end is cut off.
func TestServeFinishesRequests(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	mux := http.NewServeMux()
	var finished atomic.Bool
	mux.HandleFunc("/quick", func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // for a Serve that does not wait to return first
		fmt.Fprint(w, "in time")
		finished.Store(true)
	})
	hung := make(chan struct{})
	mux.HandleFunc("/hung", func(http.ResponseWriter, *http.Request) {
		close(hung)
		<-release
	})
	addr, served := serving(ctx, t, mux)
	_, quick := connect(t, addr, "/quick")
	_, slow := connect(t, addr, "/hung")
	<-started
	<-hung
	stop()
	ended(t, served)
	if !finished.Load() {
		t.Error("Serve has returned before a request was answered")
	}
	if got := page(t, quick); got != "in time" {
		t.Errorf("got %q", got)
	}
	if _, err := http.ReadResponse(slow, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a request that hangs ends with %v, want unexpected EOF", err)
	}
}

// An error of the listener is not taken for the end.
func TestServeReportsErrors(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), lis, http.NotFoundHandler(), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
}
