package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// TestMutualTLS: Envoy reaches the server with the right certificates only, and without
// them nothing passes. When the server's files change, even the authority, a stream
// that is open goes on, and from then on only the new ones count.
func TestMutualTLS(t *testing.T) {
	ca, next := certtest.New(t), certtest.New(t)
	served, envoys := ca.Issue(t, "budget.test"), ca.Issue(t)
	files := certs.Files{Cert: served.CertFile, Key: served.KeyFile, ClientCA: ca.File}
	changes := make(chan struct{}, 10)
	source, err := certs.NewSource(files, certs.Options{Interval: 10 * time.Millisecond, OnChange: func(*certs.Set, error) { changes <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoad(t, roadOptions{limits: plenty(), configure: func(o *extproc.Options) {
		o.TLS = source.ServerConfig(tls.RequireAndVerifyClientCert, "h2")
	}})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- r.server.Serve(ctx, lis) }()
	go func() { ended <- source.Run(ctx) }()
	defer func() {
		stop()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()

	through := func(c envoy.ClientTLS) string {
		t.Helper()
		c.ServerName = "budget.test"
		r.startEnvoyWith(t.Context(), t, envoy.Options{Upstream: r.up.URL(), ExtProc: lis.Addr().String(), ExtProcTLS: &c})
		return r.url
	}
	ask := func(url, id string) int {
		t.Helper()
		r.url = url
		resp, body, err := r.do(t.Context(), client(false), call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`})
		if err != nil {
			t.Fatal(err)
		}
		_, reached := r.up.Exchange(id)
		if reached != (resp.StatusCode == 200) {
			t.Errorf("%s: status %d, reached the upstream: %v; %s", id, resp.StatusCode, reached, tail(body))
		}
		return resp.StatusCode
	}
	good := envoy.ClientTLS{CAFile: ca.File, CertFile: envoys.CertFile, KeyFile: envoys.KeyFile}
	stranger := next.Issue(t)
	first := through(good)
	refusing := time.Now()
	for name, tt := range map[string]struct {
		tls  envoy.ClientTLS
		want int
	}{
		"no certificate":       {envoy.ClientTLS{CAFile: ca.File}, 500},
		"of another authority": {envoy.ClientTLS{CAFile: ca.File, CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, 500},
		"server not trusted":   {envoy.ClientTLS{CAFile: next.File, CertFile: envoys.CertFile, KeyFile: envoys.KeyFile}, 500},
	} {
		if got := ask(through(tt.tls), strings.ReplaceAll(name, " ", "-")); got != tt.want {
			t.Errorf("%s: status %d, want %d", name, got, tt.want)
		}
	}
	most := 1 + int(time.Since(refusing)/time.Minute)
	if n := r.logs.FilterMessageSnippet("refused in the TLS handshake").Len(); n < 1 || n > most {
		t.Errorf("%d lines of the log tell of refused connections, want one a minute", n)
	}
	if got := ask(first, "good"); got != 200 {
		t.Errorf("with certificates: status %d", got)
	}

	// A stream is open while the files change.
	r.url = first
	req, err := r.request(t.Context(), call{id: "open", user: "open", body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
		headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-interval": "150ms"}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, body); err != nil {
		t.Fatal(err)
	}
	renewed := next.Issue(t, "budget.test")
	certtest.Copy(t, next.File, files.ClientCA)
	certtest.Copy(t, renewed.KeyFile, files.Key)
	certtest.Copy(t, renewed.CertFile, files.Cert)
	for want, _ := certs.ReadLeaf(renewed.CertFile); !source.Set().Leaf().Equal(want); {
		select {
		case <-changes: // to what cannot be used, as long as only some of the files are new
		case <-time.After(patience):
			t.Fatal("the new files were not noticed")
		}
	}
	if ex, found := r.up.Exchange("open"); found && ex.Completed {
		t.Fatal("the stream has ended before the files had changed; the test shows nothing")
	}
	if got := ask(through(envoy.ClientTLS{CAFile: next.File, CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}), "new"); got != 200 {
		t.Errorf("with the new authority: status %d", got)
	}
	rest, err := io.ReadAll(resp.Body)
	rec, loadErr := standin.Load("openai/chat-streaming")
	if loadErr != nil {
		t.Fatal(loadErr)
	}
	body = append(body, rest...)
	got, _ := content(body)
	want, _ := content(rec.Body)
	if err != nil || !maps.Equal(got, want) || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Errorf("the open stream did not go on: %v, ends in %q", err, tail(body))
	}
}
