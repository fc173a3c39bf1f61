package envoy

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

var full = Options{
	Listen:         "0.0.0.0:8080",
	Upstream:       "https://api.openai.com",
	ExtProc:        "budget.internal:9443",
	ExtProcTLS:     &ClientTLS{CAFile: "/etc/tokenbudget/ca.pem", CertFile: "/etc/tokenbudget/envoy.pem", KeyFile: "/etc/tokenbudget/envoy.key"},
	Admin:          "unix:/run/envoy-admin.sock",
	MaxRequestBody: 1 << 20,
	MessageTimeout: 250 * time.Millisecond,
	IdleTimeout:    2 * time.Minute,
	MaxConnections: 500,
	StripHeaders:   []string{"X-User", "x-team", "x-user"},
	PassPaths:      []string{"/v1/models", "/health*", "/v1/*/files"},
	FailOpen:       true,
	AccessLog:      true,
	Identities:     []string{"team", "user"},

	MaxMessageTimeout: 65 * time.Second,
}

// goldens are configurations as a user gets them.
var goldens = []struct {
	name   string
	render func(Options) ([]byte, error)
	opts   Options
}{
	{"bootstrap-http", BootstrapYAML, Options{Upstream: "http://127.0.0.1:8000", AccessLog: true}},
	{"bootstrap-https", BootstrapYAML, Options{Upstream: "https://api.openai.com", ExtProc: "unix:/run/tokenbudget.sock", StripHeaders: []string{"x-user"}}},
	{"bootstrap-h2", BootstrapYAML, Options{Upstream: "http://localhost:8000", UpstreamHTTP2: true, ExtProc: "localhost:9002", PassPaths: full.PassPaths}},
	{"bootstrap-https-address", BootstrapYAML, Options{Upstream: "https://[::1]:8443", UpstreamHTTP2: true, FailOpen: true}},
	{"bootstrap-full", BootstrapYAML, full},
	{"bootstrap-servers", BootstrapYAML, Options{Upstream: "http://127.0.0.1:8000", ExtProc: "tokenbudget-0.tokenbudget:9002, tokenbudget-1.tokenbudget:9002"}},
	{"filter", FilterYAML, Options{}},
	{"filter-full", FilterYAML, full},
}

func failClosed(o Options) Options {
	o.FailOpen = false
	return o
}

// manifests are objects for Kubernetes as a user gets them.
var manifests = []struct {
	name   string
	render func(Options, Mesh) ([]byte, error)
	opts   Options
	mesh   Mesh
}{
	{"istio", IstioYAML, Options{Upstream: "https://api.openai.com", ExtProc: "tokenbudget.llm.svc.cluster.local:9002", AccessLog: true}, Mesh{}},
	{"istio-full", IstioYAML, full, Mesh{Name: "meter", Namespace: "edge", Labels: map[string]string{"app": "edge", "tier": "a"}, Host: "chat.example.com"}},
	{"istio-sidecar", IstioYAML, Options{Upstream: "https://api.openai.com", ExtProc: "tokenbudget.llm.svc.cluster.local:9002", AccessLog: true, Identities: []string{"team"}, StripHeaders: []string{"x-team"}, PassPaths: full.PassPaths}, Mesh{Sidecar: true}},
	{"istio-service", IstioYAML, Options{Upstream: "http://model.llm.svc.cluster.local:8000", ExtProc: "tokenbudget.llm.svc.cluster.local:9002"}, Mesh{}},
	{"istio-service-sidecar", IstioYAML, Options{Upstream: "http://model.llm.svc.cluster.local:8000", ExtProc: "127.0.0.1:9002"}, Mesh{Sidecar: true}},
	{"gateway", GatewayYAML, Options{Upstream: "https://api.openai.com", ExtProc: "tokenbudget.llm.svc.cluster.local:9002", AccessLog: true}, Mesh{}},
	{"gateway-full", GatewayYAML, failClosed(full), Mesh{Name: "meter", Namespace: "edge", Host: "chat.example.com", GatewayClass: "mine"}},
	{"gateway-addresses", GatewayYAML, Options{Upstream: "http://127.0.0.1:8000", UpstreamHTTP2: true, ExtProc: "unix:/run/tokenbudget.sock", PassPaths: full.PassPaths, DenyPaths: []string{"/v1/files*"}}, Mesh{}},
	{"gateway-servers", GatewayYAML, Options{Upstream: "https://api.openai.com", ExtProc: "tokenbudget-0.tokenbudget.llm.svc.cluster.local:9002,tokenbudget-1.tokenbudget.llm.svc.cluster.local:9002"}, Mesh{}},
}

