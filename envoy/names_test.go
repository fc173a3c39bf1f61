package envoy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// names is a DNS server that knows one name, whatever that is, and has for it the addresses of a
// moment: those of a headless Service.
type names struct {
	mu   sync.Mutex
	list []netip.Addr
}

func (n *names) set(list ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = list
}

// answer returns the answer to a question; nil if it is none.
func (n *names) answer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	n.mu.Lock()
	for _, a := range n.list {
		header := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case m.Questions[0].Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case m.Questions[0].Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	n.mu.Unlock()
	raw, err := m.Pack()
	if err != nil {
		return nil
	}
	return raw
}

// serve returns where the DNS server listens.
func (n *names) serve(t *testing.T) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for question := make([]byte, 512); ; {
			size, from, err := conn.ReadFromUDPAddrPort(question)
			if err != nil {
				return // closed
			}
			if raw := n.answer(question[:size]); raw != nil {
				_, _ = conn.WriteToUDPAddrPort(raw, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		served.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr)
}

// pod is a server of a headless Service: all have one port, each has an address.
type pod struct {
	stub
	server    *grpc.Server
	exchanges atomic.Int64
}

// held is a stream whose answers wait while a lock is held.
type held struct {
	grpc.ServerStream
	lock *sync.RWMutex
}

func (h held) SendMsg(m any) error {
	if resp, ok := m.(*extprocv3.ProcessingResponse); ok && resp.GetResponseBody() != nil {
		h.lock.RLock()
		defer h.lock.RUnlock()
	}
	return h.ServerStream.SendMsg(m)
}

// startPods starts a server at each address, all at one port, which it returns. No answer goes on
// while the lock is held.
func startPods(t *testing.T, lock *sync.RWMutex, addresses ...netip.Addr) ([]*pod, uint16) {
	t.Helper()
	var (
		pods   []*pod
		port   uint16
		served sync.WaitGroup
	)
	t.Cleanup(func() {
		for _, p := range pods {
			p.server.Stop()
		}
		served.Wait()
	})
	for _, a := range addresses {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			t.Skipf("this machine has no second loopback address: %v", err)
		}
		port = uint16(listener.Addr().(*net.TCPAddr).Port)
		p := &pod{}
		p.server = grpc.NewServer(grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			p.exchanges.Add(1)
			return next(srv, held{s, lock})
		}))
		extprocv3.RegisterExternalProcessorServer(p.server, p)
		served.Go(func() { _ = p.server.Serve(listener) })
		pods = append(pods, p)
	}
	return pods, port
}

// TestServerNames: a name of several addresses, as a headless Service has, is several servers.
// Exchanges begin at each in turn, and at another if one is gone; a stream stays when the name
// points elsewhere.
func TestServerNames(t *testing.T) {
	needEnvoy(t)
	one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	var lock sync.RWMutex
	pods, port := startPods(t, &lock, one, two)
	service := &names{}
	// In a cluster with both families pods have both. (An Envoy on a machine without IPv6 never asks for ::1.)
	service.set(one, two, netip.MustParseAddr("::1"))
	up, err := standin.Start(standin.Options{Interval: standin.NoPause})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	g := runNamed(t, service, up.URL(), fmt.Sprintf("tokenbudget.llm.svc.cluster.local:%d", port))

	const requests = 10
	ask := func(what string) {
		t.Helper()
		for range requests {
			if got := g.post(t, chat, stream); got.status != 200 || got.err != nil {
				t.Errorf("%s: status %d, %v: %s", what, got.status, got.err, got.body)
			}
		}
	}
	ask("two servers")
	if n, m := pods[0].exchanges.Load(), pods[1].exchanges.Load(); n != requests/2 || m != requests/2 {
		t.Errorf("%d exchanges began at one server, %d at the other", n, m)
	}

	// A stream is open at each when the address of one is taken out.
	const active = "cluster.tokenbudget_extproc.upstream_rq_active"
	g.waitStat(t, active, 0)
	func() {
		var streams sync.WaitGroup
		defer streams.Wait()
		lock.Lock()
		defer lock.Unlock()
		for range 2 {
			streams.Go(func() {
				got := g.post(t, chat, stream)
				if got.status != 200 || got.err != nil || !strings.HasSuffix(strings.TrimSpace(got.body), "[DONE]") {
					t.Errorf("a stream while the name changes: status %d, %v: %s", got.status, got.err, got.body)
				}
			})
		}
		g.waitStat(t, active, 2)
		service.set(one)
		g.waitStat(t, "cluster.tokenbudget_extproc.membership_total", 1)
	}()
	if n, m := pods[0].exchanges.Load(), pods[1].exchanges.Load(); n != requests/2+1 || m != requests/2+1 {
		t.Errorf("%d and %d exchanges: no stream was open at the server that has left", n, m)
	}

	// One is gone, and its name still says otherwise.
	service.set(one, two)
	g.waitStat(t, "cluster.tokenbudget_extproc.membership_total", 2)
	pods[0].server.Stop()
	g.waitStat(t, "cluster.tokenbudget_extproc.upstream_cx_active", 0) // Envoy has seen it
	ask("one of two servers is gone")
}

// runNamed starts an Envoy for which a DNS server answers.
func runNamed(t *testing.T, service *names, upstream, server string) gateway {
	t.Helper()
	b, err := Bootstrap(Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: upstream, ExtProc: server})
	if err != nil {
		t.Fatal(err)
	}
	at := service.serve(t)
	resolver, err := anypb.New(&caresv3.CaresDnsResolverConfig{Resolvers: []*corev3.Address{tcpEndpoint(at.IP.String(), uint16(at.Port)).address}})
	if err != nil {
		t.Fatal(err)
	}
	b.TypedDnsResolverConfig = &corev3.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: resolver}
	for _, c := range b.StaticResources.Clusters {
		if c.Name == ExtProcCluster {
			c.DnsRefreshRate = durationpb.New(50 * time.Millisecond) //nolint:staticcheck // deprecated with the cluster types that are rendered
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
	addr, err := e.ListenerAddr(t.Context(), ListenerName)
	if err != nil {
		t.Fatal(err)
	}
	return gateway{e, "http://" + addr}
}

// stat is one of Envoy's figures.
func (g gateway) stat(t *testing.T, name string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	stats, err := g.Stats(ctx, "^"+name+"$")
	if err != nil {
		t.Fatal(err)
	}
	return stats[name]
}

// waitStat waits until one of Envoy's figures has a value.
func (g gateway) waitStat(t *testing.T, name string, want uint64) {
	t.Helper()
	for deadline := time.Now().Add(wait); g.stat(t, name) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is %d, want %d", name, g.stat(t, name), want)
		}
	}
}
