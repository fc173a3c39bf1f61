package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tokenbudget": main})
}

// TestScripts runs the scripts in testdata. Besides what testscript has, they know
//
//	exit CODE PROGRAM ARGS…    runs a program that must end with this exit code
//	serve NAME CONFIG          starts a server; sets $ADMIN and $EXTPROC once it serves
//	terminate NAME             SIGTERM, and waits until it drains
//	ended NAME                 waits for its end, with exit code 0; the log goes to NAME.log
//	crash NAME                 SIGKILL, and waits for its end
//	stored DIR AMOUNT          waits until the store in DIR says that so much is used
//	get STATUS ADDRESS PATH    asks an admin listener; the body is the standard output
//	chat USER                  plays Envoy at $EXTPROC for one unary exchange of 30 + 12 tokens
//	                           with $MODEL, or else gpt-4o, and prints the status; USER is a Go
//	                           string without its quotes; $EARLIER is messages, with a comma
//	                           behind each, that come first
//	begin USER, finish         the same in two pieces; in between, the upstream is at work
//	strange                    fails to reach $EXTPROC over TLS without a certificate
//	occupy                     takes a TCP port and sets $OCCUPIED
//	refer FILE                 expands $VARIABLES in a file
//	stream USER                plays Envoy at $EXTPROC for a streamed exchange, up to the answer's begin
//	tell N                     sends N words of its answer, and prints how many came back, and
//	                           the limit that cut it
//	leave                      ends it as a client that goes away
//	admin STATUS METHOD PATH [BODY]  asks $ADMIN, with $TOKEN; the body is the standard output
//	hangup NAME                SIGHUP
//	logged NAME N REGEXP       waits until N lines of the log match
//
// $SOCKETS is a folder whose path is short enough for sockets. $CERT and $KEY are a
// certificate for localhost that the authority in $CA has signed, $STRANGER and
// $STRANGERKEY one of another authority. With $SECURE, chat and begin use the former. With
// $RESPONSEMODE they say that Envoy's filter has another response_body_mode.
func TestScripts(t *testing.T) {
	ca := certtest.New(t)
	pair, stranger := ca.Issue(t, "localhost"), certtest.New(t).Issue(t, "localhost")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "tb")
			if err != nil {
				return err
			}
			w := &world{servers: make(map[string]*server), tls: &tls.Config{RootCAs: ca.Pool, ServerName: "localhost", Certificates: []tls.Certificate{pair.TLS}}}
			e.Defer(func() {
				w.close()
				_ = os.RemoveAll(dir)
			})
			e.Values[worldKey{}] = w
			for name, value := range map[string]string{
				"SOCKETS": dir, "CA": ca.File, "CERT": pair.CertFile, "KEY": pair.KeyFile,
				"STRANGER": stranger.CertFile, "STRANGERKEY": stranger.KeyFile,
			} {
				e.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":      cmdExit,
			"serve":     cmdServe,
			"terminate": cmdTerminate,
			"ended":     cmdEnded,
			"crash":     cmdCrash,
			"stored":    cmdStored,
			"get":       cmdGet,
			"chat":      cmdChat,
			"begin":     cmdBegin,
			"finish":    cmdFinish,
			"strange":   cmdStrange,
			"occupy":    cmdOccupy,
			"refer":     cmdRefer,
			"stream":    cmdStream,
			"tell":      cmdTell,
			"leave":     cmdLeave,
			"admin":     cmdAdmin,
			"hangup":    cmdHangUp,
			"logged":    cmdLogged,
		},
	})
}

// patience bounds every wait of a script; a wait that is met ends earlier.
const patience = 2 * time.Minute

type worldKey struct{}

