package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

func TestParseWith(t *testing.T) {
	for list, want := range map[string]string{
		"": "", "litellm": liteLLM, "ratelimit": rateLimit, "ratelimit,litellm": rateLimit + "," + liteLLM, "litellm, ratelimit,litellm": liteLLM + "," + rateLimit,
	} {
		wanted, err := parseWith(list)
		var names []string
		for _, o := range wanted {
			names = append(names, o.name)
		}
		if got := strings.Join(names, ","); err != nil || got != want {
			t.Errorf("-with %q is %q, error %v, want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"redis", "litellm,", ",", "LiteLLM"} {
		if _, err := parseWith(list); err == nil || !strings.Contains(err.Error(), "is litellm, ratelimit") {
			t.Errorf("-with %q: error %v", list, err)
		}
		// It is refused before anything is measured.
		if err := run(t.Context(), options{rounds: 1, turn: time.Second, fresh: 1, with: list}, true); err == nil || !strings.Contains(err.Error(), "-with") {
			t.Errorf("-with %q: the run ends with error %v", list, err)
		}
	}
}

// Which sides are measured where: ours everywhere, others in few cells.
func TestMeasures(t *testing.T) {
	count := make(map[string]int)
	for _, c := range cells() {
		for _, name := range []string{direct, alone, noop, ours, theBefore, liteLLM, rateLimit} {
			if c.measures(name) {
				count[name]++
			}
		}
		if c.measures(rateLimit) && (c.atOnce != 32 || c.size != 2*kb) {
			t.Errorf("%s is measured in %s", rateLimit, c)
		}
	}
	all := len(cells())
	for name, want := range map[string]int{direct: all - 2, alone: all, noop: all, ours: all, theBefore: all, liteLLM: 3, rateLimit: 4} {
		if count[name] != want {
			t.Errorf("%s is measured in %d of %d cells, want %d", name, count[name], all, want)
		}
	}
}

// The tables and charts have a place for Redis when it was measured, and none otherwise.
func TestRedisColumn(t *testing.T) {
	figures := func(store float64) turn {
		return turnOf(map[figure]float64{
			requestServer: 2e-4, requestStore: store, requestEnvoy: 3e-4, chunkServer: 2e-6, chunkStore: store / 100, chunkEnvoy: 3e-6, requestRate: 30, chunkRate: 9, chunkP50: 1e-4,
		})
	}
	r := &report{
		opts: options{rounds: 1, turn: time.Second}, names: []string{noop, ours, rateLimit}, base: noop,
		results: []result{
			{cell{loads[0], 32, 0}, map[string][]turn{noop: {figures(math.NaN())}, ours: {figures(math.NaN())}, rateLimit: {figures(5e-5)}}},
			{cell{loads[3], 32, 0}, map[string][]turn{noop: {figures(math.NaN())}, ours: {figures(math.NaN())}, rateLimit: {figures(5e-5)}}},
		},
	}
	svg := func() string {
		dir := t.TempDir()
		if err := r.writeCharts(dir); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, chartDir, "road-cpu.svg"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	table, chart := r.table(), svg()
	for _, want := range []string{
		"µs: server | Redis | Envoy |", "| 32 | ratelimit | 30.0 | – | – | 200 | 50.0 | 300 |", "| 32 | tokenbudget | 30.0 | – | – | 200 | – | 300 |",
		"ms: server | Redis | Envoy |", "| 2.00 | 0.50 | 3.00 |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	if !strings.Contains(chart, ">Redis<") || !strings.Contains(chart, ">5.50<") || !strings.Contains(chart, ">5.00<") {
		t.Errorf("the chart:\n%s", chart)
	}
	r.names = r.names[:2]
	if table, chart := r.table(), svg(); strings.Contains(table, "Redis") || strings.Contains(table, rateLimit) || strings.Contains(chart, "Redis") {
		t.Errorf("without ratelimit:\n%s\n%s", table, chart)
	}
}

// A real turn with envoyproxy/ratelimit and Redis: it counts to the token what the upstream reports, of whole answers and of streams
// over either HTTP version, and what does not agree is an error.
func TestRateLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Envoy")
	}
	installed, cancel := context.WithCancel(t.Context())
	cancel() // what is there is found, and nothing is installed
	programs, err := stage.InstallRateLimit(installed)
	if err != nil {
		t.Skip(`envoyproxy/ratelimit or Redis is not at hand; make bench BENCH='-quick -with ratelimit -only "2 KB, 32"' installs them`)
	}
	ctx := t.Context()
	lib := requests.NewLibrary(1)
	for _, http2 := range []bool{false, true} {
		s, err := newScene(ctx, binaries{rateLimit: programs}, []string{rateLimit}, http2)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.close(); err != nil {
				t.Error(err)
			}
		}()
		d := s.sides[0]
		for _, l := range []load{{"whole", 2 * kb, stage.Answer{}, http2}, {"streamed", 2 * kb, stage.Answer{Chunks: 5}, http2}} {
			all, err := dial(ctx, lib, cell{l, 2, 0}, d)
			if err != nil {
				t.Fatal(err)
			}
			defer all.close()
			turn, err := s.turn(ctx, d, all, 0)
			if err != nil {
				t.Fatalf("%s, HTTP/2 %t: %v", l.name, http2, err)
			}
			for _, f := range []figure{requestRate, requestServer, requestStore, requestEnvoy} {
				if !(turn[f] >= 0) { // a short turn may take less CPU than the clock's step
					t.Errorf("%s, HTTP/2 %t: figure %d is %v", l.name, http2, f, turn[f])
				}
			}
		}

		all, err := dial(ctx, lib, cell{load{"", 2 * kb, stage.Answer{}, http2}, 2, 1}, d)
		if err != nil {
			t.Fatal(err)
		}
		defer all.close()
		c, err := s.newCheck(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.run(ctx, 0); err != nil {
			t.Fatal(err)
		}
		tokens := all[0].prompt + all[1].prompt + 2*stage.WholeOutput
		if err := c.counted(ctx, 2, tokens, countWait); err != nil {
			t.Error(err)
		}
		for _, tt := range []struct {
			n      int
			tokens int64
		}{{3, tokens}, {2, tokens + 1}, {2, tokens - 1}} {
			if err := c.counted(ctx, tt.n, tt.tokens, 0); err == nil || !strings.Contains(err.Error(), "ratelimit was asked about 2") {
				t.Errorf("%d requests, %d tokens: error %v", tt.n, tt.tokens-tokens, err)
			}
		}
	}
}
