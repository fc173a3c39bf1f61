// Command fuzz runs every fuzz target of the repository, as many at once as there are
// processors, and prints how often each was executed.
//
//	make fuzz                                 # 60 seconds each
//	make fuzz FUZZTIME=10m                    # or a number of runs: FUZZTIME=20000x
//	make fuzz FUZZ='-only internal/dialect'   # those whose package and name match an expression
//
// It runs in the root of the repository, and fails if a target does. The input that made it
// fail is then below the package's testdata/fuzz.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/fuzz/runner"
)

// timeout ends a run that hangs in spite of the deadlines of its targets.
const timeout = 24 * time.Hour

func main() {
	o := runner.Options{Root: ".", Log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05")+" "+format+"\n", args...)
	}}
	var only string
	flag.StringVar(&o.Time, "time", "60s", "how long each target runs, or how often: 20000x")
	flag.StringVar(&only, "only", "", "run the targets whose \"PACKAGE NAME\" matches this regular `expression`")
	flag.IntVar(&o.AtOnce, "at-once", 0, "how many run at a time; 0 is the number of processors")
	flag.Parse()
	if err := run(o, only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o runner.Options, only string) (err error) {
	if only != "" {
		if o.Only, err = regexp.Compile(only); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results, err := runner.Run(ctx, o)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "package\ttarget\truns\tnew coverage\ts\t")
	for _, r := range results {
		note := ""
		switch {
		case r.Err != nil:
			note = "FAILED"
		case r.AtDeadline:
			note = "(go.dev/issue/75804)"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%.0f\t%s\n", strings.TrimPrefix(r.Pkg, "./"), r.Name, r.Runs, r.New, r.Took.Seconds(), note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			fmt.Fprintf(os.Stderr, "\n%s\n%s\n", &r, strings.Join(r.Output, "\n"))
		}
	}
	if failed := runner.Failed(results); failed != nil {
		return fmt.Errorf("\nfuzzing has failed:\n%w", failed)
	}
	return nil
}
