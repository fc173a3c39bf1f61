package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// startTimeout is how long all servers and Envoys may take to be ready.
const startTimeout = 5 * time.Minute

// The roads that are compared, by the names in the tables.
const (
	direct    = "direct"
	alone     = "Envoy alone"
	noop      = "does nothing"
	ours      = "tokenbudget"
	theBefore = "before"
	liteLLM   = "LiteLLM"
	rateLimit = "ratelimit"
)

// scene is all that runs during a measurement.
type scene struct {
	upstream     *stage.Process
	upstreamAddr string
	http2        bool // the upstream speaks HTTP/2
	sides        []*side
	dirs         []string
}

// side is a road, and the server at it if it is tokenbudget.
type side struct {
	*stage.Side
	server  *stage.Tokenbudget // nil for the others
	logged  int64              // how far its log has been read
	limiter *stage.RateLimit   // nil for the others
	loose   bool               // it writes answers anew
}

// binaries are what is measured.
type binaries struct {
	ours, before string
	python       string // of LiteLLM
	rateLimit    stage.RateLimitPrograms
}

// newScene starts the sides: these names, in this order, in front of an upstream that may speak HTTP/2.
func newScene(ctx context.Context, b binaries, names []string, http2 bool) (s *scene, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s = &scene{http2: http2}
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.close())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	upstream := childUpstream
	if http2 {
		upstream = childHTTP2
	}
	if s.upstream, s.upstreamAddr, err = stage.StartChild(ctx, childUpstream, self, "-child", upstream); err != nil {
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
		d.Side, err = stage.NewSide(ctx, name, url, s.http2, nil, "")
	case noop:
		server, addr, startErr := stage.StartChild(ctx, name, self, "-child", childNoop)
		if startErr != nil {
			return startErr
		}
		d.Side, err = stage.NewSide(ctx, name, url, s.http2, server, addr)
	case liteLLM:
		dir, dirErr := s.dir()
		if dirErr != nil {
			return dirErr
		}
		server, addr, startErr := stage.StartLiteLLM(ctx, b.python, url, dir)
		if startErr != nil {
			return startErr
		}
		d.Side, d.loose = &stage.Side{Name: name, Addr: addr, Server: server}, true
	case rateLimit:
		dir, dirErr := s.dir()
		if dirErr != nil {
			return dirErr
		}
		if d.limiter, err = stage.StartRateLimit(ctx, b.rateLimit, dir); err != nil {
			return err
		}
		d.Side, err = stage.NewRateLimitSide(ctx, name, url, s.http2, d.limiter)
	default:
		binary := b.ours
		if name == theBefore {
			binary = b.before
		}
		dir, dirErr := s.dir()
		if dirErr != nil {
			return dirErr
		}
		if d.server, err = stage.StartTokenbudget(ctx, name, binary, dir); err != nil {
			return err
		}
		d.Side, err = stage.NewSide(ctx, name, url, s.http2, d.server.Process, d.server.ExtProc)
	}
	if err != nil {
		return err
	}
	s.sides = append(s.sides, d)
	return nil
}

// dir makes a folder that goes with the scene.
func (s *scene) dir() (string, error) {
	dir, err := os.MkdirTemp("", "tokenbudget-bench-")
	s.dirs = append(s.dirs, dir)
	return dir, err
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

// result is a cell that was measured: the turns of each side, by its name. Turns with the same index are neighbours.
type result struct {
	cell
	turns map[string][]turn
}

// report is all that a run has found.
type report struct {
	opts    options
	envoy   string   // its version
	names   []string // of the sides
	skipped []string // sides that could not be installed
	base    string   // the side that tokenbudget is compared with
	results []result
	memory  []memory
	took    time.Duration
}

// measure measures everything that is asked for.
func measure(ctx context.Context, o options) (r *report, err error) {
	start := time.Now()
	r = &report{opts: o, names: []string{direct, alone, noop, ours}, base: noop}
	if o.against != "" {
		r.names, r.base = []string{theBefore, ours}, theBefore
	}
	path, err := envoyrun.Find(ctx)
	if err != nil {
		return nil, err
	}
	if r.envoy, err = envoyrun.Version(ctx, path); err != nil {
		return nil, err
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
		if err := r.others(ctx, &b); err != nil {
			return nil, err
		}
		lib := requests.NewLibrary(1)
		for _, http2 := range []bool{false, true} {
			if err := r.cells(ctx, b, lib, all, http2); err != nil {
				return nil, err
			}
		}
	}
	r.took = time.Since(start)
	progress(fmt.Sprintf("done, after %v", r.took.Round(time.Second)))
	fmt.Fprintln(os.Stderr)
	return r, nil
}

// cells measures those cells of all whose upstream does or does not speak HTTP/2.
func (r *report) cells(ctx context.Context, b binaries, lib *requests.Library, all []cell, http2 bool) error {
	names := slices.DeleteFunc(slices.Clone(r.names), func(name string) bool {
		return !slices.ContainsFunc(all, func(c cell) bool { return c.http2 == http2 && c.measures(name) })
	})
	var s *scene
	for i, c := range all {
		if c.http2 != http2 {
			continue
		}
		if s == nil {
			progress("starting servers and Envoys")
			var err error
			if s, err = newScene(ctx, b, names, http2); err != nil {
				return err
			}
		}
		res, err := s.measure(ctx, r.opts, lib, c, fmt.Sprintf("%d/%d %s", i+1, len(all), c))
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", c, err), s.close())
		}
		r.results = append(r.results, res)
	}
	if s == nil {
		return nil
	}
	return s.close()
}

// progress says what is going on.
func progress(what string) { fmt.Fprintf(os.Stderr, "\r%-64s", what) }

// measure measures a cell. The sides take turns, in one order and then in the other, so that each pair of
// neighbours comes in both.
func (s *scene) measure(ctx context.Context, o options, lib *requests.Library, c cell, title string) (result, error) {
	res := result{cell: c, turns: make(map[string][]turn, len(s.sides))}
	sides := slices.DeleteFunc(slices.Clone(s.sides), func(d *side) bool { return !c.measures(d.Name) })
	all := make([]clients, len(sides))
	for i, d := range sides {
		var err error
		if all[i], err = dial(ctx, lib, c, d); err != nil {
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
		for k := range sides {
			if round%2 == 1 {
				k = len(sides) - 1 - k
			}
			progress(fmt.Sprintf("%s: %d/%d", title, round+1, rounds))
			d := sides[k]
			t, err := s.turn(ctx, d, all[k], o.turn)
			if err != nil {
				return res, fmt.Errorf("%s: %w", d.Name, err)
			}
			res.turns[d.Name] = append(res.turns[d.Name], t)
		}
	}
	return res, nil
}
