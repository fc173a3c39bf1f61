package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

const (
	buildTimeout = 20 * time.Minute // of the Rust program and its crates
	turnTimeout  = 10 * time.Minute // of a turn, a fraction of a second unless the machine is overwhelmed
)

// A helper is a program that takes turns in a process of its own, over lines: a request is
//
//	CANDIDATE ENCODING MILLISECONDS FILE
//
// and the reply is the nanoseconds of a pass and the number of tokens. Before the first request it prints a
// line that begins with "ready".
type helper struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	in     io.WriteCloser
	out    *bufio.Scanner
}

func startHelper(cmd *exec.Cmd, cancel context.CancelFunc) (*helper, error) {
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	h := &helper{cmd: cmd, cancel: cancel}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.in, h.out = in, bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer time.AfterFunc(turnTimeout, cancel).Stop()
	if !h.out.Scan() || !strings.HasPrefix(h.out.Text(), "ready") {
		return nil, errors.Join(errors.New("the helper program did not start; what it printed tells why"), h.close())
	}
	return h, nil
}

func (h *helper) close() error {
	defer h.cancel()
	defer time.AfterFunc(turnTimeout, h.cancel).Stop()
	return errors.Join(h.in.Close(), h.cmd.Wait())
}

func (h *helper) turn(candidate, encoding string, t *text, least time.Duration) (perPass time.Duration, tokens int, err error) {
	defer time.AfterFunc(turnTimeout, h.cancel).Stop()
	if _, err := fmt.Fprintf(h.in, "%s %s %d %s\n", candidate, encoding, least.Milliseconds(), t.file); err != nil {
		return 0, 0, err
	}
	if !h.out.Scan() {
		return 0, 0, fmt.Errorf("%s did not answer within %v", candidate, turnTimeout)
	}
	if _, err := fmt.Sscanf(h.out.Text(), "%d %d", &perPass, &tokens); err != nil {
		return 0, 0, fmt.Errorf("%s answered %q, not two numbers", candidate, h.out.Text())
	}
	return perPass, tokens, nil
}

// A voice is one of the candidates in a helper.
type voice struct {
	*helper
	name  string
	keeps bool // somebody else closes the helper
}

func (v voice) turn(encoding string, t *text, least time.Duration) (time.Duration, int, error) {
	return v.helper.turn(v.name, encoding, t, least)
}

func (v voice) close() error {
	if v.keeps {
		return nil
	}
	return v.helper.close()
}

func startPython(ctx context.Context, ref func() (*python.Reference, error)) (candidate, error) {
	r, err := ref()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	h, err := startHelper(r.Command(ctx, "-c", python.BenchScript), cancel)
	if err != nil {
		cancel()
		return nil, err
	}
	return voice{helper: h, name: "tiktoken"}, nil
}

// startRust builds the program in the directory rust and starts it.
func startRust(ctx context.Context) (*helper, error) {
	if _, err := exec.LookPath("cargo"); err != nil {
		return nil, errors.New("cargo is not on PATH; install Rust")
	}
	target, err := filepath.Abs(filepath.Join(cacheDir, "rust"))
	if err != nil {
		return nil, err
	}
	build, stop := context.WithTimeout(ctx, buildTimeout)
	defer stop()
	logf("building the Rust candidates")
	cmd := exec.CommandContext(build, "cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", "internal/bench/tokens/rust/Cargo.toml", "--target-dir", target)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cargo build failed (%w); the crate registry must be reachable once\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	h, err := startHelper(exec.CommandContext(ctx, filepath.Join(target, "release", "tokens-bench")), cancel)
	if err != nil {
		cancel()
	}
	return h, err
}
