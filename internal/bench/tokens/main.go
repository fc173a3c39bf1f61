// Command tokens measures internal/tokens beside other tokenizers, and compares it with its reference.
//
//	make bench-tokens       # go run ./internal/bench/tokens: the tables of docs/benchmarks.md
//	make campaign-tokens    # go run ./internal/bench/tokens -campaign: the last result in docs/testing.md
//
// It runs in the root of the repository. What it fetches and builds is below .cache.
//
// The candidates take turns: in each round each of them works for a fraction of a second on the same text, in
// its own process if it is not Go (helper.go; the programs are in the directories python and rust). What is
// measured is the processor time of the process that counts, so that other work on the machine does not count, and
// what tiktoken-go's garbage collector does for it on other threads does. A ratio is of two neighbours in a round, and
// what is written is the median over the rounds with the smallest and the largest. A candidate whose toolchain
// is missing is left out, and the tables say so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

const (
	// cacheDir is where texts, packages and helpers are kept.
	cacheDir = ".cache/bench-tokens"
	// timeout ends a run which hangs in spite of the deadlines within it.
	timeout = 2 * time.Hour
)

func main() {
	var o options
	flag.BoolVar(&o.campaign, "campaign", false, "compare with Python tiktoken instead of measuring")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the campaign's texts")
	flag.StringVar(&o.only, "only", "", "measure one part: throughput, stream, linear or startup; docs/benchmarks.md stays as it is")
	flag.IntVar(&o.rounds, "rounds", 7, "how many turns each candidate has")
	flag.DurationVar(&o.turn, "turn", 200*time.Millisecond, "the least length of a turn")
	flag.StringVar(&o.load, "load", "", "load an encoding, print what that took, and end: what the start-up table runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // all that was deferred is for the end of the process
	}
}

type options struct {
	campaign   bool
	seed       uint64
	only, load string
	rounds     int
	turn       time.Duration
}

func run(ctx context.Context, o options) error {
	if o.load != "" {
		return printLoad(o.load)
	}
	if o.rounds < 1 || o.turn <= 0 {
		return errors.New("-rounds and -turn must be above zero")
	}
	if _, err := os.Stat("docs/benchmarks.md"); err != nil {
		return fmt.Errorf("run this in the root of the repository: %w", err)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return err
	}
	if o.campaign {
		return runCampaign(ctx, o.seed)
	}
	return measure(ctx, o)
}

// measure measures all there is, or the part that is asked for, and writes the tables.
func measure(ctx context.Context, o options) error {
	ref := reference(ctx)
	texts, err := loadTexts(ctx, ref)
	if err != nil {
		return err
	}
	var doc strings.Builder
	for _, part := range []struct {
		name string
		run  func() (string, error)
	}{
		{"throughput", func() (string, error) { return throughput(ctx, o, ref, texts) }},
		{"stream", func() (string, error) { return streaming(ctx, o, texts) }},
		{"linear", func() (string, error) { return linear(ctx, o) }},
		{"startup", func() (string, error) { return startup(ctx) }},
	} {
		if o.only != "" && o.only != part.name {
			continue
		}
		logf("measuring: %s", part.name)
		tables, err := part.run()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		doc.WriteString("\n" + tables)
	}
	if doc.Len() == 0 {
		return fmt.Errorf("-only %q: use throughput, stream, linear or startup", o.only)
	}
	content := machine() + "\n" + sources(texts) + doc.String()
	fmt.Println(content)
	if o.only != "" {
		return nil
	}
	return bench.WriteSection(filepath.Join("docs", "benchmarks.md"), "tokens", content)
}

// reference returns a function that gets Python tiktoken ready, if it is needed, and once.
func reference(ctx context.Context) func() (*python.Reference, error) {
	return sync.OnceValues(func() (*python.Reference, error) { return python.Prepare(ctx, cacheDir) })
}

// logf says on stderr what is going on.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05")+" "+format+"\n", args...)
}
