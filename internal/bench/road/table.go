package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// table is the whole report in Markdown.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s, %d processors, %s, Envoy %s, %s, %v in all. %d turns of %v for each, twice as many where there is a target. "+
		"Figures are medians of the turns; ratios are medians of the ratios of neighbouring turns, with their quartiles.\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), r.envoy, time.Now().UTC().Format(time.DateOnly),
		r.took.Round(time.Second), r.opts.rounds, r.opts.turn)
	for _, name := range r.skipped {
		fmt.Fprintf(&b, "%s could not be installed.\n", name)
	}
	r.targetTable(&b)
	r.charts(&b)
	r.ratioTable(&b)
	r.memoryTable(&b)
	for _, l := range loads {
		r.loadTable(&b, l)
	}
	return b.String()
}

// targetTable has a line for every figure that has a target.
func (r *report) targetTable(b *strings.Builder) {
	base := r.base
	var lines strings.Builder
	for _, res := range r.results {
		for _, c := range res.targets() {
			if c.added && base != noop {
				continue // without Envoy alone
			}
			s, most := res.ratio(c, ours, base), ""
			if c.most > 0 {
				most = fmt.Sprintf("≤ %.2f", c.most)
			}
			fmt.Fprintf(&lines, "| %s | %s | %s µs | %s µs | %s | %s | %s |\n", res, c.what, micros(res.figure(c, base)), micros(res.figure(c, ours)),
				spread(s, "%.2f"), most, verdict(s.Median, c.most))
		}
	}
	if server, _ := r.memoryOf(ours); !math.IsNaN(server.Median) {
		other, _ := r.memoryOf(base)
		fmt.Fprintf(&lines, "| %d open streams | memory of the server per stream | %.1f KB | %.1f KB | %.2f | ≤ %d KB | %s |\n", r.opts.streams,
			other.Median, server.Median, server.Median/other.Median, memoryTarget/1000, verdict(server.Median, memoryTarget/1000))
	}
	if lines.Len() > 0 {
		fmt.Fprintf(b, "\n### Targets\n\n| load | figure | %s | tokenbudget | ratio | target | |\n|---|---|---|---|---|---|---|\n%s", base, lines.String())
	}
}

// ratioTable compares every cell.
func (r *report) ratioTable(b *strings.Builder) {
	if len(r.results) == 0 {
		return
	}
	base := r.base
	columns := []struct {
		title string
		comparison
	}{
		{"requests/s", comparison{of: requestRate.of}},
		{"request p50", comparison{of: requestP50.of}},
		{"request p99", comparison{of: requestP99.of}},
		{"CPU of server and Envoy", comparison{of: requestRoad}},
		{"a chunk's way p50", comparison{of: chunkP50.of}},
		{"a chunk's way p99", comparison{of: chunkP99.of}},
	}
	fmt.Fprintf(b, "\n### tokenbudget / %s\n\n| load |", base)
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, res := range r.results {
		fmt.Fprintf(b, "| %s |", res)
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", spread(res.ratio(c.comparison, ours, base), "%.2f"))
		}
		b.WriteString("\n")
	}
}

// memoryOf is what an open stream takes at a side, in KB.
func (r *report) memoryOf(name string) (server, envoy bench.Spread) {
	var servers, envoys []float64
	for _, m := range r.memory {
		if m.side == name {
			servers, envoys = append(servers, m.server/1000), append(envoys, m.envoy/1000)
		}
	}
	return bench.NewSpread(servers), bench.NewSpread(envoys)
}

// memoryTable has a line for each side.
func (r *report) memoryTable(b *strings.Builder) {
	if r.memory == nil {
		return
	}
	fmt.Fprintf(b, "\n### Memory of an open stream\n\nWhat %d streams add to the memory that a new process has in RAM, once each has had %d chunks: "+
		"median of %d, with the least and the most.\n\n| | server, KB | Envoy, KB |\n|---|---|---|\n", r.opts.streams, stayChunks, r.opts.fresh)
	for _, name := range r.names {
		if server, envoy := r.memoryOf(name); !math.IsNaN(envoy.Median) {
			fmt.Fprintf(b, "| %s | %s | %s |\n", name, spread(server, "%.1f"), spread(envoy, "%.1f"))
		}
	}
}

// column is one of a load's table.
type column struct {
	title string
	figure
	show func(float64) string
}

var (
	requestColumns = []column{
		{"requests/s", requestRate, short},
		{"request p50, ms", requestP50, millis},
		{"p99", requestP99, millis},
	}
	requestCPUColumns = []column{
		{"CPU per request, µs: server", requestServer, micros},
		{"Redis", requestStore, micros},
		{"Envoy", requestEnvoy, micros},
		{"clients", requestClients, micros},
		{"upstream", requestUpstream, micros},
	}
	chunkColumns = []column{
		{"first chunk p50, ms", firstP50, millis},
		{"p99", firstP99, millis},
		{"chunks/s", chunkRate, short},
		{"a chunk's way p50, µs", chunkP50, micros},
		{"p99", chunkP99, micros},
		{"CPU per 1,000 chunks, ms: server", chunkServer, micros}, // of one, µs
		{"Redis", chunkStore, micros},
		{"Envoy", chunkEnvoy, micros},
		{"clients", chunkClients, micros},
		{"upstream", chunkUpstream, micros},
		{"messages per chunk", chunkMessages, short},
	}
)

// hasRedis reports whether there is a side whose server counts in a Redis.
func (r *report) hasRedis() bool { return slices.Contains(r.names, rateLimit) }

// loadTable shows the cells of a load, with a line for each side.
func (r *report) loadTable(b *strings.Builder, l load) {
	columns := slices.Concat(requestColumns, requestCPUColumns)
	if l.answer.Chunks > 0 {
		columns = slices.Concat(requestColumns, chunkColumns)
	}
	if !r.hasRedis() {
		columns = slices.DeleteFunc(columns, func(c column) bool { return c.figure == requestStore || c.figure == chunkStore })
	}
	head := false
	for _, res := range r.results {
		if res.name != l.name {
			continue
		}
		if !head {
			fmt.Fprintf(b, "\n### %s%s\n\n| at once | |", strings.ToUpper(l.name[:1]), l.name[1:])
			for _, c := range columns {
				fmt.Fprintf(b, " %s |", c.title)
			}
			b.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
			head = true
		}
		for _, name := range r.names {
			if len(res.turns[name]) == 0 {
				continue
			}
			fmt.Fprintf(b, "| %d | %s |", res.atOnce, name)
			for _, c := range columns {
				fmt.Fprintf(b, " %s |", c.show(res.median(c.figure, name)))
			}
			b.WriteString("\n")
		}
	}
}

// spread shows a figure with its quartiles.
func spread(s bench.Spread, format string) string {
	if math.IsNaN(s.Median) {
		return "–"
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Low, s.High)
}

// short shows a figure.
func short(f float64) string { return bench.Number(f) }

// micros shows seconds as microseconds, millis as milliseconds.
func micros(seconds float64) string { return short(seconds * 1e6) }
func millis(seconds float64) string { return short(seconds * 1e3) }
