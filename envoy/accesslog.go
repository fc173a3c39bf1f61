package envoy

import (
	"maps"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// meteredFields are what the server says about an exchange: keys of its dynamic
// metadata, logged under the same names. A cut shows nowhere else: to Envoy it is
// a 200 like any other.
var meteredFields = []string{
	"api", "model", "stream", "outcome", "limit",
	"input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "input_source", "output_source",
	"truncated_messages", "throttled_ms", "shadow", "background", "degraded", "held", "ttft_ms",
}

// envoyFields are what Envoy itself knows. The path goes without the query, in
// which some APIs carry the key.
var envoyFields = map[string]string{
	"ts":                  "%START_TIME%",
	"request_id":          "%REQ(X-REQUEST-ID)%",
	"upstream_request_id": "%RESP(X-REQUEST-ID)%",
	"client":              "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
	"protocol":            "%PROTOCOL%",
	"method":              "%REQ(:METHOD)%",
	"path":                "%PATH(NQ:PATH)%",
	"status":              "%RESPONSE_CODE%",
	"details":             "%RESPONSE_CODE_DETAILS%",
	"flags":               "%RESPONSE_FLAGS%",
	"upstream":            "%UPSTREAM_HOST%",
	"bytes_in":            "%BYTES_RECEIVED%",
	"bytes_out":           "%BYTES_SENT%",
	"duration_ms":         "%DURATION%",
}

// logFields are the fields of the access log, and the operators that fill them.
func (s settings) logFields() map[string]string {
	fields := maps.Clone(envoyFields)
	for _, name := range slices.Concat(s.Identities, meteredFields) {
		if _, taken := envoyFields[name]; !taken {
			fields[name] = "%DYNAMIC_METADATA(" + MetadataNamespace + ":" + name + ")%"
		}
	}
	return fields
}

// accessLog is one JSON line for each exchange on stdout. Fields without a value
// are left out.
func (s settings) accessLog() ([]*accesslogv3.AccessLog, error) {
	if !s.AccessLog {
		return nil, nil
	}
	fields := map[string]*structpb.Value{}
	for name, operator := range s.logFields() {
		fields[name] = structpb.NewStringValue(operator)
	}
	config, err := anypb.New(&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{
		LogFormat: &corev3.SubstitutionFormatString{
			Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
			OmitEmptyValues: true,
		},
	}})
	return []*accesslogv3.AccessLog{{
		Name:       "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: config},
	}}, err
}
