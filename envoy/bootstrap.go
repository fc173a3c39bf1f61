package envoy

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// How long a client may take over its request. An answer may take longer.
const (
	requestHeadersTimeout = 10 * time.Second
	requestTimeout        = 5 * time.Minute
)

// Bootstrap returns a whole configuration for one Envoy in front of one model
// API. The error names every mistake in the options.
func Bootstrap(opts Options) (*bootstrapv3.Bootstrap, error) {
	s, err := opts.resolve(true)
	if err != nil {
		return nil, err
	}
	listener, err := s.listener()
	if err != nil {
		return nil, err
	}
	extProc, err := s.extProcCluster()
	if err != nil {
		return nil, err
	}
	upstream, err := s.upstreamCluster()
	if err != nil {
		return nil, err
	}
	connections, err := anypb.New(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: s.MaxConnections})
	if err != nil {
		return nil, err
	}
	return &bootstrapv3.Bootstrap{
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: []*listenerv3.Listener{listener},
			Clusters:  []*clusterv3.Cluster{extProc, upstream},
		},
		Admin: &bootstrapv3.Admin{Address: s.admin.address},
		OverloadManager: &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
			Name:       "envoy.resource_monitors.global_downstream_max_connections",
			ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: connections},
		}}},
	}, nil
}

func (s settings) listener() (*listenerv3.Listener, error) {
	manager, err := s.connectionManager()
	if err != nil {
		return nil, err
	}
	config, err := anypb.New(manager)
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{
		Name:    ListenerName,
		Address: s.listen.address,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
		}}}},
	}, nil
}

func (s settings) connectionManager() (*hcmv3.HttpConnectionManager, error) {
	host, err := s.virtualHost()
	if err != nil {
		return nil, err
	}
	filter, err := s.filter()
	if err != nil {
		return nil, err
	}
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	log, err := s.accessLog()
	if err != nil {
		return nil, err
	}
	early, err := s.earlyHeaderMutation()
	if err != nil {
		return nil, err
	}
	m := &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: StatPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:         StatPrefix,
			VirtualHosts: []*routev3.VirtualHost{host},
		}},
		HttpFilters: []*hcmv3.HttpFilter{filter, {
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
		RequestTimeout:                durationpb.New(requestTimeout),
		RequestHeadersTimeout:         durationpb.New(requestHeadersTimeout),
		AccessLog:                     log,
		UseRemoteAddress:              wrapperspb.Bool(true),
		EarlyHeaderMutationExtensions: early,
		GenerateRequestId:             wrapperspb.Bool(true),
	}
	readAlike(m)
	return m, nil
}

// readAlike makes Envoy, the server and the upstream mean the same by a path and a
// header.
func readAlike(m *hcmv3.HttpConnectionManager) {
	m.NormalizePath = wrapperspb.Bool(true)
	m.MergeSlashes = true
	m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	m.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		// x_team would be x-team to some upstreams. To reject it would close an
		// HTTP/1.1 connection without an answer.
		HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_DROP_HEADER,
	}
}

// earlyHeaderMutation removes the client's copies of what only Envoy may say,
// before any filter runs. Nil if there is nothing to remove.
func (s settings) earlyHeaderMutation() ([]*corev3.TypedExtensionConfig, error) {
	if len(s.StripHeaders) == 0 {
		return nil, nil
	}
	var mutations []*mutationv3.HeaderMutation
	for _, h := range s.StripHeaders {
		mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: h}})
	}
	config, err := anypb.New(&earlyv3.HeaderMutation{Mutations: mutations})
	return []*corev3.TypedExtensionConfig{{Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: config}}, err
}

func (s settings) virtualHost() (*routev3.VirtualHost, error) {
	host := s.virtualHostLimits()
	host.Name, host.Domains = UpstreamCluster, []string{"*"}
	disabled, err := disabledRoute()
	if err != nil {
		return nil, err
	}
	if len(s.PassPaths) > 0 {
		// The server refuses these; a free path that is also denied must reach it.
		for _, path := range s.DenyPaths {
			host.Routes = append(host.Routes, s.route(matchDeny(path)))
		}
	}
	for _, path := range s.PassPaths {
		route := s.route(matchPass(path))
		route.TypedPerFilterConfig = map[string]*anypb.Any{FilterName: disabled}
		host.Routes = append(host.Routes, route)
	}
	host.Routes = append(host.Routes, s.route(matchAll()))
	return host, nil
}

// disabledRoute switches the filter off on a route.
func disabledRoute() (*anypb.Any, error) {
	return anypb.New(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Disabled{Disabled: true}})
}

// virtualHostLimits are the settings of a virtual host that metering needs.
func (s settings) virtualHostLimits() *routev3.VirtualHost {
	return &routev3.VirtualHost{
		RequestBodyBufferLimit: wrapperspb.UInt64(uint64(s.MaxRequestBody)),
	}
}

// route sends what matches to the upstream, under the upstream's own name.
func (s settings) route(match *routev3.RouteMatch) *routev3.Route {
	action := s.routeTimeouts()
	action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: UpstreamCluster}
	action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: s.authority()}
	return &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: action}}
}

// routeTimeouts are the settings of a route that metering needs.
func (s settings) routeTimeouts() *routev3.RouteAction {
	return &routev3.RouteAction{
		Timeout:     durationpb.New(0),
		IdleTimeout: durationpb.New(s.IdleTimeout),
	}
}

// authority returns the upstream's host, with the port unless it is the scheme's.
func (s settings) authority() string {
	standard := map[bool]uint16{false: 80, true: 443}[s.upstreamTLS]
	if s.upstream.port != standard {
		return net.JoinHostPort(s.upstream.host, strconv.Itoa(int(s.upstream.port)))
	}
	if strings.Contains(s.upstream.host, ":") {
		return "[" + s.upstream.host + "]"
	}
	return s.upstream.host
}

// matchAll matches every path.
func matchAll() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// matchDeny matches a pattern in which * stands for any number of characters.
func matchDeny(pattern string) *routev3.RouteMatch {
	re := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: re}}}
}

// matchPass matches the plain paths of a pattern in which * stands for any number
// of characters. A path is plain if servers read it alike: there are no escapes,
// parameters, backslashes, empty segments or segments that begin with a dot in
// what * stands for. Other paths go through the filter, and the server decides.
func matchPass(pattern string) *routev3.RouteMatch {
	literals := strings.Split(pattern, "*")
	if len(literals) == 1 {
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: pattern}}
	}
	const (
		first = `[^%;\\/.]`                // of a segment
		more  = `(?:[^%;\\/]|/[^%;\\/.])*` // segments end with the next one's first character
	)
	var re strings.Builder
	for i, literal := range literals {
		if i > 0 {
			switch inSegment := !strings.HasSuffix(literals[i-1], "/"); {
			case inSegment:
				re.WriteString(more)
			case strings.HasPrefix(literal, "/"):
				re.WriteString(first + more)
			default:
				re.WriteString("(?:" + first + more + ")?")
			}
		}
		re.WriteString(regexp.QuoteMeta(literal))
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: re.String()}}}
}
