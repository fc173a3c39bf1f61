package main

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// table is the whole report in Markdown.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d turns of %v for each, %d in cells with a target; %s/%s, %d processors, %s, %s, %v in all. Figures are medians of the turns, "+
		"with quartiles in parentheses.\n", r.opts.rounds, r.opts.turn, 2*r.opts.rounds, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(),
		runtime.Version(), time.Now().UTC().Format(time.DateOnly), r.took.Round(time.Second))
	r.targetTable(&b)
	r.memoryTable(&b)
	for _, res := range r.results {
		r.cellTable(&b, res)
	}
	return b.String()
}

// baseline is the side that tokenbudget is compared with.
func (r *report) baseline() string { return r.names[len(r.names)-2] }

// targetTable has a line for every figure that has a target.
func (r *report) targetTable(b *strings.Builder) {
	base := r.baseline()
	fmt.Fprintf(b, "\n### Targets\n\n| load | figure | %s | tokenbudget | ratio | target | |\n|---|---|---|---|---|---|---|\n", base)
	for _, res := range r.results {
		for _, t := range res.targets() {
			s := res.ratios(t.of, ours, base)
			fmt.Fprintf(b, "| %s | %s | %s µs | %s µs | %s | ≤ %.2f | %s |\n", res, t.what, micros(res.median(t.of, base)), micros(res.median(t.of, ours)),
				spread(s, "%.3f"), t.most, verdict(s.Median, t.most))
		}
	}
}

// memoryTable has a line for each side.
func (r *report) memoryTable(b *strings.Builder) {
	if r.memory == nil {
		return
	}
	fmt.Fprintf(b, "\n### Memory of an open stream\n\nWhat %d streams add to the memory that a new process has in RAM, once each has had %d chunks: "+
		"medians of %d, with the least and the most.\n\n| | server, KB | target | | Envoy, KB |\n|---|---|---|---|---|\n", r.opts.streams, stayChunks, r.opts.fresh)
	for _, name := range r.names {
		var server, envoy []float64
		for _, m := range r.memory {
			if m.side == name {
				server, envoy = append(server, m.server/1000), append(envoy, m.envoy/1000)
			}
		}
		if server == nil {
			continue
		}
		s, word, most := bench.NewSpread(server), "", ""
		if name == ours {
			most, word = fmt.Sprintf("≤ %d", memoryTarget/1000), verdict(s.Median, memoryTarget/1000)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, spread(s, "%.1f"), most, word, spread(bench.NewSpread(envoy), "%.1f"))
	}
}

// cellTable shows a cell, with a line for each side.
func (r *report) cellTable(b *strings.Builder, res result) {
	fmt.Fprintf(b, "\n#### %s\n\n", res)
	columns := []struct {
		name string
		show func(name string) string
	}{
		{"requests/s", func(n string) string { return short(res.median(func(t turn) float64 { return t.requests }, n)) }},
		{"request p50, ms", func(n string) string { return millis(res.median(func(t turn) float64 { return t.durationP50 }, n)) }},
		{"p99", func(n string) string { return millis(res.median(func(t turn) float64 { return t.durationP99 }, n)) }},
		{"CPU per request, µs: server", func(n string) string { return micros(res.median(func(t turn) float64 { return t.requestServer }, n)) }},
		{"Envoy", func(n string) string { return micros(res.median(func(t turn) float64 { return t.requestEnvoy }, n)) }},
		{"clients", func(n string) string { return micros(res.median(func(t turn) float64 { return t.requestClients }, n)) }},
		{"upstream", func(n string) string { return micros(res.median(func(t turn) float64 { return t.requestUpstream }, n)) }},
	}
	if res.answer.Chunks > 0 {
		columns = append(columns[:3:3], []struct {
			name string
			show func(name string) string
		}{
			{"first chunk p50, ms", func(n string) string { return millis(res.median(func(t turn) float64 { return t.firstP50 }, n)) }},
			{"p99", func(n string) string { return millis(res.median(func(t turn) float64 { return t.firstP99 }, n)) }},
			{"chunks/s", func(n string) string { return short(res.median(func(t turn) float64 { return t.chunks }, n)) }},
			{"a chunk's way p50, µs", func(n string) string { return micros(res.median(func(t turn) float64 { return t.chunkP50 }, n)) }},
			{"p99", func(n string) string { return micros(res.median(func(t turn) float64 { return t.chunkP99 }, n)) }},
			{"CPU per 1,000 chunks, ms: server", func(n string) string { return micros(res.median(func(t turn) float64 { return t.chunkServer }, n)) }},
			{"Envoy", func(n string) string { return micros(res.median(func(t turn) float64 { return t.chunkEnvoy }, n)) }},
			{"clients", func(n string) string { return micros(res.median(func(t turn) float64 { return t.chunkClients }, n)) }},
			{"upstream", func(n string) string { return micros(res.median(func(t turn) float64 { return t.chunkUpstream }, n)) }},
		}...)
	}
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, name := range r.names {
		fmt.Fprintf(b, "| %s |", name)
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", c.show(name))
		}
		b.WriteString("\n")
	}
}

// spread shows a figure with its quartiles.
func spread(s bench.Spread, format string) string {
	if math.IsNaN(s.Median) {
		return "–"
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Low, s.High)
}

// short shows a figure with three digits or more.
func short(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// micros shows seconds as microseconds, millis as milliseconds.
func micros(seconds float64) string { return short(seconds * 1e6) }
func millis(seconds float64) string { return short(seconds * 1e3) }
