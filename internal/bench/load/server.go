package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/admin"
)

// Build builds the server's program from this tree into dir.
func Build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "tokenbudget")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/tokenbudget/tokenbudget/cmd/tokenbudget").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return bin, nil
}

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 60 * time.Second // drain and last writes
	maxErrors    = 20               // lines of the log that are kept
)

// server is a running server.
type server struct {
	dir, file string
	cmd       *exec.Cmd
	extProc   string // addresses
	admin     string
	exited    chan struct{}
	exitErr   error
	log       *logReader
}

// startServer writes a configuration file and starts a server with it. budgets is the file
// but for where to listen and to store.
func startServer(ctx context.Context, bin, budgets string) (*server, error) {
	dir, err := os.MkdirTemp("", "tokenbudget-load-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, file: filepath.Join(dir, "tokenbudget.yaml"), exited: make(chan struct{}), log: newLogReader()}
	if err := s.configure(budgets); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.cmd = exec.Command(bin, "serve", "-config", s.file)
	pipe, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		s.log.read(pipe) // before Wait, which closes it
		s.exitErr = s.cmd.Wait()
		close(s.exited)
	}()
	select {
	case <-s.log.serving:
		s.extProc, s.admin = s.log.extProc, s.log.admin
		return s, nil
	case <-s.exited:
		// stop says why
	case <-time.After(startTimeout):
		err = errors.New("the server does not start")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, s.stop())
}

// configure writes the configuration file; a running server takes it up.
func (s *server) configure(budgets string) error {
	text := fmt.Sprintf("listen: {extproc: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\nstore: {file: {dir: %q}}\n", filepath.Join(s.dir, "data")) + budgets
	// In one piece: the server may be looking at it, and half a file is a failed reload.
	next := s.file + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.file)
}

// stop ends the server with its drain, and removes its files.
func (s *server) stop() error {
	defer os.RemoveAll(s.dir)
	select {
	case <-s.exited:
		return errors.Join(errors.New("the server had ended by itself"), s.exitErr, errors.New(s.log.errorText()))
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return s.exitErr
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return errors.New("the server did not end, and was killed")
	}
}

var adminClient = &http.Client{Timeout: time.Minute}

func (s *server) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp.Body, nil
}

// balances returns all counters.
func (s *server) balances(ctx context.Context) ([]admin.Budget, error) {
	body, err := s.get(ctx, "/v1/budgets")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var all admin.Budgets
	return all.Budgets, errors.Join(json.NewDecoder(body).Decode(&all), nil)
}

// metrics returns the metrics; those with labels have them in their names.
func (s *server) metrics(ctx context.Context) (map[string]float64, error) {
	body, err := s.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	all := make(map[string]float64)
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil && name[0] != '#' {
			all[name] = n
		}
	}
	return all, lines.Err()
}

// logReader reads a server's log.
type logReader struct {
	serving        chan struct{} // closed when the server serves
	extProc, admin string        // valid then

	mu      sync.Mutex
	lines   map[string]int64 // exchanges, by outcome
	charged int64            // tokens of all
	errors  []string         // the first lines of level error
}

func newLogReader() *logReader {
	return &logReader{serving: make(chan struct{}), lines: make(map[string]int64)}
}

func (l *logReader) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Level, Msg, Outcome, ExtProc, Admin string
			Input                               int64 `json:"input_tokens"`
			Output                              int64 `json:"output_tokens"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			line.Level = "error" // usage, a panic of the runtime
		}
		l.mu.Lock()
		switch {
		case line.Level == "error" && len(l.errors) < maxErrors:
			l.errors = append(l.errors, lines.Text())
		case line.Msg == "serving":
			l.extProc, l.admin = line.ExtProc, line.Admin
			close(l.serving)
		case line.Msg == "exchange":
			l.lines[line.Outcome]++
			if line.Outcome != "denied" {
				l.charged += line.Input + line.Output
			}
		}
		l.mu.Unlock()
	}
}

// outcomes returns how many exchanges ended how, and what was charged for them in all.
func (l *logReader) outcomes() (map[string]int64, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.lines), l.charged
}

// settled waits until the log has charged as many tokens as the ledger has, and returns its
// outcomes and what it has charged then: its last lines may come after the exchanges' end.
func (l *logReader) settled(total int64) (map[string]int64, int64) {
	for giveUp := time.Now().Add(quietTimeout); ; time.Sleep(10 * time.Millisecond) {
		if outcomes, charged := l.outcomes(); charged == total || time.Now().After(giveUp) {
			return outcomes, charged
		}
	}
}

func (l *logReader) errorText() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.errors, "\n")
}
