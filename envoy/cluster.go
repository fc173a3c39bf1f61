package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// protocolOptions is the key under which a cluster's HTTP options stand.
	protocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

	connectTimeout = 5 * time.Second

	// keepalive is the interval of HTTP/2 pings to the server, and how long their answer may
	// take.
	keepalive = 2 * time.Second

	// A stream to the server is a request that lasts as long as an answer, and so
	// is one to the upstream: Envoy's default of 1024 at a time would refuse
	// others. What really bounds them is MaxConnections.
	maxStreams = 100_000

	// Model APIs close connections that have been idle for a minute or so. To send
	// a request on one just then is a 503, since there are no retries.
	upstreamIdle = 30 * time.Second
)

// extProcCluster is the tokenbudget server, or several.
func (s settings) extProcCluster() (*clusterv3.Cluster, error) {
	c := newCluster(ExtProcCluster, s.extProc)
	// Of the retries of retryServer, as many at a time as there can be streams; Envoy's default is 3.
	c.CircuitBreakers.Thresholds[0].MaxRetries = wrapperspb.UInt32(maxStreams)
	if len(s.servers) > 1 {
		manyServers(c, s.servers)
	} else {
		everyAddress(c)
	}
	pings := &corev3.KeepaliveSettings{Interval: durationpb.New(keepalive), Timeout: durationpb.New(keepalive)}
	if err := setHTTP(c, &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: explicitHTTP2(&corev3.Http2ProtocolOptions{ConnectionKeepalive: pings}),
	}); err != nil {
		return nil, err
	}
	if s.ExtProcTLS == nil {
		return c, nil
	}
	t := *s.ExtProcTLS
	setDefault(&t.ServerName, s.extProc.host)
	context := upstreamTLS(t.ServerName, t.CAFile)
	context.CommonTlsContext.AlpnProtocols = []string{"h2"} // gRPC servers insist on it
	// Envoy's clients offer no more than TLS 1.2 by default, and the server takes no less
	// than 1.3.
	context.CommonTlsContext.TlsParams = &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
	if t.CertFile != "" {
		context.CommonTlsContext.TlsCertificates = []*tlsv3.TlsCertificate{{
			CertificateChain: file(t.CertFile),
			PrivateKey:       file(t.KeyFile),
		}}
	}
	return c, setTLS(c, context)
}

// upstreamCluster is the model API.
func (s settings) upstreamCluster() (*clusterv3.Cluster, error) {
	c := newCluster(UpstreamCluster, s.upstream)
	http := &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(upstreamIdle)},
	}
	switch {
	case s.UpstreamHTTP2:
		http.UpstreamProtocolOptions = explicitHTTP2(&corev3.Http2ProtocolOptions{})
	case s.upstreamTLS: // HTTP/2 if the upstream offers it in the TLS handshake
		http.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{
			HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}}
	default:
		http.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		}}
	}
	if err := setHTTP(c, http); err != nil {
		return nil, err
	}
	if !s.upstreamTLS {
		return c, nil
	}
	context := upstreamTLS(s.upstream.host, s.UpstreamCA)
	if s.UpstreamHTTP2 {
		context.CommonTlsContext.AlpnProtocols = []string{"h2"}
	}
	return c, setTLS(c, context)
}

// newCluster returns a cluster with one endpoint.
func newCluster(name string, e endpoint) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: durationpb.New(connectTimeout),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: e.address}},
			}}}},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(maxStreams),
			MaxPendingRequests: wrapperspb.UInt32(maxStreams),
			MaxRequests:        wrapperspb.UInt32(maxStreams),
		}}},
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	if e.host != "" && !e.ip {
		// New connections go where the name points to; those with running streams
		// stay when it changes. Both address families are tried. Names of model APIs have many
		// addresses, of which each look-up tells some.
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
		c.DnsLookupFamily = clusterv3.Cluster_ALL
	}
	return c
}

func explicitHTTP2(options *corev3.Http2ProtocolOptions) *httpv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: options},
	}}
}

// upstreamTLS checks that the other side has a certificate for the host, signed
// by one of the authorities in caFile. Without the name any certificate of those
// authorities would do.
func upstreamTLS(host, caFile string) *tlsv3.UpstreamTlsContext {
	e := tcpEndpoint(host, 0)
	sanType, sni := tlsv3.SubjectAltNameMatcher_DNS, host
	if e.ip {
		sanType, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, "" // RFC 6066 forbids addresses as SNI
	}
	return &tlsv3.UpstreamTlsContext{
		Sni: sni,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa: file(caFile),
				MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
					SanType: sanType,
					Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}},
				}},
			}},
		},
	}
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

func setHTTP(c *clusterv3.Cluster, options proto.Message) error {
	config, err := anypb.New(options)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{protocolOptions: config}
	return err
}

func setTLS(c *clusterv3.Cluster, context *tlsv3.UpstreamTlsContext) error {
	config, err := anypb.New(context)
	c.TransportSocket = &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}
	return err
}
