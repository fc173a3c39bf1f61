package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/fuzz/runner"
)

// tokens compares internal/tokens with its reference, and writes its own section.
func tokens(ctx context.Context, _ options) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "run", "./internal/bench/tokens", "-campaign")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return "", cmd.Run()
}

var errNoFigures = errors.New("the test has passed, but its output lacks the figures that are to be kept; its messages and internal/bench/campaign must agree")

// What TestKilled says.
var (
	killed   = regexp.MustCompile(`(\d+) kills, (\d+) settlements acknowledged, (\d+) reservations open`)
	foundOut = regexp.MustCompile(`found out by kill (\d+)`)
)

// kills kills a ledger's process again and again.
func kills(ctx context.Context, o options) (string, error) {
	events, err := goTest(ctx, []string{"BUDGET_TEST_KILL_COUNT=" + strconv.Itoa(o.kills)}, "-v", "-count=1", "-timeout=6h", "-run=^TestKilled$", "./budget")
	if err != nil {
		return "", err
	}
	return killTable(events)
}

func killTable(events []event) (string, error) {
	t := newTable("`fsync`", "kills", "settlements acknowledged", "holds open", "faults")
	for _, e := range events {
		_, mode, _ := strings.Cut(e.Test, "/")
		mode = strings.ReplaceAll(mode, "_", " ")
		if m := killed.FindStringSubmatch(e.Output); m != nil {
			t.row(mode, thousands(m[1]), thousands(m[2]), thousands(m[3]), "0")
		} else if m := foundOut.FindStringSubmatch(e.Output); m != nil {
			t.row(mode, thousands(m[1]), "", "", "found out")
		}
	}
	return t.done()
}

var passed = regexp.MustCompile(`\[rapid\] OK, passed (\d+) tests \(([0-9.a-zµ]+)\)`)

// properties runs the tests that use rapid, with more checks.
func properties(ctx context.Context, o options) (string, error) {
	all, err := bench.FindTests(".", isProperty)
	if err != nil {
		return "", err
	}
	t := newTable("property", "checks", "s")
	var failed []error
	for _, p := range all {
		events, err := goTest(ctx, nil, "-v", "-count=1", "-timeout=6h", "-run=^("+strings.Join(p.Names, "|")+")$", p.Pkg, "-rapid.checks="+strconv.Itoa(o.checks))
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if err := propertyRows(t, p, events); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.Pkg, err))
		}
	}
	if len(failed) > 0 {
		return "", errors.Join(failed...)
	}
	return t.done()
}

func propertyRows(t *table, p bench.Tests, events []event) error {
	type result struct {
		checks int
		took   time.Duration
	}
	results := make(map[string]result)
	for _, e := range events {
		m := passed.FindStringSubmatch(e.Output)
		if m == nil {
			continue
		}
		name, _, _ := strings.Cut(e.Test, "/")
		n, _ := strconv.Atoi(m[1])          // digits
		took, _ := time.ParseDuration(m[2]) // of a Duration
		r := results[name]
		results[name] = result{r.checks + n, r.took + took}
	}
	for _, name := range p.Names {
		r, ok := results[name]
		if !ok {
			return fmt.Errorf("%s: %w", name, errNoFigures)
		}
		t.row(fmt.Sprintf("`%s` `%s`", strings.TrimPrefix(p.Pkg, "./"), name), thousands(strconv.Itoa(r.checks)), seconds(r.took))
	}
	return nil
}

// fuzz runs every fuzz target.
func fuzz(ctx context.Context, o options) (string, error) {
	results, err := runner.Run(ctx, runner.Options{Root: ".", Time: o.fuzz, AtOnce: o.atOnce, Log: func(format string, args ...any) { logf("  "+format, args...) }})
	if err != nil {
		return "", err
	}
	for _, r := range results {
		if r.Err != nil {
			fmt.Fprintf(os.Stderr, "%s\n%s\n", &r, strings.Join(r.Output, "\n"))
		}
	}
	if err := runner.Failed(results); err != nil {
		return "", err
	}
	return fuzzTable(results)
}

func fuzzTable(results []runner.Result) (string, error) {
	t := newTable("target", "runs", "new coverage", "s")
	for _, r := range results {
		t.row(fmt.Sprintf("`%s` `%s`", strings.TrimPrefix(r.Pkg, "./"), r.Name), thousands(strconv.FormatInt(r.Runs, 10)), thousands(strconv.FormatInt(r.New, 10)), fmt.Sprintf("%.0f", r.Took.Seconds()))
	}
	return t.done()
}

var cut = regexp.MustCompile(`(\d+) cuts; .*: p50 (\S+), p99 (\S+), most (\S+)`)

// cuts cuts streams behind a real Envoy; with them run the tests of clients that leave
// and of parallel streams.
func cuts(ctx context.Context, o options) (string, error) {
	events, err := goTest(ctx, nil, "-v", "-timeout=6h", "-count="+strconv.Itoa(o.cuts), "-run=^(TestCuts|TestClientAborts|TestParallelStreams)$", "./internal/e2e")
	if err != nil {
		return "", err
	}
	return cutTable(events)
}

func cutTable(events []event) (string, error) {
	t := newTable("cuts", "clean", "p50", "p99", "most")
	times := make(map[string]int)
	for _, e := range events {
		if e.Action == "pass" {
			times[e.Test]++
		}
		if m := cut.FindStringSubmatch(e.Output); m != nil {
			t.row(thousands(m[1]), thousands(m[1]), millis(m[2]), millis(m[3]), millis(m[4]))
		}
	}
	text, err := t.done()
	return text + fmt.Sprintf("\n`TestClientAborts` passed %d times, `TestParallelStreams` %d times.\n", times["TestClientAborts"], times["TestParallelStreams"]), err
}
