package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// The servers, by the name that -child takes.
const (
	doesNothing = "noop"
	ours        = "tokenbudget"
)

// beServer is the child process: it serves, tells its address in a line on standard
// output, and ends when standard input does, which it does with its parent.
func beServer(ctx context.Context, o options) (err error) {
	if o.child == doesNothing {
		return stage.ServeNoop(ctx)
	}
	ctx, stop := stage.Parent(ctx)
	defer stop()
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, f.Close())
		}()
	}
	if o.child == ours {
		return serveOurs(ctx, lis)
	}
	return fmt.Errorf("-child %q: use %s or %s", o.child, doesNothing, ours)
}

// serveOurs is tokenbudget as its serve command runs it, but for the log's
// destination and the store.
func serveOurs(ctx context.Context, lis net.Listener) (err error) {
	const plenty = 1 << 50
	ledger, err := budget.New(ctx, budget.Options{Limits: []budget.Limit{
		{Name: "org-month", Amount: plenty, Period: budget.Month},
		{Name: "team-day", Per: []string{"team"}, Amount: plenty, Period: budget.Day},
		{Name: "user-minute", Per: []string{"user"}, Amount: plenty, Period: budget.Minute},
		{Name: "user-requests", Per: []string{"user"}, Unit: budget.Requests, Amount: plenty, Period: budget.Minute},
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close(context.WithoutCancel(ctx))) }()
	if _, err := tokens.Get("o200k_base"); err != nil {
		return err
	}
	memo, err := count.NewMemo(count.DefaultMemo)
	if err != nil {
		return err
	}
	defer memo.Close()
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	server := extproc.New(extproc.Options{
		Ledger:  ledger,
		Log:     zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(zapcore.AddSync(io.Discard)), zap.InfoLevel)),
		Metrics: extproc.NewMetrics(prometheus.NewRegistry()),
		Policy: exchange.Policy{Identities: []exchange.Identity{
			{Name: "team", Sources: []exchange.Source{{Header: "x-team"}}},
			{Name: "user", Sources: []exchange.Source{{Header: "x-user"}}},
		}, Count: count.New(count.Options{Factors: new(count.Factors), Memo: memo})},
		DrainTimeout: time.Second,
	})
	ran := make(chan error, 1)
	go func() { ran <- ledger.Run(ctx) }()
	defer func() { err = errors.Join(err, <-ran) }()
	stage.Tell(lis.Addr().String())
	return server.Serve(ctx, lis)
}
