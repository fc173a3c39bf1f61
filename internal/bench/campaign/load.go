package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/tokenbudget/tokenbudget/internal/bench/load"
)

// withServer builds the server's program for f.
func withServer(ctx context.Context, f func(binary string) (string, error)) (table string, err error) {
	dir, err := os.MkdirTemp("", "tokenbudget-campaign-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := load.Build(ctx, dir)
	if err != nil {
		return "", err
	}
	return f(binary)
}

// streams has many streams open at the same time, on both roads.
func streams(ctx context.Context, o options) (string, error) {
	return withServer(ctx, func(binary string) (string, error) {
		t := newTable("road", "streams open", "cut", "left", "finished", "events", "faults of the ledger", "memory each", "of it live", "s")
		for _, envoy := range []bool{false, true} {
			r, err := load.Streams(ctx, load.StreamsOptions{Binary: binary, Streams: o.streams, Envoy: envoy, Logf: logf})
			if err != nil {
				return "", err
			}
			n := func(n int64) string { return thousands(strconv.FormatInt(n, 10)) }
			kib := func(n int64) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }
			t.row(map[bool]string{false: "gRPC", true: "Envoy"}[envoy], n(r.Streams), n(r.Cut), n(r.Aborted), n(r.Finished), n(r.Events), "0",
				kib(r.PerStream()), kib(r.LivePerStream()), seconds(r.Took))
		}
		return t.done()
	})
}
