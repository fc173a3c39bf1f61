package e2e

import (
	"bytes"
	"context"
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
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// mesh is what servers of their own processes and their Envoys have in common.
type mesh struct {
	bin      string // of tokenbudget
	ca       *certtest.Authority
	upstream string // URL
}

// meshServerName is in the certificate of every server.
const meshServerName = "tokenbudget.mesh.test"

func newMesh(t *testing.T, upstream string) *mesh {
	t.Helper()
	m := &mesh{bin: filepath.Join(t.TempDir(), "tokenbudget"), ca: certtest.New(t), upstream: upstream}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "build", "-o", m.bin, "github.com/tokenbudget/tokenbudget/cmd/tokenbudget").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return m
}

// node is a server with an address and a store of its own, which it keeps over restarts.
type node struct {
	mesh    *mesh
	file    string // its configuration
	extProc string
	env     []string

	cmd     *exec.Cmd
	admin   string
	log     *nodeLog
	exited  chan struct{} // closed when the process has ended and exitErr is set
	exitErr error
}

// node makes a server that listens with TLS, and starts it. text is the rest of its file, env its
// environment beyond this process's.
func (m *mesh) node(t *testing.T, text string, env ...string) *node {
	t.Helper()
	dir, pair := t.TempDir(), m.ca.Issue(t, meshServerName)
	extProc, err := envoyrun.FreeAddress() // which it keeps over restarts
	if err != nil {
		t.Fatal(err)
	}
	n := &node{mesh: m, file: filepath.Join(dir, "tokenbudget.yaml"), extProc: extProc, log: new(nodeLog), env: env}
	text = fmt.Sprintf(`listen:
  extproc: {address: %q, tls: {cert: %q, key: %q, client_ca: %q}}
  admin: 127.0.0.1:0
store: {file: {dir: %q}}
`, n.extProc, pair.CertFile, pair.KeyFile, m.ca.File, filepath.Join(dir, "data")) + text
	if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill() // it has ended, unless the test has failed
		<-n.exited
		if t.Failed() {
			t.Logf("the log of %s, but for its exchanges:\n%s", n.extProc, n.log.others())
		}
	})
	return n
}

// start starts the process and waits until it is ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	giveUp := time.Now().Add(2 * patience)
	for {
		from := n.log.len()
		n.cmd, n.exited = exec.Command(n.mesh.bin, "serve", "-config", n.file), make(chan struct{})
		n.cmd.Stderr, n.cmd.Env = n.log, append(os.Environ(), n.env...)
		if err := n.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmd, exited := n.cmd, n.exited
		go func() {
			n.exitErr = cmd.Wait()
			close(exited)
		}()
		for time.Now().Before(giveUp) {
			if line := n.log.find(from, "serving"); line != nil {
				n.admin, _ = line["admin"].(string)
				if n.status("/readyz") == http.StatusOK {
					return
				}
			}
			select {
			case <-exited:
			case <-time.After(10 * time.Millisecond):
				continue
			}
			break
		}
		select {
		case <-exited:
			if strings.Contains(n.log.text(from), "address already in use") && time.Now().Before(giveUp) {
				time.Sleep(100 * time.Millisecond) // somebody's connection has the port
				continue
			}
		default:
		}
		t.Fatalf("the server does not start: %.2000s", n.log.text(from))
	}
}

// terminate sends SIGTERM and waits for the end, which must be in good order.
func (n *node) terminate(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.exited:
	case <-time.After(2 * patience):
		t.Fatal("the server did not end")
	}
	if n.exitErr != nil {
		t.Errorf("after SIGTERM: %v", n.exitErr)
	}
}

// status is the status of an admin page; 0 if nobody answers.
func (n *node) status(path string) int {
	resp, err := meshAdmin.Get("http://" + n.admin + path)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

var meshAdmin = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// metric is the value of a metric without labels.
func (n *node) metric(t *testing.T, name string) (v float64) {
	t.Helper()
	resp, err := meshAdmin.Get("http://" + n.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if k, rest, _ := strings.Cut(line, " "); k == name {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// stored is what the store of a stopped server says of all counters of a budget.
func (n *node) stored(t *testing.T, name string) (spent, held int64) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), n.mesh.bin, "usage", "-config", n.file, "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all admin.Budgets
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for _, b := range all.Budgets {
		if b.Name == name {
			spent, held = spent+b.Spent, held+b.Held
		}
	}
	return spent, held
}

// envoy starts an Envoy with what tokenbudget envoy bootstrap prints, in front of servers
// at the given addresses.
func (m *mesh) envoy(t *testing.T, of *node, extProc string) *envoyrun.Envoy {
	t.Helper()
	pair := m.ca.Issue(t)
	cmd := exec.CommandContext(t.Context(), m.bin, "envoy", "bootstrap", "-config", of.file, "-extproc", extProc,
		"-extproc-ca", m.ca.File, "-extproc-cert", pair.CertFile, "-extproc-key", pair.KeyFile, "-extproc-server-name", meshServerName,
		"-listen", "127.0.0.1:0", "-envoy-admin", "127.0.0.1:0", "-upstream", m.upstream)
	bootstrap, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, e.Stderr)
		}
		t.Fatal(err)
	}
	e, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: bootstrap})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// envoyURL is where clients reach an Envoy.
func envoyURL(t *testing.T, e *envoyrun.Envoy) string {
	t.Helper()
	addr, err := e.ListenerAddr(t.Context(), envoy.ListenerName)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + addr
}

// envoyStats are counters and gauges of an Envoy.
func envoyStats(t *testing.T, e *envoyrun.Envoy, filter string) map[string]uint64 {
	t.Helper()
	stats, err := e.Stats(t.Context(), filter)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// nodeLog is the log of a server, over restarts.
type nodeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *nodeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *nodeLog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

func (l *nodeLog) text(from int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b.Bytes()[from:])
}

// find is the first line from an offset on with a message, or nil.
func (l *nodeLog) find(from int, msg string) map[string]any {
	for line := range strings.Lines(l.text(from)) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == msg {
			return fields
		}
	}
	return nil
}

// outcomes counts the exchanges by their outcome.
func (l *nodeLog) outcomes() map[string]int {
	all := make(map[string]int)
	for line := range strings.Lines(l.text(0)) {
		var fields struct{ Msg, Outcome string }
		if json.Unmarshal([]byte(line), &fields) == nil && fields.Msg == "exchange" {
			all[fields.Outcome]++
		}
	}
	return all
}

func (l *nodeLog) others() string {
	var b strings.Builder
	for line := range strings.Lines(l.text(0)) {
		if !strings.Contains(line, `"msg":"exchange"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// wholeUsage is the usage of a whole answer, in tokens.
func wholeUsage(body []byte) (int64, error) {
	var answer struct {
		Usage struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	if answer.Usage.Completion == 0 {
		return 0, errors.New("an answer without usage")
	}
	return answer.Usage.Prompt + answer.Usage.Completion, nil
}
