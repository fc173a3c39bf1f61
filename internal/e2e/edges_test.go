package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// TestDrain: a server that is told to stop lets a stream finish, cuts one that
// does not, and is gone in the end.
func TestDrain(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: 5 * time.Millisecond, configure: func(o *extproc.Options) { o.DrainTimeout = 8 * time.Second }})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, lis) }()
	// Another Envoy, which talks to the server as it is in production.
	r.startEnvoy(t.Context(), t, lis.Addr().String(), r.up.URL(), false)

	type result struct {
		body []byte
		err  error
	}
	start := func(id string, headers map[string]string) <-chan result {
		headers["x-standin-recording"] = "openai/chat-streaming"
		done, first := make(chan result, 1), make(chan struct{})
		go func() {
			req, err := r.request(t.Context(), call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`, headers: headers})
			if err != nil {
				done <- result{nil, err}
				return
			}
			resp, err := client(false).Do(req)
			if err != nil {
				done <- result{nil, err}
				return
			}
			defer resp.Body.Close()
			head := make([]byte, 1)
			if _, err := io.ReadFull(resp.Body, head); err != nil {
				done <- result{nil, err}
				return
			}
			close(first)
			body, err := io.ReadAll(resp.Body)
			done <- result{append(head, body...), err}
		}()
		select {
		case <-first:
		case <-time.After(patience):
			t.Fatalf("%s: nothing has come", id)
		}
		return done
	}
	finishes := start("finishes", map[string]string{})
	stalls := start("stalls", map[string]string{"x-standin-stall-after": "5"})
	stop()

	if f := <-finishes; f.err != nil || !strings.HasSuffix(string(f.body), "data: [DONE]\n\n") || strings.Contains(string(f.body), "tokenbudget") {
		t.Errorf("the stream that could finish did not: %v, ends in %q", f.err, tail(f.body))
	}
	s := <-stalls
	if s.err != nil || !strings.Contains(string(s.body), ": tokenbudget: cut, limit (drain)\n") || !strings.HasSuffix(string(s.body), "data: [DONE]\n\n") {
		t.Errorf("the silent stream was not cut well: %v, ends in %q", s.err, tail(s.body))
	}
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the server does not stop")
	}
	if ex, err := r.up.WaitExchange(t.Context(), "stalls"); err != nil || ex.CancelledAt.IsZero() {
		t.Errorf("the silent upstream was not cancelled: %v", err)
	}
	for _, b := range r.balances(t) {
		if b.Held != 0 {
			t.Errorf("%s still holds %d", b.Limit, b.Held)
		}
	}
}

// TestTrailers: an upstream that ends its stream with trailers, whole and cut.
func TestTrailers(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("content-type", "text/event-stream")
				w.Header().Set("trailer", "x-checksum")
				for i := range 10 {
					fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%d\"}}]}\n\n", i)
				}
				// An event without its final blank line is withheld until the end.
				fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":" last"}}]}`)
				w.Header().Set("x-checksum", "7")
			}))
			upstream.Config.Protocols = new(http.Protocols)
			upstream.Config.Protocols.SetHTTP1(true)
			upstream.Config.Protocols.SetUnencryptedHTTP2(true)
			upstream.Start()
			defer upstream.Close()
			r := newRoad(t, roadOptions{
				limits: []budget.Limit{perUser("user-year", budget.OutputTokens, 1000), {Name: "tight", Unit: budget.OutputTokens, Amount: 40, Period: budget.Year}},
				http2:  http2, upstream: upstream.URL,
			})
			for i, want := range []string{`" last"}}]}`, "data: [DONE]\n\n"} {
				id := fmt.Sprint("trailers-", i)
				resp, body, err := r.do(t.Context(), client(true), call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`})
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(string(body), want) {
					t.Errorf("the answer ends in %q, want %q", tail(body), want)
				}
				// Envoy drops the trailers of an HTTP/1.1 upstream unless told otherwise.
				if i == 0 && http2 && resp.Trailer.Get("x-checksum") != "7" {
					t.Errorf("trailers: %v", resp.Trailer)
				}
				if _, err := r.finished(id); err != nil {
					t.Fatal(err)
				}
				if b := r.balance(t, "user-year", id); b.Spent == 0 || b.Held != 0 {
					t.Errorf("the ledger says %+v", b)
				}
			}
		})
	}
}

// TestServerAway: without the server requests fail, and nothing reaches the
// upstream unmetered.
func TestServerAway(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty()})
	r.startEnvoy(t.Context(), t, "127.0.0.1:1", r.up.URL(), false)
	resp, body, err := r.do(t.Context(), client(false), call{id: "away", user: "away", body: `{"model":"gpt-4o","messages":[]}`})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("%s %s", resp.Status, body)
	}
	if _, reached := r.up.Exchange("away"); reached {
		t.Error("it reached the upstream")
	}
}

// TestIdentityBytes: a header's bytes need not be UTF-8, metadata must be.
func TestIdentityBytes(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	resp, body, err := r.do(t.Context(), client(false), call{id: "bytes", user: "b\xff", body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
		headers: map[string]string{"x-standin-recording": "openai/chat-streaming"}})
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Errorf("%v %s %v", resp, tail(body), err)
	}
}

// TestEnvoyRefuses: what Envoy itself refuses, before the server has seen it, stays
// as it is.
func TestEnvoyRefuses(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty()})
	for _, path := range []string{"/v1/a%2Fb", "/v1/chat%5Ccompletions"} {
		req, err := r.request(t.Context(), call{id: "refused", user: "refused", body: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path
		resp, body := send(t, client(false), req)
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}
