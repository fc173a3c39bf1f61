package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// startTimeout is how long all servers and Envoys may take to be ready.
const startTimeout = 3 * time.Minute

// The roads that are compared, by the names in the tables.
const (
	direct    = "direct"
	alone     = "Envoy alone"
	noop      = "does nothing"
	ours      = "tokenbudget"
	theBefore = "before"
)

// scene is all that runs during a measurement.
type scene struct {
	upstream     *stage.Process
	upstreamAddr string
	sides        []*side
	dirs         []string
}

// side is a road, and the server at it if it is tokenbudget.
type side struct {
	*stage.Side
	server *stage.Tokenbudget // nil for the others
	logged int64              // how far its log has been read
}

// binaries are what is measured.
type binaries struct{ ours, before string }

// newScene starts the sides: these names, in this order.
func newScene(ctx context.Context, b binaries, names []string) (s *scene, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s = new(scene)
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.close())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	if s.upstream, s.upstreamAddr, err = stage.StartChild(ctx, childUpstream, self, "-child", childUpstream); err != nil {
		return s, err
	}
	for _, name := range names {
		if err := s.add(ctx, name, self, b); err != nil {
			return s, err
		}
	}
	return s, nil
}

// add starts a side.
func (s *scene) add(ctx context.Context, name, self string, b binaries) error {
	url := "http://" + s.upstreamAddr
	d := new(side)
	var err error
	switch name {
	case direct:
		d.Side = &stage.Side{Name: name, Addr: s.upstreamAddr}
	case alone:
		d.Side, err = stage.NewSide(ctx, name, url, nil, "")
	case noop:
		server, addr, startErr := stage.StartChild(ctx, name, self, "-child", childNoop)
		if startErr != nil {
			return startErr
		}
		d.Side, err = stage.NewSide(ctx, name, url, server, addr)
	default:
		binary := b.ours
		if name == theBefore {
			binary = b.before
		}
		dir, dirErr := os.MkdirTemp("", "tokenbudget-bench-")
		if dirErr != nil {
			return dirErr
		}
		s.dirs = append(s.dirs, dir)
		if d.server, err = stage.StartTokenbudget(ctx, name, binary, dir); err != nil {
			return err
		}
		d.Side, err = stage.NewSide(ctx, name, url, d.server.Process, d.server.ExtProc)
	}
	if err != nil {
		return err
	}
	s.sides = append(s.sides, d)
	return nil
}

