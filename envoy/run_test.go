package envoy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// wait bounds whatever a test waits for; it only matters when the test fails.
const wait = 60 * time.Second

func needEnvoy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real Envoy")
	}
}

// gateway is an Envoy with a rendered bootstrap.
type gateway struct {
	*envoyrun.Envoy
	url string
}

// run starts Envoy on free ports, in front of a stand-in upstream unless the
// options name another.
func run(t *testing.T, opts Options) (gateway, *standin.Server) {
	t.Helper()
	needEnvoy(t)
	up, err := standin.Start(standin.Options{Interval: standin.NoPause})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	opts.Listen, opts.Admin = "127.0.0.1:0", "127.0.0.1:0"
	setDefault(&opts.Upstream, up.URL())
	config, err := BootstrapYAML(opts)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: config, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if log := e.Log(); strings.Contains(log, "[warning]") { // of deprecated fields, missing limits, …
		t.Errorf("Envoy warns of the configuration:\n%s", log)
	}
	addr, err := e.ListenerAddr(t.Context(), ListenerName)
	if err != nil {
		t.Fatal(err)
	}
	return gateway{e, "http://" + addr}, up
}

// answer is what a client got. Err is set for a stream that broke.
type answer struct {
	status int
	body   string
	header http.Header
	err    error
}

func (g gateway) post(t *testing.T, path, body string, headers ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header[pair[0]] = []string{pair[1]} // as it is written
		if pair[0] == "Host" {
			req.Host = pair[1]
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(got), resp.Header, err}
}

// logged waits for the access log line of the exchange with the given path.
func (g gateway) logged(t *testing.T, path string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(g.Output()) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["path"] == path {
				return fields
			}
		}
	}
	t.Fatalf("no access log line for %s in:\n%s", path, g.Output())
	return nil
}

const (
	chat   = "/v1/chat/completions"
	stream = `{"model":"gpt-5-nano","messages":[],"stream":true}`
)

// closedPort returns an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	addr, err := envoyrun.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// TestServerDown: without the server nothing reaches the upstream, unless the
// configuration says so.
func TestServerDown(t *testing.T) {
	for _, tt := range []struct {
		opts      Options
		status    int
		exchanges int
	}{
		{Options{}, 500, 0},
		{Options{FailOpen: true}, 200, 1},
		{Options{PassPaths: []string{"/v1/chat/*"}}, 200, 1},
		{Options{PassPaths: []string{"/v1/*/completions"}}, 200, 1},
		{Options{PassPaths: []string{"/v1/chat"}}, 500, 0},
		{Options{PassPaths: []string{"/v1/chat/*"}, DenyPaths: []string{"/v1/*/comp*"}}, 500, 0},
	} {
		tt.opts.ExtProc = closedPort(t)
		g, up := run(t, tt.opts)
		if got := g.post(t, chat, stream); got.status != tt.status {
			t.Errorf("%+v: status %d: %s", tt, got.status, got.body)
		}
		if n := len(up.Exchanges()); n != tt.exchanges {
			t.Errorf("%+v: %d requests reached the upstream", tt, n)
		}
	}
}

// TestUnmetered: what does not go through the server arrives as it is, for both
// protocols of the upstream.
func TestUnmetered(t *testing.T) {
	rec, err := standin.Load("openai/chat-streaming")
	if err != nil {
		t.Fatal(err)
	}
	for _, http2 := range []bool{false, true} {
		g, up := run(t, Options{UpstreamHTTP2: http2, PassPaths: []string{"/*"}})
		got := g.post(t, chat, stream, "x-standin-id", "a", "Accept-Encoding", "gzip")
		if got.status != 200 || got.err != nil || got.body != string(rec.Body) {
			t.Errorf("status %d, %d bytes (%v)", got.status, len(got.body), got.err)
		}
		ex, ok := up.Exchange("a")
		if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; !ok || ex.Protocol != want {
			t.Errorf("upstream saw %s, want %s", ex.Protocol, want)
		}
		if ex.Header.Get("Accept-Encoding") != "gzip" || ex.Header.Get("X-Request-Id") == "" {
			t.Errorf("upstream saw headers %v", ex.Header)
		}
	}
}