// world is what a script has started.
type world struct {
	servers map[string]*server
	open    *chat
	closers []func()
	tls     *tls.Config // of a client
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func (w *world) close() {
	for _, s := range w.servers {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	for _, f := range w.closers {
		f()
	}
}

// arguments returns a command's arguments, of which there must be as many as names.
func arguments(ts *testscript.TestScript, neg bool, args []string, names ...string) []string {
	if neg || len(args) != len(names) {
		ts.Fatalf("usage: %s", strings.Join(names, " "))
	}
	return args
}

func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM ARGS…")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// server is a running "tokenbudget serve".
type server struct {
	cmd      *exec.Cmd
	mu       sync.Mutex
	log      bytes.Buffer  // guarded by mu
	draining chan struct{} // closed when the log says so
	ended    chan struct{} // closed when the process has ended
	err      error         // of the process, once it has ended
}

func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	a := arguments(ts, neg, args, "NAME", "CONFIG")
	s := &server{
		cmd:      exec.Command("tokenbudget", "serve", "-config", a[1]),
		draining: make(chan struct{}),
		ended:    make(chan struct{}),
	}
	s.cmd.Dir = ts.Getenv("WORK")
	s.cmd.Env = append(os.Environ(), "SOCKETS="+ts.Getenv("SOCKETS"))
	stderr, err := s.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	serving := make(chan map[string]any, 1)
	go func() {
		defer close(s.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			s.log.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				continue
			}
			switch line["msg"] {
			case "serving":
				serving <- line
			case "draining":
				close(s.draining)
			}
		}
		s.err = s.cmd.Wait()
	}()
	worldOf(ts).servers[a[0]] = s
	select {
	case line := <-serving:
		for key, name := range map[string]string{"admin": "ADMIN", "extproc": "EXTPROC"} {
			address, _ := line[key].(string)
			ts.Setenv(name, address)
		}
	case <-s.ended:
		ts.Fatalf("the server has ended: %v\n%s", s.err, s.text())
	case <-time.After(patience):
		ts.Fatalf("the server does not serve\n%s", s.text())
	}
}

func (s *server) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *server) wait(ts *testscript.TestScript) {
	select {
	case <-s.ended:
	case <-time.After(patience):
		ts.Fatalf("the server does not end\n%s", s.text())
	}
}

func cmdTerminate(ts *testscript.TestScript, neg bool, args []string) {
	s := worldOf(ts).servers[arguments(ts, neg, args, "NAME")[0]]
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.draining:
	case <-s.ended:
	case <-time.After(patience):
		ts.Fatalf("the server does not drain\n%s", s.text())
	}
}

func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	name := arguments(ts, neg, args, "NAME")[0]
	s := worldOf(ts).servers[name]
	s.wait(ts)
	ts.Check(os.WriteFile(ts.MkAbs(name+".log"), []byte(s.text()), 0o600))
	if s.err != nil {
		ts.Fatalf("the server ended with %v\n%s", s.err, s.text())
	}
}

func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	s := worldOf(ts).servers[arguments(ts, neg, args, "NAME")[0]]
	ts.Check(s.cmd.Process.Kill())
	s.wait(ts)
}

func cmdStored(ts *testscript.TestScript, neg bool, args []string) {
	a := arguments(ts, neg, args, "DIR", "AMOUNT")
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		entries, err := budget.ReadFile(ts.MkAbs(a[0]))
		used := int64(0)
		for _, e := range entries {
			used += e.Used
		}
		switch {
		case strconv.FormatInt(used, 10) == a[1]:
			return
		case time.Now().After(deadline):
			ts.Fatalf("%d used, %v; want %s", used, err, a[1])
		}
	}
}

func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	a := arguments(ts, neg, args, "STATUS", "ADDRESS", "PATH")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := (&adminFlags{addr: a[1]}).client()
	ts.Check(err)
	resp, err := client.get(ctx, a[2])
	ts.Check(err)
	defer resp.Body.Close()
	if strconv.Itoa(resp.StatusCode) != a[0] {
		ts.Fatalf("%s: %s, want %s", a[2], resp.Status, a[0])
	}
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

func cmdStrange(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args)
	c := worldOf(ts).tls.Clone()
	c.Certificates, c.NextProtos = nil, []string{"h2"}
	conn, err := tls.Dial("tcp", ts.Getenv("EXTPROC"), c)
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	// In TLS 1.3 a client learns of it with the first answer.
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		ts.Fatalf("without a certificate: %v", err)
	}
}

func cmdOccupy(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	w := worldOf(ts)
	w.closers = append(w.closers, func() { _ = lis.Close() })
	ts.Setenv("OCCUPIED", lis.Addr().String())
}

func cmdRefer(ts *testscript.TestScript, neg bool, args []string) {
	file := arguments(ts, neg, args, "FILE")[0]
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(os.Expand(ts.ReadFile(file), ts.Getenv)), 0o600))
}

