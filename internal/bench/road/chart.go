package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// chartDir is where charts are, in the folder of the documentation.
const chartDir = "charts"

// picture is a chart and its file.
type picture struct {
	file  string // without its ending
	alt   string
	chart bench.Chart
}

// pictures are the charts of a report. One whose cells were not measured is left out.
func (r *report) pictures() (all []picture) {
	streams := func(c cell) bool {
		return c.answer.Chunks > 0 && (c.answer.Pause == 0 && c.atOnce > 1 || c.answer.Pause > 0 && c.atOnce == 32)
	}
	add := func(p picture) {
		if len(p.chart.Panels) > 0 {
			all = append(all, p)
		}
	}
	processes, figures := []string{"server", "Envoy"}, []figure{chunkServer, chunkEnvoy}
	if r.hasRedis() {
		processes, figures = append(processes, "Redis"), append(figures, chunkStore)
	}
	add(picture{"road-cpu", "CPU per 1,000 chunks", bench.Chart{
		Title: "CPU per 1,000 chunks, ms", Note: "streams of 200 chunks, requests included; less is better", Series: processes,
		Panels: r.panels(streams, func(res result, name string) bench.Bar {
			var bar bench.Bar
			sum := 0.0
			for _, f := range figures {
				part := res.median(f, name)
				bar.Parts = append(bar.Parts, part*1e6)
				if !math.IsNaN(part) {
					sum += part
				}
			}
			bar.Text = micros(sum)
			return bar
		}),
	}})
	paced := func(c cell) bool { return c.answer.Pause > 0 && c.atOnce <= 32 }
	add(picture{"road-latency", "The way of a chunk from upstream to client", bench.Chart{
		Title: "The way of a chunk from upstream to client, median, µs", Note: "5 ms between chunks; less is better",
		Panels: r.panels(paced, func(res result, name string) bench.Bar {
			p50 := res.median(chunkP50, name)
			return bench.Bar{Parts: []float64{p50 * 1e6}, Text: micros(p50)}
		}),
	}})
	whole := func(c cell) bool { return c.answer.Chunks == 0 && c.atOnce == 32 }
	add(picture{"road-requests", "Unary requests a second", bench.Chart{
		Title: "Unary requests a second", Note: "clients, upstream, Envoy and server share the machine; more is better",
		Panels: r.panels(whole, func(res result, name string) bench.Bar {
			rate := res.median(requestRate, name)
			return bench.Bar{Parts: []float64{rate}, Text: short(rate)}
		}),
	}})
	return all
}

// panels has one panel for each cell that is wanted, and a bar for each side of which something is known.
func (r *report) panels(wanted func(cell) bool, bar func(result, string) bench.Bar) (all []bench.Panel) {
	for _, res := range r.results {
		if !wanted(res.cell) {
			continue
		}
		p := bench.Panel{Title: res.String()}
		for _, name := range r.names {
			b := bar(res, name)
			b.Label, b.Strong = name, name == ours
			if !slices.ContainsFunc(b.Parts, func(f float64) bool { return !math.IsNaN(f) }) {
				continue
			}
			p.Bars = append(p.Bars, b)
		}
		all = append(all, p)
	}
	return all
}

// charts names the charts in the tables' text.
func (r *report) charts(b *strings.Builder) {
	for _, p := range r.pictures() {
		fmt.Fprintf(b, "\n![%s](%s/%s.svg)\n", p.alt, chartDir, p.file)
	}
}

// writeCharts writes them into the folder of the documentation.
func (r *report) writeCharts(docs string) error {
	dir := filepath.Join(docs, chartDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, p := range r.pictures() {
		errs = append(errs, os.WriteFile(filepath.Join(dir, p.file+".svg"), p.chart.SVG(), 0o644))
	}
	return errors.Join(errs...)
}
