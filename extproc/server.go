package extproc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// Options are what a server is made of.
type Options struct {
	Ledger  *budget.Ledger // required
	Policy  exchange.Policy
	Log     *zap.Logger // required
	Metrics *Metrics    // nil: none

	// ExchangeTimeout is the longest that one exchange may last; 0: DefaultExchangeTimeout.
	ExchangeTimeout time.Duration
	// IdleTimeout is the longest that a stream may be silent once it has begun, and that a
	// request's body may take to come; 0: DefaultIdleTimeout.
	IdleTimeout time.Duration
	// TLS is the listener's; nil: cleartext. It must offer the protocol h2 (ALPN).
	TLS *tls.Config
	// DrainTimeout is how long open streams may go on after Serve's context has
	// ended; then they are cut. 0: DefaultDrainTimeout; negative: not at all.
	DrainTimeout time.Duration
	// DrainDelay is for how much of the drain timeout new connections and exchanges are still
	// taken, until who balances the load has noticed that the server is going; 0: not at all.
	DrainDelay time.Duration
	// ConnectionAge is after what time, give or take a tenth, a connection is told that the next
	// exchange should begin on another one; 0: never.
	ConnectionAge time.Duration
	// Overload says when new exchanges are turned away.
	Overload Overload
}

// The defaults of [Options].
const (
	DefaultExchangeTimeout = 30 * time.Minute
	DefaultIdleTimeout     = 5 * time.Minute
	DefaultDrainTimeout    = 25 * time.Second
)

// handshakeTimeout is how long a new connection may take until it speaks HTTP/2.
const handshakeTimeout = 10 * time.Second

// Windows of HTTP/2, in bytes: how much of one exchange, and of all on a connection, may
// be on its way from Envoy. They do not change: to find out what a connection can carry,
// gRPC would send a ping with nearly every message. A larger body only takes a few turns
// more; its own window is widened to its length.
const (
	streamWindow = 1 << 20
	connWindow   = 8 << 20
)

// cutGrace is how long a cut exchange waits for Envoy to end the gRPC stream.
// Envoy takes milliseconds.
const cutGrace = 2 * time.Second

// Server answers Envoy's ext_proc filter. It is safe for concurrent use.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	opts     Options
	settings atomic.Pointer[settings]
	drain    chan struct{} // closed when open streams are to end
	grace    time.Duration // cutGrace, but for tests
	atHand   time.Duration // atHand, but for tests

	receivers *receivers
	overload  *overload

	draining chan struct{} // closed when the drain begins and its delay is over
	waiting  waiting
	degraded degraded
}

// New returns a server.
func New(opts Options) *Server {
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	s := &Server{opts: opts, grace: cutGrace, atHand: atHand, draining: make(chan struct{}), drain: make(chan struct{}), receivers: newReceivers(), overload: newOverload()}
	s.Set(Settings{opts.Policy, opts.ExchangeTimeout, opts.IdleTimeout, opts.DrainTimeout, opts.DrainDelay, opts.Overload})
	return s
}

// Serve answers on lis until ctx ends, and then drains: new streams go elsewhere
// (health turns to NOT_SERVING, after the drain delay connections are told to close),
// open ones finish or, after the drain timeout, are cut. If lis fails, it drains, too,
// and returns the error. It owns lis, and is to be called once.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	opts := []grpc.ServerOption{
		// A body beyond the policy's limit must reach the state machine, which
		// answers 413; a gRPC error would come out as a 500.
		grpc.MaxRecvMsgSize(int(min(2*s.settings.Load().policy.MaxRequest, 1<<30)) + 1<<20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
			// No grace is set, so that gRPC waits for the streams of an old connection however long
			// they last: each has its deadlines, which may be raised while the server runs.
			MaxConnectionAge: s.opts.ConnectionAge,
		}),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		experimental.BufferPool(&pooled),
	}
	if s.opts.TLS != nil {
		opts = append(opts, grpc.Creds(newTransport(s.opts.TLS, s.opts.Log)))
	}
	g := grpc.NewServer(opts...)
	extprocv3.RegisterExternalProcessorServer(g, own{s})
	health := newHealthService()
	healthv1.RegisterHealthServer(g, health)
	reflection.Register(g)

	endBackground := s.keepBackground()
	connections := &connections{Listener: lis, open: s.opts.Metrics.conns}
	served := make(chan error, 1)
	go func() { served <- g.Serve(connections) }()
	var failed error
	select {
	case failed = <-served:
		// Nobody new can come, but what is under way goes on, and uses the ledger.
		s.opts.Log.Error("no connection can be accepted any more", zap.Error(failed))
	case <-ctx.Done():
	}

	health.Shutdown()
	settings := s.settings.Load()
	delay := min(settings.delay, settings.drain)
	s.opts.Log.Info("draining", zap.Duration("delay", max(delay, 0)), zap.Duration("timeout", settings.drain))
	end := time.Now().Add(settings.drain)
	if failed == nil {
		connections.linger(delay)
	}
	close(s.draining)
	stopped := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(stopped)
	}()
	if !wait(stopped, time.Until(end)) {
		close(s.drain)
		if !wait(stopped, 2*s.grace) {
			g.Stop()
			<-stopped
		}
	}
	s.receivers.close()
	s.receivers.wait()
	endBackground()
	if failed != nil {
		return failed
	}
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// wait waits for c, and reports whether it came within d.
func wait(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}
