package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// wait bounds whatever a test waits for; it only matters when the test fails.
const wait = time.Minute

// cutHere runs a server and an Envoy with configurations that are for other machines: only
// addresses, paths of files and the upstream's TLS are changed. An answer must be cut by the budget.
func cutHere(t *testing.T, binary string, server map[string]any, proxy, budget string) {
	t.Helper()
	up, err := standin.Start(standin.Options{Interval: standin.NoPause})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	extProc := startServer(t, binary, server)

	b := readBootstrap(t, proxy)
	b.Admin.Address = address(t, "127.0.0.1:0")
	b.StaticResources.Listeners[0].Address = address(t, "127.0.0.1:0")
	for _, c := range b.StaticResources.Clusters {
		switch c.Name {
		case envoy.ExtProcCluster:
			moveTo(c, address(t, extProc))
		case envoy.UpstreamCluster:
			moveTo(c, address(t, up.Addr()))
			c.TransportSocket, c.TypedExtensionProtocolOptions = nil, nil // it has no TLS
		default:
			t.Errorf("unexpected cluster %s", c.Name)
		}
	}
	raw, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: raw, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	listener, err := e.ListenerAddr(t.Context(), envoy.ListenerName)
	if err != nil {
		t.Fatal(err)
	}

	// Long enough for every budget per minute here, in one answer.
	status, answer := post(t, "http://"+listener, "x-standin-repeat", "3000", "x-standin-id", "long", "x-standin-burst", "50")
	if status != 200 || !strings.Contains(answer, ": tokenbudget: cut, limit "+budget+"\n") || !strings.HasSuffix(answer, "data: [DONE]\n\n") {
		t.Errorf("status %d, and the end is %q", status, answer[max(0, len(answer)-400):])
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if ex, err := up.WaitExchange(ctx, "long"); err != nil || !ex.Cancelled() {
		t.Errorf("the upstream was not cancelled: completed %v, %v", ex.Completed, err)
	}
}

// startServer starts the server with a configuration, on addresses and in folders of this
// machine, and returns where it listens for Envoy.
func startServer(t *testing.T, binary string, server map[string]any) (extProc string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tb-") // a short path, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listen, store := server["listen"].(map[string]any), server["store"].(map[string]any)["file"].(map[string]any)
	extProc = freeAddress(t)
	if strings.HasPrefix(listen["extproc"].(string), "unix:") {
		extProc = "unix:" + filepath.Join(dir, "extproc.sock")
	}
	listen["extproc"], listen["admin"], store["dir"] = extProc, freeAddress(t), filepath.Join(dir, "data")
	text, err := yaml.Marshal(server)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(binary, "serve", "-config", file)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the server: %v\n%s", err, log.String())
		}
	})
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		out, err := exec.CommandContext(t.Context(), binary, "healthcheck", "-config", file).CombinedOutput()
		if err == nil {
			return extProc
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not ready: %s", out)
		}
	}
}

// readBootstrap reads Envoy's configuration.
func readBootstrap(t *testing.T, text string) *bootstrapv3.Bootstrap {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(raw, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// moveTo gives a cluster another address.
func moveTo(c *clusterv3.Cluster, to *corev3.Address) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: to}},
	}}}}
}

// address is host:port or unix:/path as Envoy writes it.
func address(t *testing.T, s string) *corev3.Address {
	t.Helper()
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}
}

// freeAddress is a loopback address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := envoyrun.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// post asks for a streamed answer.
func post(t *testing.T, url string, headers ...string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	body := fmt.Sprintf(`{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":%q}]}`, "Hello!")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}
