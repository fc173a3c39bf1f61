package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// startTimeout is how long a server or an Envoy may take to be ready.
const startTimeout = 2 * time.Minute

// scene is all that runs during a measurement.
type scene struct {
	opts     options
	upstream *stage.Upstream
	noop     *stage.Side
	ours     *stage.Side
}

// newScene starts everything.
func newScene(ctx context.Context, o options) (s *scene, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s = &scene{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.upstream, err = stage.StartUpstream(ctx); err != nil {
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

func (s *scene) close() error {
	return errors.Join(s.ours.Close(), s.noop.Close(), s.upstream.Close())
}

// startSide starts a server, which is a build of this program, and its Envoy.
func (s *scene) startSide(ctx context.Context, program, name string, args ...string) (*stage.Side, error) {
	server, addr, err := stage.StartChild(ctx, name, program, append([]string{"-child", name}, args...)...)
	if err != nil {
		return nil, err
	}
	return stage.NewSide(ctx, name, s.upstream.URL(), false, server, addr)
}
