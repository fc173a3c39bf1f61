package live

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	gunzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/decompressor/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	decompressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/decompressor/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/doctor"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// rendered is what tokenbudget renders, and what it asks of Envoy.
func rendered(t testing.TB, pass ...string) (*bootstrapv3.Bootstrap, doctor.Options) {
	t.Helper()
	o := envoy.Options{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: "http://127.0.0.1:1", PassPaths: pass,
		StripHeaders: []string{"x-team"}, AccessLog: true, MaxMessageTimeout: 65 * time.Second,
	}.WithDefaults()
	b, err := envoy.Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	return b, doctor.Options{
		MaxRequestBody: int64(o.MaxRequestBody), MessageTimeout: o.MessageTimeout,
		MaxMessageTimeout: o.MaxMessageTimeout, StripHeaders: o.StripHeaders,
	}
}

// edits change a bootstrap at one of its places.

type edit func(t *testing.T, b *bootstrapv3.Bootstrap)

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func manage(f func(t *testing.T, m *hcmv3.HttpConnectionManager)) edit {
	return func(t *testing.T, b *bootstrapv3.Bootstrap) {
		network := b.StaticResources.Listeners[0].FilterChains[0].Filters[0]
		m := &hcmv3.HttpConnectionManager{}
		if err := network.GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		f(t, m)
		network.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, m)}
	}
}

func proc(f func(p *extprocv3.ExternalProcessor)) edit {
	return manage(func(t *testing.T, m *hcmv3.HttpConnectionManager) {
		p := &extprocv3.ExternalProcessor{}
		if err := m.HttpFilters[0].GetTypedConfig().UnmarshalTo(p); err != nil {
			t.Fatal(err)
		}
		f(p)
		m.HttpFilters[0].ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, p)}
	})
}

func host(f func(t *testing.T, h *routev3.VirtualHost)) edit {
	return manage(func(t *testing.T, m *hcmv3.HttpConnectionManager) { f(t, m.GetRouteConfig().VirtualHosts[0]) })
}

func action(f func(a *routev3.RouteAction)) edit {
	return host(func(_ *testing.T, h *routev3.VirtualHost) { f(h.Routes[len(h.Routes)-1].GetRoute()) })
}

func server(f func(t *testing.T, c *clusterv3.Cluster)) edit {
	return func(t *testing.T, b *bootstrapv3.Bootstrap) { f(t, b.StaticResources.Clusters[0]) }
}

func insert(at int, name string, config proto.Message) edit {
	return manage(func(t *testing.T, m *hcmv3.HttpConnectionManager) {
		m.HttpFilters = slices.Insert(m.HttpFilters, at, &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, config)}})
	})
}

func another(cluster string, mode extprocv3.ProcessingMode_BodySendMode) proto.Message {
	return &extprocv3.ExternalProcessor{
		GrpcService:    &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}}},
		ProcessingMode: &extprocv3.ProcessingMode{ResponseBodyMode: mode, ResponseTrailerMode: extprocv3.ProcessingMode_SEND},
	}
}

var (
	second = durationpb.New(time.Second)
	off    = &extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Disabled{Disabled: true}}

	compressor   = &compressorv3.Compressor{CompressorLibrary: &corev3.TypedExtensionConfig{Name: "gzip"}}
	decompressor = &decompressorv3.Decompressor{DecompressorLibrary: &corev3.TypedExtensionConfig{Name: "gzip"}}
)

func init() {
	compressor.CompressorLibrary.TypedConfig, _ = anypb.New(&gzipv3.Gzip{})
	decompressor.DecompressorLibrary.TypedConfig, _ = anypb.New(&gunzipv3.Gzip{})
}

