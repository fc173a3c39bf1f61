//go:build unix

package envoyrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wait bounds whatever a test waits for; it only matters when the test fails.
const wait = 60 * time.Second

// bootstrap answers every request with "hello".
const bootstrap = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hello}}}]}
`

// TestMain lets the test binary play the parent that dies, for TestDiesWithParent,
// and the rivals of TestVenvRace.
func TestMain(m *testing.M) {
	switch os.Getenv("ENVOYRUN_TEST_ROLE") {
	case "parent":
		e, err := Start(context.Background(), Options{Bootstrap: []byte(bootstrap)})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(e.PID())
		<-e.Done()
		os.Exit(0)
	case "rival":
		python, err := PythonVenv(context.Background(), "race")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Print(python)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needEnvoy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real Envoy")
	}
}

func start(t *testing.T, yaml string) (*Envoy, error) {
	t.Helper()
	needEnvoy(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the first one may be installed
	defer cancel()
	e, err := Start(ctx, Options{Bootstrap: []byte(yaml), Concurrency: 1})
	if err == nil {
		t.Cleanup(func() { _ = e.Close() })
	}
	return e, err
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// eventually polls until ok; only a failure takes long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(wait); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, wait)
		}
	}
}

func running(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// TestTwoAtOnce goes through an Envoy's life, next to a second one.
func TestTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var addrs []string
	for range 2 {
		e, err := start(t, bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v (%v)", left, err)
		}
		addr, err := e.ListenerAddr(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, addr, e.AdminAddr())
		if got := get(t, "http://"+addr+"/there"); got != "hello" {
			t.Errorf("answer %q", got)
		}
		stats, err := e.Stats(t.Context(), `^http\.main\.downstream_rq_(2xx|total)$`)
		if err != nil {
			t.Fatal(err)
		}
		if len(stats) != 2 || stats["http.main.downstream_rq_2xx"] != 1 {
			t.Errorf("stats %v", stats)
		}
		eventually(t, "the access log", func() bool { return strings.Contains(e.Output(), `"GET /there HTTP/1.1" 200`) })
		if _, err := e.ListenerAddr(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "there are: main") {
			t.Errorf("an unknown listener: %v", err)
		}
		defer func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if running(e.PID()) {
				t.Error("runs on after Close")
			}
			if err := e.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		}()
	}
	for i, a := range addrs {
		for _, b := range addrs[:i] {
			if a == b {
				t.Errorf("an address came twice: %v", addrs)
			}
		}
	}
}

func TestStartFails(t *testing.T) {
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("no bootstrap: no error")
	}
	if _, err := Start(t.Context(), Options{Bootstrap: []byte("{}"), Path: "/nonexistent/envoy"}); err == nil || !strings.Contains(err.Error(), "/nonexistent/envoy") {
		t.Errorf("no binary: %v", err)
	}
	if _, err := start(t, "static_resources: {listenerz: []}"); err == nil || !strings.Contains(err.Error(), "listenerz") {
		t.Errorf("a bad bootstrap: %v", err)
	}
	path, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = Start(ctx, Options{Bootstrap: []byte("{}"), Path: path})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does the bootstrap have one") {
		t.Errorf("no admin: %v", err)
	}
}

// TestEndsByItself: an Envoy that dies is noticed, and Close says so.
func TestEndsByItself(t *testing.T) {
	e, err := start(t, bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(e.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.Done():
	case <-time.After(wait):
		t.Fatal("Done is not closed")
	}
	if err := e.Close(); err == nil || !strings.Contains(err.Error(), "by itself: signal: killed") {
		t.Errorf("Close: %v", err)
	}
}

// TestIsKilled: an Envoy that does not obey SIGTERM goes all the same.
func TestIsKilled(t *testing.T) {
	e, err := start(t, bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(e.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	e.grace = 10 * time.Millisecond
	if err := e.Close(); err == nil || !strings.Contains(err.Error(), "had to be killed") {
		t.Errorf("Close: %v", err)
	}
	if running(e.PID()) {
		t.Error("runs on after Close")
	}
}

// TestDiesWithParent: even a process that is killed leaves no Envoy behind.
func TestDiesWithParent(t *testing.T) {
	needEnvoy(t)
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("only Linux can do that")
	}
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), "ENVOYRUN_TEST_ROLE=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, aerr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || aerr != nil {
		t.Fatalf("the parent says %q (%v)", line, err)
	}
	if !running(pid) {
		t.Fatal("no Envoy to begin with")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // signal: killed
	// Its new parent may be slow to reap it: a zombie counts as gone.
	eventually(t, "the end of Envoy", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

func TestValidate(t *testing.T) {
	needEnvoy(t)
	if err := Validate(t.Context(), []byte(bootstrap)); err != nil {
		t.Error(err)
	}
	bad := strings.Replace(bootstrap, "stat_prefix: main", "stat_prefix: ''", 1)
	if err := Validate(t.Context(), []byte(bad)); err == nil || !strings.Contains(err.Error(), "StatPrefix") {
		t.Errorf("a bad bootstrap: %v", err)
	}
}

func TestFindAndVersion(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "envoy")
	script := "#!/bin/sh\necho '" + fake + "  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL'\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENVOY_BIN", fake)
	path, err := Find(t.Context())
	if err != nil || path != fake {
		t.Errorf("with ENVOY_BIN: %q, %v", path, err)
	}
	if v, err := Version(t.Context(), path); err != nil || v != "1.40.0" {
		t.Errorf("version %q, %v", v, err)
	}
	t.Setenv("ENVOY_BIN", filepath.Join(dir, "missing"))
	if _, err := Find(t.Context()); err == nil || !strings.Contains(err.Error(), "ENVOY_BIN") {
		t.Errorf("with a wrong ENVOY_BIN: %v", err)
	}
	t.Setenv("ENVOY_BIN", "")
	t.Setenv("PATH", dir)
	if path, err := Find(t.Context()); err != nil || path != fake {
		t.Errorf("with envoy on PATH: %q, %v", path, err)
	}
	if _, err := Version(t.Context(), "/bin/echo"); err == nil {
		t.Error("echo has a version")
	}
}