// chat is one exchange, played as Envoy does.
type chat struct {
	stream extprocv3.ExternalProcessor_ProcessClient
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	status int // of a refusal; else 0
}

func cmdChat(ts *testscript.TestScript, neg bool, args []string) {
	c := newChat(ts, arguments(ts, neg, args, "USER")[0])
	if c.status == 0 {
		c.answer(ts)
	}
	c.close(ts)
}

func cmdBegin(ts *testscript.TestScript, neg bool, args []string) {
	worldOf(ts).open = newChat(ts, arguments(ts, neg, args, "USER")[0])
}

func cmdFinish(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args)
	c := worldOf(ts).open
	c.answer(ts)
	c.close(ts)
}

// newChat sends a request for an unary answer and reads the decision.
func newChat(ts *testscript.TestScript, user string) *chat {
	return openChat(ts, user, `{"model":"`+cmp.Or(ts.Getenv("MODEL"), "gpt-4o")+`","messages":[`+ts.Getenv("EARLIER")+`{"role":"user","content":"Good morning"}],"max_tokens":50}`)
}

// openChat sends a request and reads the decision.
func openChat(ts *testscript.TestScript, user, body string) *chat {
	user, err := strconv.Unquote(`"` + user + `"`)
	ts.Check(err)
	creds := insecure.NewCredentials()
	if ts.Getenv("SECURE") != "" {
		creds = credentials.NewTLS(worldOf(ts).tls)
	}
	conn, err := grpc.NewClient(ts.Getenv("EXTPROC"), grpc.WithTransportCredentials(creds))
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	worldOf(ts).closers = append(worldOf(ts).closers, cancel)
	stream, err := extprocv3.NewExternalProcessorClient(conn).Process(ctx)
	ts.Check(err)
	c := &chat{stream: stream, conn: conn, cancel: cancel}
	first := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: headers(":method", "POST", ":path", "/v1/chat/completions", "x-user", user, "authorization", "Bearer "+cmp.Or(ts.Getenv("APIKEY"), "none")),
	}}
	if mode := ts.Getenv("RESPONSEMODE"); mode != "" {
		first.ProtocolConfig = &extprocv3.ProtocolConfiguration{
			RequestBodyMode:  filterv3.ProcessingMode_BUFFERED,
			ResponseBodyMode: filterv3.ProcessingMode_BodySendMode(filterv3.ProcessingMode_BodySendMode_value[mode]),
		}
	}
	r := c.exchange(ts, first)
	if c.status = int(r.GetImmediateResponse().GetStatus().GetCode()); c.status != 0 {
		return c
	}
	r = c.exchange(ts, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{
			Body:        []byte(body),
			EndOfStream: true,
		},
	}})
	c.status = int(r.GetImmediateResponse().GetStatus().GetCode())
	return c
}

// answer sends the upstream's answer, with its usage.
func (c *chat) answer(ts *testscript.TestScript) {
	c.exchange(ts, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: headers(":status", "200", "content-type", "application/json"),
	}})
	c.exchange(ts, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{
			Body:        []byte(`{"choices":[{"index":0,"message":{"content":"Good morning to you"}}],"usage":{"prompt_tokens":30,"completion_tokens":12}}`),
			EndOfStream: true,
		},
	}})
	c.status = http.StatusOK
}

// exchange sends a message and reads the answer to it.
func (c *chat) exchange(ts *testscript.TestScript, m *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	ts.Check(c.stream.Send(m))
	r, err := c.stream.Recv()
	ts.Check(err)
	return r
}

// close waits until the server has ended the stream, and so has settled.
func (c *chat) close(ts *testscript.TestScript) {
	if _, err := c.stream.Recv(); !errors.Is(err, io.EOF) {
		ts.Fatalf("the server ends the stream with %v", err)
	}
	c.cancel()
	ts.Check(c.conn.Close())
	fmt.Fprintln(ts.Stdout(), c.status)
}

// headers makes a message of names and values.
func headers(pairs ...string) *extprocv3.HttpHeaders {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return &extprocv3.HttpHeaders{Headers: m}
}

// TestScriptsCoverEveryCommand fails when a command is added without a script.
func TestScriptsCoverEveryCommand(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	for _, c := range commands {
		if !strings.Contains(all.String(), "tokenbudget "+c.name) {
			t.Errorf("no script runs tokenbudget %s", c.name)
		}
	}
}
