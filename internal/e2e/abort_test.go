package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/budget"
)

// send sends a request and reads the whole answer.
func send(t *testing.T, hc *http.Client, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// aborts is how many clients leave, for each combination of HTTP versions.
const aborts = 50

// TestClientAborts lets two hundred clients leave at random points: before the
// answer, and after a random number of its bytes.
func TestClientAborts(t *testing.T) {
	o := roadOptions{limits: plenty(), interval: 2 * time.Millisecond}
	combinations(t, o, func(t *testing.T, r *road, _ *http.Client) {
		name := strings.ReplaceAll(t.Name(), "/", "-")
		http2 := strings.HasSuffix(name, "client=http2")
		var g errgroup.Group
		g.SetLimit(8)
		for i := range aborts {
			g.Go(func() error {
				rng := rand.New(rand.NewPCG(2, uint64(i)))
				// A client of its own, so that leaving closes its connection.
				hc := client(http2)
				defer hc.CloseIdleConnections()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				id := fmt.Sprintf("%s-%d", name, i)
				req, err := r.request(ctx, call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
					headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-repeat": "20", "x-standin-stall-after": "900"}})
				if err != nil {
					return err
				}
				if i%10 == 0 {
					// Before or while the answer begins.
					time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, cancel)
				}
				resp, err := hc.Do(req)
				if err == nil {
					_, err = io.CopyN(io.Discard, resp.Body, rng.Int64N(20_000))
					cancel()
					_ = resp.Body.Close() // the error is ours
				}
				if err != nil && ctx.Err() == nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		for i := range aborts {
			id := fmt.Sprintf("%s-%d", name, i)
			ex, reached := r.up.Exchange(id)
			if !reached {
				continue // it left before the request was forwarded
			}
			s, err := r.finished(id)
			if err != nil {
				t.Fatal(err)
			}
			if ex.Completed {
				t.Errorf("%s: the upstream sent all", id)
			}
			entries := r.exchanges(id)
			if len(entries) != 1 || entries[0].ContextMap()["outcome"] != "aborted" {
				t.Fatalf("%s: the log has %d lines: %v", id, len(entries), entries)
			}
			b := r.balance(t, "user-year", id)
			if arrived := count(t, s.in.Bytes()); b.Held != 0 || b.Spent != 3+arrived {
				t.Errorf("%s: charged %d, held %d; %d tokens had arrived", id, b.Spent, b.Held, arrived)
			}
			if n := r.balance(t, "requests", id); n.Spent != 1 || n.Held != 0 {
				t.Errorf("%s: requests %+v", id, n)
			}
		}
		r.nothingHeld(t) // by requests that were never forwarded either
		for i := range aborts {
			id := fmt.Sprintf("%s-%d", name, i)
			if _, reached := r.up.Exchange(id); !reached {
				continue
			}
			// Envoy hears nothing of the end, but has heard whose request it was.
			line := r.accessLog(t, fmt.Sprintf(`"user":%q`, id))
			if !strings.Contains(line, `"api":"openai.chat"`) || !strings.Contains(line, `"input_tokens":3`) || strings.Contains(line, `"outcome"`) {
				t.Errorf("Envoy's access log says of %s: %s", id, line)
			}
		}
	})
}

// nothingHeld waits until no exchange holds anything.
func (r *road) nothingHeld(t *testing.T) {
	t.Helper()
	held := func(b budget.Balance) bool { return b.Held != 0 }
	for giveUp := time.Now().Add(patience); slices.ContainsFunc(r.balances(t), held); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("something is still held: %+v", r.balances(t))
		}
	}
}

// TestUpstreamReset: an upstream that breaks off leaves no hold, and what it
// produced is charged. Envoy drops what it has not passed on by then: the pauses are for it to
// pass on some.
func TestUpstreamReset(t *testing.T) {
	combinations(t, roadOptions{limits: plenty(), interval: 200 * time.Millisecond}, func(t *testing.T, r *road, hc *http.Client) {
		id := strings.ReplaceAll(t.Name(), "/", "-")
		_, body, err := r.do(t.Context(), hc, call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
			headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-reset-after": "6"}})
		if err == nil {
			t.Errorf("the client sees no error after %q", body)
		}
		s, err := r.finished(id)
		if err != nil {
			t.Fatal(err)
		}
		b := r.balance(t, "user-year", id)
		if arrived := count(t, s.in.Bytes()); b.Held != 0 || b.Spent != 3+arrived || arrived == 0 {
			t.Errorf("charged %d, held %d; %d tokens had arrived", b.Spent, b.Held, arrived)
		}
		if entries := r.exchanges(id); len(entries) != 1 || entries[0].ContextMap()["outcome"] != "aborted" {
			t.Errorf("log lines %v", entries)
		}
	})
}

// accessLog is the line of Envoy's access log that has a text, once it is written: Envoy does
// that in turns.
func (r *road) accessLog(t *testing.T, text string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(r.envoy.Output()) {
			if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
				return line
			}
		}
		if time.Now().After(end) {
			t.Fatalf("Envoy's access log lacks %s", text)
		}
	}
}
