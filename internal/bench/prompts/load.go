package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// load asks in a closed loop over some connections to one Envoy.
type load struct {
	conns   []*stage.Conn
	prompts []requests.Requests // one for each connection
}

func newLoad(ctx context.Context, addr string, prompts []requests.Requests) (*load, error) {
	l := &load{prompts: prompts}
	for i := range prompts {
		c, err := stage.Dial(ctx, addr, fmt.Sprintf("team-%d", i%3), fmt.Sprintf("user-%d", i), stage.Answer{})
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close() // there is nothing to lose
	}
}

// run asks for the given time, at least once on every connection, and returns how many answers came in what time.
func (l *load) run(ctx context.Context, d time.Duration) (n int, took time.Duration, err error) {
	start := time.Now()
	counts := make([]int, len(l.conns))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range l.conns {
		group.Go(func() error {
			var want stage.Whole
			for first := true; first || time.Since(start) < d; first = false {
				if err := ctx.Err(); err != nil {
					return err
				}
				prompt := l.prompts[i].Next()
				_, answer, err := c.Ask(prompt, nil)
				if err != nil {
					return err
				}
				if err := want.Check(answer, len(prompt)); err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	err = group.Wait()
	for _, c := range counts {
		n += c
	}
	return n, time.Since(start), err
}
