package envoy

import (
	"bytes"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	grpckeepalive "google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/structpb"
)

// stub is the smallest ext_proc server that shows whether the configuration
// works: it lets requests pass, cuts streams after some events, and says so in
// its metadata.
type stub struct {
	extprocv3.UnimplementedExternalProcessorServer
	cutAfter int // events; 0 for never

	mu      sync.Mutex
	headers map[string]string // of the last request
	body    int               // bytes of its body
}

const closing = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"

// serve returns the host:port of the stub's gRPC server.
func (s *stub) serve(t *testing.T, opts ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// As the server's own: else Envoy's pings are taken for a flood.
	pings := grpc.KeepaliveEnforcementPolicy(grpckeepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})
	server := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(64<<20), pings)...)
	extprocv3.RegisterExternalProcessorServer(server, s)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return listener.Addr().String()
}

func (s *stub) seen() (map[string]string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.headers), s.body
}

func (s *stub) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	events := 0
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil // Envoy has no more to say: the end, or somebody left
		}
		resp := &extprocv3.ProcessingResponse{}
		switch m := req.Request.(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			s.mu.Lock()
			s.headers = map[string]string{}
			for _, h := range m.RequestHeaders.Headers.Headers {
				s.headers[h.Key] = h.Value + string(h.RawValue)
			}
			s.mu.Unlock()
			resp.Response = &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}}
		case *extprocv3.ProcessingRequest_RequestBody:
			s.mu.Lock()
			s.body = len(m.RequestBody.Body)
			s.mu.Unlock()
			resp.Response = &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{}}
		case *extprocv3.ProcessingRequest_ResponseHeaders:
			resp.Response = &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}}
		case *extprocv3.ProcessingRequest_ResponseBody:
			body, end := m.ResponseBody.Body, m.ResponseBody.EndOfStream
			events += bytes.Count(body, []byte("\n\n"))
			resp.DynamicMetadata = verdict("completed", events)
			if s.cutAfter > 0 && events >= s.cutAfter {
				body, end = append(body, closing...), true
				resp.DynamicMetadata = verdict("cut", events)
			}
			resp.Response = &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: streamed(body, end)}
			if end {
				if err := stream.Send(resp); err != nil {
					return err
				}
				<-stream.Context().Done()
				return nil
			}
		case *extprocv3.ProcessingRequest_ResponseTrailers:
			resp.Response = &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func streamed(body []byte, end bool) *extprocv3.BodyResponse {
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: body, EndOfStream: end}},
	}}}
}

// verdict is metadata as the server gives it.
func verdict(outcome string, output int) *structpb.Struct {
	fields := map[string]*structpb.Value{
		"outcome":       structpb.NewStringValue(outcome),
		"limit":         structpb.NewStringValue("team-day"),
		"team":          structpb.NewStringValue("search"),
		"output_tokens": structpb.NewNumberValue(float64(output)),
		"stream":        structpb.NewBoolValue(true),
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		MetadataNamespace: structpb.NewStructValue(&structpb.Struct{Fields: fields}),
	}}
}
