package budget

import (
	"context"
	"sync"
	"sync/atomic"
)

// gate counts the calls that use the store and its cache, so that Close can wait
// for them and they are not used afterwards.
type gate struct {
	shut atomic.Bool // read without mu by those who only want to know

	mu     sync.Mutex
	inside int
	empty  chan struct{} // made by close if it has to wait; closed by the last to leave
}

// enter returns false once the gate is closed. Else the caller must leave.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut.Load() {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close lets nobody in any more and waits until all have left, or ctx ends. It may
// be called again after an error.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	g.shut.Store(true)
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
