package stage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// started starts an upstream that the test ends.
func started[U io.Closer](t *testing.T, start func(context.Context) (U, error)) U {
	t.Helper()
	u, err := start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

func startUpstream(t *testing.T) *Upstream { return started(t, StartUpstream) }

func startHTTP2Upstream(t *testing.T) *HTTP2Upstream { return started(t, StartHTTP2Upstream) }

func dial(t *testing.T, addr string, a Answer) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), addr, "team", "user", a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Client and upstream understand each other, request after request on one connection, and count alike.
func TestAnswers(t *testing.T) {
	t.Run("HTTP/1.1", func(t *testing.T) { answers(t, startUpstream(t).Addr()) })
	t.Run("Go's server", func(t *testing.T) { answers(t, startHTTP2Upstream(t).Addr()) })
}

func answers(t *testing.T, addr string) {
	c := dial(t, addr, Answer{})
	var whole Whole
	for _, n := range []int{0, 1, 5_000, 300_000} {
		_, body, err := c.Ask(make([]byte, n), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := whole.Check(body, n); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := whole.Check(body, n+4); err == nil {
			t.Error("an answer to another request passes")
		}
	}
	const chunks, pause = 7, 3 * time.Millisecond
	c = dial(t, addr, Answer{Chunks: chunks, Pause: pause})
	s := NewStream(chunks)
	for n := range 3 {
		s.Start(1000 * n)
		sent, body, err := c.Ask(make([]byte, 1000*n), s.Feed)
		if err == nil {
			err = s.End(len(body))
		}
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Duration(bench.Now() - sent); took < (chunks-1)*pause {
			t.Errorf("a stream with %d pauses took %v", chunks-1, took)
		}
		if s.First < sent || s.First > bench.Now() {
			t.Errorf("asked at %d, first chunk at %d, now %d", sent, s.First, bench.Now())
		}
	}
	if len(s.Took) != 3*chunks {
		t.Errorf("times of %d chunks", len(s.Took))
	}
	for _, took := range s.Took {
		if took < 0 || took > int64(time.Minute) {
			t.Errorf("a chunk took %v", time.Duration(took))
		}
	}
	var sent Sent
	if err := sent.Ask(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	if sent.Requests != 7 || sent.Chunks != 3*chunks {
		t.Errorf("the upstream says %+v", sent)
	}
}

// A stream that is told to stay open does, until the client leaves.
func TestStay(t *testing.T) {
	u := startUpstream(t)
	c := dial(t, u.Addr(), Answer{Chunks: 3, Stay: true})
	s := NewStream(3)
	s.Start(0)
	there, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		_, _, err := c.Ask(nil, func(body []byte, at int64) error {
			err := s.Feed(body, at)
			if s.Chunks() == 3 {
				select {
				case there <- true:
				default:
				}
			}
			return err
		})
		ended <- err
	}()
	select {
	case <-there:
	case err := <-ended:
		t.Fatalf("it has ended early: %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it has ended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

// Any byte that is lost, added or changed is noticed, but for the stamps, whose digits only must be digits.
func TestStreamChecks(t *testing.T) {
	const request = 12_345
	script := newScript(4)
	setUsage(script.body, script.usage, request, 4)
	feed := func(body []byte) error {
		s := NewStream(4)
		s.Start(request)
		for end := 0; end < len(body); { // in pieces
			end = min(end+97, len(body))
			if err := s.Feed(body[:end], 1); err != nil {
				return err
			}
		}
		return s.End(len(body))
	}
	if err := feed(script.body); err != nil {
		t.Fatal(err)
	}
	stamp := make(map[int]bool)
	for _, at := range script.stamps {
		for i := range stampWidth {
			stamp[at+i] = true
		}
	}
	for i := range script.body {
		changed := bytes.Clone(script.body)
		changed[i] ^= 1
		if err := feed(changed); (err == nil) != stamp[i] {
			t.Errorf("byte %d, of a stamp: %t; error %v", i, stamp[i], err)
		}
		changed[i] = 'x'
		if feed(changed) == nil && script.body[i] != 'x' {
			t.Errorf("byte %d may be anything", i)
		}
	}
	if feed(script.body[:len(script.body)-1]) == nil || feed(append(bytes.Clone(script.body), ' ')) == nil {
		t.Error("what is too short or too long passes")
	}
}

// What the upstream sends is what the API sends: events of valid JSON with the text's true tokens as usage.
func TestScript(t *testing.T) {
	const chunks = 200
	s := newScript(chunks)
	setUsage(s.body, s.usage, 4000, chunks)
	var text strings.Builder
	var reported struct {
		Usage *struct {
			Prompt, Completion, Total int
		}
	}
	done := false
	for event := range strings.SplitSeq(strings.TrimSuffix(string(s.body), "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok || done {
			t.Fatalf("event %q", event)
		}
		if done = data == "[DONE]"; done {
			continue
		}
		var chunk struct {
			ID      string
			Choices []struct {
				Delta        struct{ Content string }
				FinishReason *string `json:"finish_reason"`
			}
			Usage *struct {
				Prompt     int `json:"prompt_tokens"`
				Completion int `json:"completion_tokens"`
				Total      int `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%v in %q", err, data)
		}
		for _, c := range chunk.Choices {
			text.WriteString(c.Delta.Content)
		}
		if u := chunk.Usage; u != nil {
			reported.Usage = &struct{ Prompt, Completion, Total int }{u.Prompt, u.Completion, u.Total}
		}
	}
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	if n := enc.Count([]byte(text.String())); n != chunks {
		t.Errorf("the text has %d tokens, the stream %d chunks", n, chunks)
	}
	if u := reported.Usage; !done || u == nil || u.Prompt != 1000 || u.Completion != chunks || u.Total != 1000+chunks {
		t.Errorf("done %t, usage %+v", done, u)
	}
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
		Usage   struct {
			Completion int `json:"completion_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(whole), &answer); err != nil {
		t.Fatal(err)
	}
	if n := enc.Count([]byte(answer.Choices[0].Message.Content)); n != WholeOutput || answer.Usage.Completion != n {
		t.Errorf("the whole answer has %d tokens and reports %d", n, answer.Usage.Completion)
	}
}

// An ordinary server and an ordinary client understand us, whatever pieces they write.
func TestOthersUnderstand(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u := startUpstream(t)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.URL()+"/v1/chat/completions", io.MultiReader(strings.NewReader("12"), strings.NewReader("34")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(benchHeader, Answer{Chunks: 5}.String())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := NewStream(5)
	s.Start(4)
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, s.Feed(body, bench.Now()), s.End(len(body))); err != nil {
		t.Error(err)
	}

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("X-Team") != "team" || r.Header.Get("X-User") != "user" {
			t.Errorf("error %v, headers %v", err, r.Header)
		}
		w.Header().Set("Trailer", "X-End")
		for _, c := range body {
			fmt.Fprintf(w, "%c", c+1)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-End", "yes")
	})}
	go func() { _ = server.Serve(lis) }()
	defer server.Close()
	c := dial(t, lis.Addr().String(), Answer{})
	for range 3 {
		if _, body, err := c.Ask([]byte("HAL"), nil); err != nil || string(body) != "IBM" {
			t.Errorf("%q, error %v", body, err)
		}
	}
}

func TestAnswerString(t *testing.T) {
	for _, a := range []Answer{{}, {Chunks: 1}, {Chunks: 200, Pause: 5 * time.Millisecond}, {Chunks: 3, Stay: true}} {
		if got, err := parseAnswer(a.String()); err != nil || got != a {
			t.Errorf("%v becomes %v, error %v", a, got, err)
		}
	}
	for _, s := range []string{"1", "0 0s true", "999999999 0s true", "1 5 true", "1 0s perhaps", "x 0s true"} {
		if a, err := parseAnswer(s); err == nil {
			t.Errorf("%q becomes %v", s, a)
		}
	}
}

func TestPutNumber(t *testing.T) {
	for n, want := range map[int64]string{0: "   0", 7: "   7", 1234: "1234"} {
		place := []byte("xxxx")
		if putNumber(place, n, ' '); string(place) != want {
			t.Errorf("%d becomes %q", n, place)
		}
	}
}

// conn is a connection on which somebody says something, in pieces, and leaves.
type conn struct {
	net.Conn
	says []byte
	step int
}

func (c *conn) Read(b []byte) (int, error) {
	if len(c.says) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.says[:min(c.step, len(c.says))])
	c.says = c.says[n:]
	return n, nil
}

// Whatever comes, reading ends, and what is read as a whole message is what net/http reads.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: v\r\n\r\n", "HTTP/1.1 204 No\nx\n\n",
		"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n",
	} {
		f.Add([]byte(s), 5)
	}
	f.Fuzz(func(t *testing.T, message []byte, step int) {
		r := newReader(&conn{says: bytes.Clone(message), step: max(step, 1)})
		var h header
		var body []byte
		if err := r.head(&h); err != nil {
			return
		}
		if err := r.body(&h, func(piece []byte) error { body = append(body, piece...); return nil }); err != nil {
			return
		}
		if len(body) > len(message) {
			t.Fatalf("a body of %d bytes from a message of %d", len(body), len(message))
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(message)), nil)
		if err != nil || !resp.ProtoAtLeast(1, 1) || !h.chunks && resp.ContentLength < 0 || resp.StatusCode < 200 || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
			return // we are laxer; or HTTP has no chunks yet; or the length is the connection's; or there is no body by definition
		}
		defer resp.Body.Close()
		want, err := io.ReadAll(resp.Body)
		if err == nil && !bytes.Equal(body, want) {
			t.Errorf("body %q, net/http reads %q", body, want)
		}
	})
}
