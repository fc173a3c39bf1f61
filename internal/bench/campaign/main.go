// Command campaign runs the long campaigns whole, of which the tests run samples, and
// writes what came out into docs/testing.md.
//
//	make campaign                                   # all steps, hours
//	make campaign CAMPAIGN='-only kills,cuts'       # some
//	make campaign CAMPAIGN='-kills 100 -keep'       # a short one; docs/testing.md stays as it is
//
// It runs in the root of the repository. The steps:
//
//	tokens      internal/tokens against Python tiktoken (internal/bench/tokens, which
//	            writes a section of its own)
//	kills       a ledger's process is killed at random moments, and the store is compared
//	            with what was acknowledged
//	properties  every test that uses rapid, with more checks
//	fuzz        every fuzz target, ten minutes each (internal/bench/fuzz)
//	cuts        streams are cut behind a real Envoy
//	streams     many streams are open at the same time (internal/bench/load)
//	soak        a server is kept busy for an hour, and must not grow (the same)
//
// Tests, properties and fuzz targets are found in the source, so that new ones take part.
// A step that fails does not stop the others; its section stays as it was, and the
// command fails. What is found has its own reports: rapid prints a seed, the fuzzer
// writes a file below testdata/fuzz.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// timeout ends a campaign that hangs in spite of the deadlines of go test.
const timeout = 24 * time.Hour

type options struct {
	only   string
	keep   bool
	kills  int
	checks int
	fuzz   string
	atOnce int
	cuts   int

	streams int
	soak    time.Duration
}

// A step is a part of the campaign.
type step struct {
	name string
	run  func(ctx context.Context, o options) (table string, err error)
}

var steps = []step{
	{"tokens", tokens},
	{"kills", kills},
	{"properties", properties},
	{"fuzz", fuzz},
	{"cuts", cuts},
	{"streams", streams},
	{"soak", soak},
}

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "run these steps, separated by commas: "+names())
	flag.BoolVar(&o.keep, "keep", false, "leave docs/testing.md as it is; tokens cannot do that")
	flag.IntVar(&o.kills, "kills", 1000, "how often a process is killed; at least 4")
	flag.IntVar(&o.checks, "checks", 10_000, "checks of each property")
	flag.StringVar(&o.fuzz, "fuzz", "10m", "time of each fuzz target, or runs: 20000x")
	flag.IntVar(&o.atOnce, "fuzz-at-once", 0, "how many fuzz targets run at a time; 0 is the number of processors")
	flag.IntVar(&o.cuts, "cuts", 5, "how often a thousand streams are cut")
	flag.IntVar(&o.streams, "streams", 10_000, "how many streams are open at the same time; at least 10")
	flag.DurationVar(&o.soak, "soak", time.Hour, "how long a server is kept busy; at least 20s")
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

func names() string {
	var all []string
	for _, s := range steps {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}

func run(ctx context.Context, o options) error {
	if o.kills < 4 || o.checks < 1 || o.cuts < 1 || o.streams < 10 || o.soak < 20*time.Second {
		return errors.New("-kills must be 4 or more, -checks and -cuts 1 or more, -streams 10 or more, -soak 20s or more")
	}
	doc := filepath.Join("docs", "testing.md")
	if _, err := os.Stat(doc); err != nil {
		return fmt.Errorf("run this in the root of the repository: %w", err)
	}
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range chosen {
		begin := time.Now()
		logf("%s: begins", s.name)
		table, err := s.run(ctx, o)
		took := time.Since(begin).Round(time.Second)
		if err != nil {
			logf("%s: FAILED after %s: %v", s.name, took, err)
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		logf("%s: passed in %s", s.name, took)
		if table == "" {
			continue // it has written its own
		}
		table = fmt.Sprintf("%d processors, %s, %.0f s in all.\n\n%s", runtime.NumCPU(), runtime.Version(), took.Seconds(), table)
		fmt.Println(table)
		if o.keep {
			continue
		}
		if err := bench.WriteSection(doc, "campaign-"+s.name, table); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// choose returns the steps that are asked for, in their order; all for "".
func choose(only string) ([]step, error) {
	if only == "" {
		return steps, nil
	}
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.name == name }) {
			return nil, fmt.Errorf("-only %q: the steps are %s", name, names())
		}
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return !slices.Contains(wanted, s.name) }), nil
}

// logf says on stderr what is going on.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05")+" "+format+"\n", args...)
}
