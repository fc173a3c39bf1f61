package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/hostile"
)

// TestHostile plays the corpus of hostile input through a real Envoy: each row gets what the
// state machine alone gives it. Every request leaves one line in the log, which quotes nothing,
// no hold, and no goroutine.
func TestHostile(t *testing.T) {
	up := &hostileUpstream{rows: make(map[string]*upstreamRow)}
	upstream := httptest.NewServer(up)
	defer upstream.Close()
	r := newRoad(t, roadOptions{limits: []budget.Limit{perUser("minute", budget.Tokens, hostile.Limit)}, policy: exchange.Policy{Growth: exchange.DefaultGrowth}, upstream: upstream.URL})
	up.tap = r.tap
	hc := client(false)
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	transport := hc.Transport.(*http.Transport)
	transport.DisableCompression, transport.DisableKeepAlives = true, true // a connection that breaks must not be tried again
	defer hc.CloseIdleConnections()
	before := goroutines()
	var wrong []string // collected, since datadriven stops at the first
	fail := func(d *datadriven.TestData, format string, args ...any) string {
		wrong = append(wrong, d.Pos+": "+fmt.Sprintf(format, args...))
		return d.Expected
	}
	for _, file := range []string{"requests", "answers"} {
		datadriven.RunTest(t, "../../extproc/exchange/testdata/hostile/"+file, func(t *testing.T, d *datadriven.TestData) string {
			c, err := hostile.Parse(d)
			if err != nil {
				t.Fatal(err)
			}
			if c.Envoy != "" {
				return d.Expected
			}
			id := fmt.Sprint(file, "-", d.Pos[strings.LastIndexByte(d.Pos, ':')+1:])
			row := up.add(id, c)
			got, err := r.attack(t, hc, id, c, row)
			if err != nil {
				return fail(d, "%s: %v", c.Title, err)
			}
			broken := slices.ContainsFunc(c.Steps, func(s hostile.Step) bool { return s.Op == "reset" })
			// How much of it arrives before a break or a cut is a matter of chance.
			outcome, _, _ := strings.Cut(got.Told(), ";")
			if broken || got.Outcome == string(exchange.CutOff) {
				if !strings.Contains(d.Expected, "\n"+outcome+";") {
					return fail(d, "%s: got %q, want\n%s", c.Title, outcome, d.Expected)
				}
				return d.Expected
			}
			if got.String() != d.Expected {
				return fail(d, "%s: got\n%swant\n%s", c.Title, got, d.Expected)
			}
			return d.Expected
		})
	}
	for _, w := range wrong {
		t.Error(w)
	}
	for _, b := range r.balances(t) {
		if b.Held != 0 {
			t.Errorf("%s still holds %d", b.Subject, b.Held)
		}
	}
	for _, e := range r.logs.All() {
		if text := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(text, hostile.Secret) {
			t.Errorf("the log quotes what it must not: %s", text)
		}
	}
	hc.CloseIdleConnections()
	noMoreGoroutines(t, before)
}

// hostileUpstream answers as the rows say.
type hostileUpstream struct {
	tap  *tap
	mu   sync.Mutex
	rows map[string]*upstreamRow
}

// upstreamRow is a row, and what the upstream saw of it.
type upstreamRow struct {
	row *hostile.Case

	mu      sync.Mutex
	reached bool
	body    []byte
}

func (u *hostileUpstream) add(id string, c *hostile.Case) *upstreamRow {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rows[id] = &upstreamRow{row: c}
	return u.rows[id]
}

