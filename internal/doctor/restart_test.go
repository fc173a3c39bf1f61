package doctor

import (
	"fmt"
	"strings"
	"testing"
)

// inMesh is what is found in the mesh's configuration with something else in place of a part.
func inMesh(t *testing.T, part, other string) []Finding {
	t.Helper()
	const listeners = `{"configs": [{"@type": "a.ListenersConfigDump", "dynamic_listeners": [%s]}, %s, {"@type": "a.RoutesConfigDump", "dynamic_route_configs": [
		{"route_config": {"name": "80", "virtual_hosts": [%s]}}]}]}`
	text := fmt.Sprintf(listeners, fmt.Sprintf(meshListener, "80", meshFilter), meshCluster, fmt.Sprintf(meshHost, meshOn, "/", "model", ""))
	if !strings.Contains(text, part) {
		t.Fatalf("there is no %s to change", part)
	}
	d, err := Parse([]byte(strings.Replace(text, part, other, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return Examine(d, Options{})
}

// TestRestart: what cannot begin at a server that goes must begin again.
func TestRestart(t *testing.T) {
	const policy = `"retry_policy": {"retry_on": "connect-failure,refused-stream"}`
	for retry, rule := range map[string]string{
		policy: "",
		`"retry_policy": {"retry_on": "refused-stream, connect-failure", "num_retries": 1}`: "",
		`"retry_policy": {"retry_on": "5xx"}`:                                               "",
		`"retry_policy": {"retry_on": "unavailable,reset"}`:                                 "",
		`"retry_policy": {"retry_on": "gateway-error"}`:                                     "",
		`"retry_policy": {"retry_on": "reset-before-request,refused-stream"}`:               "", // nothing was sent without a connection
		`"retry_policy": {"retry_on": "reset-before-request"}`:                              "server-retry",
		`"timeout": "10s"`:                                      "server-retry",
		`"retry_policy": {}`:                                    "server-retry",
		`"retry_policy": {"num_retries": 3}`:                    "server-retry",
		`"retry_policy": {"retry_on": "connect-failure"}`:       "server-retry",
		`"retry_policy": {"retry_on": "refused-stream"}`:        "server-retry",
		`"retry_policy": {"retry_on": "unavailable,cancelled"}`: "server-retry",
		`"retry_policy": {"retry_on": "5xx", "num_retries": 0}`: "server-retry",
	} {
		t.Run(retry, func(t *testing.T) { check(t, inMesh(t, policy, retry), rule) })
	}
	const retries = `, "max_retries": 100000`
	for other, rule := range map[string]string{
		"":                      "server-retry", // Envoy's default is 3
		`, "max_retries": 10`:   "server-retry",
		`, "max_retries": 1024`: "", // Envoy Gateway's default
		`, "retry_budget": {}`:  "",
	} {
		t.Run(other, func(t *testing.T) { check(t, inMesh(t, retries, other), rule) })
	}
}

// TestHTTP2: a cluster whose TLS handshake agrees on HTTP/2 speaks it.
func TestHTTP2(t *testing.T) {
	const old = `"http2_protocol_options": {"connection_keepalive": {"interval": "2s"}}`
	const form = `"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": %s}`
	for options, rule := range map[string]string{
		`{"explicit_http_config": {` + old + `}}`:                                        "",
		`{"auto_config": {"http_protocol_options": {}, ` + old + `}}`:                    "",
		`{"auto_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}`:   "keepalive",
		`{"explicit_http_config": {"http_protocol_options": {}}}`:                        "http2",
		`{"use_downstream_protocol_config": {"http_protocol_options": {}, ` + old + `}}`: "http2",
	} {
		t.Run(options, func(t *testing.T) { check(t, inMesh(t, old, fmt.Sprintf(form, options)), rule) })
	}
}

// TestRestartElsewhere: a client of gRPC's own has no policy of Envoy's, so none is missed.
func TestRestartElsewhere(t *testing.T) {
	check(t, inMesh(t, `"envoy_grpc": {"cluster_name": "tokenbudget_extproc"}, "retry_policy": {"retry_on": "connect-failure,refused-stream"}`,
		`"google_grpc": {"target_uri": "a:1"}`), "cluster")
}
