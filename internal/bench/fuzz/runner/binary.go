package runner

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// binary is the instrumented test binary of one package.
type binary struct {
	file  string
	dir   string // of the package: its tests run there
	cache string // where the fuzzer keeps what it finds, a folder for each target
}

const (
	buildTime     = 10 * time.Minute
	progressEvery = 15 * time.Second
	maxTail       = 60   // lines of what a target says that are kept
	maxLine       = 1000 // bytes of each of them
)

// cacheDir is where go test -fuzz keeps the inputs of all packages.
func cacheDir(ctx context.Context, root string) (string, error) {
	out, err := goCommand(ctx, root, "env", "GOCACHE").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return "", fmt.Errorf("go env GOCACHE: %w", err)
	}
	return filepath.Join(dir, "fuzz"), nil
}

func goCommand(ctx context.Context, root string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	return cmd
}

// build builds the test binary of one package.
func build(ctx context.Context, root, pkg, file, cache string) (*binary, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	if out, err := goCommand(ctx, root, "test", "-c", "-fuzz=.", "-o", file, pkg).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c %s: %w\n%s", pkg, err, out)
	}
	name, err := goCommand(ctx, root, "list", pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", pkg, err)
	}
	return &binary{
		file: file, dir: filepath.Join(root, filepath.FromSlash(pkg)),
		cache: filepath.Join(cache, filepath.FromSlash(strings.TrimSpace(string(name)))),
	}, nil
}

// run runs one target and fills in its result.
func (b *binary) run(ctx context.Context, r *Result, o Options) {
	before := b.inputs(r.Name)
	cmd := exec.CommandContext(ctx, b.file, "-test.run=^$", "-test.fuzz=^"+r.Name+"$", "-test.fuzztime="+o.Time, //nolint:gosec // built above
		"-test.fuzzminimizetime=10x", "-test.parallel=1", "-test.fuzzcachedir="+b.cache)
	cmd.Dir = b.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	done := make(chan error, 1)
	go func() { // ends with the command, which closes the pipe below
		err := cmd.Run()
		_ = write.Close()
		done <- err
	}()
	listen(read, r, o.Log)
	r.judge(<-done, ctx.Err(), strings.HasSuffix(o.Time, "x"))
	if r.Input == "" {
		for name := range b.inputs(r.Name) {
			if !before[name] { // whatever was said of it
				r.Input = path.Join(r.Pkg, "testdata", "fuzz", r.Name, name)
				r.Err = cmp.Or(r.Err, errors.New("it has written an input"))
			}
		}
	}
	if r.Err == nil {
		r.Output = nil
	}
}

// inputs are the names of a target's inputs in the repository.
func (b *binary) inputs(name string) map[string]bool {
	files, err := os.ReadDir(filepath.Join(b.dir, "testdata", "fuzz", name))
	if err != nil {
		return nil // there are none yet
	}
	all := make(map[string]bool)
	for _, f := range files {
		all[f.Name()] = true
	}
	return all
}

// What Go's fuzzer says.
var (
	progress = regexp.MustCompile(`^fuzz: elapsed: ([0-9hms]+), execs: (\d+) .*new interesting: (\d+)`)
	baseline = regexp.MustCompile(`^fuzz: elapsed: ([0-9hms]+), gathering baseline coverage: (\d+)/`)
	written  = regexp.MustCompile(`Failing input written to (testdata/fuzz/\S+)`)
	failed   = regexp.MustCompile(`^\s*--- FAIL: `)
)

// listen reads what a target says.
func listen(from io.Reader, r *Result, log func(string, ...any)) {
	shown := time.Now()
	lines := bufio.NewReaderSize(from, 64<<10)
	for {
		text, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil // a target may say much; the rest counts as a line of its own
		}
		line := strings.TrimRight(string(text), "\n")
		if m := progress.FindStringSubmatch(line); m != nil {
			r.Took, _ = time.ParseDuration(m[1])       // of a Duration
			r.Runs, _ = strconv.ParseInt(m[2], 10, 64) // digits
			r.New, _ = strconv.ParseInt(m[3], 10, 64)  // digits
			if time.Since(shown) > progressEvery {
				shown = time.Now()
				log("  %s %s: %s", r.Pkg, r.Name, strings.TrimPrefix(line, "fuzz: "))
			}
		} else if m := baseline.FindStringSubmatch(line); m != nil {
			// On a busy machine known inputs may be all that there is time for.
			r.Took, _ = time.ParseDuration(m[1])
			r.Runs, _ = strconv.ParseInt(m[2], 10, 64)
		} else if line != "" {
			if r.Output = append(r.Output, line[:min(len(line), maxLine)]); len(r.Output) > maxTail {
				r.Output = r.Output[1:]
			}
		}
		if m := written.FindStringSubmatch(line); m != nil {
			r.Input = path.Join(r.Pkg, m[1])
		}
		if err != nil {
			return
		}
	}
}

// judge decides whether a target has failed, from how its process ended, and from what it said.
// counted says that it had a number of runs, which has no end of a time.
func (r *Result) judge(exit, stopped error, counted bool) {
	switch {
	case stopped != nil:
		r.Err = fmt.Errorf("it was stopped: %w", stopped)
	case exit == nil && r.Runs == 0:
		r.Err = errors.New("it has run nothing")
	case exit == nil:
	case !counted && r.Input == "" && r.Runs > 0 && deadlineOnly(r.Output):
		r.AtDeadline = true
	default:
		r.Err = exit
	}
}

// deadlineOnly says that the fuzzer's own deadline is all that failed.
func deadlineOnly(output []string) bool {
	const deadline = "context deadline exceeded"
	found, inside := false, false
	for _, line := range output {
		text := strings.TrimSpace(line)
		switch {
		case failed.MatchString(line):
			if found || inside {
				return false // more than one has failed
			}
			inside = true
		case inside && text == deadline:
			found = true
		case inside && (text == "FAIL" || strings.HasPrefix(text, "exit status")):
		case inside, strings.HasPrefix(text, "panic:"), strings.HasPrefix(text, "fatal error:"):
			return false
		}
	}
	return found
}
