package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/stage"
)

// timeout ends a run which hangs in spite of the deadlines within it.
const timeout = 2 * time.Hour

// options are the command line.
type options struct {
	rounds  int           // turns of each side in a cell; twice as many in cells that have a target
	turn    time.Duration // length of one turn
	streams int           // open at a time where memory is measured
	fresh   int           // times that this is done, each with new processes
	only    string        // part of a cell's name; empty for all
	binary  string        // of tokenbudget; empty: built from the tree
	against string        // another binary of tokenbudget, beside which it is measured
	with    string        // products of others, separated by commas
	charts  string        // folder for the charts; empty: that of the documentation
	child   string        // which process this is
}

// What -child takes.
const (
	childNoop     = "noop"
	childUpstream = "upstream"
	childHTTP2    = "upstream-http2"
)

func main() {
	var o options
	var quick bool
	flag.IntVar(&o.rounds, "rounds", 6, "turns of each side in a cell; cells that have a target get twice as many")
	flag.DurationVar(&o.turn, "duration", 900*time.Millisecond, "length of a turn, which ends with the requests that are under way then; a stream with pauses takes a second")
	flag.IntVar(&o.streams, "streams", 1000, "open streams where memory is measured; 0: it is not")
	flag.IntVar(&o.fresh, "fresh", 3, "times that memory is measured, each with new processes")
	flag.BoolVar(&quick, "quick", false, "one short turn for a cell, two for those with a target; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.only, "only", "", "measure the cells whose name contains this, such as streamed or \"256 at once\" (memory is one, too); docs/benchmarks.md stays as it is")
	flag.StringVar(&o.binary, "binary", "", "measure this binary of tokenbudget instead of one built from the tree; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.against, "against", "", "measure beside this other binary of tokenbudget, and nothing else; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.with, "with", "", "measure these beside, in cells of 2 KB and 32 at once, separated by commas: litellm, which is installed from PyPI once; "+
		"ratelimit, Envoy's rate limit filter with envoyproxy/ratelimit, which is built once, and a Redis")
	flag.StringVar(&o.charts, "charts", "", "write the charts into a folder below this one; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.child, "child", "", "be one of the processes, noop, upstream or upstream-http2; for this program itself")
	flag.Parse()
	if quick {
		o.rounds, o.turn, o.streams, o.fresh = 1, 300*time.Millisecond, min(o.streams, 200), 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := run(ctx, o, quick); err != nil {
		fmt.Fprintf(os.Stderr, "road: %v\n", err)
		os.Exit(1) //nolint:gocritic // all that was deferred is for the end of the process
	}
}

func run(ctx context.Context, o options, quick bool) error {
	switch o.child {
	case "":
	case childNoop:
		return stage.ServeNoop(ctx)
	case childUpstream:
		return stage.ServeUpstream(ctx)
	case childHTTP2:
		return stage.ServeHTTP2Upstream(ctx)
	default:
		return fmt.Errorf("-child %q: use %s, %s or %s", o.child, childNoop, childUpstream, childHTTP2)
	}
	if o.rounds < 1 || o.turn <= 0 || o.streams < 0 || o.streams > maxAtOnce || o.fresh < 1 {
		return fmt.Errorf("-rounds, -duration and -fresh must be above zero, and -streams from 0 to %d", maxAtOnce)
	}
	if _, err := parseWith(o.with); err != nil {
		return err
	}
	docs := "docs"
	file := filepath.Join(docs, "benchmarks.md")
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("run this in the root of the repository: %w", err)
	}
	// A stream takes two file descriptors of an Envoy. Set by hand, the limit is the
	// children's as well.
	if err := raiseFiles(); err != nil {
		return err
	}
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	content := r.table()
	fmt.Println(content)
	if o.charts != "" {
		return r.writeCharts(o.charts)
	}
	if o.only != "" || o.against != "" || o.binary != "" || quick {
		return nil
	}
	if err := r.writeCharts(docs); err != nil {
		return err
	}
	return bench.WriteSection(file, "road", content)
}

// wants reports whether a cell is to be measured.
func (o options) wants(cell string) bool { return strings.Contains(cell, o.only) }
