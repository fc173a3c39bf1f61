package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Filter returns the ext_proc filter. It calls the cluster [ExtProcCluster] and
// works only together with the settings of [FilterYAML]. The error names every
// mistake in the options.
func Filter(opts Options) (*hcmv3.HttpFilter, error) {
	s, err := opts.resolve(false)
	if err != nil {
		return nil, err
	}
	return s.filter()
}

func (s settings) filter() (*hcmv3.HttpFilter, error) {
	config, err := anypb.New(s.externalProcessor())
	if err != nil {
		return nil, err
	}
	return &hcmv3.HttpFilter{Name: FilterName, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}}, nil
}

func (s settings) externalProcessor() *extprocv3.ExternalProcessor {
	p := &extprocv3.ExternalProcessor{
		GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ExtProcCluster}},
			RetryPolicy:     retryServer(),
		},
		FailureModeAllow: s.FailOpen,
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode:   extprocv3.ProcessingMode_SEND,
			RequestBodyMode:     extprocv3.ProcessingMode_BUFFERED,
			RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
			ResponseHeaderMode:  extprocv3.ProcessingMode_SEND,
			ResponseBodyMode:    extprocv3.ProcessingMode_FULL_DUPLEX_STREAMED,
			ResponseTrailerMode: extprocv3.ProcessingMode_SEND,
		},
		MessageTimeout: durationpb.New(s.MessageTimeout),
		StatPrefix:     StatPrefix,
		MetadataOptions: &extprocv3.MetadataOptions{
			ForwardingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{JWTNamespace}},
			ReceivingNamespaces:  &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{MetadataNamespace}},
		},
	}
	if s.MaxMessageTimeout > 0 {
		p.MaxMessageTimeout = durationpb.New(s.MaxMessageTimeout)
	}
	return p
}
