package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// rollingStreams is how many streams are open at least whenever something is restarted.
const rollingStreams = 200

// TestRollingRestart: two Envoys, two servers, mutual TLS, streams all the time. The servers
// are restarted one after the other, and then the Envoys. No request fails, no stream
// breaks, and the stores have what the upstream reported, to the token.
func TestRollingRestart(t *testing.T) {
	up := startMeshUpstream(t)
	m := newMesh(t, up.URL())
	// One tells before it goes, the other one is gone at once for who wants to connect. It is Envoy
	// then that begins elsewhere what could not begin there.
	a := m.node(t, meshFile+"timeouts: {drain_delay: 2s, connection_age: 3s}\n")
	b := m.node(t, meshFile+"timeouts: {drain_delay: 0s, connection_age: 3s}\n")
	both := a.extProc + "," + b.extProc
	envoys := []*envoyrun.Envoy{m.envoy(t, a, both), m.envoy(t, a, both)}
	c := newMeshClients(t, envoyURL(t, envoys[0]), envoyURL(t, envoys[1]))
	c.start(rollingStreams + rollingStreams/5)
	before, began := -1, time.Now() // before: what had ended at the last step
	under := func(what string) {
		t.Helper()
		c.waitOpen(t, rollingStreams)
		done := c.ended()
		t.Logf("%s, after %.1f s: %d streams are open, %d requests have ended", what, time.Since(began).Seconds(), c.open.Load(), done)
		if done == before {
			t.Errorf("%s: nothing has ended since the last step", what)
		}
		before = done
	}

	for i, n := range []*node{a, b} {
		under(fmt.Sprintf("restart of server %d", i))
		if open := n.metric(t, "tokenbudget_open_exchanges"); open < rollingStreams/10 {
			t.Errorf("server %d has %v of the streams, which shows nothing", i, open)
		}
		n.terminate(t)
		n.start(t)
		for _, e := range envoys {
			waitHealthy(t, e, 2)
		}
	}
	for i, e := range envoys {
		under(fmt.Sprintf("restart of Envoy %d", i))
		c.leave(i) // as a load balancer does that sees Envoy's health check fail
		envoyGone(t, e)
		envoys[i] = m.envoy(t, a, both)
		c.replace(i, envoyURL(t, envoys[i]))
	}
	under("the end")
	c.stop()
	for _, e := range envoys {
		envoyGone(t, e)
	}
	for _, n := range []*node{a, b} {
		n.terminate(t)
	}

	c.settled(t, a, b)
}

// meshFile is the part of a server's file that all have.
const meshFile = `
budgets:
  - {name: all, limit: 1000B tokens, period: total}
  - {name: users, per: user, limit: 1000B tokens, period: total}
identity: {user: [{header: x-user}]}
`

// settled checks that no request has failed, and that the stores of servers, which have ended,
// have what the upstream reported.
func (c *meshClients) settled(t *testing.T, servers ...*node) {
	t.Helper()
	for _, err := range c.failures {
		t.Error(err)
	}
	var all, users int64
	for i, n := range servers {
		for name, sum := range map[string]*int64{"all": &all, "users": &users} {
			spent, held := n.stored(t, name)
			*sum += spent
			if held != 0 {
				t.Errorf("server %d: %d tokens of %s are held for ever", i, held, name)
			}
		}
		outcomes := n.log.outcomes()
		t.Logf("server %d: %v", i, outcomes)
		if len(outcomes) != 1 || outcomes["completed"] == 0 {
			t.Errorf("server %d: exchanges ended as %v, want completed ones only", i, outcomes)
		}
		if strings.Contains(n.log.text(0), `"level":"error"`) {
			t.Errorf("server %d: errors in the log", i)
		}
	}
	t.Logf("%d requests, %d of them streams, %d failed; %d tokens reported, %d charged", c.ended(), c.streams, len(c.failures), c.tokens, all)
	if all != c.tokens || users != c.tokens {
		t.Errorf("charged %d tokens in all and %d of users; what reached the servers was %d", all, users, c.tokens)
	}
}

