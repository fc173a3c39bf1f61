package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sample is what a server takes at one time.
type Sample struct {
	At         time.Time
	RSS        int64 // bytes of resident memory
	Live       int64 // bytes of the heap that the last collection left
	Stacks     int64 // bytes
	Goroutines int64
	Files      int64 // open file descriptors
	Exchanges  int64 // that are open
	Background int64 // responses that go on without one
	Buffered   int64 // bytes of bodies

	Collections int64 // of garbage, since the start
}

func (s *server) sample(ctx context.Context) (Sample, error) {
	m, err := s.metrics(ctx)
	if err != nil {
		return Sample{}, err
	}
	x := Sample{At: time.Now()}
	for name, to := range map[string]*int64{
		"process_resident_memory_bytes": &x.RSS, "go_gc_heap_live_bytes": &x.Live, "go_memstats_stack_inuse_bytes": &x.Stacks,
		"go_goroutines": &x.Goroutines, "process_open_fds": &x.Files, "tokenbudget_open_exchanges": &x.Exchanges, "tokenbudget_buffered_bytes": &x.Buffered,
		"tokenbudget_background_responses": &x.Background, "go_gc_duration_seconds_count": &x.Collections,
	} {
		v, ok := m[name]
		if !ok {
			return x, fmt.Errorf("the server has no metric %s", name)
		}
		*to = int64(v)
	}
	return x, nil
}

// settled waits until nothing is under way, and lets the collector see it.
func (s *server) settled(ctx context.Context) (Sample, error) {
	until := time.Now().Add(quietTimeout)
	for {
		x, err := s.sample(ctx)
		if err != nil || x.Exchanges+x.Background == 0 {
			if err != nil {
				return x, err
			}
			break
		}
		if time.Now().After(until) {
			return x, fmt.Errorf("%d exchanges are still open after %v, and %d responses in the background", x.Exchanges, quietTimeout, x.Background)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return s.collected(ctx)
}

// collected is a sample after two collections, of which the second sees what was let go
// since now. The admin server's pages allocate until they happen.
func (s *server) collected(ctx context.Context) (Sample, error) {
	first := int64(-1)
	for range 1000 {
		x, err := s.sample(ctx)
		if err != nil {
			return x, err
		}
		if first < 0 {
			first = x.Collections
		}
		if x.Collections >= first+2 {
			return x, nil
		}
		if _, err := s.balances(ctx); err != nil {
			return x, err
		}
	}
	return Sample{}, errors.New("the server does not collect garbage")
}
