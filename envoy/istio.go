package envoy

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	istioNetworking = "networking.istio.io/v1"
	managerFilter   = "envoy.filters.network.http_connection_manager"
	routerFilter    = "envoy.filters.http.router"

	// passRoute begins the names of routes that are not metered.
	passRoute = "tokenbudget-pass-"

	// istioHTTPPort is the port of the ServiceEntry under which proxies see the model API's traffic in
	// clear; TLS begins behind them, at the API's own port.
	istioHTTPPort = 80
)

const istioHead = `What Istio takes to have a model API metered by tokenbudget: kubectl apply -f this-file
Made by "tokenbudget envoy istio". Without the server, requests are %s.

%s
The comments say what must stay as it is for metering to be complete. Do not add retries or
mirroring to the VirtualService: what is retried or mirrored is spent, but not metered.`

const istioGatewayHead = `It concerns the gateway in the pods with the labels below, which should serve the model API
only: the filter runs for all its traffic, and the server refuses bodies of unknown APIs.`

const istioSidecarHead = `It concerns the sidecars of the pods with the labels below. The application calls
http://%s, in clear: the sidecar meters, and speaks TLS. What the application sends by
https itself, no proxy can meter: keep it from the model API's own port with a NetworkPolicy.
Other hosts that the application calls are not touched.`

const istioSidecarServiceHead = `It concerns the sidecars of the pods with the labels below: what they send to the model API is
metered. Other hosts that the application calls are not touched.`

const istioServiceHead = `The model API is a Service of this cluster. Istio must know that its port speaks HTTP: by the
port's name, which begins with http, or by its appProtocol.`

// IstioYAML returns the objects that have Istio's proxies meter a model API, as YAML with
// comments: an EnvoyFilter with the same filter, cluster and settings as [BootstrapYAML], and a
// ServiceEntry, DestinationRule and VirtualService that lead to the model API over TLS, without
// retries; for a gateway a Gateway, too. The error names every mistake.
//
// Files of [ClientTLS] are those in the proxy's container.
func IstioYAML(opts Options, mesh Mesh) ([]byte, error) {
	s, err := opts.resolve(true)
	mesh, meshErr := mesh.resolve()
	if err := errors.Join(err, meshErr); err != nil {
		return nil, err
	}
	if s.upstream.ip {
		return nil, fmt.Errorf("envoy: Upstream: %q is an address; Istio routes by name, such as https://api.openai.com", s.Upstream)
	}
	if s.inCluster() && s.upstreamTLS && mesh.Sidecar {
		return nil, fmt.Errorf("envoy: Upstream: %q takes TLS, which applications of the cluster speak themselves, so that no sidecar can meter it; give its port for http", s.Upstream)
	}
	if err := s.reachable(false); err != nil {
		return nil, err
	}
	filter, err := s.istioFilter(mesh)
	if err != nil {
		return nil, err
	}
	who := istioGatewayHead
	if mesh.Sidecar {
		who = fmt.Sprintf(istioSidecarHead, s.upstream.host)
	}
	if s.inCluster() {
		who = istioGatewayHead + "\n" + istioServiceHead
		if mesh.Sidecar {
			who = istioSidecarServiceHead + "\n" + istioServiceHead
		}
	}
	objects := append([]object{filter}, s.istioUpstream(mesh)...)
	return encodeObjects(fmt.Sprintf(istioHead, failure(opts), who), objects)
}

// istioContext is where patches apply.
func (m Mesh) istioContext() string {
	if m.Sidecar {
		return "SIDECAR_OUTBOUND"
	}
	return "GATEWAY"
}

// istioHost is the name of the virtual host that Istio makes for the model API.
func (s settings) istioHost(mesh Mesh) string {
	if mesh.Sidecar {
		return net.JoinHostPort(s.upstream.host, strconv.Itoa(s.istioPort()))
	}
	return net.JoinHostPort(mesh.Host, strconv.Itoa(istioHTTPPort))
}

// inCluster says that the upstream is a Service of Kubernetes, which Istio knows by itself.
func (s settings) inCluster() bool { return strings.HasSuffix(s.upstream.host, ".svc.cluster.local") }

// istioPort is the port under which Istio knows the upstream.
func (s settings) istioPort() int {
	if s.inCluster() {
		return int(s.upstream.port)
	}
	return istioHTTPPort
}

