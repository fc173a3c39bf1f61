// Package standin is an upstream for tests and the demo: it answers requests to
// a model API with recorded answers, over HTTP/1.1 and cleartext HTTP/2 (prior
// knowledge) on one loopback port, and reports what became of each answer. Its
// use is to see, from the provider's side, whether a stream was really stopped,
// when, and after how much of it.
//
//	up, err := standin.Start(standin.Options{})
//	defer up.Close()
//	… a client or a proxy sends a request with x-standin-id: a1 …
//	ex, err := up.WaitExchange(ctx, "a1")
//	// ex.Completed, ex.CancelledAt, ex.EventsSent of ex.EventsTotal
//
// # Choosing the answer
//
// The request header x-standin-recording names a recording, as [Recordings]
// lists them; then Options.Recording; then the request decides by its path and
// its "stream" member. Each recording is sent with its own status and headers,
// a stream event by event with a pause between them.
//
// # Behaviour for one request
//
//	x-standin-id: ID             names the exchange; generated if absent
//	x-standin-recording: NAME    the answer, such as openai/chat-streaming
//	x-standin-interval: 5ms      the pause between two writes; 0 for none
//	x-standin-split: N           writes of N bytes, regardless of events
//	x-standin-burst: N           N events to a write
//	x-standin-repeat: N          the events with text N times, for long answers
//	x-standin-stall-after: N     goes silent after N events until cancelled
//	x-standin-reset-after: N     breaks the stream off after N events
//	x-standin-status: CODE       another status; from 400 on with an error body
//
// A header that makes no sense is answered with 400 and a message which says
// why, so that a mistake in a test does not look like a result.
//
// # Responses in the background
//
// A request of the Responses API with "background": true, and without a recording's name, is
// answered at once: it is queued. The first GET of the response that the answer names finds it in
// progress, later ones find it completed, as recorded; with stream=true all of them stream it,
// behind the event that starting_after names. POST …/cancel cancels what nobody has asked for yet.
//
// # Usage
//
// As OpenAI does, a chat or completions stream carries the usage chunk (and
// "usage": null in the others) only if the request has
// stream_options.include_usage. Where the recording has no such chunk, or its
// numbers no longer hold because events are repeated, the chunk is computed with
// Options.CountOutput; without that function it is left out, as unknown.
//
// # Caveats
//
//   - It does not read the prompt: any request to a path gets the same answer,
//     and output caps such as max_tokens are not obeyed.
//   - "Sent" means handed to the kernel (HTTP/1.1) or to the HTTP/2 framer. What
//     the peer has read may be less.
//   - No key is checked unless Options.Signing says so, and headers which carry keys are not kept.
package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultInterval is the pause between two events unless Options says otherwise.
const DefaultInterval = 20 * time.Millisecond

// NoPause as Options.Interval sends the events as fast as they are taken.
const NoPause time.Duration = -1

// Options configure a [Server]. The zero value is usable.
type Options struct {
	Addr      string        // where to listen; default 127.0.0.1:0, a free port
	Recording string        // the answer to requests which name none; default by path
	Interval  time.Duration // pause between two writes; 0 is DefaultInterval, NoPause none

	// CountOutput returns the exact tokens of an answer's text, for the usage
	// chunks that are not in the recording. Nil leaves such chunks out.
	CountOutput func(text string) int
	// CountInput returns the tokens of a request body, for the same chunks. Nil
	// takes the recorded number, or else one token for four bytes of the body.
	CountInput func(body []byte) int

	// Signing, if it is set, is the key with which every request must be signed (AWS Signature
	// Version 4); others are answered with 403.
	Signing SigningKey

	KeepExchanges int           // how many exchanges are remembered; default 256
	KeepBytes     int           // how much of each body is remembered; default 1 MiB
	MaxBody       int64         // request bodies beyond are answered with 413; default 32 MiB
	MaxDuration   time.Duration // an exchange which lasts longer is reset; default 10 min
}

// withDefaults returns the options with every zero field filled in.
func (o Options) withDefaults() Options {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.KeepExchanges <= 0 {
		o.KeepExchanges = 256
	}
	if o.KeepBytes <= 0 {
		o.KeepBytes = 1 << 20
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 32 << 20
	}
	if o.MaxDuration <= 0 {
		o.MaxDuration = 10 * time.Minute
	}
	return o
}

// errClosed is why exchanges end when the server is closed; it keeps them from
// being reported as cancelled by the peer.
var errClosed = errors.New("standin: server closed")

// Server is a running stand-in. Its methods may be called concurrently.
type Server struct {
	opts     Options
	addr     string
	http     *http.Server
	journal  *journal
	stored   stored
	shutdown context.CancelCauseFunc

	served chan struct{} // closed when the accept loop has ended

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup // Add only under mu and while not closed
}

// Start listens and serves until [Server.Close]. It fails when the address is
// taken or when Options.Recording does not exist.
func Start(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if opts.Recording != "" {
		if _, err := Load(opts.Recording); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("standin: %w", err)
	}
	ctx, shutdown := context.WithCancelCause(context.Background())
	s := &Server{
		opts:     opts,
		addr:     listener.Addr().String(),
		journal:  newJournal(opts.KeepExchanges, opts.KeepBytes),
		shutdown: shutdown,
		served:   make(chan struct{}),
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 4096},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // peers that break off are the point here
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // always ErrServerClosed, or a listener that Close closed
	}()
	return s, nil
}

// Addr returns the host:port the server listens on.
func (s *Server) Addr() string { return s.addr }

// URL returns the base URL, such as http://127.0.0.1:40001.
func (s *Server) URL() string { return "http://" + s.addr }

// Close breaks off all exchanges and returns when their handlers have ended.
// It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.shutdown(errClosed)
	_ = s.http.Close()
	<-s.served
	s.handlers.Wait()
}

// enter registers a handler; it reports false once the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

// Exchanges returns the remembered exchanges, oldest first, those still running
// included.
func (s *Server) Exchanges() []Exchange { return s.journal.all() }

// Exchange returns the latest exchange with the given id as it stands now, and
// whether there is one.
func (s *Server) Exchange(id string) (Exchange, bool) { return s.journal.latest(id) }

// WaitExchange returns the latest exchange with the given id once it has ended.
// The request need not have arrived yet. The error wraps ctx's and says whether
// the exchange was seen at all.
func (s *Server) WaitExchange(ctx context.Context, id string) (Exchange, error) {
	return s.journal.wait(ctx, id)
}
