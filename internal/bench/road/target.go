package main

import (
	"math"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// comparison is of one figure of two sides, turn by turn: each ratio is of a turn of tokenbudget and the
// neighbouring turn of the server that does nothing.
type comparison struct {
	what  string
	of    func(turn) float64
	added bool    // of what each adds to the neighbouring turn of Envoy alone
	most  float64 // what the median is to be at most; 0: that is shown, but no target
}

// What has a target.
var (
	way      = comparison{what: "a chunk's way, median", of: chunkP50.of, most: 1.05}
	addedWay = comparison{what: "the same, less that of Envoy alone", of: chunkP50.of, added: true}
	cpu      = comparison{what: "CPU per chunk, server and Envoy", of: chunkRoad, most: 1.1}
	crowdCPU = comparison{what: "CPU per chunk, server and Envoy", of: chunkRoad, most: 0.9}
)

// memoryTarget is what an open stream may take in the server, in bytes.
const memoryTarget = 40_000

// targets are those of a cell.
func (c cell) targets() []comparison {
	switch {
	case c.answer.Chunks == 0:
		return nil
	case c.atOnce == 32 && c.answer.Pause > 0:
		return []comparison{way, addedWay, cpu}
	case c.atOnce == 32:
		return []comparison{cpu}
	case c.atOnce == 256 && c.answer.Pause == 0:
		return []comparison{crowdCPU}
	}
	return nil
}

// figure is a side's median of what is compared, in the unit of the figure.
func (r result) figure(c comparison, name string) float64 {
	all := make([]float64, len(r.turns[name]))
	for i, t := range r.turns[name] {
		all[i] = c.of(t)
		if base := r.turns[alone]; c.added && i < len(base) {
			all[i] -= c.of(base[i])
		} else if c.added {
			all[i] = math.NaN()
		}
	}
	return bench.NewSpread(all).Median
}

// ratio compares two sides.
func (r result) ratio(c comparison, over, under string) bench.Spread {
	a, b, base := r.turns[over], r.turns[under], r.turns[alone]
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		switch {
		case !c.added:
			ratios[i] = c.of(a[i]) / c.of(b[i])
		case i < len(base):
			ratios[i] = (c.of(a[i]) - c.of(base[i])) / (c.of(b[i]) - c.of(base[i]))
		default:
			ratios[i] = math.NaN()
		}
	}
	return bench.NewSpread(ratios)
}

// median is a side's median of a figure.
func (r result) median(f figure, name string) float64 {
	return r.figure(comparison{of: f.of}, name)
}

// verdict is a word for a figure beside what it is to be at most; 0 for no target.
func verdict(figure, most float64) string {
	switch {
	case most == 0:
		return ""
	case math.IsNaN(figure):
		return "not known"
	case figure <= most:
		return "met"
	}
	return "**missed**"
}
