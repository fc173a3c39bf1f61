package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// client asks over one connection, the next request as soon as the answer is there.
type client struct {
	conn     *stage.Conn
	requests requests.Requests
	whole    stage.Whole
	stream   *stage.Stream // nil if the answers are whole
	loose    bool          // the answers come in another shape
	delay    time.Duration // before its first request of a turn

	// Of this turn.
	asked    int
	prompt   int64   // tokens that the upstream has reported
	duration []int64 // of each request, in nanoseconds
	first    []int64 // the same, until the first chunk
}

// clients are those of one side in one cell.
type clients []*client

// dial connects the clients of a cell to a side. The same requests go to every side.
func dial(ctx context.Context, lib *requests.Library, c cell, d *side) (all clients, err error) {
	for i := range c.atOnce {
		conn, err := stage.Dial(ctx, d.Addr, fmt.Sprintf("team-%d", i%3), fmt.Sprintf("user-%d", i), c.answer)
		if err != nil {
			all.close()
			return nil, err
		}
		cl := &client{conn: conn, requests: c.bodies(c.source(lib, i)), loose: d.loose}
		if c.answer.Chunks > 0 {
			cl.stream = stage.NewStream(c.answer.Chunks)
			if d.loose {
				cl.stream = stage.NewLooseStream(c.answer.Chunks)
			}
			// Streams that begin together would send each of their chunks together.
			cl.delay = c.answer.Pause * time.Duration(i) / time.Duration(c.atOnce)
		}
		all = append(all, cl)
	}
	return all, nil
}

func (all clients) close() {
	for _, c := range all {
		_ = c.conn.Close() // there is nothing to lose
	}
}

// run has all clients ask for some time, at least once, and returns how long that took.
func (all clients) run(ctx context.Context, d time.Duration) (took time.Duration, err error) {
	for _, c := range all {
		c.asked, c.prompt, c.duration, c.first = 0, 0, c.duration[:0], c.first[:0]
		if c.stream != nil {
			c.stream.Took = c.stream.Took[:0]
		}
	}
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range all {
		group.Go(func() error {
			if c.delay > 0 {
				time.Sleep(c.delay)
			}
			for first := true; first || time.Since(start) < d; first = false {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := c.ask(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// Whoever waits for an answer that does not come has a deadline of its own.
	err = group.Wait()
	return time.Since(start), err
}

// ask sends one request, and checks every byte of its answer.
func (c *client) ask() error {
	request := c.requests.Next()
	if c.stream == nil {
		sent, answer, err := c.conn.Ask(request, nil)
		if err == nil && c.loose {
			err = stage.SaysWhole(answer)
		} else if err == nil {
			err = c.whole.Check(answer, len(request))
		}
		if err != nil {
			return err
		}
		c.duration = append(c.duration, bench.Now()-sent)
	} else {
		c.stream.Start(len(request))
		sent, answer, err := c.conn.Ask(request, c.stream.Feed)
		if err == nil {
			err = c.stream.End(len(answer))
		}
		if err != nil {
			return err
		}
		c.duration = append(c.duration, bench.Now()-sent)
		c.first = append(c.first, c.stream.First-sent)
	}
	c.asked++
	c.prompt += int64(stage.Prompt(len(request)))
	return nil
}