func (u *hostileUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	row := u.rows[r.Header.Get("x-standin-id")]
	u.mu.Unlock()
	body, _ := io.ReadAll(r.Body) // a client that leaves ends it
	row.mu.Lock()
	row.reached, row.body = true, body
	row.mu.Unlock()
	status, kind, headers, bodyless := row.row.Answer()
	if row.row.Kind == "request" {
		status, kind = "400", "application/json"
	}
	w.Header()["Content-Type"] = nil // the server would guess it
	if kind != "" {
		w.Header().Set("content-type", kind)
	}
	for _, h := range headers {
		w.Header().Set(h[0], h[1])
	}
	if row.row.Kind == "request" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "{}")
		return
	}
	n, _ := strconv.Atoi(status)
	if bodyless {
		w.Header().Set("content-length", "0")
	}
	w.WriteHeader(n)
	sent := 0
	flush := http.NewResponseController(w).Flush
	for _, s := range row.row.Steps {
		if b, ok := s.Bytes(); ok {
			sent += len(b)
			_, _ = w.Write(b) // the other end may have gone
			_ = flush()
		}
		if s.Op == "reset" {
			_ = flush()
			u.arrived(r.Context(), r.Header.Get("x-standin-id"), sent)
			panic(http.ErrAbortHandler)
		}
	}
}

// arrived waits until n bytes of an answer have reached the server, if they do: Envoy may drop what
// it has not passed on when the upstream breaks off.
func (u *hostileUpstream) arrived(ctx context.Context, id string, n int) {
	s := u.tap.of(id)
	for range 500 {
		s.mu.Lock()
		there := s.in.Len() >= n
		s.mu.Unlock()
		if there || ctx.Err() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// attack plays a row and says what it got.
func (r *road) attack(t *testing.T, hc *http.Client, id string, c *hostile.Case, row *upstreamRow) (*hostile.Outcome, error) {
	t.Helper()
	method, body := c.Method, io.Reader(nil)
	if method == "" {
		method = http.MethodPost
	}
	for _, s := range c.Steps {
		if s.Op == "body" && c.Kind == "request" {
			body = bytes.NewReader(s.Text)
		}
	}
	if c.Kind == "answer" {
		body = bytes.NewReader(c.Body())
	}
	req, err := http.NewRequestWithContext(t.Context(), method, r.url, body)
	if err != nil {
		return nil, err
	}
	req.URL.Opaque = c.Path
	req.Header.Set("content-type", "application/json")
	req.Header.Set("x-standin-id", id)
	req.Header.Set("x-user", id)
	for _, s := range c.Steps {
		if s.Op == "header" && c.Kind == "request" {
			name, value := s.Header()
			if name == "content-type" {
				req.Header.Del(name) // the row's own
			}
			req.Header.Add(name, value)
		}
	}
	earlier := r.logs.FilterMessage("exchange").Len()
	resp, err := hc.Do(req)
	var client []byte
	if err == nil {
		client, _ = io.ReadAll(resp.Body) // broken off, as some rows are
		_ = resp.Body.Close()
	}
	if _, err := r.finished(id); err != nil {
		return nil, err
	}
	lines := r.logs.FilterMessage("exchange").All()[earlier:]
	if len(lines) != 1 {
		return nil, fmt.Errorf("the log has %d lines", len(lines))
	}
	f := lines[0].ContextMap()
	text := func(name string) string { s, _ := f[name].(string); return s }
	number := func(name string) int64 { n, _ := f[name].(int64); return n }
	b := r.balance(t, "minute", id)
	o := &hostile.Outcome{
		Row: c, Outcome: text("outcome"), Limit: text("limit"), Reason: text("reason"), Status: int(number("status")),
		Input: number("input_tokens"), Output: number("output_tokens"), InputSource: text("input_source"), OutputSource: text("output_source"),
		Held: number("held"), Spent: b.Spent, Client: client,
	}
	row.mu.Lock()
	defer row.mu.Unlock()
	o.Forwarded = row.reached
	o.Refused = o.Outcome == string(exchange.Denied) || o.Reason != "" && o.Outcome != string(exchange.CutOff)
	if o.Refused {
		o.Message = hostile.Message(client)
		if resp == nil || resp.StatusCode != o.Status {
			return nil, fmt.Errorf("the client got %v, the log says %d", resp, o.Status)
		}
	}
	if c.Kind == "request" {
		if o.Refused && row.reached {
			return nil, fmt.Errorf("it reached the upstream all the same")
		}
		if sent := c.Body(); o.Forwarded && !bytes.Equal(sent, row.body) {
			o.Body = row.body
		}
		return o, nil
	}
	for _, s := range c.Steps {
		piece, _ := s.Bytes()
		o.Sent = append(o.Sent, piece...)
	}
	return o, nil
}
