// Command mutants puts deliberate faults into the code, one at a time, and demands that tests
// find each of them: a test that cannot fail shows nothing.
//
//	make mutants                      # all of them
//	make mutants MUTANTS='-only sse'  # those whose name or file matches an expression
//
// A mutant replaces a text that stands in its file once. The file itself stays as it is: go
// test -overlay compiles another in its place. Every test that a mutant names must fail then,
// and pass without it. A mutant whose text is not found, or stands there twice, or that does not
// compile, is an error: mend it in list.go when the code has changed.
//
// It runs in the root of the repository, and writes the table of docs/testing.md unless -keep
// says not to, or only some were run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// timeout ends a run that hangs in spite of the deadlines of its tests.
const timeout = 2 * time.Hour

func main() {
	only := flag.String("only", "", "run the mutants whose name or file matches this regular `expression`")
	keep := flag.Bool("keep", false, "leave docs/testing.md as it is")
	flag.Parse()
	if err := run(*only, *keep); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(only string, keep bool) error {
	chosen := mutants
	if only != "" {
		match, err := regexp.Compile(only)
		if err != nil {
			return fmt.Errorf("-only: %w", err)
		}
		chosen = nil
		for _, m := range mutants {
			if match.MatchString(m.name) || match.MatchString(m.file) {
				chosen = append(chosen, m)
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begin := time.Now()
	if err := hunt(ctx, ".", chosen, func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05")+" "+format+"\n", args...)
	}); err != nil {
		return err
	}
	fmt.Printf("%d mutants, all found by the tests they name, in %.0f s\n", len(chosen), time.Since(begin).Seconds())
	if keep || only != "" {
		return nil
	}
	return bench.WriteSection(filepath.Join("docs", "testing.md"), "mutants", table())
}
