package main

import (
	"context"
	"math"
	"os"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// figure is something that a turn has shown.
type figure int

// Times are in seconds, and processor time is that of whole exchanges, divided by requests or by chunks.
const (
	requestRate figure = iota // a second
	chunkRate                 // a second
	requestP50                // of a request, until all of its answer is there
	requestP99
	firstP50 // of a request, until the first chunk
	firstP99
	chunkP50 // of a chunk, from the upstream to the client
	chunkP99
	requestServer // CPU for each request
	requestStore
	requestEnvoy
	requestClients
	requestUpstream
	chunkServer // CPU for each chunk
	chunkStore
	chunkEnvoy
	chunkClients
	chunkUpstream
	chunkMessages // that Envoy and the server exchange for each chunk, both ways
	figures       // how many there are
)

// turn is what one turn of a side has shown; NaN for what is not known or makes no sense.
type turn [figures]float64

// usage is the processor time of all processes of a side so far, in seconds.
type usage struct{ server, store, envoy, clients, upstream float64 }

func (s *scene) usage(d *side) usage {
	u := usage{server: math.NaN(), store: math.NaN(), envoy: math.NaN(), clients: bench.CPU(os.Getpid()), upstream: bench.CPU(s.upstream.PID())}
	if d.Envoy != nil {
		u.envoy = bench.CPU(d.Envoy.PID())
	}
	if d.Server != nil {
		u.server = bench.CPU(d.Server.PID())
	}
	if d.Store != nil {
		u.store = bench.CPU(d.Store.PID())
	}
	return u
}

// turn has a side's clients ask for some time, and checks that everything has gone its way.
func (s *scene) turn(ctx context.Context, d *side, all clients, length time.Duration) (t turn, err error) {
	check, err := s.newCheck(ctx, d)
	if err != nil {
		return t, err
	}
	before := s.usage(d)
	took, err := all.run(ctx, length)
	if err != nil {
		return t, err
	}
	after := s.usage(d)

	var n, pieces int
	var prompt int64
	var durations, firsts, ways []int64
	for _, c := range all {
		n += c.asked
		prompt += c.prompt
		durations = append(durations, c.duration...)
		firsts = append(firsts, c.first...)
		if c.stream != nil {
			pieces += len(c.stream.Took)
			ways = append(ways, c.stream.Took...)
		}
	}
	did, err := check.done(ctx, n, pieces, prompt)
	if err != nil {
		return t, err
	}

	t[requestRate] = float64(n) / took.Seconds()
	t[requestP50], t[requestP99] = quantiles(durations)
	t[firstP50], t[firstP99] = quantiles(firsts)
	t[chunkP50], t[chunkP99] = quantiles(ways)
	spent := usage{after.server - before.server, after.store - before.store, after.envoy - before.envoy, after.clients - before.clients, after.upstream - before.upstream}
	for i, of := range []float64{spent.server, spent.store, spent.envoy, spent.clients, spent.upstream} {
		t[requestServer+figure(i)] = of / float64(n)
		t[chunkServer+figure(i)] = math.NaN()
		if pieces > 0 {
			t[chunkServer+figure(i)] = of / float64(pieces)
		}
	}
	t[chunkRate], t[chunkMessages] = math.NaN(), math.NaN()
	if pieces > 0 {
		t[chunkRate] = float64(pieces) / took.Seconds()
		if did.Sent > 0 {
			t[chunkMessages] = float64(did.Sent+did.Received) / float64(pieces)
		}
	}
	return t, nil
}

// quantiles are the median and the 99th percentile of nanoseconds, in seconds; NaN of none.
func quantiles(nanos []int64) (p50, p99 float64) {
	if len(nanos) == 0 {
		return math.NaN(), math.NaN()
	}
	return float64(bench.Quantile(nanos, 0.5)) / 1e9, float64(bench.Quantile(nanos, 0.99)) / 1e9
}

// of reads a figure from a turn, for what compares turns.
func (f figure) of(t turn) float64 { return t[f] }

// chunkRoad is the CPU of Envoy and server together for each chunk, requestRoad for each request.
func chunkRoad(t turn) float64   { return t[chunkServer] + t[chunkEnvoy] }
func requestRoad(t turn) float64 { return t[requestServer] + t[requestEnvoy] }
