package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// The forms which HTTP has for one and the same request: with expect, in chunks, with trailers,
// without a byte, with a length that is said twice. None may hang, and what reaches the upstream
// is what was decided on.

// wired is a connection to Envoy on which bytes are sent as they are.
type wired struct {
	net.Conn
	r *bufio.Reader
}

func (r *road) wire(t *testing.T) *wired {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(r.url, "http://"), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wired{conn, bufio.NewReader(conn)}
}

func (w *wired) send(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		t.Fatal(err)
	}
}

// status reads the next answer and returns its status, and its body. The status is 0 if the
// connection is closed instead, as Envoy does where a request cannot be told from the next one.
func (w *wired) status(t *testing.T) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(w.r, nil)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, ""
	}
	if err != nil {
		t.Errorf("no answer: %v", err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("half an answer: %v", err)
	}
	return resp.StatusCode, string(body)
}

const formBody = `{"model":"gpt-4o","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}`

func formHead(id, path, headers string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nhost: example.com\r\nx-standin-id: %s\r\nx-standin-recording: openai/chat-basic\r\nx-user: %s\r\ncontent-type: application/json\r\n%s\r\n", path, id, id, headers)
}

// TestExpectContinue: Envoy answers expect itself, before it asks the server. The body then comes, or
// never does, where the request was refused by its headers.
func TestExpectContinue(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	expect := fmt.Sprintf("content-length: %d\r\nexpect: 100-continue\r\n", len(formBody))
	t.Run("admitted", func(t *testing.T) {
		w := r.wire(t)
		w.send(t, "%s", formHead("expect", chatPath, expect))
		if got, _ := w.status(t); got != 100 {
			t.Fatalf("status %d, want 100", got)
		}
		w.send(t, "%s", formBody)
		if got, body := w.status(t); got != 200 {
			t.Errorf("status %d: %s", got, body)
		}
		if ex, err := r.up.WaitExchange(t.Context(), "expect"); err != nil || ex.Header.Get("expect") != "" || string(ex.Body) != formBody {
			t.Errorf("the upstream got %q, %v, %v", ex.Body, ex.Header, err)
		}
	})
	for name, tt := range map[string]struct {
		path, headers string
		want          int
	}{
		"an unknown path":   {"/v1/nothing", expect, 403},
		"an unknown coding": {chatPath, expect + "content-encoding: compress\r\n", 415},
		"too many codings":  {chatPath, expect + "content-encoding: gzip, gzip, br\r\n", 415},
	} {
		t.Run(name, func(t *testing.T) {
			w := r.wire(t)
			w.send(t, "%s", formHead(name, tt.path, tt.headers))
			got, body := w.status(t)
			if got == 100 {
				got, body = w.status(t)
			}
			if got != tt.want || !strings.Contains(body, `"error"`) {
				t.Errorf("status %d, want %d: %s", got, tt.want, body)
			}
			if _, reached := r.up.Exchange(name); reached {
				t.Error("it reached the upstream")
			}
		})
	}
}

// TestRequestForms: bodies in chunks, with trailers, empty ones, and lengths that contradict.
func TestRequestForms(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), interval: standin.NoPause})
	length := func(n int) string { return fmt.Sprintf("content-length: %d\r\n", n) }
	var chunks strings.Builder
	for part := range bytes.SplitAfterSeq([]byte(formBody), []byte(",")) {
		fmt.Fprintf(&chunks, "%x\r\n%s\r\n", len(part), part)
	}
	chunked := "transfer-encoding: chunked\r\n"
	for i, tt := range []struct {
		name, headers, body string
		want                int
		forwarded           bool
	}{
		{"in chunks", chunked, chunks.String() + "0\r\n\r\n", 200, true},
		{"in chunks with trailers", chunked + "trailer: x-checksum\r\n", chunks.String() + "0\r\nx-checksum: 7\r\n\r\n", 200, true},
		{"a chunk that never ends", chunked, "ffffffffffffffffff\r\n", 0, false},
		{"no chunk but the last", chunked, "0\r\n\r\n", 400, false},
		{"a length of zero", length(0), "", 400, false},
		{"no length", "", "", 400, false},
		{"the same length twice", length(len(formBody)) + length(len(formBody)), formBody, 0, false},
		{"two lengths", length(len(formBody)) + length(3), formBody, 0, false},
		{"a list of lengths", fmt.Sprintf("content-length: %d, %[1]d\r\n", len(formBody)), formBody, 0, false},
		{"a length and chunks", length(len(formBody)) + chunked, chunks.String() + "0\r\n\r\n", 0, false},
		{"a negative length", "content-length: -1\r\n", formBody, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprint("form-", i)
			w := r.wire(t)
			w.send(t, "%s%s", formHead(id, chatPath, tt.headers), tt.body)
			got, body := w.status(t)
			if got != tt.want {
				t.Errorf("status %d, want %d: %s", got, tt.want, body)
			}
			ex, reached := r.up.Exchange(id)
			if reached != tt.forwarded || reached && string(ex.Body) != formBody {
				t.Errorf("reached the upstream: %v, with %q", reached, ex.Body)
			}
		})
	}
	for _, b := range r.balances(t) {
		if b.Held != 0 {
			t.Errorf("%s still holds %d", b.Limit, b.Held)
		}
	}
}

