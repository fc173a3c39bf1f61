package e2e

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// goroutines is how many goroutines have something of this module on their stacks, or were started by
// it. Those of connections are not among them, since how many Envoy has is its own affair, nor are the
// server's receivers that wait for their next exchange.
func goroutines() (n int) {
	stacks := make([]byte, 1<<20)
	for {
		used := runtime.Stack(stacks, true)
		if used < len(stacks) {
			stacks = stacks[:used]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		idle := strings.Contains(g, "extproc.(*receivers).run(") && !strings.Contains(g, "extproc.job.do(")
		if !idle && strings.Contains(g, "github.com/tokenbudget/tokenbudget/") {
			n++
		}
	}
	return n
}

// noMoreGoroutines waits until there are no more goroutines than before.
func noMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	for giveUp := time.Now().Add(patience); goroutines() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("%d goroutines, there were %d", goroutines(), before)
		}
	}
}