// TestGolden: what is rendered is what is written down in testdata.
func TestGolden(t *testing.T) {
	check := func(name string, got []byte, err error) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		file := filepath.Join("testdata", name+".yaml")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s differs; run go test -update and look at the difference. Now:\n%s", file, got)
		}
	}
	for _, g := range goldens {
		got, err := g.render(g.opts)
		check(g.name, got, err)
	}
	for _, m := range manifests {
		got, err := m.render(m.opts, m.mesh)
		check(m.name, got, err)
	}
}

// TestEnvoyAccepts: real Envoys of each version accept every bootstrap, and the parts of a
// filter at the places where they belong.
func TestEnvoyAccepts(t *testing.T) {
	needEnvoy(t)
	certs := newAuthority(t, "localhost")
	for _, g := range goldens {
		if t := g.opts.ExtProcTLS; t != nil { // Envoy reads the files even to validate
			g.opts.ExtProcTLS = certs.clientTLS()
		}
		yaml, err := g.render(g.opts)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(g.name, "filter") {
			yaml = transplant(t, yaml)
		}
		for _, envoy := range installed(t) {
			if err := envoyrun.ValidateWith(t.Context(), envoy, yaml); err != nil {
				t.Errorf("%s with %s: %v", g.name, envoy, err)
			}
		}
	}
}

// installed are Envoys of all versions that the configuration is for.
func installed(t *testing.T) (paths []string) {
	t.Helper()
	for _, version := range envoyrun.Versions {
		path, err := envoyrun.FindVersion(t.Context(), version)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// transplant puts the parts of a filter document into the configuration of
// somebody who has a listener and an upstream already.
func transplant(t *testing.T, filter []byte) []byte {
	t.Helper()
	var parts struct {
		Manager  map[string]any `yaml:"http_connection_manager"`
		Host     map[string]any `yaml:"virtual_host"`
		Route    map[string]any `yaml:"route"`
		Clusters []any          `yaml:"clusters"`
	}
	if err := yaml.Unmarshal(filter, &parts); err != nil {
		t.Fatal(err)
	}
	const router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
	const manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	parts.Route["cluster"] = "own"
	parts.Host["name"], parts.Host["domains"] = "own", []any{"*"}
	parts.Host["routes"] = []any{map[string]any{"match": map[string]any{"prefix": "/"}, "route": parts.Route}}
	filters := parts.Manager["http_filters"].([]any)
	parts.Manager["http_filters"] = append(filters, map[string]any{"name": "router", "typed_config": map[string]any{"@type": router}})
	parts.Manager["@type"], parts.Manager["stat_prefix"] = manager, "own"
	parts.Manager["route_config"] = map[string]any{"virtual_hosts": []any{parts.Host}}
	whole, err := yaml.Marshal(map[string]any{"static_resources": map[string]any{
		"clusters": append(parts.Clusters, map[string]any{"name": "own"}),
		"listeners": []any{map[string]any{
			"address":       map[string]any{"pipe": map[string]any{"path": filepath.Join(t.TempDir(), "own")}},
			"filter_chains": []any{map[string]any{"filters": []any{map[string]any{"name": "hcm", "typed_config": parts.Manager}}}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return whole
}