// TestRequestTrailers: trailers of HTTP/2 requests go past the server, and reach an upstream that
// speaks HTTP/2; the request is decided on all the same. So do those of its answer.
func TestRequestTrailers(t *testing.T) {
	var mu sync.Mutex
	var body, trailer string
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		body, trailer = string(b), r.Trailer.Get("x-checksum")
		mu.Unlock()
		w.Header().Set("content-type", "application/json")
		w.Header().Set("trailer", "x-answer")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":1}}`)
		w.Header().Set("x-answer", "8")
	}))
	upstream.Config.Protocols = new(http.Protocols)
	upstream.Config.Protocols.SetHTTP1(true)
	upstream.Config.Protocols.SetUnencryptedHTTP2(true)
	upstream.Start()
	defer upstream.Close()
	for _, up := range []bool{false, true} {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprintf("upstream http2=%v, client http2=%v", up, down), func(t *testing.T) {
				r := newRoad(t, roadOptions{limits: plenty(), http2: up, upstream: upstream.URL})
				for _, coding := range []string{"", "zstd"} {
					id := "trailers" + coding
					req, err := r.request(t.Context(), call{id: id, user: id})
					if err != nil {
						t.Fatal(err)
					}
					data := []byte(formBody)
					if coding != "" {
						req.Header.Set("content-encoding", coding)
						data = encoded(data, coding)
					}
					req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(data)), -1
					req.Trailer = http.Header{"X-Checksum": {"7"}}
					hc := client(down)
					defer hc.CloseIdleConnections()
					resp, err := hc.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					answer, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					mu.Lock()
					if err != nil || resp.StatusCode != 200 || !strings.Contains(string(answer), "Hi") || body != formBody {
						t.Errorf("%s, %s, %v; the upstream got %q", resp.Status, answer, err, body)
					}
					if arrived := trailer == "7"; arrived != (up && down) {
						t.Errorf("the request's trailer arrived: %v", arrived)
					}
					mu.Unlock()
					if arrived := resp.Trailer.Get("x-answer") == "8"; arrived != (up && down) {
						t.Errorf("the answer's trailer arrived: %v", arrived)
					}
					if _, err := r.finished(id); err != nil {
						t.Fatal(err)
					}
					if b := r.balance(t, "user-year", id); b.Spent != 9 || b.Held != 0 {
						t.Errorf("the ledger says %+v", b)
					}
				}
			})
		}
	}
}

// TestEmptyAnswers: answers without a byte end, whatever they call themselves.
func TestEmptyAnswers(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", r.Header.Get("x-type"))
		if c := r.Header.Get("x-coding"); c != "" {
			w.Header().Set("content-encoding", c)
		}
		if r.Header.Get("x-chunked") != "" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer upstream.Close()
	o := roadOptions{limits: plenty(), upstream: upstream.URL}
	r := newRoad(t, o)
	for _, kind := range []string{"application/json", "text/event-stream"} {
		for _, coding := range []string{"", "gzip"} {
			for _, chunked := range []string{"", "yes"} {
				id := strings.Join([]string{"empty", kind, coding, chunked, "."}, " ")
				resp, got, err := r.do(t.Context(), client(false), call{id: id, user: id, body: formBody, headers: map[string]string{"x-type": kind, "x-coding": coding, "x-chunked": chunked}})
				if err != nil || resp.StatusCode != 200 || len(got) > 0 {
					t.Errorf("%s: %v, %q, %v", id, resp, got, err)
				}
				if _, err := r.finished(id); err != nil {
					t.Fatal(err)
				}
				if b := r.balance(t, "user-year", id); b.Held != 0 {
					t.Errorf("%s: the ledger says %+v", id, b)
				}
			}
		}
	}
}
