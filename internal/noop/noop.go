// Package noop is an ext_proc server that decides nothing: the request's body
// comes buffered and goes on unchanged, every piece of the answer goes back as it
// came. Benchmarks measure tokenbudget beside it, with the same configuration of
// Envoy, so that what remains is the price of counting and deciding.
//
//	err := noop.Serve(ctx, lis)
//
// It is meant to be hard to beat by what is written with go-control-plane and gRPC as
// they are. It speaks as few messages as Envoy allows, one for each of Envoy's,
// allocates nothing for its answers, needs one goroutine for an exchange, which is
// gRPC's own, and has the windows of HTTP/2 that tokenbudget has.
//
// # Caveats
//
//   - It is for request_body_mode BUFFERED and response_body_mode
//     FULL_DUPLEX_STREAMED, as package envoy renders them. With others Envoy
//     takes its answers for mistakes.
//   - It logs nothing, and has neither health service, nor deadlines, nor a drain.
package noop

import (
	"context"
	"errors"
	"net"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// maxMessage bounds what is received, in bytes: the largest body that Envoy
// buffers by default, and room for the rest of its message.
const maxMessage = 17 << 20

// Windows of HTTP/2, in bytes. That they are fixed saves gRPC's pings, by which it finds
// out what a connection can carry: a fifth of the server's CPU with paced streams.
const (
	streamWindow = 1 << 20
	connWindow   = 8 << 20
)

// Serve answers on lis until ctx ends; open exchanges are broken off then. It owns
// lis. The error is that of the listener.
func Serve(ctx context.Context, lis net.Listener) error {
	// Else Envoy, which pings every two seconds, is taken for a flood where nothing else is said for eight.
	pings := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow), pings)
	extprocv3.RegisterExternalProcessorServer(g, Server{})
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Server answers every message of Envoy's with leave to go on.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
}

// The answers that never differ. gRPC only reads what it sends.
var (
	requestHeaders = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{},
	}}
	requestBody = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{
		RequestBody: &extprocv3.BodyResponse{},
	}}
	requestTrailers = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{
		RequestTrailers: &extprocv3.TrailersResponse{},
	}}
	responseHeaders = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{},
	}}
	responseTrailers = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{
		ResponseTrailers: &extprocv3.TrailersResponse{},
	}}
)

// Process serves one exchange. It returns after the answer's end, or when Envoy
// has given the exchange up.
func (Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	var m extprocv3.ProcessingRequest
	var piece extprocv3.StreamedBodyResponse
	responseBody := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
		ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
			Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &piece},
		}}},
	}}
	for {
		if err := stream.RecvMsg(&m); err != nil {
			return nil //nolint:nilerr // the end, or somebody left; Envoy has no use for an answer
		}
		var answer *extprocv3.ProcessingResponse
		var last bool
		switch r := m.GetRequest().(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			answer = requestHeaders
		case *extprocv3.ProcessingRequest_RequestBody:
			answer = requestBody
		case *extprocv3.ProcessingRequest_RequestTrailers:
			answer = requestTrailers
		case *extprocv3.ProcessingRequest_ResponseHeaders:
			answer, last = responseHeaders, r.ResponseHeaders.GetEndOfStream()
		case *extprocv3.ProcessingRequest_ResponseBody:
			piece.Body, piece.EndOfStream = r.ResponseBody.GetBody(), r.ResponseBody.GetEndOfStream()
			answer, last = responseBody, piece.EndOfStream
		case *extprocv3.ProcessingRequest_ResponseTrailers:
			answer, last = responseTrailers, true
		default:
			return status.Error(codes.InvalidArgument, "a message of an unknown kind")
		}
		if err := stream.Send(answer); err != nil || last {
			return err
		}
	}
}
