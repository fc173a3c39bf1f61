package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

//go:embed chat.py
var chatScript string

// sdk is the client's library, pinned.
const sdk = "openai==3.54.0"

// user is whom the demo spends for.
const user = "bob"

// stage is all that runs.
type stage struct {
	dir      string
	binary   string // tokenbudget, just built
	python   string // with the SDK
	config   string
	limit    int64
	period   string
	admin    string // the server's
	url      string // of Envoy
	upstream *standin.Server
	log      serverLog
}

// withStage builds and starts everything, calls f, and ends everything.
func withStage(ctx context.Context, stay bool, f func(context.Context, *stage) error) (err error) {
	s := &stage{limit: 40, period: "day"}
	if stay {
		// One who tries does not want to wait for tomorrow.
		s.limit, s.period = 400, "minute"
	}
	if s.dir, err = os.MkdirTemp("", "tokenbudget-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()

	step := func(what string, do func() error) {
		if err != nil {
			return
		}
		start := time.Now()
		fmt.Printf("%-64s", what+" …")
		if err = do(); err != nil {
			fmt.Println("failed")
			err = fmt.Errorf("%s: %w", what, err)
			return
		}
		fmt.Printf("%6.1f s\n", time.Since(start).Seconds())
	}
	var envoyPath string
	step("building tokenbudget", func() error { return s.build(ctx) })
	step("finding Envoy ($ENVOY_BIN, PATH, or the PyPI package)", func() (err error) {
		envoyPath, err = envoyrun.Find(ctx)
		return err
	})
	if !stay {
		step("finding the official SDK ("+sdk+" from PyPI)", func() (err error) {
			s.python, err = envoyrun.PythonVenv(ctx, "demo", sdk)
			return err
		})
	}
	step("starting the stand-in upstream, which replays a recording", func() (err error) {
		s.upstream, err = standin.Start(standin.Options{Recording: "openai/chat-streaming"})
		return err
	})
	if s.upstream != nil {
		defer s.upstream.Close()
	}
	var server *exec.Cmd
	step("starting tokenbudget serve", func() (err error) {
		server, err = s.startServer(ctx)
		return err
	})
	if server != nil {
		defer func() { err = errors.Join(err, stopProcess(ctx, server)) }()
	}
	var proxy *envoyrun.Envoy
	step("starting Envoy with what tokenbudget envoy bootstrap prints", func() (err error) {
		proxy, err = s.startEnvoy(ctx, envoyPath)
		return err
	})
	if proxy != nil {
		defer func() { err = errors.Join(err, proxy.Close()) }()
	}
	if err != nil {
		return err
	}
	return f(ctx, s)
}

// build builds the server from this tree.
func (s *stage) build(ctx context.Context) error {
	s.binary = filepath.Join(s.dir, "tokenbudget")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "github.com/tokenbudget/tokenbudget/cmd/tokenbudget").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// startServer writes a configuration and starts the server with it.
func (s *stage) startServer(ctx context.Context) (*exec.Cmd, error) {
	extProc, err := envoyrun.FreeAddress()
	if err != nil {
		return nil, err
	}
	if s.admin, err = envoyrun.FreeAddress(); err != nil {
		return nil, err
	}
	s.config = fmt.Sprintf(`listen:
  extproc: %s
  admin: %s
store:
  file: {dir: %s}
identity:
  user: [{header: x-user}]
budgets:
  - name: %s
    per: user
    limit: %d tokens
    period: %s
`, extProc, s.admin, filepath.Join(s.dir, "data"), s.budget(), s.limit, s.period)
	if err := os.WriteFile(s.configFile(), []byte(s.config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(s.binary, "serve", "-config", s.configFile())
	cmd.Stderr = &s.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		out, err := s.run(ctx, "healthcheck", "-admin", s.admin)
		if err == nil {
			return cmd, nil
		}
		select {
		case <-ctx.Done():
			return cmd, fmt.Errorf("it is not ready: %s\n%s", out, s.log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// budget is the name of the one budget.
func (s *stage) budget() string { return "user-" + s.period }

func (s *stage) configFile() string { return filepath.Join(s.dir, "tokenbudget.yaml") }

// startEnvoy starts Envoy with the rendered configuration.
func (s *stage) startEnvoy(ctx context.Context, path string) (*envoyrun.Envoy, error) {
	bootstrap, err := s.run(ctx, "envoy", "bootstrap", "-config", s.configFile(), "-upstream", s.upstream.URL(), "-listen", "127.0.0.1:0", "-envoy-admin", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, bootstrap)
	}
	proxy, err := envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap, Path: path})
	if err != nil {
		return nil, err
	}
	addr, err := proxy.ListenerAddr(ctx, envoy.ListenerName)
	if err != nil {
		return proxy, err
	}
	s.url = "http://" + addr
	return proxy, nil
}

// run runs tokenbudget and returns what it prints.
func (s *stage) run(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, s.binary, args...).CombinedOutput()
}

// usage shows the ledger as a user would see it.
func (s *stage) usage(ctx context.Context) error {
	out, err := s.run(ctx, "usage", "-admin", s.admin)
	fmt.Print(indent("$ tokenbudget usage\n" + string(out)))
	return err
}

// answer is what chat.py reports.
type answer struct {
	Text         string
	FinishReason string `json:"finish_reason"`
	Tail         string
	Refused      *struct {
		Status  int
		Message string
	}
}

// chat runs the client. What it prints is shown as it comes; its last line is the
// answer.
func (s *stage) chat(ctx context.Context) (a answer, err error) {
	cmd := exec.CommandContext(ctx, s.python, "-c", chatScript, s.url+"/v1", user)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return a, err
	}
	if err := cmd.Start(); err != nil {
		return a, err
	}
	var all bytes.Buffer
	_, copyErr := io.Copy(&showing{w: os.Stdout}, io.TeeReader(out, &all))
	if err := errors.Join(copyErr, cmd.Wait()); err != nil {
		return a, fmt.Errorf("the client: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(all.String()), "\n")
	return a, json.Unmarshal([]byte(lines[len(lines)-1]), &a)
}

// showing passes text on until a line begins with a brace: that is not for people.
type showing struct {
	w      io.Writer
	inLine bool
	quiet  bool
}

func (s *showing) Write(p []byte) (int, error) {
	for _, b := range p {
		if !s.inLine && b == '{' {
			s.quiet = true
		}
		s.inLine = b != '\n'
		if s.quiet {
			continue
		}
		if _, err := s.w.Write([]byte{b}); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// lastExchange is what the upstream says of its last answer, once that has ended.
func (s *stage) lastExchange(ctx context.Context) (standin.Exchange, error) {
	all := s.upstream.Exchanges()
	if len(all) == 0 {
		return standin.Exchange{}, errors.New("no request has reached the upstream")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.upstream.WaitExchange(ctx, all[len(all)-1].ID)
}

// exchangeLine waits for the log line of an exchange with the given outcome.
func (s *stage) exchangeLine(ctx context.Context, outcome string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		for line := range strings.Lines(s.log.String()) {
			var entry struct{ Msg, Outcome string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "exchange" && entry.Outcome == outcome {
				return strings.TrimSpace(line), nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the log has no exchange with outcome %q:\n%s", outcome, s.log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// checkLedger checks that nothing is held, and that the ledger has what the log says.
func (s *stage) checkLedger(ctx context.Context) error {
	line, err := s.exchangeLine(ctx, "cut")
	if err != nil {
		return err
	}
	var logged struct {
		Input  int64 `json:"input_tokens"`
		Output int64 `json:"output_tokens"`
	}
	if err := json.Unmarshal([]byte(line), &logged); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/v1/budgets", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var got admin.Budgets
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return err
	}
	if len(got.Budgets) == 1 {
		if b := got.Budgets[0]; b.Held == 0 && b.Spent == logged.Input+logged.Output {
			return nil
		}
	}
	return fmt.Errorf("the ledger says %+v, the log %d and %d tokens", got.Budgets, logged.Input, logged.Output)
}

// stopProcess ends a process as an orchestrator does. How it ends is of no interest once ctx is
// done: Ctrl-C at a terminal reaches the process as well, and a second signal kills it.
func stopProcess(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("tokenbudget serve: %w", err)
	}
	return nil
}

// serverLog keeps what the server logs, and passes it on if somebody follows.
type serverLog struct {
	mu       sync.Mutex
	kept     bytes.Buffer
	follower io.Writer
}

// maxLog bounds what is kept of the log, in bytes.
const maxLog = 1 << 20

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept.Len() < maxLog {
		l.kept.Write(p)
	}
	if l.follower != nil {
		return l.follower.Write(p)
	}
	return len(p), nil
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}

// follow shows the log from its beginning on.
func (s *stage) follow(w io.Writer) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	scanner := bufio.NewScanner(bytes.NewReader(s.log.kept.Bytes()))
	for scanner.Scan() {
		fmt.Fprintln(w, scanner.Text())
	}
	s.log.follower = w
}
