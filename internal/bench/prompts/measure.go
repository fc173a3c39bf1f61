package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// row is one line of the table.
type row struct {
	name    string
	size    int     // of a request's body, in bytes
	target  float64 // of tokenbudget's requests/s in terms of the other's
	prompts func(*requests.Source) requests.Requests
}

func rows() []row {
	coldRow := func(name string, size int, target float64) row {
		return row{name: name, size: size, target: target, prompts: func(s *requests.Source) requests.Requests { return requests.NewCold(s, size) }}
	}
	const k = 1 << 10
	return []row{
		coldRow("2 KB", 2*k, 0.85),
		coldRow("16 KB", 16*k, 0.6),
		coldRow("256 KB", 256*k, 0.2),
		{name: "256 KB, seen conversation", size: 256 * k, target: 0.6, prompts: func(s *requests.Source) requests.Requests { return requests.NewConversations(s, 256*k) }},
	}
}

// turn is what one turn of a server has shown.
type turn struct {
	rate      float64 // requests/s
	serverCPU float64 // seconds of CPU per request; NaN if that is not known
	envoyCPU  float64 // the same
	allCPU    float64 // the same, with clients and upstream
}

// result is a row measured: the turns of both servers, in pairs.
type result struct {
	row
	noop, ours []turn
}

// measure measures a row.
func (s *scene) measure(ctx context.Context, r row) (result, error) {
	res := result{row: r}
	sides := []struct {
		*stage.Side
		load *load
		out  *[]turn
	}{{s.noop, nil, &res.noop}, {s.ours, nil, &res.ours}}
	for i := range sides {
		// The same seeds: both servers are asked the same. Neither sees what the
		// other is asked.
		lib := requests.NewLibrary(uint64(r.size))
		var each []requests.Requests
		for c := range s.opts.connections {
			each = append(each, r.prompts(lib.NewSource(uint64(c+1))))
		}
		var err error
		if sides[i].load, err = newLoad(ctx, sides[i].Addr, each); err != nil {
			return res, err
		}
		defer sides[i].load.close()
		// Every conversation is seen before the first turn, however slow that is.
		for range requests.Parallelism {
			if _, _, err := sides[i].load.run(ctx, 0); err != nil {
				return res, fmt.Errorf("%s: %w", sides[i].Name, err)
			}
		}
	}
	for round := range s.opts.rounds + 1 {
		fmt.Fprintf(os.Stderr, "\r%-28s %d/%d", r.name, round, s.opts.rounds)
		for _, d := range sides {
			t, err := runTurn(ctx, d.Side, d.load, s.opts.turn)
			if err != nil {
				return res, fmt.Errorf("%s: %w", d.Name, err)
			}
			if round > 0 { // the first is to warm up
				*d.out = append(*d.out, t)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return res, nil
}

// runTurn loads a side for some time.
func runTurn(ctx context.Context, d *stage.Side, l *load, length time.Duration) (t turn, err error) {
	before, err := d.Exchanges(ctx)
	if err != nil {
		return t, err
	}
	server, proxy, self := bench.CPU(d.Server.PID()), bench.CPU(d.Envoy.PID()), bench.CPU(os.Getpid())
	n, took, err := l.run(ctx, length)
	if err != nil {
		return t, err
	}
	t.rate = float64(n) / took.Seconds()
	t.serverCPU = (bench.CPU(d.Server.PID()) - server) / float64(n)
	t.envoyCPU = (bench.CPU(d.Envoy.PID()) - proxy) / float64(n)
	t.allCPU = t.serverCPU + t.envoyCPU + (bench.CPU(os.Getpid())-self)/float64(n)
	after, err := d.Exchanges(ctx)
	if err == nil && (after.Started-before.Started != uint64(n) || after.Failed != before.Failed) {
		err = fmt.Errorf("of %d requests the server was asked about %d, and %d failed", n, after.Started-before.Started, after.Failed-before.Failed)
	}
	return t, err
}

// ratios are tokenbudget's figures in terms of the other's, by round, sorted.
func (r result) ratios(of func(turn) float64) []float64 {
	all := make([]float64, len(r.ours))
	for i := range all {
		all[i] = of(r.ours[i]) / of(r.noop[i])
	}
	slices.Sort(all)
	return all
}

// median of one figure of some turns.
func median(turns []turn, of func(turn) float64) float64 {
	all := make([]float64, len(turns))
	for i, t := range turns {
		all[i] = of(t)
	}
	slices.Sort(all)
	return all[len(all)/2]
}
