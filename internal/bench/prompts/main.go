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
	"syscall"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// timeout ends a run which hangs in spite of the deadlines within it.
const timeout = time.Hour

// options are the command line.
type options struct {
	connections int           // at a time
	rounds      int           // turns of each server in a row
	turn        time.Duration // length of one turn
	only        string        // part of a row's name; empty for all
	profile     string        // file for tokenbudget's CPU profile; empty for none
	against     string        // another build of this program, in place of the server that does nothing; empty for none
	child       string        // which server this process is
}

func main() {
	var o options
	var short bool
	flag.IntVar(&o.connections, "connections", 8, "requests under way at a time")
	flag.IntVar(&o.rounds, "rounds", 9, "turns of each server in a row of the table")
	flag.DurationVar(&o.turn, "duration", 1500*time.Millisecond, "length of a turn")
	flag.BoolVar(&short, "short", false, "three turns of half a second; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.only, "only", "", "measure the rows whose name contains this; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of tokenbudget's server to this file")
	flag.StringVar(&o.against, "against", "", "measure beside the tokenbudget of this other build of this program; docs/benchmarks.md stays as it is")
	flag.StringVar(&o.child, "child", "", "be one of the servers: noop or tokenbudget; for this program itself")
	flag.Parse()
	if short {
		o.rounds, o.turn = 3, 500*time.Millisecond
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := run(ctx, o, short); err != nil {
		fmt.Fprintf(os.Stderr, "prompts: %v\n", err)
		os.Exit(1) //nolint:gocritic // all that was deferred is for the end of the process
	}
}

func run(ctx context.Context, o options, short bool) (err error) {
	if o.child != "" {
		return beServer(ctx, o)
	}
	if o.rounds < 1 || o.turn <= 0 || o.connections < 1 {
		return errors.New("-rounds, -duration and -connections must be above zero")
	}
	file := filepath.Join("docs", "benchmarks.md")
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("run this in the root of the repository: %w", err)
	}
	s, err := newScene(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	var results []result
	for _, r := range rows() {
		if !strings.Contains(r.name, o.only) {
			continue
		}
		res, err := s.measure(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		results = append(results, res)
	}
	if len(results) == 0 {
		return fmt.Errorf("-only %q: no row has that in its name", o.only)
	}
	content := table(o, results)
	fmt.Println(content)
	if o.only != "" || o.against != "" || short {
		return nil
	}
	return bench.WriteSection(file, "prompts", content)
}