// TestClientsCannot do what would pass the budget by.
func TestClientsCannot(t *testing.T) {
	server := &stub{}
	g, up := run(t, Options{PassPaths: []string{"/pass/*"}, ExtProc: server.serve(t)})

	g.post(t, chat, stream, "x-standin-status", "503",
		"x-envoy-retry-on", "5xx,retriable-status-codes", "x-envoy-max-retries", "3", "x-envoy-retriable-status-codes", "503")
	if n := len(up.Exchanges()); n != 1 {
		t.Errorf("a client's headers made Envoy try %d times", n)
	}
	g.post(t, chat, stream, "x-envoy-upstream-rq-timeout-ms", "1", "x-standin-id", "slow", "x-standin-interval", "5ms")
	if ex, _ := up.Exchange("slow"); !ex.Completed {
		t.Errorf("a client's header set a timeout: %d of %d events", ex.EventsSent, ex.EventsTotal)
	}
	before := len(up.Exchanges())
	for _, path := range []string{"/pass/%2e%2e%2fv1/chat/completions", "/pass/..%2Fv1/chat/completions", `/pass/..%5Cv1/chat/completions`} {
		if got := g.post(t, path, stream); got.status != 400 {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	if n := len(up.Exchanges()); n != before {
		t.Errorf("%d refused requests reached the upstream", n-before)
	}
	g.post(t, "/pass/../v1//chat/completions", stream, "x-standin-id", "dots", "x_team", "search")
	ex, _ := up.Exchange("dots")
	if ex.Path != chat {
		t.Errorf("dots arrived as %q", ex.Path)
	}
	headers, _ := server.seen()
	if headers[":path"] != chat {
		t.Errorf("the server was asked for %q", headers[":path"])
	}
	if headers["x_team"] != "" || len(ex.Header["X_team"]) > 0 {
		t.Error("a header with an underscore got through")
	}
}

// TestMetered: with a server, a stream can be cut so that the client sees a clean
// end and the upstream stops; the access log says that it was a cut.
func TestMetered(t *testing.T) {
	certs := newAuthority(t, "localhost", "127.0.0.1")
	for _, tt := range []struct {
		name  string
		http2 bool
		tls   *ClientTLS
	}{
		{"HTTP/1.1", false, nil},
		{"HTTP/2", true, nil},
		{"TLS to the server", false, certs.clientTLS()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := &stub{cutAfter: 5}
			var opts []grpc.ServerOption
			if tt.tls != nil {
				opts = append(opts, grpc.Creds(credentials.NewTLS(certs.serverTLS())))
			}
			g, up := run(t, Options{
				ExtProc: server.serve(t, opts...), ExtProcTLS: tt.tls, UpstreamHTTP2: tt.http2,
				AccessLog: true, Identities: []string{"team"}, StripHeaders: []string{"x-user"},
			})
			got := g.post(t, chat+"?key=hidden", stream, "x-standin-id", "a", "x-standin-stall-after", "10", "X-User", "mallory", "x-team", "search", "x-forwarded-for", "203.0.113.9")
			if got.status != 200 || got.err != nil || !strings.HasSuffix(got.body, closing) {
				t.Errorf("status %d, error %v, body %s", got.status, got.err, got.body)
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			ex, err := up.WaitExchange(ctx, "a")
			if err != nil || !ex.Cancelled() {
				t.Errorf("the upstream was not cancelled: %v, completed %v", err, ex.Completed)
			}
			headers, body := server.seen()
			if _, found := headers["x-user"]; found || headers["x-team"] != "search" || headers["x-request-id"] == "" || body != len(stream) {
				t.Errorf("the server saw %v and %d bytes", headers, body)
			}
			log := g.logged(t, chat)
			events := float64(strings.Count(strings.TrimSuffix(got.body, closing), "\n\n"))
			for field, want := range map[string]any{
				"outcome": "cut", "limit": "team-day", "team": "search", "output_tokens": events, "stream": true,
				"status": 200.0, "method": "POST", "client": "127.0.0.1", "request_id": headers["x-request-id"],
			} {
				if log[field] != want {
					t.Errorf("access log: %s is %v, want %v", field, log[field], want)
				}
			}
			if out := g.Output(); strings.Contains(out, "hidden") {
				t.Errorf("the access log has the query: %s", out)
			}
		})
	}
}

// TestBodyLimit: a body of more than a buffer passes, one beyond the limit is a 413.
func TestBodyLimit(t *testing.T) {
	server := &stub{}
	g, up := run(t, Options{ExtProc: server.serve(t), MaxRequestBody: 6 << 20})
	body := stream + strings.Repeat(" ", 5<<20)
	if got := g.post(t, chat, body, "x-standin-id", "a"); got.status != 200 || got.err != nil || !strings.HasSuffix(strings.TrimSpace(got.body), "[DONE]") {
		t.Errorf("5 MiB: status %d, %v", got.status, got.err)
	}
	if _, n := server.seen(); n != len(body) {
		t.Errorf("the server saw %d of %d bytes", n, len(body))
	}
	if ex, _ := up.Exchange("a"); ex.BodyBytes != int64(len(body)) {
		t.Errorf("the upstream got %d of %d bytes", ex.BodyBytes, len(body))
	}
	if got := g.post(t, chat, strings.Repeat(" ", 7<<20), "x-standin-id", "b"); got.status != 413 {
		t.Errorf("7 MiB: status %d", got.status)
	}
	if _, found := up.Exchange("b"); found {
		t.Error("the body beyond the limit reached the upstream")
	}
}

// tlsUpstream serves HTTPS with the authority's certificate and returns its port.
// It answers with what it saw: protocol, host, and the name in the TLS handshake.
func tlsUpstream(t *testing.T, certs authority) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: wait,
		ErrorLog:          log.New(io.Discard, "", 0), // not every Envoy here trusts it
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certs.TLS}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto+" "+r.Host+" "+r.TLS.ServerName)
		}),
	}
	var served sync.WaitGroup
	served.Go(func() { _ = server.ServeTLS(listener, "", "") })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
	})
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestUpstreamTLS: an https upstream is reached under its name, by the protocol it
// offers, and only with a certificate for that name.
func TestUpstreamTLS(t *testing.T) {
	certs, other := newAuthority(t, "localhost", "127.0.0.1"), newAuthority(t, "elsewhere.test", "192.0.2.1")
	port, otherPort := tlsUpstream(t, certs), tlsUpstream(t, other)
	for _, tt := range []struct {
		host, ca string
		status   int
		want     string // the body, or the statistic that tells why not
	}{
		{"localhost:" + port, certs.File, 200, "HTTP/2.0 localhost:" + port + " localhost"},
		{"127.0.0.1:" + port, certs.File, 200, "HTTP/2.0 127.0.0.1:" + port + " "},
		{"localhost:" + otherPort, other.File, 503, "fail_verify_san"}, // for another name
		{"127.0.0.1:" + otherPort, other.File, 503, "fail_verify_san"}, // for another address
		{"localhost:" + port, other.File, 503, "fail_verify_error"},    // signed by another
	} {
		g, _ := run(t, Options{Upstream: "https://" + tt.host, UpstreamCA: tt.ca, PassPaths: []string{"/*"}})
		got := g.post(t, chat, stream)
		if got.status != tt.status || tt.status == 200 && got.body != tt.want {
			t.Errorf("%+v: status %d: %s", tt, got.status, got.body)
		}
		if tt.status != 200 {
			stats, err := g.Stats(t.Context(), `^cluster\.upstream\.ssl\.`+tt.want+`$`)
			if err != nil {
				t.Fatal(err)
			}
			if n := stats["cluster.upstream.ssl."+tt.want]; n == 0 {
				t.Errorf("%+v: not the reason it failed", tt)
			}
		}
	}
}

