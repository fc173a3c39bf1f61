package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end once it was asked to.
const stopTimeout = time.Minute

// Process is a process that this one has started and owns.
type Process struct {
	Name string
	cmd  *exec.Cmd
	stop func() // asks it to end
	dies bool   // SIGTERM kills it
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Close asks the process to end, and kills it if it does not.
func (p *Process) Close() error {
	if p == nil {
		return nil
	}
	p.stop()
	kill := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	err := p.cmd.Wait()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && p.dies && status.Signal() == syscall.SIGTERM {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// StartChild starts a program that calls [Parent] and [Tell], and returns what it tells: the address on which it
// listens.
func StartChild(ctx context.Context, name, program string, args ...string) (*Process, string, error) {
	cmd := exec.Command(program, args...) // it outlives ctx, which is for the start only
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	p := &Process{Name: name, cmd: cmd, stop: func() { _ = stdin.Close() }} // fails only if the process has ended
	told := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n') // empty if the child has failed; it says why itself
		told <- strings.TrimSpace(line)
	}()
	addr := ""
	select {
	case addr = <-told:
	case <-ctx.Done():
	}
	if addr == "" {
		return nil, "", errors.Join(fmt.Errorf("%s has not told its address", name), p.Close())
	}
	return p, addr, nil
}

// Parent returns a context that ends when standard input does, which it does with the process that has started
// this one by [StartChild].
func Parent(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is all it says
	}()
	return ctx, stop
}

// Tell tells the process that has started this one where it listens.
func Tell(addr string) { fmt.Println(addr) }

// start starts a program that ends by SIGTERM.
func start(name string, cmd *exec.Cmd) (*Process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{Name: name, cmd: cmd, stop: func() { _ = cmd.Process.Signal(syscall.SIGTERM) }}, nil // fails only if it has ended
}
