package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// writeLogConfig writes the configuration of a server that listens on a socket beside it.
func writeLogConfig(t *testing.T, path, socket string) {
	t.Helper()
	file := fmt.Appendf(nil, "listen: {extproc: \"unix:%s\", admin: none}\nstore: {file: {dir: %q}}\nbudgets: [{name: all, limit: 1k tokens, period: day}]\n", socket, filepath.Join(filepath.Dir(path), "data"))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// passes plays Envoy for one exchange that passes, of which there is a line in the log.
func passes(t *testing.T, ctx context.Context, conn *grpc.ClientConn) {
	t.Helper()
	stream, err := extprocv3.NewExternalProcessorClient(conn).Process(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	get := &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: ":method", RawValue: []byte("GET")}, {Key: ":path", RawValue: []byte("/health")}}}
	ok := &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: ":status", RawValue: []byte("200")}}}
	for _, m := range []*extprocv3.ProcessingRequest{
		{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: get, EndOfStream: true}}},
		{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{Headers: ok, EndOfStream: true}}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the exchange ends with %v", err)
	}
}

// A server whose log nobody reads answers as ever, and ends.
func TestServeLogNotRead(t *testing.T) {
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "s")
	writeLogConfig(t, path, socket)
	e := env{stderr: newSink()} // it is never opened
	r, c, err := firstConfig(e, path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, e, path, r, c) }()

	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	within, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		passes(t, within, conn)
	}
	stop()
	select {
	case err := <-ended:
		if !errors.Is(err, errLogStuck) {
			t.Errorf("serve ends with %v", err)
		}
	case <-within.Done():
		t.Error("serve does not end")
	}
}

// A server whose log cannot be written any more, since who read it has died, lives, and
// ends in good order.
func TestServeLogBroken(t *testing.T) {
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "s")
	writeLogConfig(t, path, socket)
	cmd := exec.Command("tokenbudget", "serve", "-config", path)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }() // if it has not ended by then
	if _, err := bufio.NewReader(stderr).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := stderr.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	within, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		passes(t, within, conn)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}
