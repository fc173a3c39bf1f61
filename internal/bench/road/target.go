package main

import (
	"math"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// target is what a figure of tokenbudget's is to be at most. Figures of cells are ratios: of tokenbudget's turn to the
// neighbouring turn of the server that does nothing.
type target struct {
	what string
	of   func(turn) float64
	most float64
}

// Targets of cells.
var (
	latencyTarget = target{"latency of a chunk, median", func(t turn) float64 { return t.chunkP50 }, 1.05}
	cpuTarget     = target{"CPU per chunk, server and Envoy", turn.chunkRoad, 1.1}
	crowdTarget   = target{"CPU per chunk, server and Envoy", turn.chunkRoad, 0.9}
)

// memoryTarget is in bytes for each open stream, in the server.
const memoryTarget = 40_000

// targets are those of a cell.
func (c cell) targets() []target {
	switch {
	case c.answer.Chunks == 0:
		return nil
	case c.atOnce == 32 && c.answer.Pause > 0:
		return []target{latencyTarget, cpuTarget}
	case c.atOnce == 32:
		return []target{cpuTarget}
	case c.atOnce == 256 && c.answer.Pause == 0:
		return []target{crowdTarget}
	}
	return nil
}

// ratios compares a figure of two sides, turn by turn.
func (r result) ratios(of func(turn) float64, over, under string) bench.Spread {
	a, b := r.turns[over], r.turns[under]
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = of(a[i]) / of(b[i])
	}
	return bench.NewSpread(ratios)
}

// median is a side's median of a figure.
func (r result) median(of func(turn) float64, name string) float64 {
	turns := r.turns[name]
	all := make([]float64, len(turns))
	for i, t := range turns {
		all[i] = of(t)
	}
	return bench.NewSpread(all).Median
}

// verdict is a word for a figure beside what it is to be at most.
func verdict(figure, most float64) string {
	switch {
	case math.IsNaN(figure):
		return "not known"
	case figure <= most:
		return "met"
	}
	return "**missed**"
}