// faults are planted one at a time: each must be found, and nothing else.
var faults = []struct {
	name string
	edit edit
	rule string // empty: it is no fault
}{
	{"as rendered", func(*testing.T, *bootstrapv3.Bootstrap) {}, ""},
	{"trailers of requests", proc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestTrailerMode = extprocv3.ProcessingMode_SEND
	}), ""},
	{"compressor in front", insert(0, "gzip", compressor), ""},
	{"another filter beside it", insert(0, "guard", another("guard", extprocv3.ProcessingMode_STREAMED)), ""},
	{"no retries", action(func(a *routev3.RouteAction) {
		a.RetryPolicy = &routev3.RetryPolicy{RetryOn: "5xx", NumRetries: wrapperspb.UInt32(0)}
	}), ""},

	{"request headers", proc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestHeaderMode = extprocv3.ProcessingMode_SKIP
	}), "request-header-mode"},
	{"request body", proc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestBodyMode = extprocv3.ProcessingMode_STREAMED
	}), "request-body-mode"},
	{"no request body", proc(func(p *extprocv3.ExternalProcessor) { p.ProcessingMode.RequestBodyMode = extprocv3.ProcessingMode_NONE }), "request-body-mode"},
	{"response headers", proc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.ResponseHeaderMode = extprocv3.ProcessingMode_SKIP
	}), "response-header-mode"},
	{"response body", proc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.ResponseBodyMode = extprocv3.ProcessingMode_STREAMED
	}), "response-body-mode"},
	{"observability", proc(func(p *extprocv3.ExternalProcessor) { p.ObservabilityMode = true }), "observability"},
	{"fail open", proc(func(p *extprocv3.ExternalProcessor) { p.FailureModeAllow = true }), "fail-open"},
	{"message timeout", proc(func(p *extprocv3.ExternalProcessor) { p.MessageTimeout = nil }), "message-timeout"},
	{"max message timeout", proc(func(p *extprocv3.ExternalProcessor) { p.MaxMessageTimeout = nil }), "max-message-timeout"},
	{"no JWT", proc(func(p *extprocv3.ExternalProcessor) { p.MetadataOptions.ForwardingNamespaces = nil }), "forwarding-namespaces"},
	{"no metadata", proc(func(p *extprocv3.ExternalProcessor) { p.MetadataOptions.ReceivingNamespaces = nil }), "receiving-namespaces"},
	{"no cluster", func(_ *testing.T, b *bootstrapv3.Bootstrap) {
		b.StaticResources.Clusters = b.StaticResources.Clusters[1:]
	}, "cluster"},

	{"decompressor", insert(1, "gunzip", decompressor), "decompressor"},
	{"compressor behind", insert(1, "gzip", compressor), "compressor"},
	{"two in full duplex", insert(0, "guard", another("upstream", extprocv3.ProcessingMode_FULL_DUPLEX_STREAMED)), "two-full-duplex"},
	{"not ours", manage(func(t *testing.T, m *hcmv3.HttpConnectionManager) {
		m.HttpFilters[0].ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, another("upstream", extprocv3.ProcessingMode_NONE))}
	}), "no-filter"},
	{"off", manage(func(_ *testing.T, m *hcmv3.HttpConnectionManager) { m.HttpFilters[0].Disabled = true }), "off"},
	{"on twice", manage(func(_ *testing.T, m *hcmv3.HttpConnectionManager) {
		again := proto.CloneOf(m.HttpFilters[0])
		again.Name = "again"
		m.HttpFilters = slices.Insert(m.HttpFilters, 0, again)
	}), "twice"},
	{"stream duration", manage(func(_ *testing.T, m *hcmv3.HttpConnectionManager) {
		m.CommonHttpProtocolOptions.MaxStreamDuration = second
	}), "max-stream-duration"},
	{"headers of clients", manage(func(_ *testing.T, m *hcmv3.HttpConnectionManager) { m.EarlyHeaderMutationExtensions = nil }), "set-by-envoy"},

	{"timeout", action(func(a *routev3.RouteAction) { a.Timeout = second }), "route-timeout"},
	{"default timeout", action(func(a *routev3.RouteAction) { a.Timeout = nil }), "route-timeout"},
	{"idle timeout", action(func(a *routev3.RouteAction) { a.IdleTimeout = second }), "idle-timeout"},
	{"route's duration", action(func(a *routev3.RouteAction) {
		a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: second}
	}), "max-stream-duration"},
	{"retries", action(func(a *routev3.RouteAction) { a.RetryPolicy = &routev3.RetryPolicy{RetryOn: "5xx"} }), "retry"},
	{"host's retries", host(func(_ *testing.T, h *routev3.VirtualHost) { h.RetryPolicy = &routev3.RetryPolicy{RetryOn: "5xx"} }), "retry"},
	{"hedging", action(func(a *routev3.RouteAction) {
		a.HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}), "hedging"},
	{"mirror", action(func(a *routev3.RouteAction) {
		a.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "upstream"}}
	}), "mirroring"},
	{"host's mirror", host(func(_ *testing.T, h *routev3.VirtualHost) {
		h.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "upstream"}}
	}), "mirroring"},
	{"buffer", host(func(_ *testing.T, h *routev3.VirtualHost) { h.RequestBodyBufferLimit = nil }), "buffer"},
	{"chat is off", host(func(t *testing.T, h *routev3.VirtualHost) {
		chat := proto.CloneOf(h.Routes[0])
		chat.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/v1/chat"}}
		chat.TypedPerFilterConfig = map[string]*anypb.Any{envoy.FilterName: pack(t, off)}
		h.Routes = slices.Insert(h.Routes, 0, chat)
	}), "disabled"},
	{"a route's mode", host(func(t *testing.T, h *routev3.VirtualHost) {
		h.Routes[0].TypedPerFilterConfig = map[string]*anypb.Any{envoy.FilterName: pack(t, &extprocv3.ExtProcPerRoute{
			Override: &extprocv3.ExtProcPerRoute_Overrides{Overrides: &extprocv3.ExtProcOverrides{ProcessingMode: &extprocv3.ProcessingMode{
				RequestBodyMode: extprocv3.ProcessingMode_BUFFERED, ResponseBodyMode: extprocv3.ProcessingMode_STREAMED,
			}}},
		})}
	}), "response-body-mode"},

	{"circuit breaker", server(func(_ *testing.T, c *clusterv3.Cluster) { c.CircuitBreakers = nil }), "circuit-breaker"},
	{"upstream's circuit breaker", func(_ *testing.T, b *bootstrapv3.Bootstrap) {
		b.StaticResources.Clusters[1].CircuitBreakers.Thresholds[0].MaxRequests = wrapperspb.UInt32(100)
	}, "circuit-breaker"},
	{"no other try", proc(func(p *extprocv3.ExternalProcessor) { p.GrpcService.RetryPolicy = nil }), "server-retry"},
	{"three other tries at a time", server(func(_ *testing.T, c *clusterv3.Cluster) {
		c.CircuitBreakers.Thresholds[0].MaxRetries = nil
	}), "server-retry"},
	{"a budget of tries", server(func(_ *testing.T, c *clusterv3.Cluster) {
		c.CircuitBreakers.Thresholds[0].MaxRetries = nil
		c.CircuitBreakers.Thresholds[0].RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{}
	}), ""},
	{"keepalive", server(func(t *testing.T, c *clusterv3.Cluster) { setHTTP(t, c, &corev3.Http2ProtocolOptions{}) }), "keepalive"},
	{"HTTP/1.1", server(func(_ *testing.T, c *clusterv3.Cluster) { c.TypedExtensionProtocolOptions = nil }), "http2"},
}

