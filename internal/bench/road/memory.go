package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// memoryName is the name of the cell in which memory is measured.
const memoryName = "memory per open stream"

const (
	stayChunks = 20                     // that each open stream has sent before it falls silent
	settled    = 500 * time.Millisecond // after which a process has what it needs
)

// memory is what one open stream takes, in bytes, by one measurement; NaN for a server that is not there.
type memory struct {
	side          string
	server, envoy float64
}

// measureMemory measures all sides, one after the other, some times. Each gets new processes: a server that has
// been loaded before has memory to spare, and would take streams for nothing.
func measureMemory(ctx context.Context, o options, b binaries, names []string) (all []memory, err error) {
	lib := requests.NewLibrary(2)
	for round := range o.fresh {
		for _, name := range names {
			progress(fmt.Sprintf("%s, %s: %d/%d", memoryName, name, round+1, o.fresh))
			m, err := oneMemory(ctx, o, lib, b, name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, m)
		}
	}
	return all, nil
}

func oneMemory(ctx context.Context, o options, lib *requests.Library, b binaries, name string) (m memory, err error) {
	s, err := newScene(ctx, b, []string{name}, false)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	d := s.sides[0]
	rss := func() (server, envoy float64) {
		time.Sleep(settled)
		server = math.NaN()
		if d.Server != nil {
			server = bench.RSS(d.Server.PID())
		}
		return server, bench.RSS(d.Envoy.PID())
	}
	// What every process needs once, it needs now: some streams that end.
	warm, err := dial(ctx, lib, cell{load{"", 2 * kb, stage.Answer{Chunks: stayChunks}, false}, 32, 0}, d)
	if err != nil {
		return m, err
	}
	_, err = warm.run(ctx, 0)
	warm.close()
	if err != nil {
		return m, err
	}
	server, envoy := rss()
	open, err := dial(ctx, lib, cell{load{"", 2 * kb, stage.Answer{Chunks: stayChunks, Stay: true}, false}, o.streams, 1}, d)
	if err != nil {
		return m, err
	}
	var ended sync.WaitGroup
	defer ended.Wait()
	defer open.close()
	ready := make(chan error, 2*len(open)) // nobody waits to report
	for i, c := range open {
		ended.Go(func() { c.stay(ready) })
		if i%50 == 49 { // a crowd at the door would be another measurement
			time.Sleep(20 * time.Millisecond)
		}
	}
	for range open {
		if err := <-ready; err != nil {
			return m, err
		}
	}
	serverOpen, envoyOpen := rss()
	select {
	case err := <-ready:
		return m, fmt.Errorf("a stream has not stayed open: %w", err)
	default:
	}
	n := float64(len(open))
	return memory{side: name, server: (serverOpen - server) / n, envoy: (envoyOpen - envoy) / n}, nil
}

// stay asks for a stream and reads it until the connection is closed. It reports when all chunks are there, and
// when it has ended.
func (c *client) stay(ready chan<- error) {
	request := c.requests.Next()
	c.stream.Start(len(request))
	there := false
	_, _, err := c.conn.Ask(request, func(body []byte, at int64) error {
		err := c.stream.Feed(body, at)
		if !there && c.stream.Chunks() == stayChunks {
			there = true
			ready <- err
		}
		return err
	})
	if err == nil {
		err = errors.New("it has ended")
	}
	ready <- err
}
