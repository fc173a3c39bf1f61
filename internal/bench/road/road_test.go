package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/requests"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// The program under test starts itself as its children.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		if err := run(context.Background(), options{child: os.Args[2]}, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Envoy")
	}
	binary, err := stage.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// On the real road, a short run finds out every figure that it should, and none that makes no sense.
func TestMeasure(t *testing.T) {
	o := options{rounds: 1, turn: 100 * time.Millisecond, streams: 40, fresh: 1, binary: build(t)}
	measured := func(f figure, names ...string) func(*testing.T, result) {
		return func(t *testing.T, res result) {
			for _, name := range []string{direct, alone, noop, ours} {
				want := false
				for _, n := range names {
					want = want || n == name
				}
				got := res.median(f, name)
				if math.IsNaN(got) == want || got < 0 || want && got == 0 {
					t.Errorf("%s, %s: figure %d is %v, known: want %t", res, name, f, got, want)
				}
			}
		}
	}
	all := []string{direct, alone, noop, ours}
	for _, tt := range []struct {
		only   string
		cells  int
		turns  int
		checks []func(*testing.T, result)
	}{
		{"unary, 2 KB, 32", 1, 1, []func(*testing.T, result){
			measured(requestRate, all...), measured(requestP50, all...), measured(requestP99, all...), measured(firstP50), measured(chunkP50), measured(chunkRate),
			measured(requestClients, all...), measured(requestUpstream, all...), measured(requestEnvoy, all[1:]...), measured(requestServer, all[2:]...), measured(chunkServer),
		}},
		{"HTTP/2, without pause, 32", 1, 2, []func(*testing.T, result){
			measured(requestRate, all[1:]...), measured(chunkP50, all[1:]...), measured(chunkRate, all[1:]...),
			measured(chunkEnvoy, all[1:]...), measured(chunkServer, all[2:]...), measured(chunkMessages, all[2:]...),
		}},
		{"streamed, without pause, 32", 1, 2, []func(*testing.T, result){
			measured(requestRate, all...), measured(firstP50, all...), measured(firstP99, all...), measured(chunkP50, all...), measured(chunkP99, all...), measured(chunkRate, all...),
			measured(chunkClients, all...), measured(chunkUpstream, all...), measured(chunkEnvoy, all[1:]...), measured(chunkServer, all[2:]...), measured(chunkMessages, all[2:]...),
		}},
		{memoryName, 0, 0, nil},
	} {
		t.Run(tt.only, func(t *testing.T) {
			o := o
			o.only = tt.only
			r, err := measure(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.results) != tt.cells {
				t.Fatalf("%d cells, want %d", len(r.results), tt.cells)
			}
			for _, res := range r.results {
				for _, name := range all {
					want := tt.turns
					if name == direct && res.http2 {
						want = 0
					}
					if n := len(res.turns[name]); n != want {
						t.Errorf("%s has %d turns, want %d", name, n, want)
					}
				}
				for _, c := range tt.checks {
					c(t, res)
				}
			}
			if tt.only != memoryName {
				return
			}
			for _, m := range r.memory {
				if math.IsNaN(m.server) != (m.side == alone) || math.IsNaN(m.envoy) {
					t.Errorf("%s: %v bytes in the server, %v in Envoy", m.side, m.server, m.envoy)
				}
			}
			if len(r.memory) != 3 {
				t.Errorf("memory of %d sides", len(r.memory))
			}
		})
	}
	t.Run("against", func(t *testing.T) {
		o := o
		o.against, o.streams, o.only = o.binary, 0, "without pause, 1 at once"
		r, err := measure(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.results) != 1 || len(r.results[0].turns) != 2 || !strings.Contains(r.table(), "tokenbudget / before") {
			t.Errorf("%d cells\n%s", len(r.results), r.table())
		}
	})
}

// What does not agree with the upstream, Envoy, the ledger or the log is an error.
func TestChecks(t *testing.T) {
	ctx := t.Context()
	s, err := newScene(ctx, binaries{ours: build(t)}, []string{ours}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	d := s.sides[0]
	lib := requests.NewLibrary(1)
	streamed, err := dial(ctx, lib, cell{load{"", 2 * kb, stage.Answer{Chunks: 5}, false}, 2, 0}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer streamed.close()
	if _, err := s.turn(ctx, d, streamed, 0); err != nil {
		t.Fatal(err)
	}
	c, err := s.newCheck(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streamed.run(ctx, 0); err != nil {
		t.Fatal(err)
	}
	var prompt int64
	for _, cl := range streamed {
		prompt += cl.prompt
	}
	for _, tt := range []struct {
		name      string
		n, chunks int
		prompt    int64
		error     string
	}{
		{"a request too many", 3, 10, prompt, "3 answers have come, but the upstream was asked for 2"},
		{"a chunk is missing", 2, 9, prompt, "9 chunks have come, but the upstream has sent 10"},
		{"a token is missing", 2, 10, prompt + 1, fmt.Sprintf("reported %d tokens, but the ledger was charged %d", prompt+11, prompt+10)},
	} {
		if _, err := c.done(ctx, tt.n, tt.chunks, tt.prompt); err == nil || !strings.Contains(err.Error(), tt.error) {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
	if _, err := c.done(ctx, 2, 10, prompt); err != nil {
		t.Error(err)
	}
	// The log has been read now: to read nothing is an error, too.
	c.logWait = 0
	if _, err := c.done(ctx, 2, 10, prompt); err == nil || !strings.Contains(err.Error(), "the log has") {
		t.Errorf("the same log twice: error %v", err)
	}
	late := c
	late.asked.Started++
	if _, err := late.done(ctx, 2, 10, prompt); err == nil || !strings.Contains(err.Error(), "of 2 requests the server was asked about 1") {
		t.Errorf("an exchange is missing: error %v", err)
	}
}
