package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// A server whose log nobody reads answers as ever, and ends.
func TestServeLogNotRead(t *testing.T) {
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "s")
	file := fmt.Appendf(nil, "listen: {extproc: \"unix:%s\", admin: none}\nstore: {file: {dir: %q}}\nbudgets: [{name: all, limit: 1k tokens, period: day}]\n", socket, filepath.Join(dir, "data"))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
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
		stream, err := extprocv3.NewExternalProcessorClient(conn).Process(within, grpc.WaitForReady(true))
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
