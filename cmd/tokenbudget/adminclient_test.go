package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

// guarded runs an admin listener as serve does, and returns its address and the way to
// the configuration that describes it.
func guarded(t *testing.T, p certtest.Pair, store string) (path string) {
	t.Helper()
	source, err := certs.NewSource(certs.Files{Cert: p.CertFile, Key: p.KeyFile}, certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	h := admin.Handler(admin.Options{
		Access: func() admin.Access { return admin.Access{Guarded: true, Token: "t0ken"} }, Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil },
		Balances: func(context.Context) ([]budget.Balance, error) {
			return []budget.Balance{{Limit: "day", Unit: budget.Tokens, Amount: 9}}, nil
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, tls.NewListener(lis, source.ServerConfig(tls.VerifyClientCertIfGiven, "http/1.1")), h, nil)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	path = filepath.Join(t.TempDir(), "budgets.yaml")
	_, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("listen: {admin: \"0.0.0.0:%s\", tls: {cert: %q, key: %q}}\nadmin_token: t0ken\nstore: {file: {dir: %q}}\nbudgets: [{name: day, limit: 9 tokens, period: day}]\n",
		port, p.CertFile, p.KeyFile, store)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A configuration is enough to ask the server that runs with it: the address, the token,
// and the certificate that it must show.
func TestFromConfig(t *testing.T) {
	store := filepath.Join(t.TempDir(), "data")
	held, err := budget.OpenFile(store) // what a server that runs does
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ca := certtest.New(t)
	p := ca.Issue(t, "elsewhere.test")
	path := guarded(t, p, store)
	run := func(args ...string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out strings.Builder
		return execute(ctx, env{stdout: &out, stderr: &out}, args), out.String()
	}
	if code, out := run("usage", "-config", path); code != 0 || !strings.Contains(out, "\nday ") {
		t.Errorf("usage: %d, %s", code, out)
	}
	if code, out := run("healthcheck", "-config", path); code != 0 {
		t.Errorf("healthcheck: %d, %s", code, out)
	}

	// Another certificate in the file: the server may have kept the one from before, and
	// is healthy; but who does not show it does not get the token.
	certtest.Copy(t, ca.Issue(t, "elsewhere.test").CertFile, p.CertFile)
	if code, out := run("healthcheck", "-config", path); code != 0 {
		t.Errorf("healthcheck with other files: %d, %s", code, out)
	}
	if code, out := run("usage", "-config", path); code != 1 || !strings.Contains(out, "shows another certificate than") {
		t.Errorf("usage with another certificate: %d, %s", code, out)
	}
	if code, out := run("usage", "-config", path, "-ca", ca.File, "-server-name", "elsewhere.test"); code != 0 {
		t.Errorf("usage with its authority: %d, %s", code, out)
	}
	if err := os.Remove(p.CertFile); err != nil {
		t.Fatal(err)
	}
	if code, out := run("healthcheck", "-config", path); code != 0 {
		t.Errorf("healthcheck without files: %d, %s", code, out)
	}
}

// The token goes to this machine, and over TLS to others.
func TestTokenStaysHere(t *testing.T) {
	t.Setenv(tokenVariable, "t0ken")
	for addr, want := range map[string]string{
		"": "t0ken", "127.0.0.1:9003": "t0ken", "unix:/a": "t0ken", "https://192.0.2.1:9003": "t0ken",
		"192.0.2.1:9003": "", "tokenbudget:9003": "", "0.0.0.0:9003": "",
	} {
		c, err := (&adminFlags{addr: addr}).client()
		if err != nil || c.token != want {
			t.Errorf("%s: token %q, %v", addr, c.token, err)
		}
	}
}
