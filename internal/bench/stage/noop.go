package stage

import (
	"context"
	"net"

	"github.com/tokenbudget/tokenbudget/internal/noop"
)

// ServeNoop is the child process that does nothing (package noop).
func ServeNoop(ctx context.Context) error {
	ctx, stop := Parent(ctx)
	defer stop()
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	Tell(lis.Addr().String())
	return noop.Serve(ctx, lis)
}

// ServeUpstream is the child process that is an upstream.
func ServeUpstream(ctx context.Context) error {
	ctx, stop := Parent(ctx)
	defer stop()
	u, err := StartUpstream(ctx)
	if err != nil {
		return err
	}
	Tell(u.Addr())
	<-ctx.Done()
	return u.Close()
}