func (s *scene) close() (err error) {
	for _, d := range s.sides {
		err = errors.Join(err, d.Close())
	}
	err = errors.Join(err, s.upstream.Close())
	for _, dir := range s.dirs {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// turn is what one turn of a side has shown. Times are in seconds; what is not known is NaN.
type turn struct {
	requests, chunks         float64 // a second
	durationP50, durationP99 float64 // of a request
	firstP50, firstP99       float64 // until the first chunk
	chunkP50, chunkP99       float64 // of a chunk, from the upstream to the client
	// CPU for each request, and for each chunk of a stream (with what its requests take besides).
	requestServer, requestEnvoy, requestClients, requestUpstream float64
	chunkServer, chunkEnvoy, chunkClients, chunkUpstream         float64
}

// chunkRoad is the CPU of Envoy and server together for each chunk.
func (t turn) chunkRoad() float64 { return t.chunkServer + t.chunkEnvoy }

// result is a cell that was measured: the turns of each side, by its name. Turns with the same index are neighbours.
type result struct {
	cell
	turns map[string][]turn
}

// report is all that a run has found.
type report struct {
	opts    options
	names   []string // of the sides
	results []result
	memory  []memory
	took    time.Duration
}

// measure measures everything that is asked for.
func measure(ctx context.Context, o options) (r *report, err error) {
	start := time.Now()
	r = &report{opts: o, names: []string{direct, alone, noop, ours}}
	if o.against != "" {
		r.names = []string{theBefore, ours}
	}
	b := binaries{ours: o.binary, before: o.against}
	if b.ours == "" {
		dir, err := os.MkdirTemp("", "tokenbudget-bench-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		progress("building tokenbudget")
		if b.ours, err = stage.Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	if o.streams > 0 && o.wants(memoryName) {
		if r.memory, err = measureMemory(ctx, o, b, slices.DeleteFunc(slices.Clone(r.names), func(n string) bool { return n == direct })); err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
	}
	all := slices.DeleteFunc(cells(), func(c cell) bool { return !o.wants(c.String()) })
	if len(all) == 0 && r.memory == nil {
		return nil, fmt.Errorf("-only %q: no cell has that in its name", o.only)
	}
	if len(all) > 0 {
		progress("starting servers and Envoys")
		s, err := newScene(ctx, b, r.names)
		if err != nil {
			return nil, err
		}
		lib := requests.NewLibrary(1)
		for i, c := range all {
			res, err := s.measure(ctx, o, lib, c, fmt.Sprintf("%d/%d %s", i+1, len(all), c))
			if err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", c, err), s.close())
			}
			r.results = append(r.results, res)
		}
		if err := s.close(); err != nil {
			return nil, err
		}
	}
	r.took = time.Since(start)
	progress(fmt.Sprintf("done, after %v", r.took.Round(time.Second)))
	fmt.Fprintln(os.Stderr)
	return r, nil
}

// progress says what is going on.
func progress(what string) { fmt.Fprintf(os.Stderr, "\r%-64s", what) }

// measure measures a cell. The sides take turns, in one order and then in the other, so that each pair of
// neighbours comes in both.
func (s *scene) measure(ctx context.Context, o options, lib *requests.Library, c cell, title string) (result, error) {
	res := result{cell: c, turns: make(map[string][]turn, len(s.sides))}
	all := make([]clients, len(s.sides))
	for i, d := range s.sides {
		var err error
		if all[i], err = dial(ctx, lib, c, d.Addr); err != nil {
			return res, fmt.Errorf("%s: %w", d.Name, err)
		}
		defer all[i].close()
		progress(title)
		if _, err := s.turn(ctx, d, all[i], o.turn/4); err != nil { // to warm up
			return res, fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	rounds := o.rounds
	if c.targets() != nil {
		rounds *= 2
	}
	for round := range rounds {
		for k := range s.sides {
			if round%2 == 1 {
				k = len(s.sides) - 1 - k
			}
			progress(fmt.Sprintf("%s: %d/%d", title, round+1, rounds))
			d := s.sides[k]
			t, err := s.turn(ctx, d, all[k], o.turn)
			if err != nil {
				return res, fmt.Errorf("%s: %w", d.Name, err)
			}
			res.turns[d.Name] = append(res.turns[d.Name], t)
		}
	}
	return res, nil
}

// usage is the processor time of all processes of a side so far, in seconds.
type usage struct{ server, envoy, clients, upstream float64 }

func (s *scene) usage(d *side) usage {
	u := usage{server: math.NaN(), envoy: math.NaN(), clients: bench.CPU(os.Getpid()), upstream: bench.CPU(s.upstream.PID())}
	if d.Envoy != nil {
		u.envoy = bench.CPU(d.Envoy.PID())
	}
	if d.Server != nil {
		u.server = bench.CPU(d.Server.PID())
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
	var durations, firsts, latencies []int64
	for _, c := range all {
		n += c.asked
		prompt += c.prompt
		durations = append(durations, c.duration...)
		firsts = append(firsts, c.first...)
		if c.stream != nil {
			pieces += len(c.stream.Took)
			latencies = append(latencies, c.stream.Took...)
		}
	}
	if err := check.done(ctx, n, pieces, prompt); err != nil {
		return t, err
	}
	seconds := func(values []int64, q float64) float64 {
		if len(values) == 0 {
			return math.NaN()
		}
		return float64(bench.Quantile(values, q)) / 1e9
	}
	each := func(before, after float64, n int) float64 {
		if n == 0 {
			return math.NaN()
		}
		return (after - before) / float64(n)
	}
	return turn{
		requests: float64(n) / took.Seconds(), chunks: float64(pieces) / took.Seconds(),
		durationP50: seconds(durations, 0.5), durationP99: seconds(durations, 0.99),
		firstP50: seconds(firsts, 0.5), firstP99: seconds(firsts, 0.99),
		chunkP50: seconds(latencies, 0.5), chunkP99: seconds(latencies, 0.99),
		requestServer: each(before.server, after.server, n), requestEnvoy: each(before.envoy, after.envoy, n),
		requestClients: each(before.clients, after.clients, n), requestUpstream: each(before.upstream, after.upstream, n),
		chunkServer: each(before.server, after.server, pieces), chunkEnvoy: each(before.envoy, after.envoy, pieces),
		chunkClients: each(before.clients, after.clients, pieces), chunkUpstream: each(before.upstream, after.upstream, pieces),
	}, nil
}
