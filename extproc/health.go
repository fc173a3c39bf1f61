package extproc

import (
	"context"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// healthService is gRPC's health service (grpc/doc/health-checking.md): the server
// as a whole, and ext_proc, serve until the drain. A watch ends with the first
// status that is not SERVING: no other one will follow, and a drain, which waits for
// all streams, would wait for it.
type healthService struct{ *health.Server }

func newHealthService() healthService {
	s := health.NewServer()
	s.SetServingStatus(extprocv3.ExternalProcessor_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	return healthService{s}
}

// Watch implements [healthv1.HealthServer].
func (s healthService) Watch(q *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	return s.Server.Watch(q, &watch{Health_WatchServer: stream, ctx: ctx, cancel: cancel})
}

// watch is a stream that ends itself.
type watch struct {
	healthv1.Health_WatchServer
	ctx    context.Context
	cancel context.CancelFunc
}

func (w *watch) Context() context.Context { return w.ctx }

func (w *watch) Send(m *healthv1.HealthCheckResponse) error {
	if m.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		defer w.cancel()
	}
	return w.Health_WatchServer.Send(m)
}
