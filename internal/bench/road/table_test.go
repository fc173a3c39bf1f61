package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// turnOf is a turn with some figures, and no others.
func turnOf(figures map[figure]float64) (t turn) {
	for f := range t {
		t[f] = math.NaN()
	}
	for f, x := range figures {
		t[f] = x
	}
	return t
}

// Ratios are medians of the ratios of neighbours, not ratios of medians; what is missed is said as loudly as what is met.
func TestTable(t *testing.T) {
	chunk := func(way, server, envoy float64) turn {
		return turnOf(map[figure]float64{chunkP50: way, chunkServer: server, chunkEnvoy: envoy, requestServer: 200 * server, requestEnvoy: 200 * envoy, requestRate: 30})
	}
	paced := cell{load{"streamed, 5 ms", 2048, stage.Answer{Chunks: 200, Pause: pause}, false}, 32, 0}
	r := &report{
		opts: options{rounds: 3, turn: time.Second, streams: 1000, fresh: 3}, names: []string{direct, alone, noop, ours}, base: noop,
		results: []result{{paced, map[string][]turn{
			direct: {chunk(1e-5, math.NaN(), math.NaN())},
			alone:  {chunk(1e-4, math.NaN(), 1e-5), chunk(1e-4, math.NaN(), 1e-5), chunk(3e-4, math.NaN(), 1e-5)},
			noop:   {chunk(2e-4, 3e-5, 4e-5), chunk(4e-4, 3e-5, 4e-5), chunk(8e-4, 3e-5, 4e-5)},
			ours:   {chunk(3e-4, 4e-5, 5e-5), chunk(4e-4, 4e-5, 5e-5), chunk(4e-4, 4e-5, 5e-5)},
		}}},
		memory: []memory{{noop, 20_000, 70_000}, {ours, 50_000, 80_000}, {ours, 30_000, 80_000}, {ours, 39_900, 80_000}, {alone, math.NaN(), 60_000}},
	}
	got := r.table()
	for _, want := range []string{
		"| streamed, 5 ms, 32 at once | a chunk's way, median | 400 µs | 400 µs | 1.00 (0.50–1.50) | ≤ 1.05 | met |",
		"| streamed, 5 ms, 32 at once | the same, less that of Envoy alone | 300 µs | 200 µs | 1.00 (0.20–2.00) |  |  |",
		"| streamed, 5 ms, 32 at once | CPU per chunk, server and Envoy | 70.0 µs | 90.0 µs | 1.29 (1.29–1.29) | ≤ 1.10 | **missed** |",
		"| 1000 open streams | memory of the server per stream | 20.0 KB | 39.9 KB | 1.99 | ≤ 40 KB | met |",
		"| Envoy alone | – | 60.0 (60.0–60.0) |",
		"| tokenbudget | 39.9 (30.0–50.0) | 80.0 (80.0–80.0) |",
		"| streamed, 5 ms, 32 at once | 1.00 (1.00–1.00) | – | – | 1.29 (1.29–1.29) | 1.00 (0.50–1.50) | – |",
		"| 32 | does nothing | 30.0 | – | – | – | – | – | 400 | – | 30.0 | 40.0 | – | – | – |",
		"![CPU per 1,000 chunks](charts/road-cpu.svg)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "NaN") || strings.Contains(got, "road-requests") {
		t.Errorf("the table has what was not measured:\n%s", got)
	}
	dir := t.TempDir()
	if err := r.writeCharts(dir); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "charts", "road-cpu.svg"))
	if err != nil || !strings.Contains(string(svg), ">90.0</text>") || strings.Contains(string(svg), ">direct<") {
		t.Errorf("error %v in\n%s", err, svg)
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		figure, most float64
		want         string
	}{{1, 1, "met"}, {1.001, 1, "**missed**"}, {math.NaN(), 1, "not known"}, {5, 0, ""}} {
		if got := verdict(tt.figure, tt.most); got != tt.want {
			t.Errorf("%v beside %v: %q", tt.figure, tt.most, got)
		}
	}
}

// Every target is one of a cell that is measured.
func TestCells(t *testing.T) {
	found := 0
	for _, c := range cells() {
		found += len(c.targets())
		if !(options{only: c.String()}).wants(c.String()) || (options{only: "x" + c.String()}).wants(c.String()) {
			t.Errorf("-only does not choose %q", c)
		}
	}
	if n := len(cells()); n != 17 || found != 7 {
		t.Errorf("%d cells with %d figures that are compared", n, found)
	}
}

// What one client has asked in one cell, nobody asks again: the server would know it.
func TestTextsDiffer(t *testing.T) {
	lib := requests.NewLibrary(1)
	seen := make(map[string]string)
	for _, c := range cells() {
		for client := range min(c.atOnce, 2) {
			r := c.bodies(c.source(lib, client))
			for range 3 {
				body := string(r.Next())
				_, said, ok := strings.Cut(body, `"role":"user"`)
				if !ok {
					t.Fatalf("%s: nobody says anything", c)
				}
				if before, ok := seen[said]; ok {
					t.Errorf("%s: client %d asks what has been asked in %s", c, client, before)
				}
				seen[said] = c.String()
			}
		}
	}
}
