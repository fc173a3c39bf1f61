package e2e

import (
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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// road is a client's way to an upstream through Envoy and the server.
type road struct {
	url    string // of Envoy's listener
	up     *standin.Server
	ledger *budget.Ledger
	server *extproc.Server
	tap    *tap
	logs   *observer.ObservedLogs
	envoy  *envoyrun.Envoy
	edit   func(bootstrap []byte) []byte // changes the rendered configuration; nil: it stays

	extProc string // address of the server
	path    string // of the Envoy binary; empty for the usual one
}

type roadOptions struct {
	limits    []budget.Limit
	policy    exchange.Policy
	http2     bool // to the upstream
	interval  time.Duration
	configure func(*extproc.Options)
	upstream  string        // URL of another upstream than the stand-in
	envoy     envoy.Options // with what is not said here
	edit      func(bootstrap []byte) []byte
	envoyPath string             // of another Envoy than the usual one
	signing   standin.SigningKey // with which the stand-in wants requests signed
}

// perUser is a limit of n units a year for each x-user.
func perUser(name string, u budget.Unit, n int64) budget.Limit {
	return budget.Limit{Name: name, Unit: u, Amount: n, Per: []string{"user"}, Period: budget.Year}
}

func newRoad(t *testing.T, o roadOptions) *road {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the first Envoy may be installed
	defer cancel()
	r := &road{edit: o.edit, path: o.envoyPath}
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	r.up, err = standin.Start(standin.Options{
		Interval: o.interval, CountOutput: enc.CountString,
		KeepExchanges: 2000, KeepBytes: 1 << 20, Signing: o.signing,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.up.Close)

	r.ledger, err = budget.New(ctx, budget.Options{Limits: o.limits, GrowthStep: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.ledger.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	core, logs := observer.New(zapcore.InfoLevel)
	r.logs = logs
	o.policy.Identities = append(o.policy.Identities, exchange.Identity{Name: "user", Sources: []exchange.Source{{Header: "x-user"}}})
	if o.policy.Growth == 0 {
		o.policy.Growth = 8
	}
	opts := extproc.Options{Ledger: r.ledger, Policy: o.policy, Log: zap.New(core)}
	if o.configure != nil {
		o.configure(&opts)
	}
	r.server = extproc.New(opts)
	r.tap = &tap{Server: r.server, seen: make(map[string]*seen)}

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// As the server's own: else Envoy, which pings every two seconds, is taken for a flood after four of them.
	pings := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})
	g := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), pings)
	extprocv3.RegisterExternalProcessorServer(g, r.tap)
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	r.extProc = lis.Addr().String()
	o.envoy.Upstream, o.envoy.UpstreamHTTP2, o.envoy.ExtProc = cmp.Or(o.upstream, r.up.URL()), o.http2, lis.Addr().String()
	r.startEnvoyWith(ctx, t, o.envoy)
	return r
}

func (r *road) startEnvoy(ctx context.Context, t *testing.T, extProc, upstream string, http2 bool) {
	t.Helper()
	r.startEnvoyWith(ctx, t, envoy.Options{Upstream: upstream, UpstreamHTTP2: http2, ExtProc: extProc})
}

func (r *road) startEnvoyWith(ctx context.Context, t *testing.T, o envoy.Options) {
	t.Helper()
	o.Listen, o.Admin, o.AccessLog, o.Identities = "127.0.0.1:0", "127.0.0.1:0", true, []string{"user"}
	bootstrap, err := envoy.BootstrapYAML(o)
	if err != nil {
		t.Fatal(err)
	}
	if r.edit != nil {
		bootstrap = r.edit(bootstrap)
	}
	r.envoy, err = envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap, Path: r.path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.envoy.Close(); err != nil {
			t.Errorf("envoy: %v\n%s", err, r.envoy.Log())
		}
	})
	addr, err := r.envoy.ListenerAddr(ctx, envoy.ListenerName)
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + addr
}

// tap stands between gRPC and the server and keeps what passes, by request id.
type tap struct {
	*extproc.Server
	mu   sync.Mutex
	seen map[string]*seen
}

// seen is what passed of one exchange.
type seen struct {
	mu       sync.Mutex
	in       bytes.Buffer // bytes of the answer that reached the server
	out      bytes.Buffer // bytes of the answer that left it
	cutAt    time.Time    // when the end was sent before the upstream's end had come
	upEnded  bool
	waits    chan struct{} // closed when Envoy was told that the request waits
	waiting  bool          // waits is closed
	returned chan struct{} // closed when the handler has returned
}

func (p *tap) of(id string) *seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[id]
	if s == nil {
		s = &seen{waits: make(chan struct{}), returned: make(chan struct{})}
		p.seen[id] = s
	}
	return s
}

func (p *tap) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	w := &tappedStream{ExternalProcessor_ProcessServer: stream, tap: p}
	defer func() {
		if s := w.exchange.Load(); s != nil {
			close(s.returned)
		}
	}()
	return p.Server.Process(w)
}

type tappedStream struct {
	extprocv3.ExternalProcessor_ProcessServer
	tap      *tap
	exchange atomic.Pointer[seen]
}