// istioFilter is the EnvoyFilter.
func (s settings) istioFilter(mesh Mesh) (object, error) {
	filter, err := s.filter()
	if err != nil {
		return nil, err
	}
	cluster, err := s.extProcCluster()
	if err != nil {
		return nil, err
	}
	manager, err := s.istioManager(mesh)
	if err != nil {
		return nil, err
	}
	host := s.virtualHostLimits()
	filterWhy := "The filter, directly in front of the router: behind jwt_authn, whose claims it reads."
	if mesh.Sidecar {
		// One listener has all hosts that the application calls on this port.
		filter.Disabled = true
		on, err := anypb.New(&routev3.FilterConfig{Config: &anypb.Any{}})
		if err != nil {
			return nil, err
		}
		host.TypedPerFilterConfig = map[string]*anypb.Any{FilterName: on}
		filterWhy = "The filter, directly in front of the router; on for the model API's virtual host only, below."
	}
	listener := func(sub field) object {
		f := object{{key: "name", value: managerFilter}}
		if sub.key != "" {
			f = append(f, sub)
		}
		return object{{key: "filterChain", value: object{{key: "filter", value: f}}}}
	}
	vhost := func(route ...field) object {
		v := append(object{{key: "name", value: s.istioHost(mesh)}}, route...)
		return object{{key: "vhost", value: v}}
	}
	router := field{key: "subFilter", value: object{{key: "name", value: routerFilter}}}
	patch := func(to, why, operation string, match field, value proto.Message) object {
		where := object{{key: "context", value: mesh.istioContext()}}
		if match.key != "" {
			where = append(where, match)
		}
		return object{
			{key: "applyTo", value: to, comment: why},
			{key: "match", value: where},
			{key: "patch", value: object{{key: "operation", value: operation}, {key: "value", value: value}}},
		}
	}
	patches := list{
		patch("HTTP_FILTER", filterWhy, "INSERT_BEFORE", field{key: "listener", value: listener(router)}, filter),
		patch("CLUSTER", "The server. Not a cluster of Istio's: it has no mesh TLS, and its TLS is that of listen.tls.", "ADD", field{}, cluster),
	}
	if manager != nil {
		patches = append(patches, patch("NETWORK_FILTER", "What all traffic of the listener needs.", "MERGE",
			field{key: "listener", value: listener(field{})}, manager))
	}
	patches = append(patches,
		patch("VIRTUAL_HOST", "The model API's virtual host, under the name that Istio gives it.", "MERGE",
			field{key: "routeConfiguration", value: vhost()}, host),
		patch("HTTP_ROUTE", "Its routes. The VirtualService switches retries off.", "MERGE",
			field{key: "routeConfiguration", value: vhost()},
			&routev3.Route{Action: &routev3.Route_Route{Route: s.routeTimeouts()}}),
	)
	for i := range s.passPaths() {
		off, err := disabledRoute()
		if err != nil {
			return nil, err
		}
		patches = append(patches, patch("HTTP_ROUTE", "A path of paths.pass, which is no model API's: the filter is off.", "MERGE",
			field{key: "routeConfiguration", value: vhost(field{key: "route", value: object{{key: "name", value: passRoute + strconv.Itoa(i)}}})},
			&routev3.Route{TypedPerFilterConfig: map[string]*anypb.Any{FilterName: off}}))
	}
	return mesh.manifest("networking.istio.io/v1alpha3", "EnvoyFilter", mesh.Name, object{
		{key: "workloadSelector", value: object{{key: "labels", value: mesh.Labels}}},
		{key: "configPatches", value: patches},
	}), nil
}

// passPaths are the paths for which a router can switch the filter off. Where paths are denied,
// too, the server decides on both: which of two routes comes first is not for us to say.
func (s settings) passPaths() []string {
	if len(s.DenyPaths) > 0 {
		return nil
	}
	return s.PassPaths
}

// istioManager is what the connection manager of Istio's listener lacks; nil for nothing.
func (s settings) istioManager(mesh Mesh) (*listenerv3.Filter, error) {
	m := &hcmv3.HttpConnectionManager{}
	if !mesh.Sidecar { // others share a sidecar's listener
		readAlike(m)
	}
	var err error
	if m.EarlyHeaderMutationExtensions, err = s.earlyHeaderMutation(); err != nil {
		return nil, err
	}
	if m.AccessLog, err = s.accessLog(); err != nil {
		return nil, err
	}
	for _, log := range m.AccessLog {
		log.Filter = onlyMetered()
	}
	if proto.Equal(m, &hcmv3.HttpConnectionManager{}) {
		return nil, nil
	}
	config, err := anypb.New(m)
	return &listenerv3.Filter{Name: managerFilter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}, err
}

