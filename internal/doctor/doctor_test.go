package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// check demands one finding of a rule; or none.
func check(t *testing.T, findings []Finding, rule string) {
	t.Helper()
	if rule == "" && len(findings) > 0 || rule != "" && (len(findings) != 1 || findings[0].Rule != rule) {
		t.Errorf("found %+v, want %q", findings, rule)
	}
}

// TestVersion: what is older than the oldest is said.
func TestVersion(t *testing.T) {
	for version, rule := range map[string]string{
		"c0ffee/1.36.4/Clean/RELEASE/BoringSSL": "version", "c0ffee/1.37.0/Clean/RELEASE/BoringSSL": "",
		"c0ffee/1.40.0-dev/Modified/RELEASE/BoringSSL": "", "c0ffee/2.0.0/Clean/RELEASE/BoringSSL": "", "c0ffee/0.9/a": "version",
	} {
		findings, err := Version(fmt.Appendf(nil, `{"version": %q}`, version))
		if err != nil {
			t.Error(err)
		}
		check(t, findings, rule)
	}
	for _, bad := range []string{`{}`, `{"version": "1.40.0"}`, `{"version": "a/b/c"}`, `{"version": "a/1"}`, `[`, `{"version": 1}`} {
		if _, err := Version([]byte(bad)); err == nil {
			t.Errorf("%s is a version", bad)
		}
	}
}

// TestStats: what has gone wrong since the start is said.
func TestStats(t *testing.T) {
	for _, tt := range []struct {
		stats    string
		failOpen bool
		rule     string
	}{
		{`{"name": "http.a.ext_proc.tokenbudget.failure_mode_allowed", "value": 0}`, false, ""},
		{`{"name": "http.a.ext_proc.tokenbudget.failure_mode_allowed", "value": 3}`, false, "passed-unmetered"},
		{`{"name": "http.a.ext_proc.tokenbudget.failure_mode_allowed", "value": 3}`, true, ""},
		{`{"name": "http.a.ext_proc.message_timeouts", "value": 1}`, false, "timed-out"},
		{`{"name": "http.a.ext_proc.spurious_msgs_received", "value": 1}`, false, "spurious"},
		{`{"histograms": {}}`, false, ""},
	} {
		findings, err := Stats([]byte(`{"stats": [`+tt.stats+`]}`), tt.failOpen)
		if err != nil {
			t.Error(err)
		}
		check(t, findings, tt.rule)
	}
}

// TestParseRefuses what is no dump, without a word of what stands in it.
func TestParseRefuses(t *testing.T) {
	const typ = `{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "static_listeners": `
	for _, bad := range []string{
		``, `{}`, `[]`, `{"configs": []}`, `{"configs": {}}`, `{"configs": [1]}`, `hunter2`, `{"hunter2`,
		typ + `"hunter2"}]}`, typ + `[{"listener": {"per_connection_buffer_limit_bytes": "hunter2"}}]}]}`,
	} {
		_, err := Parse([]byte(bad))
		if err == nil {
			t.Errorf("%s is a dump", bad)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the configuration: %v", err)
		}
	}
}

// dump is a configuration such as Envoy writes, with a route that stands for N.
const dump = `{"configs": [
{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{"name": "l", "active_state": {"listener": {"name": "l",
	"per_connection_buffer_limit_bytes": 32768, "default_filter_chain": {"filters": [{"name": "hcm", "typed_config": {
	"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "p",
	"rds": {"route_config_name": "r"}, "stream_idle_timeout": "1s", "common_http_protocol_options": {"max_stream_duration": "0.5s"},
	"early_header_mutation_extensions": [{"typed_config": {"mutations": [{"remove": "x-user"}]}}],
	"http_filters": [
		{"name": "tokenbudget", "disabled": true, "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
			"grpc_service": {"envoy_grpc": {"cluster_name": "c"}}, "failure_mode_allow": true, "message_timeout": "0.1s",
			"processing_mode": {"request_header_mode": "SKIP", "request_body_mode": "STREAMED", "response_body_mode": "FULL_DUPLEX_STREAMED"}}},
		{"name": "jwt", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", "providers": []}},
		{"name": "router"}]}}]}}}}]},
{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": {"name": "c",
	"circuit_breakers": {"thresholds": [{"priority": "HIGH"}, {"max_requests": 5, "max_pending_requests": "6"}]}, "http2_protocol_options": {"connection_keepalive": {"interval": "0s"}},
	"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"common_http_protocol_options": {"max_stream_duration": "1s"}}}}}]},
{"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config": {"name": "r", "virtual_hosts": [{"name": "h",
	"typed_per_filter_config": {"tokenbudget": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}, "lua": {"disabled": "x"}},
	"retry_policy": {"retry_on": "5xx"}, "hedge_policy": {"initial_requests": 2}, "request_body_buffer_limit": "9",
	"routes": [{"match": {"safe_regex": {"regex": "/v1/chat.*"}}, "route": {"weighted_clusters": {"clusters": [{"name": "c"}]}},
			"typed_per_filter_config": {"tokenbudget": {"disabled": true}}},
		{"match": {"prefix": "/", "headers": [{}]}, "redirect": {}}, N{"match": {"path_separated_prefix": "/v1"}, "route": {"cluster": "c", "timeout": "3s", "request_mirror_policies": [{}]}}]}]}}]}]}`