func (s *tappedStream) Recv() (*extprocv3.ProcessingRequest, error) {
	m, err := s.ExternalProcessor_ProcessServer.Recv()
	if err != nil {
		return m, err
	}
	if h := m.GetRequestHeaders(); h != nil {
		for _, v := range h.GetHeaders().GetHeaders() {
			if v.GetKey() == "x-standin-id" {
				s.exchange.Store(s.tap.of(string(v.GetRawValue())))
			}
		}
	}
	if x := s.exchange.Load(); x != nil && m.GetResponseBody() != nil {
		x.mu.Lock()
		x.in.Write(m.GetResponseBody().GetBody())
		x.upEnded = x.upEnded || m.GetResponseBody().GetEndOfStream()
		x.mu.Unlock()
	}
	return m, nil
}

func (s *tappedStream) Send(m *extprocv3.ProcessingResponse) error {
	if x := s.exchange.Load(); x != nil {
		if m.GetOverrideMessageTimeout() != nil {
			x.mu.Lock()
			if !x.waiting {
				x.waiting = true
				close(x.waits)
			}
			x.mu.Unlock()
		}
		if b := m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse(); b != nil {
			x.mu.Lock()
			x.out.Write(b.GetBody())
			if b.GetEndOfStream() && !x.upEnded {
				x.cutAt = time.Now()
			}
			x.mu.Unlock()
		}
	}
	return s.ExternalProcessor_ProcessServer.Send(m)
}

// client returns an HTTP client that speaks HTTP/1.1 or cleartext HTTP/2.
func client(http2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	return &http.Client{
		Transport: &http.Transport{Protocols: p, DisableCompression: false, TLSClientConfig: new(tls.Config), MaxIdleConnsPerHost: 64},
		Timeout:   2 * time.Minute,
	}
}

// call is one request.
type call struct {
	id      string
	user    string
	body    string
	headers map[string]string
}

const chatPath = "/v1/chat/completions"

func (r *road) request(ctx context.Context, c call) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+chatPath, strings.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("content-type", "application/json")
	req.Header.Set("authorization", "Bearer sk-test")
	req.Header.Set("x-standin-id", c.id)
	req.Header.Set("x-user", c.user)
	for k, v := range c.headers {
		req.Header.Set(k, v)
	}
	return req, nil
}

// do sends a request and reads the whole answer.
func (r *road) do(ctx context.Context, hc *http.Client, c call) (*http.Response, []byte, error) {
	req, err := r.request(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// patience bounds every wait for what must come, and comes at once unless the machine is busy.
const patience = time.Minute

// finished waits until the server has done with an exchange.
func (r *road) finished(id string) (*seen, error) {
	s := r.tap.of(id)
	select {
	case <-s.returned:
		return s, nil
	case <-time.After(patience):
		return s, fmt.Errorf("exchange %s: the server's handler has not returned", id)
	}
}

// balance returns a user's counter of a limit.
func (r *road) balance(t *testing.T, limit, user string) budget.Balance {
	t.Helper()
	for _, b := range r.balances(t) {
		if b.Limit == limit && len(b.Subject) == 1 && b.Subject[0].Value == user {
			return b
		}
	}
	return budget.Balance{}
}

func (r *road) balances(t *testing.T) []budget.Balance {
	t.Helper()
	all, err := r.ledger.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// exchanges returns the log's lines of exchanges of a user.
func (r *road) exchanges(user string) []observer.LoggedEntry {
	return r.logs.FilterMessage("exchange").FilterField(zap.String("user", user)).All()
}

// content reads a stream in a way that has nothing in common with the server's:
// it joins the contents of each choice's texts of whole events.
func content(stream []byte) (texts map[string]string, usage *struct{ Prompt, Completion int64 }) {
	texts = make(map[string]string)
	events := strings.Split(string(stream), "\n\n")
	for _, e := range events[:len(events)-1] { // what follows the last blank line is no event
		data, ok := strings.CutPrefix(e[strings.LastIndex("\n"+e, "\ndata:"):], "data:")
		if !ok || strings.TrimSpace(data) == "[DONE]" {
			continue
		}
		var chunk struct {
			Choices []struct {
				Index int
				Delta map[string]any
			}
			Usage *struct {
				Prompt     int64 `json:"prompt_tokens"`
				Completion int64 `json:"completion_tokens"`
			}
		}
		if json.Unmarshal([]byte(data), &chunk) != nil {
			continue
		}
		for _, c := range chunk.Choices {
			for _, k := range []string{"content", "reasoning_content", "refusal"} {
				if s, ok := c.Delta[k].(string); ok {
					texts[fmt.Sprint(c.Index, k)] += s
				}
			}
		}
		if chunk.Usage != nil {
			usage = &struct{ Prompt, Completion int64 }{chunk.Usage.Prompt, chunk.Usage.Completion}
		}
	}
	return texts, usage
}

// count counts the texts of a stream, all at once.
func count(t *testing.T, stream []byte) (n int64) {
	t.Helper()
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	texts, _ := content(stream)
	for _, s := range texts {
		n += int64(enc.CountString(s))
	}
	return n
}

// combinations runs f for the four combinations of HTTP versions.
func combinations(t *testing.T, o roadOptions, f func(t *testing.T, r *road, hc *http.Client)) {
	for _, up := range []bool{false, true} {
		o.http2 = up
		t.Run(map[bool]string{false: "upstream=http1", true: "upstream=http2"}[up], func(t *testing.T) {
			r := newRoad(t, o)
			for _, down := range []bool{false, true} {
				t.Run(map[bool]string{false: "client=http1", true: "client=http2"}[down], func(t *testing.T) {
					hc := client(down)
					defer hc.CloseIdleConnections()
					f(t, r, hc)
				})
			}
		})
	}
}
