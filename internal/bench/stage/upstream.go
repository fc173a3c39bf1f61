package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// How long a connection may be silent, and a write may take.
const (
	upstreamIdle  = 10 * time.Minute
	upstreamWrite = time.Minute
)

// sentPath is where an upstream tells what it has sent.
const sentPath = "/sent"

// maxScripts bounds the streams that an upstream keeps.
const maxScripts = 16

// Upstream is the smallest model API that can be: it takes in a whole request, and gives the answer that it asks
// for, see [Answer]. It reads nothing else of it.
type Upstream struct {
	lis    net.Listener
	owned  sync.WaitGroup // goroutines
	closed chan struct{}

	mu      sync.Mutex
	conns   map[net.Conn]bool
	scripts map[int]*script

	requests, chunks, bytes atomic.Int64
}

// StartUpstream starts one on a free port of loopback.
func StartUpstream(ctx context.Context) (*Upstream, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &Upstream{lis: lis, closed: make(chan struct{}), conns: make(map[net.Conn]bool), scripts: make(map[int]*script)}
	u.owned.Go(u.accept)
	return u, nil
}

// Addr is host:port.
func (u *Upstream) Addr() string { return u.lis.Addr().String() }

// URL is what Envoy's configuration calls it.
func (u *Upstream) URL() string { return "http://" + u.Addr() }

// Close breaks everything off.
func (u *Upstream) Close() error {
	if u == nil {
		return nil
	}
	close(u.closed)
	err := u.lis.Close()
	u.mu.Lock()
	for c := range u.conns {
		_ = c.Close() // there is nothing to lose
	}
	u.mu.Unlock()
	u.owned.Wait()
	return err
}

func (u *Upstream) accept() {
	for {
		c, err := u.lis.Accept()
		if err != nil {
			return // closed; or what the clients see as well
		}
		u.mu.Lock()
		u.conns[c] = true
		u.mu.Unlock()
		u.owned.Go(func() {
			defer func() {
				_ = c.Close()
				u.mu.Lock()
				delete(u.conns, c)
				u.mu.Unlock()
			}()
			// An error is somebody who leaves, which Envoy does as well when its
			// client does; whoever misses an answer says so.
			_ = u.serve(&player{reader: newReader(c)})
		})
		select {
		case <-u.closed: // after Close went through the connections, perhaps
			_ = c.Close()
		default:
		}
	}
}

// script returns a stream by its chunks.
func (u *Upstream) script(chunks int) (*script, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.scripts[chunks]
	if s == nil {
		if len(u.scripts) >= maxScripts {
			return nil, errors.New("streams of too many lengths")
		}
		s = newScript(chunks)
		u.scripts[chunks] = s
	}
	return s, nil
}

// player answers the requests of one connection.
type player struct {
	reader
	req    header
	script *script
	wire   []byte // the script's answer, framed
	starts []int  // of each write; the events at the end are one
	shift  []int  // of each event, from its place in the body to that in wire
	whole  []byte
}

func (u *Upstream) serve(p *player) error {
	for {
		if err := p.SetDeadline(time.Now().Add(upstreamIdle)); err != nil {
			return err
		}
		if err := p.head(&p.req); err != nil {
			return err
		}
		size := 0
		if err := p.body(&p.req, func(piece []byte) error { size += len(piece); return nil }); err != nil {
			return err
		}
		if err := p.SetDeadline(time.Now().Add(upstreamWrite)); err != nil {
			return err
		}
		if err := u.answer(p, size); err != nil || p.req.close {
			return err
		}
	}
}

// answer answers a request of some bytes.
func (u *Upstream) answer(p *player, size int) error {
	if bytes.HasPrefix(p.req.first, []byte("GET "+sentPath+" ")) {
		text := fmt.Sprintf("%d %d %d", u.requests.Load(), u.chunks.Load(), u.bytes.Load())
		_, err := fmt.Fprintf(p, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(text), text)
		return err
	}
	a, err := parseAnswer(string(p.req.bench))
	if err != nil {
		_, _ = fmt.Fprintf(p, "HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%s", len(err.Error()), err)
		return err
	}
	if a.Chunks > 0 {
		return u.play(p, a, size)
	}
	p.whole = append(p.whole[:0], "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "...)
	p.whole = strconv.AppendInt(p.whole, int64(len(whole)), 10)
	p.whole = append(p.whole, "\r\n\r\n"...)
	head := len(p.whole)
	p.whole = append(p.whole, whole...)
	setUsage(p.whole[head:], wholeUsage, size, WholeOutput)
	u.requests.Add(1)
	u.bytes.Add(int64(len(whole)))
	_, err = p.Write(p.whole)
	return err
}

