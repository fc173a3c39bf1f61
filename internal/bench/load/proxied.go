package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// proxied is the road through a real Envoy. This package is the client, and the upstream,
// which sends what the client's side tells it to.
type proxied struct {
	options  envoy.Options
	up       *http.Server
	served   chan error
	client   *http.Client
	next     atomic.Int64
	mu       sync.Mutex
	envoy    *envoyrun.Envoy
	url      string
	commands map[string]*script // by id; each as long as its exchange
}

// script is what an upstream's answer is to be; the client's side writes it.
type script struct {
	begin    func(w http.ResponseWriter) // writes the head; nil: of a stream
	pieces   chan string                 // to be sent, each flushed; closed at the end
	reset    atomic.Bool                 // breaks off instead of an end
	sent     atomic.Int64                // events
	returned chan struct{}               // closed when the upstream is done
}

const (
	idHeader = "X-Load-Id"
	logFlush = 500 * time.Millisecond // after which Envoy has written a line, unless it is very busy
)

// newProxied starts an upstream and Envoy. With many the client speaks HTTP/2, so that many
// streams share a connection; else HTTP/1.1, where one that breaks concerns no other. With
// HTTP/2 Envoy closes a connection on which the client resets more than 33 streams a second,
// after a first 1,000: nghttp2's guard against floods of resets, which ends the others, too.
func newProxied(ctx context.Context, extProc string, many bool) (*proxied, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxied{served: make(chan error, 1), commands: make(map[string]*script)}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	p.up = &http.Server{Handler: http.HandlerFunc(p.answer), Protocols: protocols, ReadHeaderTimeout: time.Minute,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	go func() { p.served <- p.up.Serve(lis) }()
	p.options = envoy.Options{
		Upstream: "http://" + lis.Addr().String(), UpstreamHTTP2: true, ExtProc: extProc, Identities: []string{"user"},
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", AccessLog: true,
	}
	speaks := new(http.Protocols)
	speaks.SetHTTP1(!many)
	speaks.SetUnencryptedHTTP2(many)
	p.client = &http.Client{Transport: &http.Transport{Protocols: speaks, DisableCompression: true, MaxIdleConnsPerHost: atOnce}}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// start starts Envoy.
func (p *proxied) start(ctx context.Context) error {
	bootstrap, err := envoy.BootstrapYAML(p.options)
	if err != nil {
		return err
	}
	e, err := envoyrun.Start(ctx, envoyrun.Options{Bootstrap: bootstrap})
	if err != nil {
		return err
	}
	addr, err := e.ListenerAddr(ctx, envoy.ListenerName)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.envoy, p.url = e, "http://"+addr
	return nil
}

// restart ends Envoy, whatever is under way, and starts it again.
func (p *proxied) restart(ctx context.Context) error {
	p.mu.Lock()
	old := p.envoy
	p.envoy = nil
	p.mu.Unlock()
	err := old.Close()
	p.client.CloseIdleConnections()
	return errors.Join(err, p.start(ctx))
}

// lastLine is what Envoy's access log said last of a user, if it still says it.
func (p *proxied) lastLine(user string) string {
	time.Sleep(logFlush)
	p.mu.Lock()
	e := p.envoy
	p.mu.Unlock()
	if e == nil {
		return "there is no Envoy"
	}
	last := "nothing"
	for line := range strings.Lines(e.Output()) {
		if strings.Contains(line, strconv.Quote(user)) {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

func (p *proxied) close() error {
	p.mu.Lock()
	e := p.envoy
	p.envoy = nil
	p.mu.Unlock()
	var err error
	if e != nil {
		err = e.Close()
	}
	p.client.CloseIdleConnections()
	err = errors.Join(err, p.up.Close())
	if served := <-p.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// answer is the upstream.
func (p *proxied) answer(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	s := p.commands[r.Header.Get(idHeader)]
	p.mu.Unlock()
	if s == nil {
		http.Error(w, "nobody waits for this", http.StatusGone)
		return
	}
	defer close(s.returned)
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	rc := http.NewResponseController(w)
	if s.begin != nil {
		s.begin(w)
	} else {
		w.Header().Set("content-type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
	}
	if rc.Flush() != nil {
		return
	}
	for {
		select {
		case text, more := <-s.pieces:
			if !more {
				if s.reset.Load() {
					panic(http.ErrAbortHandler)
				}
				return
			}
			s.sent.Add(int64(strings.Count(text, event)))
			if _, err := io.WriteString(w, text); err != nil || rc.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// proxiedStream is an exchange as its client sees it.
type proxiedStream struct {
	p      *proxied
	id     string
	user   string
	script *script
	resp   *http.Response
	body   *bufio.Reader
	cancel context.CancelFunc
	once   sync.Once // ends the script
	sure   int64     // events that have reached the server
	gone   sync.Once
}

func (p *proxied) open(ctx context.Context, user string) (stream, error) {
	x, err := p.call(ctx, user, requestBody(true), nil)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// call asks for a chat.
func (p *proxied) call(ctx context.Context, user, body string, begin func(http.ResponseWriter)) (*proxiedStream, error) {
	return p.ask(ctx, http.MethodPost, "/v1/chat/completions", user, body, begin)
}

// ask sends a request and returns when its answer has begun. After an error the exchange
// may still be under way: sent counts what the upstream has sent.
func (p *proxied) ask(ctx context.Context, method, path, user, body string, begin func(http.ResponseWriter)) (*proxiedStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	x := &proxiedStream{
		p: p, id: strconv.FormatInt(p.next.Add(1), 10), user: user, cancel: cancel,
		script: &script{begin: begin, pieces: make(chan string), returned: make(chan struct{})},
	}
	p.mu.Lock()
	p.commands[x.id] = x.script
	url := p.url
	p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		x.leave()
		return x, err
	}
	if body != "" {
		req.Header.Set("content-type", "application/json")
	}
	req.Header.Set("x-user", user)
	req.Header.Set(idHeader, x.id)
	if x.resp, err = p.client.Do(req); err != nil {
		x.leave()
		return x, err
	}
	if x.resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(x.resp.Body, 1<<10))
		x.leave()
		return x, errRefused{x.resp.StatusCode, string(text)}
	}
	x.body = bufio.NewReader(x.resp.Body)
	return x, nil
}

// send has the upstream send text; it fails if the upstream is done.
func (x *proxiedStream) send(text string) error {
	select {
	case x.script.pieces <- text:
		return nil
	case <-x.script.returned:
		return errors.New("the upstream was cancelled")
	}
}

func (x *proxiedStream) end(reset bool) {
	x.once.Do(func() {
		x.script.reset.Store(reset)
		close(x.script.pieces)
	})
}

func (x *proxiedStream) say() (cut bool, err error) {
	if x.send(event) != nil {
		return true, x.wantCut("") // it came after the event before
	}
	buf := make([]byte, len(event))
	n, err := io.ReadFull(x.body, buf)
	if err != nil {
		return false, fmt.Errorf("an event comes as %q: %w; Envoy's log: %s", buf[:n], err, x.p.lastLine(x.user))
	}
	x.sure++
	if string(buf) != event {
		return true, x.wantCut(string(buf))
	}
	if x.body.Buffered() > 0 {
		return true, x.wantCut("")
	}
	return false, nil
}

// wantCut reads the end of an answer that the server has cut; begun was read already.
func (x *proxiedStream) wantCut(begun string) error {
	rest, err := io.ReadAll(x.body)
	if text := begun + string(rest); err != nil || !strings.Contains(text, ": tokenbudget: cut, limit ") || !strings.HasSuffix(text, done) {
		return fmt.Errorf("neither an event nor a cut: %q, %w", text, cmpErr(err))
	}
	return nil
}

func (x *proxiedStream) reached() (least, most int64) { return x.sure, x.script.sent.Load() }

func (x *proxiedStream) finish() error {
	defer x.leave()
	if err := x.send(done); err != nil {
		return err
	}
	return x.ended(done)
}

// ended has the upstream end the answer, whose unread rest must be want.
func (x *proxiedStream) ended(want string) error {
	x.end(false)
	rest, err := io.ReadAll(x.body)
	if err != nil || string(rest) != want {
		return fmt.Errorf("the end of the answer comes as %q: %w", rest, cmpErr(err))
	}
	return nil
}

// hangUp is the client's leaving, of which the upstream hears.
func (x *proxiedStream) hangUp() {
	x.cancel()
	if x.resp != nil {
		_ = x.resp.Body.Close() // it is broken off
	}
}

// leave hangs up and ends the upstream's part. Nobody may be sending.
func (x *proxiedStream) leave() {
	x.gone.Do(func() {
		x.hangUp()
		x.end(true)
		x.p.mu.Lock()
		delete(x.p.commands, x.id)
		x.p.mu.Unlock()
	})
}
