package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// maxRequest bounds a request's body, in bytes.
const maxRequest = 64 << 20

// HTTP2Upstream is an [Upstream] that speaks HTTP/2 without TLS, as most providers do with it. It is
// Go's own server, and costs more than Upstream. Envoy passes each chunk on by itself as HTTP/2 frames come one by
// one, whereas of HTTP/1.1 it reads many chunks at a time when they come fast.
type HTTP2Upstream struct {
	Upstream
	server *http.Server
	bodies sync.Pool // of *[]byte, for streams
}

// StartHTTP2Upstream starts one on a free port of loopback.
func StartHTTP2Upstream(ctx context.Context) (*HTTP2Upstream, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &HTTP2Upstream{Upstream: Upstream{lis: lis, scripts: make(map[int]*script)}}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // for who asks what was sent
	protocols.SetUnencryptedHTTP2(true)
	u.server = &http.Server{Handler: u, Protocols: protocols, ReadHeaderTimeout: upstreamWrite, IdleTimeout: upstreamIdle}
	u.owned.Go(func() { _ = u.server.Serve(lis) }) // ends by Close
	return u, nil
}

// Close breaks everything off.
func (u *HTTP2Upstream) Close() error {
	err := u.server.Close()
	u.owned.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ServeHTTP answers as Upstream does.
func (u *HTTP2Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == sentPath {
		_, _ = fmt.Fprintf(w, "%d %d %d", u.requests.Load(), u.chunks.Load(), u.bytes.Load()) // or it has left
		return
	}
	size, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return
	}
	a, err := parseAnswer(r.Header.Get(benchHeader))
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case a.Chunks > 0:
		_ = u.play(w, r, a, int(size)) // whoever misses a chunk says so
	default:
		body := []byte(whole)
		setUsage(body, wholeUsage, int(size), WholeOutput)
		w.Header().Set("content-type", "application/json")
		w.Header().Set("content-length", strconv.Itoa(len(body)))
		u.requests.Add(1)
		u.bytes.Add(int64(len(body)))
		_, _ = w.Write(body)
	}
}

// play sends a stream, each chunk at its time and in a frame of its own, as Upstream does.
func (u *HTTP2Upstream) play(w http.ResponseWriter, r *http.Request, a Answer, size int) error {
	s, err := u.script(a.Chunks)
	if err != nil {
		return err
	}
	kept, _ := u.bodies.Get().(*[]byte)
	if kept == nil {
		kept = new([]byte)
	}
	defer u.bodies.Put(kept)
	*kept = append((*kept)[:0], s.body...)
	body := *kept
	setUsage(body, s.usage, size, s.chunks)
	w.Header().Set("content-type", "text/event-stream; charset=utf-8")
	w.Header().Set("cache-control", "no-cache")
	flush := http.NewResponseController(w)
	u.requests.Add(1)
	due, begin := time.Now(), 0
	for i := range s.chunks + 1 {
		end := len(body)
		if i < s.chunks {
			end = s.ends[i]
		} else if a.Stay {
			<-r.Context().Done()
			return nil
		}
		if a.Pause > 0 && i > 0 && i < s.chunks {
			due = waitFor(due, a.Pause)
		}
		now := bench.Now()
		for e := i; e < len(s.stamps) && (e == i || i == s.chunks); e++ {
			putNumber(body[s.stamps[e]:s.stamps[e]+stampWidth], now, '0')
		}
		if i < s.chunks {
			u.chunks.Add(1)
		} else {
			u.bytes.Add(int64(len(body)))
		}
		if _, err := w.Write(body[begin:end]); err != nil {
			return err
		}
		if err := flush.Flush(); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// ServeHTTP2Upstream is the child process that is one.
func ServeHTTP2Upstream(ctx context.Context) error {
	ctx, stop := Parent(ctx)
	defer stop()
	u, err := StartHTTP2Upstream(ctx)
	if err != nil {
		return err
	}
	Tell(u.Addr())
	<-ctx.Done()
	return u.Close()
}