// TestServiceTimeout: the timeout that Envoy Gateway sets for each call of the server does not end
// answers that take longer.
func TestServiceTimeout(t *testing.T) {
	needEnvoy(t)
	server := &stub{}
	up, err := standin.Start(standin.Options{Interval: standin.NoPause})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	b, err := BootstrapYAML(Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: up.URL(), ExtProc: server.serve(t)})
	if err != nil {
		t.Fatal(err)
	}
	limited := strings.Replace(string(b), "envoy_grpc:", "timeout: 0.1s\n"+strings.Repeat(" ", 24)+"envoy_grpc:", 1)
	e, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: []byte(limited), Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	addr, err := e.ListenerAddr(t.Context(), ListenerName)
	if err != nil {
		t.Fatal(err)
	}
	g, begun := gateway{e, "http://" + addr}, time.Now()
	got := g.post(t, chat, stream, "x-standin-id", "a", "x-standin-interval", "10ms")
	if got.status != 200 || got.err != nil || !strings.HasSuffix(strings.TrimSpace(got.body), "[DONE]") {
		t.Errorf("status %d, %v: %s", got.status, got.err, got.body)
	}
	if took := time.Since(begun); took < 200*time.Millisecond || !strings.Contains(limited, "timeout: 0.1s") {
		t.Errorf("the answer took %v: nothing is shown", took)
	}
}
