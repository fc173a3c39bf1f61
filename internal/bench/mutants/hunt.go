package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// mutant is a deliberate fault.
type mutant struct {
	name      string
	invariant string   // what it breaks
	file      string   // from the root of the repository
	old, new  string   // old stands in the file once
	tests     []string // that must fail, as "./package TestName/subtest"
}

const (
	buildTime = 10 * time.Minute
	testTime  = 3 * time.Minute // a mutant may well make a test hang
)

// hunt runs mutants, as many at once as there are processors. The error has a line for each
// that was not found, or could not be made.
func hunt(ctx context.Context, root string, all []mutant, log func(format string, args ...any)) error {
	if len(all) == 0 {
		return errors.New("there is no mutant to run")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h := &hunter{root: root, dir: dir, plain: make(map[string]func() error)}
	faults := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for i, m := range all {
		g.Go(func() error {
			begin := time.Now()
			faults[i] = h.try(ctx, i, m)
			switch {
			case faults[i] != nil:
				faults[i] = fmt.Errorf("%s (%s): %w", m.name, m.file, faults[i])
				log("%v", faults[i])
			default:
				log("%s: found, in %.0f s", m.name, time.Since(begin).Seconds())
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	return errors.Join(faults...)
}

// hunter is what all mutants share.
type hunter struct {
	root, dir string

	mu    sync.Mutex
	plain map[string]func() error // by test: whether it passes without any mutant
}

// try makes one mutant and runs its tests.
func (h *hunter) try(ctx context.Context, number int, m mutant) error {
	overlay, err := h.overlay(number, m)
	if err != nil {
		return err
	}
	if len(m.tests) == 0 {
		return errors.New("it names no test")
	}
	binaries := make(map[string]string) // by package
	for _, t := range m.tests {
		pkg, name, _ := strings.Cut(t, " ")
		if err := h.passes(ctx, pkg, name); err != nil {
			return err
		}
		if binaries[pkg] == "" {
			file := filepath.Join(h.dir, fmt.Sprintf("%d-%d.test", number, len(binaries)))
			if err := h.build(ctx, pkg, file, "-overlay="+overlay); err != nil {
				return fmt.Errorf("it does not compile: %w", err)
			}
			binaries[pkg] = file
			defer os.Remove(file)
		}
		out, err := h.test(ctx, pkg, binaries[pkg], name)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case strings.Contains(out, "no tests to run"):
			return fmt.Errorf("there is no test %s in %s", name, pkg)
		case err == nil:
			return fmt.Errorf("%s of %s passes all the same", name, pkg)
		}
		top, _, _ := strings.Cut(name, "/")
		if !strings.Contains(out, "--- FAIL: "+top) && !strings.Contains(out, "panic: ") && !strings.Contains(out, "fatal error: ") {
			return fmt.Errorf("%s of %s did not fail, but ended with %w:\n%s", name, pkg, err, tail(out))
		}
	}
	return nil
}

// overlay writes the mutated file, and the file that names it to go build.
func (h *hunter) overlay(number int, m mutant) (string, error) {
	file := filepath.Join(h.root, filepath.FromSlash(m.file))
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.old); n != 1 || m.old == m.new {
		return "", fmt.Errorf("the text that it replaces stands in the file %d times, and must stand there once: mend it in internal/bench/mutants/list.go", n)
	}
	mutated := filepath.Join(h.dir, fmt.Sprintf("%d.go", number))
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{file: mutated}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(h.dir, fmt.Sprintf("%d.json", number))
	return overlay, os.WriteFile(overlay, list, 0o600)
}

// passes says that a test passes without a mutant; it runs each once.
func (h *hunter) passes(ctx context.Context, pkg, name string) error {
	h.mu.Lock()
	once := h.plain[pkg+" "+name]
	if once == nil {
		built := h.plain[pkg]
		file := filepath.Join(h.dir, strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "-")+".test")
		if built == nil {
			built = sync.OnceValue(func() error { return h.build(ctx, pkg, file) })
			h.plain[pkg] = built
		}
		once = sync.OnceValue(func() error {
			if err := built(); err != nil {
				return err
			}
			if out, err := h.test(ctx, pkg, file, name); err != nil || strings.Contains(out, "no tests to run") {
				return fmt.Errorf("%s of %s does not pass without any mutant: %w\n%s", name, pkg, err, tail(out))
			}
			return nil
		})
		h.plain[pkg+" "+name] = once
	}
	h.mu.Unlock()
	return once()
}

func (h *hunter) build(ctx context.Context, pkg, file string, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	args := append([]string{"test", "-c", "-vet=off", "-o", file}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...) //nolint:gosec // a tool for the repository it is in
	cmd.Dir = h.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c %s: %w\n%s", pkg, err, tail(string(out)))
	}
	return nil
}

// test runs one test of a binary, in the folder of its package. A name's parts are matched
// whole.
func (h *hunter) test(ctx context.Context, pkg, file, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, testTime+time.Minute)
	defer cancel()
	run := "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	dir := filepath.Join(h.root, filepath.FromSlash(pkg))
	args := []string{"-test.run=" + run, "-test.timeout=" + testTime.String()}
	if usesRapid(dir) {
		args = append(args, "-rapid.nofailfile") // it would leave one below testdata
	}
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// usesRapid says whether the tests of a package know rapid's flags.
func usesRapid(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), `"pgregory.net/rapid"`) {
			return true
		}
	}
	return false
}

// tail is the end of what a command said.
func tail(s string) string {
	const most = 2000
	if len(s) > most {
		return "…" + strings.ToValidUTF8(s[len(s)-most:], "")
	}
	return s
}

// table is the table of mutants for the documentation.
func table() string {
	var out strings.Builder
	out.WriteString("| mutant | in | breaks | found by |\n|---|---|---|---|\n")
	for _, m := range mutants {
		var tests []string
		for _, t := range m.tests {
			pkg, name, _ := strings.Cut(t, " ")
			tests = append(tests, "`"+strings.TrimPrefix(pkg, "./")+"` `"+name+"`")
		}
		fmt.Fprintf(&out, "| %s | `%s` | %s | %s |\n", m.name, m.file, m.invariant, strings.Join(tests, ", "))
	}
	return out.String()
}
