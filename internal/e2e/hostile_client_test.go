package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/extproc"
)

// slowBody is a body of n bytes that notes how many of them were taken.
type slowBody struct {
	n, taken atomic.Int64
}

func (b *slowBody) Read(p []byte) (int, error) {
	n := min(int64(len(p)), b.n.Load()-b.taken.Load())
	if n == 0 {
		return 0, io.EOF
	}
	for i := range p[:n] {
		p[i] = 'x'
	}
	b.taken.Add(n)
	return int(n), nil
}

// TestHostileBody: a body far above what is allowed is refused while it is still on its way, and
// reaches neither server nor upstream.
func TestHostileBody(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty()})
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			id := fmt.Sprint("large-", http2)
			req, err := r.request(t.Context(), call{id: id, user: id})
			if err != nil {
				t.Fatal(err)
			}
			b := new(slowBody)
			b.n.Store(256 << 20)
			req.Body, req.ContentLength = io.NopCloser(b), b.n.Load()
			resp, err := client(http2).Do(req)
			// A client of HTTP/1.1 may see the connection end before it has read the answer.
			if err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusRequestEntityTooLarge {
					t.Errorf("the answer is %s", resp.Status)
				}
			} else if http2 {
				t.Error(err)
			}
			if n := b.taken.Load(); n > 64<<20 {
				t.Errorf("%d bytes were taken of it", n)
			}
			if _, reached := r.up.Exchange(id); reached {
				t.Error("it reached the upstream")
			}
			if b := r.balance(t, "user-year", id); b.Spent != 0 || b.Held != 0 {
				t.Errorf("it was charged: %+v", b)
			}
		})
	}
}

// TestClientNeverReads: a client that asks for a stream and reads nothing of it holds up its
// own stream only. Envoy holds the upstream back, so that neither it nor the server stores what
// nobody reads, and the deadline ends both.
func TestClientNeverReads(t *testing.T) {
	var sent atomic.Int64
	cancelled := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(cancelled)
		w.Header().Set("content-type", "text/event-stream")
		event := []byte(": " + strings.Repeat("x", 400) + "\n\n" + `data: {"choices":[{"index":0,"delta":{"content":"word "}}]}` + "\n\n")
		for r.Context().Err() == nil {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			n, err := w.Write(event)
			sent.Add(int64(n))
			if errors.Is(err, context.DeadlineExceeded) {
				continue
			}
			if err != nil {
				return
			}
		}
	}))
	defer upstream.Close()
	const deadline = 8 * time.Second // by which the answer must have begun
	r := newRoad(t, roadOptions{limits: plenty(), upstream: upstream.URL, configure: func(o *extproc.Options) { o.ExchangeTimeout = deadline }})
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc

	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	const body = `{"model":"gpt-4o","stream":true,"messages":[]}`
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-standin-id: still\r\nx-user: still\r\ncontent-length: %d\r\n\r\n%s", chatPath, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-cancelled:
	case <-time.After(patience):
		t.Fatal("the upstream still sends")
	}
	if _, err := r.finished("still"); err != nil {
		t.Fatal(err)
	}
	lines := r.exchanges("still")
	if len(lines) != 1 {
		t.Fatalf("log lines %v", lines)
	}
	f := lines[0].ContextMap()
	if f["outcome"] != "cut" || f["limit"] != "(deadline)" {
		t.Errorf("the log says %v by %v", f["outcome"], f["limit"])
	}
	if b := r.balance(t, "user-year", "still"); b.Held != 0 || b.Spent == 0 {
		t.Errorf("charged %d, held %d", b.Spent, b.Held)
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	s := r.tap.of("still")
	s.mu.Lock()
	kept := int64(s.in.Cap() + s.out.Cap()) // by the test
	s.mu.Unlock()
	t.Logf("the upstream had sent %d bytes; %d of heap more than before, %d of them the test's", sent.Load(), int64(m.HeapAlloc)-int64(before), kept)
	if sent.Load() > 48<<20 {
		t.Errorf("the upstream was not held back: it sent %d bytes", sent.Load())
	}
	if grown := int64(m.HeapAlloc) - int64(before) - kept; grown > 16<<20 {
		t.Errorf("%d bytes of heap more than before", grown)
	}
}

// TestEarlyHints: what an upstream says before its answer is no answer.
func TestEarlyHints(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("content-type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"some words\"}}]}\n\ndata: [DONE]\n\n")
	}))
	defer upstream.Close()
	r := newRoad(t, roadOptions{limits: plenty(), upstream: upstream.URL})
	resp, body, err := r.do(t.Context(), client(false), call{id: "hints", user: "hints", body: `{"model":"gpt-4o","stream":true,"messages":[]}`})
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Fatalf("%v %s %v", resp, body, err)
	}
	if _, err := r.finished("hints"); err != nil {
		t.Fatal(err)
	}
	if b := r.balance(t, "user-year", "hints"); b.Spent != 5 || b.Held != 0 {
		t.Errorf("charged %d, held %d", b.Spent, b.Held)
	}
}

// TestIdentityTwice: a header that comes twice with different values is refused, since a client
// could send its own before one that a proxy appends. Envoy tells both.
func TestIdentityTwice(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty()})
	for id, tt := range map[string]struct {
		values []string
		status int
	}{
		"differ": {[]string{"first", "second"}, http.StatusBadRequest},
		"same":   {[]string{"third", "third"}, http.StatusOK},
	} {
		req, err := r.request(t.Context(), call{id: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
			headers: map[string]string{"x-standin-recording": "openai/chat-streaming"}})
		if err != nil {
			t.Fatal(err)
		}
		req.Header[textproto.CanonicalMIMEHeaderKey("x-user")] = tt.values
		if resp, body := send(t, client(false), req); resp.StatusCode != tt.status {
			t.Errorf("%s: %s %s", id, resp.Status, body)
		}
		if _, err := r.finished(id); err != nil {
			t.Error(err)
		}
	}
	if _, reached := r.up.Exchange("differ"); reached {
		t.Error("a refused request reached the upstream")
	}
	if r.balance(t, "user-year", "third").Spent == 0 || r.balance(t, "user-year", "first").Spent+r.balance(t, "user-year", "second").Spent != 0 {
		t.Errorf("%+v", r.balances(t))
	}
}
