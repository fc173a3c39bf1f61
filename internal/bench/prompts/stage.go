package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// startTimeout is how long a server or an Envoy may take to be ready.
const startTimeout = 2 * time.Minute

// stage is all that runs during a measurement.
type stage struct {
	opts     options
	upstream *upstream
	noop     *side
	ours     *side
}

// side is a server with its Envoy.
type side struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer // its end ends the server
	envoy *envoyrun.Envoy
	addr  string // of Envoy's listener
}

// newStage starts everything.
func newStage(ctx context.Context, o options) (s *stage, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s = &stage{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.upstream, err = startUpstream(ctx); err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	if o.against != "" {
		s.noop, err = s.startSide(ctx, o.against, ours)
	} else {
		s.noop, err = s.startSide(ctx, self, doesNothing)
	}
	if err != nil {
		return s, err
	}
	var args []string
	if o.profile != "" {
		args = append(args, "-profile", o.profile)
	}
	s.ours, err = s.startSide(ctx, self, ours, args...)
	return s, err
}

func (s *stage) close() error {
	return errors.Join(s.ours.close(), s.noop.close(), s.upstream.close())
}

// startSide starts a server, which is a build of this program, and its Envoy. What
// has been started is in the side even if there is an error.
func (s *stage) startSide(ctx context.Context, program, name string, args ...string) (*side, error) {
	d := &side{name: name, cmd: exec.Command(program, append([]string{"-child", name}, args...)...)}
	d.cmd.Stderr = os.Stderr
	var err error
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	told := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n') // empty if the child has failed; it says why itself
		told <- strings.TrimSpace(line)
	}()
	extProc := ""
	select {
	case extProc = <-told:
	case <-ctx.Done():
	}
	if extProc == "" {
		return d, fmt.Errorf("the server %s has not told its address", name)
	}
	bootstrap, err := envoy.BootstrapYAML(envoy.Options{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: s.upstream.url(), ExtProc: extProc,
	})
	if err != nil {
		return d, err
	}
	if d.envoy, err = envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap}); err != nil {
		return d, err
	}
	d.addr, err = d.envoy.ListenerAddr(ctx, envoy.ListenerName)
	return d, err
}

// close ends Envoy and then the server.
func (d *side) close() (err error) {
	if d == nil {
		return nil
	}
	if d.envoy != nil {
		err = d.envoy.Close()
	}
	_ = d.stdin.Close() // fails only if the process has ended
	kill := time.AfterFunc(10*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	if waitErr := d.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("the server %s: %w", d.name, waitErr))
	}
	return err
}

// exchanges is how many exchanges Envoy has asked the server about, and how many of
// them failed.
func (d *side) exchanges(ctx context.Context) (started, failed uint64, err error) {
	stats, err := d.envoy.Stats(ctx, `ext_proc.*\.streams_(started|failed)$`)
	for name, n := range stats {
		if strings.HasSuffix(name, "_started") {
			started += n
		} else {
			failed += n
		}
	}
	return started, failed, err
}
