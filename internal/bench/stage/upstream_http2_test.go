package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// Over HTTP/2 the answers are the same, and each chunk comes by itself.
func TestHTTP2Upstream(t *testing.T) {
	u := startHTTP2Upstream(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	wire := new(tap)
	transport := &http.Transport{Protocols: protocols, DialContext: wire.dial}
	defer transport.CloseIdleConnections()
	ask := func(a Answer) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.URL(), strings.NewReader("four"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(benchHeader, a.String())
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", resp.Proto, resp.Status)
		}
		return resp
	}
	resp := ask(Answer{})
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = new(Whole).Check(body, 4)
	}
	if err != nil {
		t.Error(err)
	}

	const chunks = 5
	before := wire.frames(t)
	resp = ask(Answer{Chunks: chunks})
	s := NewStream(chunks)
	s.Start(4)
	body = nil
	for buf := make([]byte, 64<<10); err == nil; {
		var n int
		n, err = resp.Body.Read(buf)
		body = append(body, buf[:n]...)
		if err := s.Feed(body, bench.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err != io.EOF || s.End(len(body)) != nil {
		t.Error(err, s.End(len(body)))
	}
	// How many reads it took says nothing: a reader that is late gets several frames at once.
	if got := wire.frames(t) - before; got != chunks+1 {
		t.Errorf("%d chunks and an end came in %d frames", chunks, got)
	}

	resp = ask(Answer{Chunks: 1, Stay: true}) // it does not end by itself
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

// tap keeps what comes over the one connection that it dials.
type tap struct {
	net.Conn
	mu   sync.Mutex
	seen bytes.Buffer
}

func (c *tap) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.Conn != nil {
		return nil, errors.New("a second connection")
	}
	var err error
	c.Conn, err = new(net.Dialer).DialContext(ctx, network, address)
	return c, err
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Write(b[:n])
	return n, err
}

// frames counts the DATA frames with a payload that have come.
func (c *tap) frames(t *testing.T) int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	data := 0
	for framer := http2.NewFramer(io.Discard, bytes.NewReader(c.seen.Bytes())); ; {
		frame, err := framer.ReadFrame()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return data
		}
		if err != nil {
			t.Fatal(err)
		}
		if h := frame.Header(); h.Type == http2.FrameData && h.Length > 0 {
			data++
		}
	}
}
