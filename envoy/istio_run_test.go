package envoy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3" // read by name
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// istioPatch is a patch of an EnvoyFilter, as far as those rendered here use it.
type istioPatch struct {
	ApplyTo string `json:"applyTo"`
	Match   struct {
		Context  string `json:"context"`
		Listener struct {
			FilterChain struct {
				Filter struct {
					Name      string `json:"name"`
					SubFilter struct {
						Name string `json:"name"`
					} `json:"subFilter"`
				} `json:"filter"`
			} `json:"filterChain"`
		} `json:"listener"`
		RouteConfiguration struct {
			Vhost struct {
				Name  string `json:"name"`
				Route struct {
					Name string `json:"name"`
				} `json:"route"`
			} `json:"vhost"`
		} `json:"routeConfiguration"`
	} `json:"match"`
	Patch struct {
		Operation string          `json:"operation"`
		Value     json.RawMessage `json:"value"`
	} `json:"patch"`
}

// istioPatches are the patches of the EnvoyFilter among the manifests.
func istioPatches(t *testing.T, manifests []byte) []istioPatch {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(manifests))
	for {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			t.Fatal("there is no EnvoyFilter")
		} else if err != nil {
			t.Fatal(err)
		}
		if o["kind"] != "EnvoyFilter" {
			continue
		}
		raw, err := json.Marshal(o["spec"])
		if err != nil {
			t.Fatal(err)
		}
		var spec struct {
			Selector any          `json:"workloadSelector"`
			Patches  []istioPatch `json:"configPatches"`
		}
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		return spec.Patches
	}
}

// apply does to a bootstrap what Istio's documentation says of the patches: values are merged as
// protobuf messages, those within an Any by their fields.
func apply(t *testing.T, b *bootstrapv3.Bootstrap, where string, patches []istioPatch) {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	read := func(p istioPatch, m proto.Message) { t.Helper(); fail(protojson.Unmarshal(p.Patch.Value, m)) }
	for _, p := range patches {
		if p.Match.Context != where {
			t.Fatalf("%s is for %s", p.ApplyTo, p.Match.Context)
		}
		if p.ApplyTo == "CLUSTER" {
			c := &clusterv3.Cluster{}
			read(p, c)
			b.StaticResources.Clusters = append(b.StaticResources.Clusters, c)
			continue
		}
		hits := 0
		for _, l := range b.StaticResources.Listeners {
			network := l.FilterChains[0].Filters[0]
			m := &hcmv3.HttpConnectionManager{}
			fail(network.GetTypedConfig().UnmarshalTo(m))
			switch p.ApplyTo + " " + p.Patch.Operation {
			case "HTTP_FILTER INSERT_BEFORE":
				f := &hcmv3.HttpFilter{}
				read(p, f)
				at := slices.IndexFunc(m.HttpFilters, func(f *hcmv3.HttpFilter) bool { return f.Name == p.Match.Listener.FilterChain.Filter.SubFilter.Name })
				if at >= 0 {
					hits++
					m.HttpFilters = slices.Insert(m.HttpFilters, at, f)
				}
			case "NETWORK_FILTER MERGE":
				f, more := &listenerv3.Filter{}, &hcmv3.HttpConnectionManager{}
				read(p, f)
				fail(f.GetTypedConfig().UnmarshalTo(more))
				if p.Match.Listener.FilterChain.Filter.Name == network.Name && f.Name == network.Name {
					hits++
					proto.Merge(m, more)
				}
			case "VIRTUAL_HOST MERGE":
				for _, h := range m.GetRouteConfig().VirtualHosts {
					if h.Name == p.Match.RouteConfiguration.Vhost.Name {
						hits++
						more := &routev3.VirtualHost{}
						read(p, more)
						proto.Merge(h, more)
					}
				}
			case "HTTP_ROUTE MERGE":
				for _, h := range m.GetRouteConfig().VirtualHosts {
					for _, r := range h.Routes {
						if name := p.Match.RouteConfiguration.Vhost.Route.Name; h.Name == p.Match.RouteConfiguration.Vhost.Name && (name == "" || name == r.Name) {
							hits++
							more := &routev3.Route{}
							read(p, more)
							proto.Merge(r, more)
						}
					}
				}
			default:
				t.Fatalf("unexpected patch: %s %s", p.ApplyTo, p.Patch.Operation)
			}
			config, err := anypb.New(m)
			fail(err)
			network.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: config}
		}
		if hits == 0 {
			t.Errorf("the patch of %s for %+v hits nothing", p.ApplyTo, p.Match)
		}
	}
}