// streamHead is the head of an answer that is a stream.
const streamHead = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"

// prepare frames a script for a connection.
func (p *player) prepare(s *script) {
	p.script = s
	p.wire, p.starts, p.shift = append(p.wire[:0], streamHead...), p.starts[:0], p.shift[:0]
	begin := 0
	for i, end := range s.ends {
		switch {
		case i == 0:
			p.starts = append(p.starts, 0) // with the head
		case i <= s.chunks:
			p.starts = append(p.starts, len(p.wire))
		}
		p.wire = fmt.Appendf(p.wire, "%x\r\n", end-begin)
		p.shift = append(p.shift, len(p.wire)-begin)
		p.wire = append(p.wire, s.body[begin:end]...)
		p.wire = append(p.wire, "\r\n"...)
		begin = end
	}
	p.wire = append(p.wire, "0\r\n\r\n"...)
	p.starts = append(p.starts, len(p.wire))
}

// play sends a stream, each chunk at its time and in a write of its own. Who is late by more than a pause, as on a
// machine that has more to do than it can, does not catch up: chunks in a burst would be another load.
func (u *Upstream) play(p *player, a Answer, size int) error {
	if p.script == nil || p.script.chunks != a.Chunks {
		s, err := u.script(a.Chunks)
		if err != nil {
			return err
		}
		p.prepare(s)
	}
	s := p.script
	u.requests.Add(1)
	last := len(s.stamps) - 1 // the usage's
	shift := p.shift[last]
	setUsage(p.wire, usagePlaces{s.usage.prompt + shift, s.usage.total + shift}, size, s.chunks)
	due := time.Now()
	for i := range s.chunks + 1 {
		if i == s.chunks && a.Stay {
			return p.stay()
		}
		if a.Pause > 0 && i > 0 && i < s.chunks {
			due = waitFor(due, a.Pause)
			if i%64 == 0 {
				if err := p.SetDeadline(time.Now().Add(upstreamWrite)); err != nil {
					return err
				}
			}
		}
		now := bench.Now()
		for e := i; e <= last && (e == i || i == s.chunks); e++ {
			at := s.stamps[e] + p.shift[e]
			putNumber(p.wire[at:at+stampWidth], now, '0')
		}
		if _, err := p.Write(p.wire[p.starts[i]:p.starts[i+1]]); err != nil {
			return err
		}
		if i < s.chunks {
			u.chunks.Add(1)
		}
	}
	u.bytes.Add(int64(len(s.body)))
	return nil
}

// waitFor waits for the chunk that is due a pause after the last one, and returns when that was.
// Who is late by more than a pause does not catch up.
func waitFor(due time.Time, pause time.Duration) time.Time {
	due = due.Add(pause)
	if early := time.Until(due); early > 0 {
		time.Sleep(early)
	} else if -early > pause {
		due = due.Add(-early)
	}
	return due
}

// stay waits until the client leaves.
func (p *player) stay() error {
	if err := p.SetDeadline(time.Now().Add(upstreamIdle)); err != nil {
		return err
	}
	_, err := p.some(1)
	return err
}

// Sent is what an upstream has sent since it was started. Bytes are of the bodies of answers that were sent whole.
type Sent struct{ Requests, Chunks, Bytes int64 }

// Ask fills in what the upstream at addr has sent.
func (s *Sent) Ask(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{Timeout: requestTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nhost: upstream\r\nconnection: close\r\n\r\n", sentPath); err != nil {
		return err
	}
	c, h, text := newReader(conn), header{}, []byte(nil)
	if err := c.head(&h); err != nil {
		return err
	}
	if err := c.body(&h, func(piece []byte) error { text = append(text, piece...); return nil }); err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(text), &s.Requests, &s.Chunks, &s.Bytes); err != nil {
		return fmt.Errorf("what the upstream says of itself: %w", err)
	}
	return nil
}
