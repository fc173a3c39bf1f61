package doctor

import (
	"fmt"
	"strings"
	"testing"
)

// A configuration such as Istio makes: a listener for each port, each with the filter, its routes by
// RDS.
const (
	meshFilter = `{"name": "envoy.filters.http.ext_proc", "disabled": true, "typed_config": {"@type": "a.ext_proc.v3.ExternalProcessor",
		"grpc_service": {"envoy_grpc": {"cluster_name": "tokenbudget_extproc"}, "retry_policy": {"retry_on": "connect-failure,refused-stream"}}, "message_timeout": "9s",
		"processing_mode": {"request_body_mode": "BUFFERED", "response_body_mode": "FULL_DUPLEX_STREAMED", "response_trailer_mode": "SEND"},
		"metadata_options": {"forwarding_namespaces": {"untyped": ["envoy.filters.http.jwt_authn"]}, "receiving_namespaces": {"untyped": ["tokenbudget"]}}}}, `
	meshListener = `{"active_state": {"listener": {"name": "0.0.0.0_%[1]s", "per_connection_buffer_limit_bytes": 16777216, "filter_chains": [{"filters": [
		{"typed_config": {"@type": "a.HttpConnectionManager", "stat_prefix": "outbound_%[1]s", "rds": {"route_config_name": "%[1]s"},
			"http_filters": [%[2]s{"name": "envoy.filters.http.router"}]}}]}]}}}`
	meshCluster = `{"@type": "a.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": {"name": "tokenbudget_extproc",
		"http2_protocol_options": {"connection_keepalive": {"interval": "2s"}}, "circuit_breakers": {"thresholds": [{"max_requests": 100000, "max_pending_requests": 100000, "max_retries": 100000}]}}}]}`
	meshOn   = `"typed_per_filter_config": {"envoy.filters.http.ext_proc": {"@type": "a.FilterConfig", "config": {}}}, `
	meshHost = `{"name": "h", %s"routes": [{"match": {"prefix": "%s"}, "route": {"cluster": "%s", "timeout": "0s", "idle_timeout": "600s"%s}}]}`
)

// mesh is what is found with two ports: the routes of 80 and of 8080.
func mesh(t *testing.T, filter8080, hosts80, hosts8080 string) []Finding {
	t.Helper()
	routes := func(name, hosts string) string {
		return fmt.Sprintf(`{"route_config": {"name": "%s", "virtual_hosts": [%s]}}`, name, hosts)
	}
	d, err := Parse([]byte(`{"configs": [{"@type": "a.ListenersConfigDump", "dynamic_listeners": [` + fmt.Sprintf(meshListener, "80", meshFilter) + "," +
		fmt.Sprintf(meshListener, "8080", filter8080) + `]}, ` + meshCluster + `, {"@type": "a.RoutesConfigDump", "dynamic_route_configs": [` +
		routes("80", hosts80) + "," + routes("8080", hosts8080) + `]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return Examine(d, Options{})
}

// TestMesh: of many listeners with the filter one is metered, and the others are no fault, unless they
// lead to the model API past it.
func TestMesh(t *testing.T) {
	model := fmt.Sprintf(meshHost, meshOn, "/", "model", "")
	other := fmt.Sprintf(meshHost, "", "/v1/", "other", "")
	for name, tt := range map[string]struct{ filter, hosts80, hosts8080, rule string }{
		"another service":            {meshFilter, model + "," + strings.Replace(other, "/v1/", "/", 1), other, ""},
		"no routes, as of blackhole": {meshFilter, model, `{"name": "blackhole:8080", "domains": ["*"]}`, ""},
		"off everywhere":             {meshFilter, strings.Replace(model, meshOn, "", 1), "", "off"},
		"the model by another port":  {meshFilter, model, strings.Replace(model, meshOn, "", 1), "disabled"},
		"no filter there":            {"", model, strings.Replace(model, meshOn, "", 1), "disabled"},
		"no filter, another service": {"", model, other, ""},
		// Each of two policies of Envoy Gateway's has a filter of its own, on for its own routes.
		"another filter there": {
			meshFilter + strings.Replace(meshFilter, "http.ext_proc", "http.ext_proc/2", 1), model, strings.Replace(model, "ext_proc", "ext_proc/2", 1), "",
		},
		"off in a weighted cluster": {meshFilter, fmt.Sprintf(meshHost, meshOn, "/", "", `, "weighted_clusters": {"clusters": [{"name": "a"}, {"name": "b",
			"typed_per_filter_config": {"envoy.filters.http.ext_proc": {"@type": "a.ExtProcPerRoute", "disabled": true}}}]}`), "", "disabled"},
		"on in weighted clusters": {meshFilter, fmt.Sprintf(meshHost, meshOn, "/", "", `, "weighted_clusters": {"clusters": [{"name": "a"}, {"name": "b",
			"typed_per_filter_config": {"envoy.filters.http.lua": {"@type": "a.LuaPerRoute", "disabled": true}}}]}`), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			findings := mesh(t, tt.filter, tt.hosts80, tt.hosts8080)
			if tt.rule == "off" && len(findings) == 2 { // once for each listener
				findings = findings[:1]
			}
			check(t, findings, tt.rule)
		})
	}
}

// TestECDS: a filter whose configuration comes by itself is followed, and before it has come it is none.
func TestECDS(t *testing.T) {
	name, config, _ := strings.Cut(strings.TrimSuffix(meshFilter, ", "), `"disabled": true, "typed_config": `)
	for _, tt := range []struct{ config, rule string }{
		{strings.TrimSuffix(config, "}"), ""},
		{strings.Replace(strings.TrimSuffix(config, "}"), "BUFFERED", "STREAMED", 1), "request-body-mode"},
		{`{"@type": "a.Lua"}`, "no-filter"},
		{"", "no-filter"},
	} {
		dump := `{"configs": [`
		if tt.config != "" {
			dump += `{"@type": "a.EcdsConfigDump", "ecds_filters": [{"ecds_filter": {"@type": "a.TypedExtensionConfig", "name": "envoy.filters.http.ext_proc", "typed_config": ` + tt.config + `}}]}, `
		}
		d, err := Parse([]byte(dump + `{"@type": "a.ListenersConfigDump", "dynamic_listeners": [` + fmt.Sprintf(meshListener, "80", name+`"config_discovery": {}}, `) + `]}, ` +
			meshCluster + `, {"@type": "a.RoutesConfigDump", "dynamic_route_configs": [{"route_config": {"name": "80", "virtual_hosts": [` +
			fmt.Sprintf(meshHost, "", "/", "model", "") + `]}}]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		check(t, Examine(d, Options{}), tt.rule)
	}
}

// TestGreatNumbers: what Envoy takes for no limit is no fault of the dump.
func TestGreatNumbers(t *testing.T) {
	great := strings.NewReplacer(`"idle_timeout": "600s"`, `"idle_timeout": "315576000000s"`, `{"name": "h", `, `{"name": "h", "request_body_buffer_limit": "18446744073709551615", `)
	check(t, mesh(t, "", great.Replace(fmt.Sprintf(meshHost, meshOn, "/", "model", "")), ""), "")
	for _, bad := range []string{`"1"`, `"1e9s"`, `"-x"`, `"NaNs"`, `""`} {
		if (&duration{}).UnmarshalJSON([]byte(bad)) == nil {
			t.Errorf("%s is a duration", bad)
		}
	}
}