// all is what [dump] has wrong.
var all = []string{
	"fail-open", "message-timeout", "forwarding-namespaces", "receiving-namespaces", "request-header-mode", "request-body-mode", "response-trailer-mode",
	"server-retry", "jwt-order", "max-stream-duration", "set-by-envoy", "keepalive", "circuit-breaker", "max-stream-duration", "disabled", "route-timeout", "idle-timeout",
	"retry", "hedging", "mirroring", "buffer",
}

var options = Options{MaxRequestBody: 1 << 20, MessageTimeout: time.Second, StripHeaders: []string{"x-user", "x-team"}}

// TestExamine: everything that is wrong is found, in what a control plane sends, too.
func TestExamine(t *testing.T) {
	d, err := Parse([]byte(strings.Replace(dump, "N{", "{", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, f := range Examine(d, options) {
		rules = append(rules, f.Rule)
	}
	if !slices.Equal(rules, all) {
		t.Errorf("found %q\nwant  %q", rules, all)
	}
}

// TestFindingsAreBounded: a configuration of many faults does not make an endless list.
func TestFindingsAreBounded(t *testing.T) {
	var routes strings.Builder
	for i := range 2 * maxFindings {
		fmt.Fprintf(&routes, `{"name": "%d", "match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "3s"}},`, i)
	}
	d, err := Parse([]byte(strings.Replace(dump, "N{", routes.String()+"{", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(Examine(d, options)); n != maxFindings {
		t.Errorf("%d findings", n)
	}
}

// FuzzParse: no answer of an Envoy, or of something else, is more than an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(strings.Replace(dump, "N{", "{", 1)))
	f.Add([]byte(`{"configs":[{"@type":"a.ListenersConfigDump","static_listeners":[{"listener":{"filter_chains":[{"filters":[{"typed_config":{"@type":"a.HttpConnectionManager","http_filters":[{"name":"tokenbudget","typed_config":{"@type":"a.ext_proc.v3.ExternalProcessor"}}],"rds":{"route_config_name":"r"}}}]}]}}]},{"@type":"a.RoutesConfigDump","static_route_configs":[{"route_config":{"name":"r","virtual_hosts":[{"routes":[{"match":{"safe_regex":{"regex":"("}},"route":{"cluster":"c"}},{"match":{},"route":{}}]}]}}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Parse(raw)
		if err != nil {
			return
		}
		findings := Examine(d, options)
		if len(findings) > maxFindings {
			t.Errorf("%d findings", len(findings))
		}
		for _, x := range findings {
			if x.Rule == "" || x.Where == "" || x.What == "" || x.Fix == "" {
				t.Errorf("half a finding: %+v", x)
			}
		}
	})
}

// has reports whether a changed dump has a finding of a rule.
func has(t *testing.T, rule string, changes ...string) bool {
	t.Helper()
	d, err := Parse([]byte(strings.NewReplacer(append(changes, "N{", "{")...).Replace(dump)))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(Examine(d, options), func(f Finding) bool { return f.Rule == rule })
}

// TestListenerBuffer: without a limit of the virtual host's or the route's, the listener's counts.
func TestListenerBuffer(t *testing.T) {
	const limit, buffer = `"request_body_buffer_limit": "9",`, `"per_connection_buffer_limit_bytes": 32768,`
	if !has(t, "buffer", limit, "") {
		t.Error("the listener's 32 KiB are enough")
	}
	if has(t, "buffer", limit, "", buffer, "") {
		t.Error("Envoy's default of 1 MiB is too little for 1 MiB")
	}
	if has(t, "buffer", limit, `"request_body_buffer_limit": "1048576",`) {
		t.Error("1 MiB of the virtual host is too little for 1 MiB")
	}
}

// TestShadowed: a route without the filter is no fault if requests of model APIs take another one
// before it.
func TestShadowed(t *testing.T) {
	const offChat = `{"match": {"safe_regex": {"regex": "/v1/chat.*"}}`
	const on = `{"match": {"prefix": "/v1/"}, "route": {"cluster": "c", "timeout": "0s"}},`
	if !has(t, "disabled") {
		t.Fatal("a route of the chat API is off, and it is not found")
	}
	if has(t, "disabled", offChat, on+offChat) {
		t.Error("a route that takes no request of a model API is found")
	}
	if !has(t, "disabled", offChat, strings.Replace(on, `"/v1/"`, `"/v1/", "x": 0, "headers": [{}]`, 1)+offChat) {
		t.Error("a route before that is for some requests only hides the fault")
	}
}
