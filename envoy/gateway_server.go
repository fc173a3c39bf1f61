package envoy

import (
	"slices"
	"strings"
)

// gatewayServerSettings are the settings of the way to the server, as extProcCluster and retryServer
// have them. Envoy Gateway takes no predicate of hosts for a second try: with several servers the
// next in turn is another one.
func (s settings) gatewayServerSettings() object {
	retry := retryServer()
	settings := object{
		{key: "timeout", value: object{{key: "tcp", value: object{{key: "connectTimeout", value: connectTimeout}}}}},
		{
			key: "retry", comment: "An exchange that could not begin at a server, which has seen nothing of it, begins at another, or again.",
			value: object{
				{key: "numRetries", value: int(retry.NumRetries.GetValue())},
				{key: "retryOn", value: object{{key: "triggers", value: texts(slices.Collect(strings.SplitSeq(retry.RetryOn, ",")))}}},
				{key: "perRetry", value: object{{key: "backOff", value: object{ // Envoy Gateway wants both or none
					{key: "baseInterval", value: retry.RetryBackOff.BaseInterval.AsDuration()},
					{key: "maxInterval", value: retry.RetryBackOff.MaxInterval.AsDuration()},
				}}}},
			},
		},
		manyStreams(field{key: "maxParallelRetries", value: maxStreams}),
		{
			key: "http2", comment: "Notices a dead server; nothing else does while an answer is running.",
			value: object{{key: "connectionKeepalive", value: object{{key: "interval", value: keepalive}, {key: "timeout", value: keepalive / 2}}}}, // which must be shorter
		},
		{
			key: "loadBalancer", value: object{{key: "type", value: "RoundRobin"}},
			comment: "Envoy Gateway's default, the fewest open requests, would choose the server that is gone.",
		},
	}
	if len(s.servers) > 1 {
		settings = append(settings, field{
			key: "healthCheck", comment: "A server that is about to go says so here, and gets nothing new. If none is healthy, any is tried.",
			value: object{
				{key: "active", value: object{
					{key: "type", value: "GRPC"},
					{key: "interval", value: healthInterval},
					{key: "timeout", value: healthInterval},
					{key: "unhealthyThreshold", value: 2},
					{key: "healthyThreshold", value: 1},
				}},
				{key: "panicThreshold", value: 1},
			},
		})
	}
	return settings
}
