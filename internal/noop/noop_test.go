package noop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// varied returns n bytes that do not repeat in steps of a chunk's size.
func varied(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d,", i)
	}
	return b[:n]
}

// Through a real Envoy, bodies of both directions pass unchanged, whole and in
// pieces, with trailers and without, and the server has seen every exchange.
func TestBytesPassUnchanged(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Envoy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // Envoy may have to be installed
	defer cancel()

	type upstreamSaw struct {
		body []byte
		err  error
	}
	saw := make(chan upstreamSaw, 1)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		saw <- upstreamSaw{body, err}
		if r.Header.Get("x-trailers") != "" {
			w.Header().Set("Trailer", "x-sum")
			defer w.Header().Set("X-Sum", "42")
		}
		for piece := body; len(piece) > 0; {
			n := min(len(piece), 30_000)
			if _, err := w.Write(piece[:n]); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			piece = piece[n:]
		}
	}))
	defer up.Close()

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveCtx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- Serve(serveCtx, lis) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	bootstrap, err := envoy.BootstrapYAML(envoy.Options{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: up.URL, ExtProc: lis.Addr().String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	}()
	addr, err := proxy.ListenerAddr(ctx, envoy.ListenerName)
	if err != nil {
		t.Fatal(err)
	}

	exchanges := 0
	for _, n := range []int{0, 1, 2_000, 300_000, 5 << 20} {
		for _, trailers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, trailers %t", n, trailers), func(t *testing.T) {
				exchanges++
				want := varied(n)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/echo", bytes.NewReader(want))
				if err != nil {
					t.Fatal(err)
				}
				if trailers {
					req.Header.Set("X-Trailers", "yes")
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
					t.Errorf("status %d, error %v, %d bytes came back, want %d", resp.StatusCode, err, len(got), n)
				}
				select {
				case s := <-saw:
					if s.err != nil || !bytes.Equal(s.body, want) {
						t.Errorf("the upstream saw %d bytes and %v, want %d", len(s.body), s.err, n)
					}
				default:
					t.Error("the request has not reached the upstream")
				}
			})
		}
	}
	stats, err := proxy.Stats(ctx, "ext_proc.*streams_(started|failed)$")
	if err != nil {
		t.Fatal(err)
	}
	var started, failed uint64
	for name, n := range stats {
		if name[len(name)-1] == 'd' && bytes.HasSuffix([]byte(name), []byte("started")) {
			started += n
		} else {
			failed += n
		}
	}
	if started != uint64(exchanges) || failed != 0 {
		t.Errorf("%d exchanges, but Envoy's statistics are %v", exchanges, stats)
	}
}
