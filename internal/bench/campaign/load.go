package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

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
			kib := func(n int64) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }
			t.row(map[bool]string{false: "gRPC", true: "Envoy"}[envoy], number(r.Streams), number(r.Cut), number(r.Aborted), number(r.Finished), number(r.Events), "0",
				kib(r.PerStream()), kib(r.LivePerStream()), seconds(r.Took))
		}
		return t.done()
	})
}

// soak keeps a server busy for a long time.
func soak(ctx context.Context, o options) (string, error) {
	return withServer(ctx, func(binary string) (string, error) {
		seed := uint64(time.Now().UnixNano())
		r, err := load.Soak(ctx, load.SoakOptions{Binary: binary, Lasts: o.soak, Sample: min(5*time.Second, o.soak/20), Seed: seed, Logf: logf})
		if err != nil {
			return "", fmt.Errorf("seed %d: %w", seed, err)
		}
		return soakTable(r)
	})
}

func soakTable(r *load.SoakResult) (string, error) {
	t := newTable("the server's", "first quarter", "second", "third", "last", "an hour more")
	for _, m := range load.Measures {
		cells := []string{m.Name}
		for q := range 4 {
			cells = append(cells, fmt.Sprintf("%.0f", m.Quarter(r.Samples, q)))
		}
		t.row(append(cells, fmt.Sprintf("%+.1f", m.PerHour(r.Samples)))...)
	}
	table, err := t.done()
	var all int64
	var kinds []string
	for _, name := range slices.Sorted(maps.Keys(r.Exchanges)) {
		all += r.Exchanges[name]
		kinds = append(kinds, name+" "+number(r.Exchanges[name]))
	}
	return fmt.Sprintf("%s, %s exchanges: %s. The file changed %d times, Envoy was started again %d times.\n\n"+
		"Of exchanges whose cost is known beforehand %s to %s tokens reached the server, and %s were charged; of the others %s, within their bounds. "+
		"Nothing was held at the end.\n\n%s", r.Took.Round(time.Second), number(all), strings.Join(kinds, ", "), r.Reloads, r.Restarts,
		number(r.Exact.Least), number(r.Exact.Most), number(r.Exact.Charged), number(r.Loose.Charged), table), err
}

func number(n int64) string { return thousands(strconv.FormatInt(n, 10)) }
