package e2e

import (
	"runtime"
	"testing"

	"github.com/tokenbudget/tokenbudget/extproc"
)

// TestMachine: a server goes by the memory and the processors that its container has, unless
// GOMEMLIMIT and GOMAXPROCS say otherwise.
func TestMachine(t *testing.T) {
	m := newMesh(t, "http://127.0.0.1:1")
	const procs, memory = "go_sched_gomaxprocs_threads", "go_gc_gomemlimit_bytes"
	for _, tt := range []struct {
		env           []string
		procs, memory float64
	}{
		{[]string{"GOMAXPROCS=3", "GOMEMLIMIT=300MiB"}, 3, 300 << 20},
		{[]string{"GOMAXPROCS=", "GOMEMLIMIT="}, float64(runtime.GOMAXPROCS(0)), float64(extproc.MachineMemory() / 10 * 9)},
	} {
		n := m.node(t, meshFile, tt.env...)
		if got := n.metric(t, procs); got != tt.procs {
			t.Errorf("%v: %v processors, want %v", tt.env, got, tt.procs)
		}
		if got := n.metric(t, memory); got != tt.memory {
			t.Errorf("%v: a memory limit of %v bytes, want %v", tt.env, got, tt.memory)
		}
		n.terminate(t)
	}
}
