package main

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"
)

// table is the result in Markdown.
func table(o options, results []result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d connections, %d rounds of %v for each server, medians; of the ratio also the least and the greatest. %s/%s, %d cores, %s.\n\n",
		o.connections, o.rounds, o.turn, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format("2006-01-02"))
	b.WriteString("| request | requests/s, does nothing | requests/s, tokenbudget | ratio | target | | server CPU µs per request | Envoy CPU µs per request | ratio by CPU of all |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		ratios := r.ratios(turn.requests)
		ratio := ratios[len(ratios)/2]
		verdict := "met"
		if ratio < r.target {
			verdict = "missed"
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.2f (%.2f–%.2f) | ≥ %.2f | %s | %s → %s | %s → %s | %s |\n", r.name,
			median(r.noop, turn.requests), median(r.ours, turn.requests), ratio, ratios[0], ratios[len(ratios)-1], r.target, verdict,
			micros(median(r.noop, turn.server)), micros(median(r.ours, turn.server)),
			micros(median(r.noop, turn.proxy)), micros(median(r.ours, turn.proxy)), r.byCPU())
	}
	return b.String()
}

func (t turn) requests() float64 { return t.rate }
func (t turn) server() float64   { return t.serverCPU }
func (t turn) proxy() float64    { return t.envoyCPU }
func (t turn) perCPU() float64   { return 1 / t.allCPU }

// byCPU is the ratio that a machine would show which has nothing else to do: of the
// requests that a second of CPU suffices for, all processes together.
func (r result) byCPU() string {
	ratios := r.ratios(turn.perCPU)
	if ratio := ratios[len(ratios)/2]; !math.IsNaN(ratio) {
		return fmt.Sprintf("%.2f", ratio)
	}
	return "–"
}

// micros shows seconds as microseconds.
func micros(seconds float64) string {
	if math.IsNaN(seconds) {
		return "–"
	}
	return fmt.Sprintf("%.0f", seconds*1e6)
}
