package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// An event is a line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

const (
	// progressEvery is how often a test that goes on shows what it said last.
	progressEvery = 10 * time.Second
	// maxTail bounds the lines of a failed test that are shown.
	maxTail = 80
)

// goTest runs go test with more arguments and environment, and shows how it goes on. The
// error says what failed, after the end of its output was shown.
func goTest(ctx context.Context, env []string, args ...string) ([]event, error) {
	args = append([]string{"test", "-json"}, args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	logf("  go %s", strings.Join(args, " "))
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var events []event
	var tail []string
	shown := time.Now()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Action: "output", Output: lines.Text() + "\n"} // of the compiler
		}
		events = append(events, e)
		if e.Output == "" {
			continue
		}
		text := strings.TrimRight(e.Output, "\n")
		if tail = append(tail, text); len(tail) > maxTail {
			tail = tail[1:]
		}
		if strings.HasPrefix(text, "--- ") || time.Since(shown) > progressEvery {
			shown = time.Now()
			logf("    %.200s", text)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		fmt.Fprintln(os.Stderr, strings.Join(tail, "\n"))
		return events, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return events, nil
}