// istioProxy is what Istio gives a proxy, without the filters that only its own Envoy has: a
// listener of a port with one virtual host for each host, and clusters with Istio's names.
const istioProxy = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
    - name: "0.0.0.0_80"
      address: {socket_address: {address: 127.0.0.1, port_value: 0}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: outbound_0.0.0.0_80
                use_remote_address: USE_REMOTE_ADDRESS
                stream_idle_timeout: 0s
                normalize_path: true
                path_with_escaped_slashes_action: KEEP_UNCHANGED
                http_filters:
                  - name: envoy.filters.http.grpc_stats
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, emit_filter_state: true, stats_for_all_methods: false}
                  - name: envoy.filters.http.fault
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
                  - name: envoy.filters.http.cors
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  name: "80"
                  virtual_hosts:
                    - name: MODEL:80
                      domains: [MODEL]
                      routes:
                        - name: tokenbudget-pass-0
                          match: {path: /v1/models}
                          route: {cluster: "outbound|80||api.openai.com", timeout: 0s}
                        - name: tokenbudget
                          match: {prefix: /}
                          route: {cluster: "outbound|80||api.openai.com", timeout: 0s}
                    - name: other.example.com:80
                      domains: [other.example.com]
                      routes:
                        - name: default
                          match: {prefix: /}
                          route:
                            cluster: "outbound|80||api.openai.com"
                            timeout: 0s
                            retry_policy: {retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", num_retries: 2}
  clusters:
    - name: "outbound|80||api.openai.com"
      connect_timeout: 10s
      load_assignment: {cluster_name: "outbound|80||api.openai.com", endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: UPSTREAM}}}}]}]}
`

// TestIstioCuts: the patches, put where Istio puts them, meter and cut what they must and nothing
// else, in the oldest and the newest Envoy.
func TestIstioCuts(t *testing.T) {
	needEnvoy(t)
	paths := installed(t)
	for _, tt := range []struct {
		name    string
		path    string
		mesh    Mesh
		where   string
		host    string // that clients call
		metered bool   // are other hosts, too?
	}{
		{"gateway", paths[len(paths)-1], Mesh{}, "GATEWAY", "llm.example.com", true},
		{"gateway, oldest", paths[0], Mesh{}, "GATEWAY", "llm.example.com", true},
		{"sidecar", paths[len(paths)-1], Mesh{Sidecar: true}, "SIDECAR_OUTBOUND", "api.openai.com", false},
		{"sidecar, oldest", paths[0], Mesh{Sidecar: true}, "SIDECAR_OUTBOUND", "api.openai.com", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := &stub{cutAfter: 5}
			up, err := standin.Start(standin.Options{Interval: standin.NoPause})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(up.Close)
			manifests, err := IstioYAML(Options{
				Upstream: "https://api.openai.com", ExtProc: server.serve(t), MaxRequestBody: 6 << 20,
				AccessLog: true, StripHeaders: []string{"x-user"}, PassPaths: []string{"/v1/models"},
			}, tt.mesh)
			if err != nil {
				t.Fatal(err)
			}
			b := istioBootstrap(t, tt.host, up.Addr(), tt.mesh.Sidecar)
			apply(t, b, tt.where, istioPatches(t, manifests))
			g := startIstioProxy(t, b, envoyrun.Options{Path: tt.path, Concurrency: 1})

			got := g.post(t, chat, stream+strings.Repeat(" ", 5<<20), "Host", tt.host, "x-standin-id", "a", "x-standin-stall-after", "10", "X-User", "mallory")
			if got.status != 200 || got.err != nil || !strings.HasSuffix(got.body, closing) {
				t.Errorf("status %d, error %v, body %s", got.status, got.err, got.body)
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			if ex, err := up.WaitExchange(ctx, "a"); err != nil || !ex.Cancelled() {
				t.Errorf("the upstream was not cancelled: %v, completed %v, %v", err, ex.Completed, ex.Header)
			}
			headers, n := server.seen()
			if _, found := headers["x-user"]; found || headers[":path"] != chat || n != len(stream)+5<<20 {
				t.Errorf("the server saw %v and %d bytes", slices.Sorted(maps.Keys(headers)), n)
			}
			if log := g.logged(t, chat); log["outcome"] != "cut" {
				t.Errorf("access log: %v", log)
			}

			g.post(t, "/v1/models", stream, "Host", tt.host, "x-standin-id", "b")
			if headers, _ := server.seen(); headers[":path"] != chat {
				t.Error("a path of paths.pass went through the server")
			}
			g.post(t, "/v1/other", stream, "Host", "other.example.com", "x-standin-id", "c")
			if headers, _ := server.seen(); (headers[":path"] == "/v1/other") != tt.metered {
				t.Errorf("another host: the server saw %s last", headers[":path"])
			}
			before := len(up.Exchanges())
			g.post(t, chat, stream, "Host", tt.host, "x-standin-status", "503", "x-envoy-retry-on", "5xx", "x-envoy-max-retries", "3")
			if tried := len(up.Exchanges()) - before; tried != 1 {
				t.Errorf("a client's headers made Envoy try %d times", tried)
			}
		})
	}
}

// istioBootstrap is [istioProxy] for a host that clients call and an upstream.
func istioBootstrap(t *testing.T, host, upstream string, sidecar bool) *bootstrapv3.Bootstrap {
	t.Helper()
	_, port, _ := strings.Cut(upstream, ":")
	remote := map[bool]string{true: "false", false: "true"}[sidecar]
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(strings.NewReplacer("MODEL", host, "UPSTREAM", port, "USE_REMOTE_ADDRESS", remote).Replace(istioProxy)), &doc); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(raw, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// startIstioProxy starts an Envoy with a bootstrap like [istioProxy].
func startIstioProxy(t *testing.T, b *bootstrapv3.Bootstrap, opts envoyrun.Options) gateway {
	t.Helper()
	raw, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	opts.Bootstrap = raw
	e, err := envoyrun.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	addr, err := e.ListenerAddr(t.Context(), "0.0.0.0_80")
	if err != nil {
		t.Fatal(err)
	}
	return gateway{e, "http://" + addr}
}
