package standin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// wait bounds whatever a test waits for; it only matters when the test fails.
const wait = time.Minute

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// client returns a client for the protocol, HTTP/1.1 or HTTP/2.0.
func client(t *testing.T, protocol string) *http.Client {
	t.Helper()
	var p http.Protocols
	p.SetHTTP1(protocol == "HTTP/1.1")
	p.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

var protocols = []string{"HTTP/1.1", "HTTP/2.0"}

// send posts a chat request with the given x-standin headers ("id", "a", …).
func send(t *testing.T, c *http.Client, s *Server, body string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL()+"/v1/chat/completions?key=hidden", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer hidden")
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set("x-standin-"+pair[0], pair[1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func ended(t *testing.T, s *Server, id string) Exchange {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	ex, err := s.WaitExchange(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return ex
}

// TestReplay: every recording arrives byte for byte, with its status and
// headers, over both protocols and in every way of writing it.
func TestReplay(t *testing.T) {
	s := start(t, Options{Interval: NoPause, KeepExchanges: 1000})
	const usage = `{"stream":true,"stream_options":{"include_usage":true}}`
	for _, protocol := range protocols {
		c := client(t, protocol)
		for _, name := range Recordings() {
			rec, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			body := usage // leaves usage chunks in, where they are recorded
			for _, way := range [][]string{{}, {"split", "7"}, {"burst", "5"}, {"interval", "10us"}} {
				id := protocol + name + strings.Join(way, "")
				resp := send(t, c, s, body, append(way, "id", id, "recording", name)...)
				got, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				if !bytes.Equal(got, rec.Body) {
					t.Errorf("%s: got %d bytes which are not the %d recorded", id, len(got), len(rec.Body))
				}
				if resp.StatusCode != rec.Status || resp.Header.Get("Content-Type") != rec.Header.Get("Content-Type") {
					t.Errorf("%s: got %d %q, recorded %d %q", id, resp.StatusCode, resp.Header.Get("Content-Type"), rec.Status, rec.Header.Get("Content-Type"))
				}
				ex := ended(t, s, id)
				if !ex.Completed || ex.Cancelled() || ex.EventsSent != ex.EventsTotal || ex.BytesSent != int64(len(rec.Body)) || ex.BytesTotal != ex.BytesSent {
					t.Errorf("%s: reported as %+v", id, ex)
				}
				if !bytes.Equal(ex.Sent, rec.Body) || ex.Protocol != protocol || ex.Recording != name {
					t.Errorf("%s: reported %d bytes of %s over %s", id, len(ex.Sent), ex.Recording, ex.Protocol)
				}
			}
		}
	}
}

// TestRequestIsReported: what arrived can be looked at, without its keys.
func TestRequestIsReported(t *testing.T) {
	s := start(t, Options{Interval: NoPause, KeepBytes: 10})
	resp := send(t, client(t, "HTTP/1.1"), s, `{"stream":false}`, "id", "a")
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	ex := ended(t, s, "a")
	if ex.Method != "POST" || ex.Path != "/v1/chat/completions" || string(ex.Body) != `{"stream":` || ex.BodyBytes != 16 || len(ex.Sent) != 10 {
		t.Errorf("reported as %+v", ex)
	}
	if ex.Header.Get("X-Standin-Id") != "a" || ex.Header.Get("Authorization") != "" {
		t.Errorf("reported headers %v", ex.Header)
	}
	if resp.Header.Get("X-Standin-Id") != "a" {
		t.Errorf("answered with headers %v", resp.Header)
	}
}

// TestCancel: a peer that leaves is noticed while the stand-in writes, pauses,
// is silent, or is blocked because nobody reads.
func TestCancel(t *testing.T) {
	for _, protocol := range protocols {
		for _, tt := range []struct {
			name    string
			headers []string
			read    int // events to read before leaving
			max     int // events that may have been sent, at most; 0 for any
		}{
			{"in a pause", []string{"interval", "1h"}, 1, 1},
			{"silent", []string{"interval", "0", "stall-after", "3"}, 3, 3},
			{"silent from the start", []string{"stall-after", "0"}, 0, 0},
			{"blocked in a write", []string{"interval", "0", "repeat", "5000"}, 2, 0},
		} {
			t.Run(protocol+" "+tt.name, func(t *testing.T) {
				s := start(t, Options{})
				resp := send(t, client(t, protocol), s, `{"stream":true}`, append(tt.headers, "id", "a")...)
				buf := make([]byte, 1)
				for got := []byte{}; bytes.Count(got, []byte("\n\n")) < tt.read; {
					if _, err := io.ReadFull(resp.Body, buf); err != nil {
						t.Fatal(err)
					}
					got = append(got, buf...)
				}
				if ex, _ := s.Exchange("a"); !ex.Ended.IsZero() {
					t.Fatalf("ended before the client left: %+v", ex)
				}
				left := time.Now()
				resp.Body.Close()
				ex := ended(t, s, "a")
				if ex.Completed || ex.CancelledAt.Before(left) {
					t.Errorf("not reported as cancelled after %v: %+v", left, ex.CancelledAt)
				}
				if ex.EventsSent < tt.read || ex.EventsSent >= ex.EventsTotal || tt.max > 0 && ex.EventsSent > tt.max {
					t.Errorf("%d of %d events sent, %d read", ex.EventsSent, ex.EventsTotal, tt.read)
				}
			})
		}
	}
}

// TestReset: a stream that breaks must not look like one that ended.
func TestReset(t *testing.T) {
	for _, protocol := range protocols {
		for _, after := range []string{"0", "2", "51"} {
			s := start(t, Options{Interval: NoPause})
			resp := send(t, client(t, protocol), s, `{"stream":true}`, "id", "a", "reset-after", after)
			if got, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s after %s: %d bytes and a clean end", protocol, after, len(got))
			}
			if ex := ended(t, s, "a"); ex.Completed || ex.Cancelled() {
				t.Errorf("%s after %s: reported as %+v", protocol, after, ex)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	s := start(t, Options{Interval: NoPause, MaxBody: 100})
	c := client(t, "HTTP/1.1")
	for _, tt := range []struct {
		headers []string
		body    string
		status  int
		want    string
	}{
		{[]string{"interval", "soon"}, "", 400, "not a duration"},
		{[]string{"split", "0"}, "", 400, "not a number from 1"},
		{[]string{"split", "2", "burst", "2"}, "", 400, "exclude each other"},
		{[]string{"stall-after", "2", "reset-after", "2"}, "", 400, "exclude each other"},
		{[]string{"stall-after", "52"}, `{"stream":true}`, 400, "only 51 events"},
		{[]string{"repeat", "2"}, "", 400, "not a stream"},
		{[]string{"repeat", "2", "recording", "openai/chat-streaming-detailed-usage"}, "", 400, "has text"},
		{[]string{"recording", "openai/none"}, "", 400, "openai/chat-streaming, "},
		{[]string{"status", "204"}, "", 400, "no body"},
		{nil, strings.Repeat(" ", 101), 413, "too large"},
	} {
		resp := send(t, c, s, tt.body, tt.headers...)
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(got), tt.want) {
			t.Errorf("%v: %d %s (%v), want %d and %q", tt.headers, resp.StatusCode, got, err, tt.status, tt.want)
		}
	}
}

func TestStatus(t *testing.T) {
	s := start(t, Options{Interval: NoPause})
	c := client(t, "HTTP/1.1")
	for _, tt := range []struct{ status, recording, want string }{
		{"503", "openai/chat-streaming", "asked for status 503"},
		{"422", "openai/chat-bad-request", "invalid_request_error"},
		{"201", "openai/chat-basic", "chat.completion"},
	} {
		resp := send(t, c, s, "", "status", tt.status, "recording", tt.recording)
		got, err := io.ReadAll(resp.Body)
		if err != nil || !strings.HasPrefix(resp.Status, tt.status) || !strings.Contains(string(got), tt.want) {
			t.Errorf("%+v: got %s %s (%v)", tt, resp.Status, got, err)
		}
	}
}

func TestJournalIsBounded(t *testing.T) {
	s := start(t, Options{Interval: NoPause, KeepExchanges: 3})
	c := client(t, "HTTP/2.0")
	for _, id := range []string{"a", "b", "c", "d", "b"} {
		resp := send(t, c, s, "", "id", id)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, ex := range s.Exchanges() {
		ids = append(ids, ex.ID)
	}
	if want := []string{"c", "d", "b"}; !slices.Equal(ids, want) {
		t.Errorf("remembers %v, want %v", ids, want)
	}
}

func TestWaitGivesUp(t *testing.T) {
	s := start(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.WaitExchange(ctx, "a"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no such request") {
		t.Errorf("got %v", err)
	}
}

// TestEndsOnItsOwn: what the stand-in itself breaks off is not put down to the
// peer, and Close leaves nothing behind.
func TestEndsOnItsOwn(t *testing.T) {
	for _, protocol := range protocols {
		long := start(t, Options{MaxDuration: 2 * time.Second}) // the answer must have begun by then
		resp := send(t, client(t, protocol), long, `{"stream":true}`, "id", "a", "stall-after", "1")
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: an exchange beyond MaxDuration ended cleanly", protocol)
		}
		if ex := ended(t, long, "a"); ex.Completed || ex.Cancelled() {
			t.Errorf("%s: reported as %+v", protocol, ex)
		}

		closed := start(t, Options{})
		resp = send(t, client(t, protocol), closed, `{"stream":true}`, "id", "a", "stall-after", "1")
		closed.Close()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: an exchange on a closed server ended cleanly", protocol)
		}
		if ex, _ := closed.Exchange("a"); ex.Ended.IsZero() || ex.Completed || ex.Cancelled() {
			t.Errorf("%s: after Close reported as %+v", protocol, ex)
		}
	}
}

func TestStartFails(t *testing.T) {
	if _, err := Start(Options{Recording: "none"}); err == nil || !strings.Contains(err.Error(), "there are") {
		t.Errorf("unknown recording: %v", err)
	}
	s := start(t, Options{})
	if _, err := Start(Options{Addr: s.Addr()}); err == nil {
		t.Error("two servers on one address")
	}
}

// TestBackground: a response in the background is queued, in progress, completed, and known under
// its own id.
func TestBackground(t *testing.T) {
	up, err := Start(Options{Interval: NoPause})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ask := func(method, path, body string) (status int, answer string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, up.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(all)
	}
	const begin = `{"model":"gpt-4o","input":"hi","background":true}`
	for i, step := range []struct {
		method, path, body string
		want               []string
	}{
		{"POST", "/v1/responses", begin, []string{`"id":"resp_standin_1"`, `"status":"queued"`, `"usage":null`}},
		{"GET", "/v1/responses/resp_standin_1", "", []string{`"id":"resp_standin_1"`, `"status":"in_progress"`, `"output":[]`}},
		{"GET", "/v1/responses/resp_standin_1", "", []string{`"status":"completed"`, `"output_tokens":`, `Hello!`}},
		{"POST", "/v1/responses/resp_standin_1/cancel", "", []string{`"status":"completed"`}},
		{"POST", "/openai/v1/responses", begin, []string{`"id":"resp_standin_2"`}},
		{"POST", "/openai/v1/responses/resp_standin_2/cancel", "", []string{`"status":"cancelled"`}},
		{"GET", "/openai/v1/responses/resp_standin_2", "", []string{`"status":"cancelled"`}},
		{"POST", "/v1/responses", `{"model":"gpt-4o","input":"hi","background":true,"stream":true}`, []string{`"resp_standin_3"`, `"sequence_number":0`, `response.completed`}},
		{"GET", "/v1/responses/resp_standin_3?stream=true&starting_after=0", "", []string{`"resp_standin_3"`, `"sequence_number":1`, `response.completed`}},
	} {
		status, answer := ask(step.method, step.path, step.body)
		for _, want := range step.want {
			if status != http.StatusOK || !strings.Contains(answer, want) {
				t.Errorf("step %d, %s %s: %d, no %s in %.300s", i, step.method, step.path, status, want, answer)
			}
		}
		if strings.Contains(step.path, "starting_after=0") && strings.Contains(answer, `"sequence_number":0,`) {
			t.Error("the event is repeated behind which it was asked for")
		}
	}
	if status, _ := ask("GET", "/v1/responses/resp_other", ""); status != http.StatusNotFound {
		t.Errorf("a response that was not begun: %d", status)
	}
	if _, answer := ask("POST", "/v1/responses", `{"model":"gpt-4o","input":"hi"}`); !strings.Contains(answer, "resp_0fd43e1b") {
		t.Errorf("without background the answer is not the recorded one: %.200s", answer)
	}
}
