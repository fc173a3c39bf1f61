package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// Options say what is run, and how.
type Options struct {
	// Root is the folder of the module.
	Root string
	// Time is how long each target runs, as -fuzztime says it: 60s, or 1000x for a number of runs.
	Time string
	// Only chooses targets by "PACKAGE NAME", such as "./budget FuzzJournal"; nil is all of them.
	Only *regexp.Regexp
	// AtOnce is how many targets run at a time; as many as there are processors if it is 0.
	AtOnce int
	// Log is told how it goes on, a line at a time and from several goroutines; it may be nil.
	Log func(format string, args ...any)
}

// Result is how one target went.
type Result struct {
	Pkg, Name string
	Runs      int64         // executions, those of known inputs included
	New       int64         // inputs that reached new code
	Took      time.Duration // as the fuzzer says, whole seconds
	// AtDeadline says that the fuzzer has reported the end of its time as a failure, which is none.
	AtDeadline bool
	// Input is the file with the failing input, relative to the root, if one was written.
	Input string
	// Err is nil, or says what failed; Output is then the end of what the target said.
	Err    error
	Output []string
}

// Run runs the targets and returns a result for each that began, in the order of packages and
// names. The error is of what stands above them: nothing to run, or a time that is none. ctx
// ends it early, and those that run then have failed.
func Run(ctx context.Context, o Options) ([]Result, error) {
	limit, err := deadline(o.Time)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.AtOnce <= 0 {
		o.AtOnce = runtime.NumCPU()
	}
	all, err := bench.FindTests(o.Root, bench.IsFuzz)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fuzz-binaries-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cache, err := cacheDir(ctx, o.Root)
	if err != nil {
		return nil, err
	}

	var results []Result
	var binaries []func() (*binary, error) // of each result's package
	for _, p := range all {
		built := sync.OnceValues(func() (*binary, error) {
			return build(ctx, o.Root, p.Pkg, filepath.Join(dir, strings.ReplaceAll(p.Pkg[2:], "/", "-")+".test"), cache)
		})
		for _, name := range p.Names {
			if o.Only == nil || o.Only.MatchString(p.Pkg+" "+name) {
				results = append(results, Result{Pkg: p.Pkg, Name: name})
				binaries = append(binaries, built)
			}
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("there is no fuzz target to run below %s", o.Root)
	}
	o.Log("%d targets, %d at once, %s each", len(results), o.AtOnce, o.Time)
	var g errgroup.Group
	g.SetLimit(o.AtOnce)
	for i := range results {
		g.Go(func() error {
			r := &results[i]
			b, err := binaries[i]()
			if err != nil {
				r.Err = err
			} else {
				ctx, cancel := context.WithTimeout(ctx, limit)
				defer cancel()
				b.run(ctx, r, o)
			}
			o.Log("%d/%d %s", i+1, len(results), r)
			return nil
		})
	}
	return results, g.Wait()
}

// String is a line for people.
func (r *Result) String() string {
	s := fmt.Sprintf("%s %s: %d runs in %v, %d inputs reached new code", r.Pkg, r.Name, r.Runs, r.Took, r.New)
	switch {
	case r.Err != nil:
		s = fmt.Sprintf("%s %s: FAILED: %v", r.Pkg, r.Name, r.Err)
		if r.Input != "" {
			s += fmt.Sprintf("; the input is in %s, and go test -run='%s/%s' %s tries it again", r.Input, r.Name, filepath.Base(r.Input), r.Pkg)
		}
	case r.AtDeadline:
		s += " (it reported the end of its time as a failure, which is go.dev/issue/75804)"
	}
	return s
}

// Failed joins the errors of results; nil if there are none.
func Failed(results []Result) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, errors.New(r.String()))
		}
	}
	return errors.Join(errs...)
}

const (
	// slack is for what does not count as time of a target, starting and stopping among it.
	slack = 2 * time.Minute
	// longest bounds targets that have a number of runs instead of a time.
	longest = 12 * time.Hour
)

var runsOnly = regexp.MustCompile(`^[1-9][0-9]*x$`)

// deadline is when a target that has got t as -fuzztime hangs.
func deadline(t string) (time.Duration, error) {
	if runsOnly.MatchString(t) {
		return longest, nil
	}
	d, err := time.ParseDuration(t)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("the time %q of a fuzz target is neither a duration, such as 60s, nor a number of runs, such as 1000x", t)
	}
	return d + slack, nil
}
