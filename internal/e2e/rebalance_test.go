package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestRebalance: an Envoy reaches the servers by one address, as that of a Service is. A
// server that is added gets a share, since connections grow old, and no stream breaks
// that is older than its connection may be.
func TestRebalance(t *testing.T) {
	up := startMeshUpstream(t)
	m := newMesh(t, up.URL())
	const file = meshFile + "timeouts: {drain_delay: 0s, connection_age: 500ms}\n"
	a := m.node(t, file)
	service := newBalancer(t, a.extProc)
	e := m.envoy(t, a, service.addr)
	c := newMeshClients(t, envoyURL(t, e))
	c.start(40)
	wait := func(what string, done func() bool) {
		t.Helper()
		for giveUp := time.Now().Add(2 * patience); !done(); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(giveUp) {
				t.Fatalf("%s: not within %v", what, 2*patience)
			}
		}
	}
	completed := func(n *node) int { return n.log.outcomes()["completed"] }
	wait("the first server answers", func() bool { return completed(a) >= 40 })
	b := m.node(t, file)
	service.add(b.extProc)
	before := completed(a)
	wait("the second server has a share", func() bool { return completed(b) >= 40 })
	wait("the first one keeps one", func() bool { return completed(a) >= before+40 })

	c.stop()
	if n := service.accepted(); n < 6 {
		t.Errorf("%d connections, which are not several ages", n)
	}
	envoyGone(t, e)
	a.terminate(t)
	b.terminate(t)
	c.settled(t, a, b)
}

// balancer passes each connection on to the next of some servers, as kube-proxy does. Where a
// connection has gone, it stays.
type balancer struct {
	addr string
	lis  net.Listener

	mu      sync.Mutex
	servers []string
	n       int
	conns   []net.Conn
	running sync.WaitGroup
}

func newBalancer(t *testing.T, servers ...string) *balancer {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{addr: lis.Addr().String(), lis: lis, servers: servers}
	b.running.Go(b.serve)
	t.Cleanup(func() {
		_ = lis.Close()
		b.mu.Lock()
		for _, c := range b.conns {
			_ = c.Close()
		}
		b.mu.Unlock()
		b.running.Wait()
	})
	return b
}

func (b *balancer) add(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = append(b.servers, server)
}

func (b *balancer) accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

func (b *balancer) serve() {
	for {
		from, err := b.lis.Accept()
		if err != nil {
			return // it was closed
		}
		b.mu.Lock()
		server := b.servers[b.n%len(b.servers)]
		b.n++
		b.mu.Unlock()
		to, err := net.Dial("tcp", server)
		if err != nil {
			_ = from.Close()
			continue
		}
		b.mu.Lock()
		b.conns = append(b.conns, from, to)
		b.mu.Unlock()
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from) // when one side ends, so does the other
			_ = to.Close()
			_ = from.Close()
		}
		b.running.Go(func() { pass(to, from) })
		b.running.Go(func() { pass(from, to) })
	}
}
