package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxServers bounds the tokenbudget servers of one Envoy.
const maxServers = 64

// healthInterval is how often each of several servers is asked for its health. The server's
// default of timeouts.drain_delay leaves room for a few of them.
const healthInterval = time.Second

// parseServers reads one address or several, with commas between them.
func parseServers(s string) (all []endpoint, err error) {
	names, sockets := false, false
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		e, err := parseEndpoint(part)
		switch {
		case err != nil:
			return nil, err
		case e.host != "" && e.port == 0:
			return nil, fmt.Errorf("%q needs a port", part)
		case seen[part]:
			return nil, fmt.Errorf("%q is there twice", part)
		case len(all) == maxServers:
			return nil, fmt.Errorf("there are more than %d servers", maxServers)
		}
		seen[part] = true
		sockets = sockets || e.host == ""
		names = names || e.host != "" && !e.ip
		all = append(all, e)
	}
	if names && sockets {
		return nil, errors.New("sockets and names cannot be in one list; write addresses in place of the names")
	}
	return all, nil
}

// everyAddress makes each address of a name a server of its own: a headless Service has one for each
// pod. Exchanges begin at them in turns, and at another one if one is gone (retryServer), while
// LOGICAL_DNS would have all begin at one. Streams stay when the name changes. For a Service with an
// address of its own, and for most other names, there is no difference.
//
// There are no health checks: a Service takes pods that go out of its name, and for a name of one
// address they would change nothing.
func everyAddress(c *clusterv3.Cluster) {
	if c.GetType() == clusterv3.Cluster_LOGICAL_DNS {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		// With ALL a pod with an address of each family would be two servers, one of which might
		// take no connections, as ::1 of localhost.
		c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	}
}

// manyServers gives a cluster several endpoints. A server that is about to go says so in its
// answers to health checks, and new exchanges begin elsewhere before it stops taking them.
func manyServers(c *clusterv3.Cluster, servers []endpoint) {
	var endpoints []*endpointv3.LbEndpoint
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	for _, e := range servers {
		endpoints = append(endpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: e.address}},
		})
		if e.host != "" && !e.ip {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
			c.DnsLookupFamily = clusterv3.Cluster_ALL
		}
	}
	c.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}}
	// In turns, Envoy's default. The one with the fewest open streams would be the one that is down.
	c.HealthChecks = []*corev3.HealthCheck{{
		Timeout:  durationpb.New(healthInterval),
		Interval: durationpb.New(healthInterval),
		// Without it a server that had nothing to do would be asked once a minute.
		NoTrafficInterval: durationpb.New(healthInterval),
		// Of checks without an answer; an answer that the server does not serve counts at once.
		UnhealthyThreshold: wrapperspb.UInt32(2),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker:      &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}}
	// When no server at all is healthy, any is tried. Envoy's default would send exchanges to servers
	// that are going as soon as more than half of them are.
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 1}}
}

// retryServer has an exchange begin on another connection, and with several servers perhaps on another
// server, if it could not begin. Only where the server has seen nothing of it: a second try is
// never metered twice.
func retryServer() *corev3.RetryPolicy {
	other := (*previousv3.PreviousHostsPredicate)(nil).ProtoReflect().Descriptor().FullName()
	return &corev3.RetryPolicy{
		RetryOn:      "connect-failure,refused-stream",
		NumRetries:   wrapperspb.UInt32(3),
		RetryBackOff: &corev3.BackoffStrategy{BaseInterval: durationpb.New(25 * time.Millisecond), MaxInterval: durationpb.New(250 * time.Millisecond)},
		RetryHostPredicate: []*corev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/" + string(other)}},
		}},
		HostSelectionRetryMaxAttempts: 5,
	}
}

// reachable says why proxies in pods cannot reach a server at an address at which it listens.
// elsewhere says that no proxy shares its pod.
func (s settings) reachable(elsewhere bool) error {
	for _, e := range s.servers {
		if ip, err := netip.ParseAddr(e.host); err == nil && (ip.IsUnspecified() || elsewhere && ip.IsLoopback()) {
			return fmt.Errorf("envoy: ExtProc: the server listens at %s, where other pods do not reach it; give the name of its Service (-extproc tokenbudget.llm.svc.cluster.local:%d)", e.host, e.port)
		}
	}
	return nil
}