func startMeshUpstream(t *testing.T) *standin.Server {
	t.Helper()
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	up, err := standin.Start(standin.Options{CountOutput: enc.CountString, KeepExchanges: 1, KeepBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	return up
}

// envoyGone ends an Envoy as its documentation says: its listeners drain, and it quits when
// nothing is under way. What it has answered must be free of errors.
func envoyGone(t *testing.T, e *envoyrun.Envoy) {
	t.Helper()
	resp, err := meshAdmin.Post("http://"+e.AdminAddr()+"/drain_listeners?graceful", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	const active, failed = "http.tokenbudget.downstream_rq_active", "http.tokenbudget.downstream_rq_5xx"
	giveUp := time.Now().Add(2 * patience)
	for {
		stats := envoyStats(t, e, "^http.tokenbudget.downstream_rq_")
		if n, ok := stats[failed]; !ok || n != 0 {
			t.Errorf("Envoy has answered %d requests with 5xx (known: %v)", n, ok)
		}
		if stats[active] == 0 {
			break
		}
		if time.Now().After(giveUp) {
			t.Fatalf("%d requests are still under way", stats[active])
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// waitHealthy waits until an Envoy takes n servers for healthy.
func waitHealthy(t *testing.T, e *envoyrun.Envoy, n uint64) {
	t.Helper()
	const healthy = "cluster.tokenbudget_extproc.membership_healthy"
	for giveUp := time.Now().Add(2 * patience); envoyStats(t, e, healthy)[healthy] != n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("Envoy does not take %d servers for healthy", n)
		}
	}
}

// meshClients are clients that begin a new request as soon as the last one has ended.
type meshClients struct {
	ctx     context.Context
	open    atomic.Int64 // streams whose answer has begun
	stopped atomic.Bool
	running sync.WaitGroup

	mu       sync.Mutex
	urls     []string // of Envoys; empty for those that get nothing new
	next     int
	done     int
	streams  int
	tokens   int64 // that the upstream reported
	failures []error
}

// maxFailures bounds the failures that are told one by one.
const maxFailures = 20

func newMeshClients(t *testing.T, urls ...string) *meshClients {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	c := &meshClients{ctx: ctx, urls: urls}
	t.Cleanup(func() {
		cancel()
		c.stop()
	})
	return c
}

// start starts n clients, half of them with HTTP/2.
func (c *meshClients) start(n int) {
	http2 := client(true)
	for i := range n {
		hc := http2
		if i%2 == 0 {
			hc = client(false)
		}
		c.running.Go(func() {
			defer hc.CloseIdleConnections()
			for k := 0; !c.stopped.Load(); k++ {
				// Most are streams, of one to three seconds, so that they are open for much longer than
				// a busy machine takes to begin them; some whole answers are in between.
				c.ask(hc, i, k, (i+k)%8 != 7)
			}
		})
	}
}

// stop lets what is under way end.
func (c *meshClients) stop() {
	c.stopped.Store(true)
	c.running.Wait()
}

func (c *meshClients) ended() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// leave sends nothing new to an Envoy.
func (c *meshClients) leave(i int) { c.replace(i, "") }

// replace gives an Envoy another address.
func (c *meshClients) replace(i int, url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urls[i] = url
}

// url is the next Envoy's.
func (c *meshClients) url() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		c.next++
		if u := c.urls[c.next%len(c.urls)]; u != "" {
			return u
		}
	}
}

func (c *meshClients) waitOpen(t *testing.T, n int64) {
	t.Helper()
	for giveUp := time.Now().Add(2 * patience); c.open.Load() < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("%d streams are open, want %d", c.open.Load(), n)
		}
	}
}

// ask sends a request, and notes what became of it.
func (c *meshClients) ask(hc *http.Client, i, k int, stream bool) {
	n, err := c.answer(hc, i, k, stream)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if stream {
		c.streams++
	}
	c.tokens += n
	if err != nil && len(c.failures) < maxFailures {
		c.failures = append(c.failures, fmt.Errorf("client %d, request %d: %w", i, k, err))
	}
}

// answer returns the tokens that the upstream has reported.
func (c *meshClients) answer(hc *http.Client, i, k int, stream bool) (int64, error) {
	body := fmt.Sprintf(`{"model":"gpt-4o","stream":%t,"messages":[{"role":"user","content":"number %d"}]`, stream, k)
	if stream {
		body += `,"stream_options":{"include_usage":true}`
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.url()+chatPath, strings.NewReader(body+"}"))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"content-type": "application/json", "authorization": "Bearer sk-test", "x-user": fmt.Sprint("u", i%5),
		"x-standin-interval": "300ms",
	} {
		req.Header.Set(name, value)
	}
	if stream {
		req.Header.Set("x-standin-burst", fmt.Sprint(7+(i+k)%5))
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if stream {
		c.open.Add(1)
		defer c.open.Add(-1)
	}
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return 0, fmt.Errorf("status %d, broken off after %d bytes: %w", resp.StatusCode, len(got), err)
	case resp.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("status %d: %.300s", resp.StatusCode, got)
	case !stream:
		return wholeUsage(got)
	case !bytes.HasSuffix(got, []byte("data: [DONE]\n\n")) || bytes.Contains(got, []byte("tokenbudget")):
		return 0, fmt.Errorf("not a whole stream: %s", tail(got))
	}
	// The last chunk has it; to read them all would be most of what this test does.
	_, last, _ := bytes.Cut(got[max(0, len(got)-3000):], []byte("\n\n"))
	_, usage := content(last)
	if usage == nil {
		return 0, fmt.Errorf("a stream without usage: %s", tail(got))
	}
	return usage.Prompt + usage.Completion, nil
}
