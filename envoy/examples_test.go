package envoy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// extProcSocket is the server's address in an EnvoyFilter.
var extProcSocket = regexp.MustCompile(`address: (?:tokenbudget\.llm\.svc\.cluster\.local|127\.0\.0\.1)(\s+)port_value: 9002`)

// TestExamples: the manifests of examples/ are what Istio's and Envoy Gateway's own definitions
// allow, those written by hand included.
func TestExamples(t *testing.T) {
	needEnvoy(t) // not Envoy, but the network once, as for Envoy
	for _, file := range []string{
		"istio/envoyfilter.yaml", "istio/sidecar-envoyfilter.yaml", "istio/application.yaml", "istio/authentication.yaml",
		"envoy-gateway/gateway.yaml",
	} {
		raw, err := os.ReadFile(filepath.Join("..", "examples", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		if kinds := checkManifests(t, file, raw); len(kinds) == 0 {
			t.Errorf("%s is empty", file)
		}
	}
}

// TestExamplesCut: the filters of examples/istio, put into a proxy as Istio makes one, cut a stream.
// Only the server's address and the upstream are this machine's.
func TestExamplesCut(t *testing.T) {
	needEnvoy(t)
	for _, tt := range []struct{ file, where, host string }{
		{"envoyfilter.yaml", "GATEWAY", "llm.example.com"},
		{"sidecar-envoyfilter.yaml", "GATEWAY", "llm.example.com"},
		{"application.yaml", "SIDECAR_OUTBOUND", "api.openai.com"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			server := &stub{cutAfter: 5}
			up, err := standin.Start(standin.Options{Interval: standin.NoPause})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(up.Close)
			raw, err := os.ReadFile(filepath.Join("..", "examples", "istio", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			host, port, _ := strings.Cut(server.serve(t), ":")
			if n := len(extProcSocket.FindAllIndex(raw, -1)); n != 1 {
				t.Fatalf("the server's address is there %d times", n)
			}
			manifests := extProcSocket.ReplaceAll(raw, []byte("address: "+host+"${1}port_value: "+port))
			b := istioBootstrap(t, tt.host, up.Addr(), tt.where == "SIDECAR_OUTBOUND")
			apply(t, b, tt.where, istioPatches(t, manifests))
			g := startIstioProxy(t, b, envoyrun.Options{Concurrency: 1})
			got := g.post(t, chat, stream, "Host", tt.host, "x-standin-id", "a", "x-standin-stall-after", "10")
			if got.status != 200 || got.err != nil || !strings.HasSuffix(got.body, closing) {
				t.Errorf("status %d, error %v, body %s", got.status, got.err, got.body)
			}
			if log := g.logged(t, chat); log["outcome"] != "cut" {
				t.Errorf("access log: %v", log)
			}
		})
	}
}