// onlyMetered keeps exchanges out of the access log of which the server has said nothing.
func onlyMetered() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: MetadataNamespace,
			Path: []*matcherv3.MetadataMatcher_PathSegment{{
				Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: "outcome"},
			}},
			Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}},
		},
	}}}
}

// istioUpstream are the objects that lead to the model API.
func (s settings) istioUpstream(mesh Mesh) []object {
	api := s.upstream.host
	var objects []object
	if !mesh.Sidecar {
		objects = append(objects, mesh.manifest(istioNetworking, "Gateway", mesh.Name, object{
			{key: "selector", value: mesh.Labels},
			{key: "servers", value: list{object{
				{key: "port", value: object{{key: "number", value: istioHTTPPort}, {key: "name", value: "http"}, {key: "protocol", value: "HTTP"}}, comment: "Clear text. For clients beyond the cluster add a server with TLS, on this port's terms."},
				{key: "hosts", value: list{mesh.Host}},
			}}},
		}))
	}
	protocol := "HTTP"
	if s.UpstreamHTTP2 {
		protocol = "HTTP2"
	}
	port := object{
		{key: "number", value: istioHTTPPort},
		{key: "name", value: "http"},
		{key: "protocol", value: protocol, comment: "Clear text up to the proxy, which could not meter it otherwise."},
		{key: "targetPort", value: int(s.upstream.port)},
	}
	if !s.inCluster() {
		objects = append(objects, mesh.manifest(istioNetworking, "ServiceEntry", mesh.Name, object{
			{key: "hosts", value: list{api}},
			{key: "location", value: "MESH_EXTERNAL"},
			{key: "resolution", value: "DNS"},
			{key: "ports", value: list{port}},
		}))
	}
	policy := object{
		{key: "port", value: object{{key: "number", value: s.istioPort()}}},
		{key: "connectionPool", value: object{{key: "http", value: object{
			{key: "idleTimeout", value: upstreamIdle, comment: "Model APIs close idle connections after a minute or so, and there are no retries."},
		}}}},
	}
	if s.upstreamTLS {
		policy = append(policy, field{key: "tls", value: object{
			{key: "mode", value: "SIMPLE"},
			{key: "sni", value: api},
			{key: "caCertificates", value: s.UpstreamCA},
			{key: "subjectAltNames", value: list{api}, comment: "Without it any certificate of these authorities would do."},
		}})
	}
	objects = append(objects, mesh.manifest(istioNetworking, "DestinationRule", mesh.Name, object{
		{key: "host", value: api},
		{key: "trafficPolicy", value: object{{key: "portLevelSettings", value: list{policy}}}},
	}))
	var routes list
	for i, path := range s.passPaths() {
		routes = append(routes, s.istioRoute(mesh, passRoute+strconv.Itoa(i), istioMatch(path)))
	}
	routes = append(routes, s.istioRoute(mesh, "tokenbudget", nil))
	spec := object{{key: "hosts", value: list{api}}}
	if !mesh.Sidecar {
		spec = object{{key: "hosts", value: list{mesh.Host}}, {key: "gateways", value: list{mesh.Name}}}
	}
	return append(objects, mesh.manifest(istioNetworking, "VirtualService", mesh.Name, append(spec, field{key: "http", value: routes})))
}

// istioMatch matches what [matchPass] matches, in a VirtualService.
func istioMatch(path string) list {
	uri := field{key: "exact", value: path}
	if re := matchPass(path).GetSafeRegex(); re != nil {
		uri = field{key: "regex", value: re.Regex}
	}
	return list{object{{key: "uri", value: object{uri}}}}
}

// istioRoute sends what matches to the model API; match is nil for all.
func (s settings) istioRoute(mesh Mesh, name string, match list) object {
	route := object{{key: "name", value: name}}
	if match != nil {
		route = append(route, field{key: "match", value: match})
	}
	route = append(route, field{key: "route", value: list{object{{key: "destination", value: object{
		{key: "host", value: s.upstream.host},
		{key: "port", value: object{{key: "number", value: s.istioPort()}}},
	}}}}})
	if !mesh.Sidecar {
		route = append(route, field{key: "rewrite", value: object{{key: "authority", value: s.authority()}}})
	}
	// Istio has no timeout unless told, and does not take 0s for one.
	return append(route, field{key: "retries", value: object{{key: "attempts", value: 0}}, comment: "Istio retries twice unless told otherwise; a retry is spent, but not metered. No timeout: answers take minutes."})
}
