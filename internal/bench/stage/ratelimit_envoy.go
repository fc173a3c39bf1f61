package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jsonparserv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/content_parsers/json/v3"
	jsonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/json_to_metadata/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	ssev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/sse_to_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

const (
	rateLimitCluster = "ratelimit"
	// rateLimitTimeout is what a slow turn may take. Envoy's default, 20 ms, would let requests fail on a busy machine.
	rateLimitTimeout = 5 * time.Second

	usageNamespace, usageKey = "usage", "total_tokens" // where filters leave in Envoy's metadata what the upstream reports
)

// NewRateLimitSide starts an Envoy with its rate limit filter in front of an upstream, which may speak HTTP/2. The service and its
// Redis are the side's from now on; they are closed if there is an error.
//
// Each request asks the service twice, as those do who limit tokens by it: when it comes, whether anything is left, which counts the
// request but no tokens; and once its answer has ended, nobody waiting for that, to count the tokens that the upstream has
// reported. Envoy's own filters read those from whole answers and from streams.
func NewRateLimitSide(ctx context.Context, name, upstream string, http2 bool, r *RateLimit) (*Side, error) {
	s := &Side{Name: name, Server: r.Process, Store: r.Redis}
	bootstrap, err := withOtherFilters(envoy.Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: upstream, UpstreamHTTP2: http2, ExtProc: r.GRPC}, rateLimitFilters)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s.start(ctx, bootstrap)
}

// rateLimitFilters are the filters in front of the router, and the cluster that they ask: the one of ext_proc by another name.
func rateLimitFilters(b *bootstrapv3.Bootstrap) ([]*hcmv3.HttpFilter, error) {
	for _, c := range b.StaticResources.Clusters {
		if c.Name == envoy.ExtProcCluster {
			c.Name, c.LoadAssignment.ClusterName = rateLimitCluster, rateLimitCluster
		}
	}
	usage := &jsonv3.JsonToMetadata_Rule{
		Selectors: []*jsonv3.JsonToMetadata_Selector{jsonKey("usage"), jsonKey("total_tokens")},
		OnPresent: &jsonv3.JsonToMetadata_KeyValuePair{MetadataNamespace: usageNamespace, Key: usageKey, Type: jsonv3.JsonToMetadata_NUMBER},
	}
	parser, err := anypb.New(&jsonparserv3.JsonContentParser{Rules: []*jsonparserv3.JsonContentParser_RuleConfig{{Rule: usage}}})
	if err != nil {
		return nil, err
	}
	var filters []*hcmv3.HttpFilter
	for _, f := range []struct {
		name   string
		config proto.Message
	}{
		{"envoy.filters.http.ratelimit", &ratelimitv3.RateLimit{
			Domain: rateLimitDomain, Timeout: durationpb.New(rateLimitTimeout), FailureModeDeny: true, RateLimits: rateLimits(),
			RateLimitService: &rlsv3.RateLimitServiceConfig{
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: rateLimitCluster},
				}},
			},
		}},
		{"envoy.filters.http.json_to_metadata", &jsonv3.JsonToMetadata{ResponseRules: &jsonv3.JsonToMetadata_MatchRules{Rules: []*jsonv3.JsonToMetadata_Rule{usage}}}},
		{"envoy.filters.http.sse_to_metadata", &ssev3.SseToMetadata{ResponseRules: &ssev3.SseToMetadata_ProcessingRules{
			ContentParser: &corev3.TypedExtensionConfig{Name: "envoy.content_parsers.json", TypedConfig: parser},
		}}},
	} {
		config, err := anypb.New(f.config)
		if err != nil {
			return nil, err
		}
		filters = append(filters, &hcmv3.HttpFilter{Name: f.name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}})
	}
	return filters, nil
}

func jsonKey(key string) *jsonv3.JsonToMetadata_Selector {
	return &jsonv3.JsonToMetadata_Selector{Selector: &jsonv3.JsonToMetadata_Selector_Key{Key: key}}
}

// rateLimits are what the filter says of each request, for the limits of [RateLimitConfig]: of those in tokens nothing at first, and
// what was reported at the end; of the one in requests, one at first.
func rateLimits() (all []*routev3.RateLimit) {
	header := func(key, header string) *routev3.RateLimit_Action {
		return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RequestHeaders_{
			RequestHeaders: &routev3.RateLimit_Action_RequestHeaders{HeaderName: header, DescriptorKey: key},
		}}
	}
	forAll := &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
		GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: BudgetForAll, DescriptorValue: "all"},
	}}
	for _, action := range []*routev3.RateLimit_Action{forAll, header("team-day", "x-team"), header("user-minute", "x-user")} {
		all = append(all,
			&routev3.RateLimit{Actions: []*routev3.RateLimit_Action{action}, HitsAddend: &routev3.RateLimit_HitsAddend{Number: wrapperspb.UInt64(0)}},
			&routev3.RateLimit{Actions: []*routev3.RateLimit_Action{action}, ApplyOnStreamDone: true, HitsAddend: &routev3.RateLimit_HitsAddend{
				Format: fmt.Sprintf("%%DYNAMIC_METADATA(%s:%s)%%", usageNamespace, usageKey),
			}})
	}
	return append(all, &routev3.RateLimit{Actions: []*routev3.RateLimit_Action{header("user-requests", "x-user")}})
}

// Asked is what Envoy has had to do with the service since it was started.
type Asked struct{ OK, Failed uint64 }

// Asked asks Envoy.
func (r *RateLimit) Asked(ctx context.Context, e *envoyrun.Envoy) (a Asked, err error) {
	stats, err := e.Stats(ctx, `\.ratelimit\.(ok|error|over_limit|failure_mode_allowed)$`)
	if err != nil {
		return a, fmt.Errorf("ratelimit: %w", err)
	}
	for name, n := range stats {
		if strings.HasSuffix(name, ".ok") {
			a.OK += n
		} else {
			a.Failed += n
		}
	}
	return a, nil
}
