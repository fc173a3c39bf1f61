package extproc

import (
	"context"
	"sync/atomic"
	"time"
)

// heavyBody is from how many bytes on a request's body waits for its turn to be counted.
// Smaller ones take less time than a change of turns is worth.
const heavyBody = 16 << 10

// waitingPerTurn is how many bodies may wait for each that is counted.
const waitingPerTurn = 256

// counting bounds how many large prompts are counted at a time. Counting is the only work
// here that takes milliseconds. If all that come were counted at once, a message of an open
// stream would wait for each of them to have its slice of a processor, several times. One
// processor is left to the streams: with all of them counting, nobody would look for what
// has come from the network for up to 10 ms.
//
// Those that wait are served in the order in which they came.
type counting struct {
	turns   chan struct{} // has as many elements as are being counted
	waiting atomic.Int64
}

// countingTurns is how many are counted at a time on so many processors.
func countingTurns(processors int) int { return max(1, processors-1) }

func newCounting(turns int) counting { return counting{turns: make(chan struct{}, turns)} }

// full says that as many wait as may.
func (c *counting) full() bool { return c.waiting.Load() >= int64(waitingPerTurn*cap(c.turns)) }

// enter waits for a turn. It returns false if there is none within the time, if too many
// wait, or if ctx ends.
func (c *counting) enter(ctx context.Context, most time.Duration) bool {
	select {
	case c.turns <- struct{}{}:
		return true
	default:
	}
	if c.full() {
		return false
	}
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case c.turns <- struct{}{}:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// leave ends the turn.
func (c *counting) leave() { <-c.turns }