func setHTTP(t *testing.T, c *clusterv3.Cluster, o *corev3.Http2ProtocolOptions) {
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(t, &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: o},
		}},
	})}
}

// TestFaults: a real Envoy with the rendered configuration has no findings, and one for each fault
// that is planted.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real Envoy")
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			b, o := rendered(t, "/v1/models", "/health*")
			tt.edit(t, b)
			raw, err := protojson.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			e, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: raw, Concurrency: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			d, err := doctor.Parse(ask(t, e, "/config_dump"))
			if err != nil {
				t.Fatal(err)
			}
			findings := doctor.Examine(d, o)
			version, err := doctor.Version(ask(t, e, "/server_info"))
			if err != nil {
				t.Fatal(err)
			}
			stats, err := doctor.Stats(ask(t, e, "/stats?format=json&filter="+url.QueryEscape(doctor.StatsFilter)), false)
			if err != nil {
				t.Fatal(err)
			}
			check(t, slices.Concat(findings, version, stats), tt.rule)
		})
	}
}

// check demands findings of one rule, one, and whole; or none.
func check(t *testing.T, findings []doctor.Finding, rule string) {
	t.Helper()
	if rule == "" && len(findings) > 0 {
		t.Errorf("found %+v", findings)
	}
	if rule != "" && (len(findings) != 1 || findings[0].Rule != rule || findings[0].Where == "" || findings[0].What == "" || findings[0].Fix == "") {
		t.Errorf("found %+v, want one of %s", findings, rule)
	}
}

func ask(t *testing.T, e *envoyrun.Envoy, path string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.AdminAddr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", path, resp.Status, err)
	}
	return body
}

// written is a dump such as Envoy writes, of a bootstrap; with what a control plane sends if dynamic.
func written(t testing.TB, b *bootstrapv3.Bootstrap, dynamic bool) []byte {
	t.Helper()
	marshal := func(m proto.Message) json.RawMessage {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var listeners, clusters []any
	for _, l := range b.StaticResources.Listeners {
		item := map[string]any{"listener": marshal(l)}
		if dynamic {
			item = map[string]any{"name": l.Name, "active_state": item}
		}
		listeners = append(listeners, item)
	}
	for _, c := range b.StaticResources.Clusters {
		clusters = append(clusters, map[string]any{"cluster": marshal(c)})
	}
	keys := []string{"static_listeners", "static_clusters"}
	if dynamic {
		keys = []string{"dynamic_listeners", "dynamic_active_clusters"}
	}
	raw, err := json.Marshal(map[string]any{"configs": []any{
		map[string]any{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", keys[0]: listeners},
		map[string]any{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", keys[1]: clusters},
		map[string]any{"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", "static_secrets": "anything"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestDynamic: what a control plane sends is found like what stands in a file, in default filter
// chains, too, and with filters of which this program knows nothing.
func TestDynamic(t *testing.T) {
	for _, rule := range []string{"", "fail-open"} {
		b, o := rendered(t)
		if rule != "" {
			proc(func(p *extprocv3.ExternalProcessor) { p.FailureModeAllow = true })(t, b)
		}
		l := b.StaticResources.Listeners[0]
		l.DefaultFilterChain, l.FilterChains = l.FilterChains[0], nil
		raw := strings.Replace(string(written(t, b, true)), `"http_filters":[`, `"http_filters":[{"name":"istio.stats","typed_config":{"@type":"type.googleapis.com/stats.PluginConfig","disabled":"x"}},`, 1)
		raw = strings.Replace(raw, `"http_filters": [`, `"http_filters":[{"name":"istio.stats","typed_config":{"@type":"type.googleapis.com/stats.PluginConfig","disabled":"x"}},`, 1)
		if !strings.Contains(raw, "istio.stats") {
			t.Fatal("the foreign filter is not in the dump")
		}
		d, err := doctor.Parse([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		check(t, doctor.Examine(d, o), rule)
	}
}
