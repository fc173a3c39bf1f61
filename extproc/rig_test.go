package extproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// A rig is a server behind gRPC over an in-memory connection, with its ledger, its
// log and its metrics. It lives in a synctest bubble, which has two uses: timeouts
// are exact and take no time, and a goroutine that outlives the server fails the test.
type rig struct {
	t      *testing.T
	server *Server
	ledger *budget.Ledger
	reg    *prometheus.Registry
	log    *logBuffer
	lis    *bufconn.Listener
	conn   *grpc.ClientConn
	client extprocv3.ExternalProcessorClient
	stop   context.CancelFunc // what SIGTERM does
	ended  chan struct{}      // closed when Serve has returned

	serveErr   error // of Serve, once it has returned
	wantErr    error // what the test has Serve return
	wantErrors bool  // the test provokes lines of level error
}

// bubble runs f with a rig, and afterwards checks what must hold at the end of every
// test: Serve returns, nothing stays held, no exchange counts as open, no error was
// logged, no goroutine is left.
func bubble(t *testing.T, configure func(*Options), f func(t *testing.T, r *rig)) {
	t.Helper()
	// Tables outlive the bubble and must not be built with its clock.
	if _, err := tokens.Get("o200k_base"); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, configure)
		defer r.close(t)
		f(t, r)
	})
}

func newRig(t *testing.T, configure func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, reg: prometheus.NewRegistry(), log: new(logBuffer), ended: make(chan struct{})}
	var err error
	r.ledger, err = budget.New(t.Context(), budget.Options{
		Limits: []budget.Limit{
			{Name: "all", Amount: 1_000_000, Period: budget.Total},
			{Name: "user", Amount: 200, Period: budget.Total, Per: []string{"user"}},
		},
		GrowthStep: 8,
	})
	if err != nil {
		t.Fatal(err)
	}
	enc := zap.NewProductionEncoderConfig()
	opts := Options{
		Ledger:  r.ledger,
		Log:     zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), r.log, zap.InfoLevel)),
		Metrics: NewMetrics(r.reg),
		Policy: exchange.Policy{
			Identities: []exchange.Identity{{Name: "user", Sources: []exchange.Source{{Header: "x-user"}}}},
			Growth:     8,
		},
	}
	if configure != nil {
		configure(&opts)
	}
	r.ledger = opts.Ledger // it may be another one now
	r.server = New(opts)

	r.lis = bufconn.Listen(1 << 20)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.ended)
		r.serveErr = r.server.Serve(ctx, r.lis)
	}()
	r.conn, err = grpc.NewClient("passthrough:bufconn",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return r.lis.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30), grpc.MaxCallRecvMsgSize(1<<30))) // Envoy has no limit
	if err != nil {
		t.Fatal(err)
	}
	r.client = extprocv3.NewExternalProcessorClient(r.conn)
	return r
}

