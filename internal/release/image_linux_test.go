package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// user is the image's.
const user = 65532

// patience bounds whatever a test waits for; it only matters when the test fails.
const patience = 60 * time.Second

// image is an empty root with what the image has.
type image struct {
	root string
	own  bool // in a user namespace of its own, since this process has no right to another root
}

// newImage builds the binary with the Dockerfile's own command and puts up the root of its last
// stage.
func newImage(t *testing.T) image {
	t.Helper()
	_, command, ok := strings.Cut(dockerfile(t), " go build ")
	command, _, ok2 := strings.Cut(command, " -o ")
	if !ok || !ok2 {
		t.Fatal("the Dockerfile has no go build … -o")
	}
	i := image{root: t.TempDir(), own: os.Geteuid() != 0}
	for _, dir := range []string{"etc/ssl/certs", "etc/tokenbudget", "var/lib/tokenbudget/data"} {
		if err := os.MkdirAll(filepath.Join(i.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("sh", "-c", "go build "+command+` -o "$OUT" ./cmd/tokenbudget`)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "VERSION=v9.9.9-image", "OUT="+filepath.Join(i.root, "tokenbudget"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !i.own {
		if err := errors.Join(os.Chown(filepath.Join(i.root, "var/lib/tokenbudget"), user, user), os.Chown(filepath.Join(i.root, "var/lib/tokenbudget/data"), user, user)); err != nil {
			t.Fatal(err)
		}
	}
	i.write(t, "etc/ssl/certs/ca-certificates.crt", "")
	// Nothing but the folder of the balances can be written, as with readOnlyRootFilesystem.
	for _, dir := range []string{"", "etc", "etc/ssl", "etc/ssl/certs", "etc/tokenbudget", "var", "var/lib", "var/lib/tokenbudget"} {
		name := filepath.Join(i.root, dir)
		if err := os.Chmod(name, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(name, 0o755) }) // so that it can be removed
	}
	return i
}

// write writes a file that everybody can read.
func (i image) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(i.root, name)
	if err := os.Chmod(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(file), 0o555); err != nil {
		t.Fatal(err)
	}
}

// command runs the program as a container does: as the image's user, in its root and folder, with
// an empty environment.
func (i image) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/tokenbudget", args...)
	cmd.Dir = "/var/lib/tokenbudget" // WORKDIR
	cmd.Env = []string{"PATH=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: i.root, Credential: &syscall.Credential{Uid: user, Gid: user, NoSetGroups: i.own},
		Pdeathsig: syscall.SIGKILL,
	}
	if i.own {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}

// run is command, and what it prints.
func (i image) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := i.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	// The namespace, not the program, is refused: in some containers, and by some kernels' settings.
	if i.own && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES)) {
		t.Skipf("this system allows no user namespaces, and this user no chroot: %v", err)
	}
	if err != nil {
		return "", err
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	return out.String(), err
}

// lines is a log that is written while it is read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestImage: with what the image has and nothing else, the server starts, is found ready by the
// image's own check, holds what a request asks for, drains on SIGTERM, and has written it down.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	i := newImage(t)
	if out, err := i.run(t, "version"); err != nil || out != "tokenbudget v9.9.9-image\n" {
		t.Fatalf("version: %v, %q", err, out)
	}
	extproc, admin := freeAddress(t), freeAddress(t)
	// The zone is known to the binary: the root has none. The store is where it is by default.
	i.write(t, "etc/tokenbudget/config.yaml", fmt.Sprintf(`
listen: {extproc: %s, admin: %s}
budgets:
  - {name: day, limit: 1M tokens, period: day, timezone: Europe/Berlin}
timeouts: {drain: 1s}
`, extproc, admin))

	var log lines
	server := i.command("serve", "-config", "/etc/tokenbudget/config.yaml")
	server.Stderr = &log
	ended := start(t, server)
	wait(t, ended, &log, "ready", func() bool {
		out, err := i.run(t, "healthcheck", "-config", "/etc/tokenbudget/config.yaml")
		return err == nil && out == "ready\n"
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", server.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", user); !i.own && !bytes.Contains(status, []byte(want)) {
		t.Errorf("it does not run as %d:\n%s", user, status)
	}
	if want := "CapEff:\t0000000000000000\n"; !bytes.Contains(status, []byte(want)) {
		t.Errorf("it has capabilities:\n%s", status)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/etc/passwd", server.Process.Pid)); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("its root is not empty: %v", err)
	}

	hold(t, extproc)
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait(t, nil, &log, "draining", func() bool { return strings.Contains(log.String(), `"msg":"draining"`) })
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(log.String(), `"msg":"stopped"`) {
			t.Errorf("it ended with %v:\n%s", err, &log)
		}
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s", &log)
	}
	// What was held when the drain ended is charged; the stopped store is read.
	out, err := i.run(t, "usage", "-config", "/etc/tokenbudget/config.yaml", "-json")
	if err != nil || !strings.Contains(out, `"name"`) || strings.Contains(strings.ReplaceAll(out, " ", ""), `"spent":0`) {
		t.Errorf("the balance is not in the store: %v\n%s\n%s", err, out, &log)
	}
	// It refuses what the image has no place for, rather than run without a store.
	i.write(t, "etc/tokenbudget/config.yaml", "store: {file: {dir: /elsewhere}}\nbudgets: [{name: day, limit: 1M tokens, period: day}]\n")
	if out, err := i.run(t, "serve", "-config", "/etc/tokenbudget/config.yaml"); err == nil || !strings.Contains(out, "/elsewhere") {
		t.Errorf("a folder that cannot be made: %v\n%s", err, out)
	}
}

// start starts a command, kills it at the end of the test if need be, and returns where its end is
// told.
func start(t *testing.T, cmd *exec.Cmd) <-chan error {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, gone := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it has ended
		<-gone
	})
	return ended
}

// wait waits until something is so.
func wait(t *testing.T, ended <-chan error, log *lines, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("it ended with %v before it was %s:\n%s", err, what, log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is never %s:\n%s", what, log)
		}
	}
}

// hold sends a request as Envoy does, and leaves it open once it may be forwarded.
func hold(t *testing.T, address string) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	stream, err := extprocv3.NewExternalProcessorClient(conn).Process(ctx)
	if err != nil {
		t.Fatal(err)
	}
	headers := &corev3.HeaderMap{}
	for name, value := range map[string]string{":method": "POST", ":path": "/v1/chat/completions", ":authority": "api", "content-type": "application/json"} {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	body := `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello!"}]}`
	for _, m := range []*extprocv3.ProcessingRequest{
		{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: headers}}},
		{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true}}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if refused := answer.GetImmediateResponse(); refused != nil {
			t.Fatalf("the request is refused: %s", refused.Body)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := envoyrun.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
