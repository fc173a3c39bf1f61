package stage

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// Over HTTP/2 the answers are the same, and each chunk comes by itself.
func TestHTTP2Upstream(t *testing.T) {
	u := startHTTP2Upstream(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
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
	resp = ask(Answer{Chunks: chunks, Pause: 5 * time.Millisecond})
	s := NewStream(chunks)
	s.Start(4)
	body = nil
	reads := 0
	for buf := make([]byte, 64<<10); err == nil; reads++ {
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
	if reads < chunks {
		t.Errorf("%d chunks came in %d pieces", chunks, reads)
	}

	resp = ask(Answer{Chunks: 1, Stay: true}) // it does not end by itself
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}