// close ends the server and checks what must hold then.
func (r *rig) close(t *testing.T) {
	t.Helper()
	r.stop()
	<-r.ended
	if !errors.Is(r.serveErr, r.wantErr) {
		t.Errorf("Serve returned %v, want %v", r.serveErr, r.wantErr)
	}
	if err := r.conn.Close(); err != nil {
		t.Error(err)
	}
	synctest.Wait()
	for _, b := range r.balances() {
		if b.Held != 0 {
			t.Errorf("limit %s %v: %d are still held", b.Limit, b.Subject, b.Held)
		}
	}
	if n := r.metric("tokenbudget_open_exchanges"); n != 0 {
		t.Errorf("%v exchanges count as open", n)
	}
	if o := r.server.overload; o.open.Load() != 0 || o.buffered.Load() != 0 || o.announced.Load() != 0 || len(o.counting.turns) != 0 {
		t.Errorf("the end leaves %d exchanges, %d bytes, %d announced, %d counted", o.open.Load(), o.buffered.Load(), o.announced.Load(), len(o.counting.turns))
	}
	if errs := r.log.lines("level", "error"); len(errs) > 0 != r.wantErrors {
		t.Errorf("error lines in the log: %v", errs)
	}
	if err := r.ledger.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func (r *rig) balances() []budget.Balance {
	r.t.Helper()
	all, err := r.ledger.Balances(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// user is the counter of a user.
func (r *rig) user(name string) budget.Balance {
	r.t.Helper()
	for _, b := range r.balances() {
		if b.Limit == "user" && b.Subject[0].Value == name {
			return b
		}
	}
	return budget.Balance{}
}

// metric is the value of a metric: of a counter or a gauge, or the number of
// observations of a histogram. labels are names and values; 0 if it was not counted.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName(), l.GetValue())
			}
			if slices.Equal(have, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

// exchangeLine is the one line of the log about an exchange of a user.
func (r *rig) exchangeLine(user string) map[string]any {
	r.t.Helper()
	var found []map[string]any
	for _, l := range r.log.lines("msg", "exchange") {
		if l["user"] == user {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		r.t.Fatalf("%d exchange lines for %s, want one:\n%s", len(found), user, r.log.text())
	}
	return found[0]
}

// logBuffer keeps the log as it would be written.
type logBuffer struct {
	before func(line []byte) // called for each line, if it is set
	mu     sync.Mutex
	b      bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	if l.before != nil {
		l.before(p)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (*logBuffer) Sync() error { return nil }

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns the lines in which key has a value.
func (l *logBuffer) lines(key, value string) (found []map[string]any) {
	for line := range strings.Lines(l.text()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			panic(fmt.Sprintf("the log has a line that is no JSON: %s", line))
		}
		if fields[key] == value {
			found = append(found, fields)
		}
	}
	return found
}

// A peer is Envoy's side of one exchange.
type peer struct {
	t      *testing.T
	stream extprocv3.ExternalProcessor_ProcessClient
	hangUp context.CancelFunc // what Envoy does when the client goes away, or after a cut
}

func (r *rig) dial() *peer {
	r.t.Helper()
	// In the bubble's time this is for ever, but not for a test that hangs.
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	stream, err := r.client.Process(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return &peer{t: r.t, stream: stream, hangUp: cancel}
}

func (p *peer) send(m *extprocv3.ProcessingRequest) {
	p.t.Helper()
	if err := p.stream.Send(m); err != nil {
		p.t.Fatal(err)
	}
}

// next is the server's next message.
func (p *peer) next() *extprocv3.ProcessingResponse {
	p.t.Helper()
	m, err := p.stream.Recv()
	if err != nil {
		p.t.Fatalf("the stream has ended: %v", err)
	}
	return m
}

// end waits for the end of the stream, and returns its error; nil if it was in good form.
func (p *peer) end() error {
	p.t.Helper()
	m, err := p.stream.Recv()
	if err == nil {
		p.t.Fatalf("the stream goes on: %v", m)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// request sends a chat request and returns the decision on its body.
func (p *peer) request(user string, stream bool) *extprocv3.ProcessingResponse {
	p.t.Helper()
	p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", user))
	if p.next().GetRequestHeaders() == nil {
		p.t.Fatal("the request's headers were refused")
	}
	p.send(requestBody(chatBody("Good morning", stream)))
	return p.next()
}

// answer begins the answer to a request: a stream or a JSON document.
func (p *peer) answer(contentType string) {
	p.t.Helper()
	p.send(responseHeaders(":status", "200", "content-type", contentType))
	if p.next().GetResponseHeaders() == nil {
		p.t.Fatal("no answer to the response's headers")
	}
}

const eventStream = "text/event-stream"

// begin has a streamed request admitted and its answer begun.
func (p *peer) begin(user string) {
	p.t.Helper()
	if p.request(user, true).GetRequestBody() == nil {
		p.t.Fatal("the request was refused")
	}
	p.answer(eventStream)
}

// say sends an event with a text, which must come back as it is.
func (p *peer) say(text string) {
	p.t.Helper()
	p.send(responseBody(event(text), false))
	if got := bodyOf(p.next()); string(got.GetBody()) != event(text) || got.GetEndOfStream() {
		p.t.Fatalf("event %q came back as %v", event(text), got)
	}
}

// wantCut reads a message that ends the answer and names a limit.
func (p *peer) wantCut(limit string) {
	p.t.Helper()
	got := bodyOf(p.next())
	want := ": tokenbudget: cut, limit " + limit + "\n"
	if !got.GetEndOfStream() || !strings.Contains(string(got.GetBody()), want) || !strings.HasSuffix(string(got.GetBody()), "data: [DONE]\n\n") {
		p.t.Fatalf("not a cut by %s: %v", limit, got)
	}
}

func bodyOf(m *extprocv3.ProcessingResponse) *extprocv3.StreamedBodyResponse {
	return m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
}

func chatBody(prompt string, stream bool) string {
	return `{"model":"gpt-4o","messages":[{"role":"user","content":` + strconv.Quote(prompt) + `}],"stream":` + strconv.FormatBool(stream) + `}`
}

func event(text string) string {
	return `data: {"choices":[{"index":0,"delta":{"content":` + strconv.Quote(text) + "}}]}\n\n"
}

func headerMap(pairs []string) *extprocv3.HttpHeaders {
	m := &corev3.HeaderMap{}
	for pair := range slices.Chunk(pairs, 2) {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pair[0], RawValue: []byte(pair[1])})
	}
	return &extprocv3.HttpHeaders{Headers: m}
}

func requestHeaders(pairs ...string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: headerMap(pairs)}}
}

func requestBody(body string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true},
	}}
}

func responseHeaders(pairs ...string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: headerMap(pairs)}}
}

func responseBody(body string, eos bool) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: eos},
	}}
}
