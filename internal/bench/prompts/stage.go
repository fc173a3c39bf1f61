package main

import (
	"context"
	"errors"
	"os"
	"time"

	road "github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// startTimeout is how long a server or an Envoy may take to be ready.
const startTimeout = 2 * time.Minute

// stage is all that runs during a measurement.
type stage struct {
	opts     options
	upstream *road.Upstream
	noop     *road.Side
	ours     *road.Side
}

// newStage starts everything.
func newStage(ctx context.Context, o options) (s *stage, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s = &stage{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.upstream, err = road.StartUpstream(ctx); err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	if o.against != "" {
		s.noop, err = s.startSide(ctx, o.against, ours)
	} else {
		s.noop, err = s.startSide(ctx, self, doesNothing)
	}
	if err != nil {
		return s, err
	}
	var args []string
	if o.profile != "" {
		args = append(args, "-profile", o.profile)
	}
	s.ours, err = s.startSide(ctx, self, ours, args...)
	return s, err
}

func (s *stage) close() error {
	return errors.Join(s.ours.Close(), s.noop.Close(), s.upstream.Close())
}

// startSide starts a server, which is a build of this program, and its Envoy.
func (s *stage) startSide(ctx context.Context, program, name string, args ...string) (*road.Side, error) {
	server, addr, err := road.StartChild(ctx, name, program, append([]string{"-child", name}, args...)...)
	if err != nil {
		return nil, err
	}
	return road.NewSide(ctx, name, s.upstream.URL(), server, addr)
}
