package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// requestTimeout bounds one request.
const requestTimeout = 30 * time.Second

// load asks in a closed loop over some connections to one Envoy. It is no general
// client: it knows HTTP/1.1 as far as Envoy answers here, and builds nothing twice.
type load struct {
	conns   []*conn
	prompts []prompts // one for each connection
}

// prompts yields the bodies of one connection's requests, one after the other. What
// next returns is valid until it is called again.
type prompts interface{ next() []byte }

func newLoad(ctx context.Context, addr string, prompts []prompts) (*load, error) {
	l := &load{prompts: prompts}
	for i := range prompts {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns = append(l.conns, &conn{Conn: c, in: bufio.NewReader(c), body: make([]byte, len(answer)+1), head: fmt.Sprintf(
			"POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\ncontent-type: application/json\r\naccept: application/json\r\n"+
				"accept-encoding: gzip, deflate\r\nuser-agent: OpenAI/Python 1.109.1\r\nx-stainless-lang: python\r\nx-stainless-retry-count: 0\r\n"+
				"authorization: Bearer sk-none\r\nx-team: team-%d\r\nx-user: user-%d\r\ncontent-length: ", i%3, i)})
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// run asks for the given time, at least once on every connection, and returns how many answers came in what time.
func (l *load) run(ctx context.Context, d time.Duration) (n int, took time.Duration, err error) {
	start := time.Now()
	counts := make([]int, len(l.conns))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range l.conns {
		group.Go(func() error {
			for first := true; first || time.Since(start) < d; first = false {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := c.ask(l.prompts[i].next()); err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	err = group.Wait()
	for _, c := range counts {
		n += c
	}
	return n, time.Since(start), err
}

// conn is a connection to Envoy.
type conn struct {
	net.Conn
	in   *bufio.Reader
	head string // of every request, up to the length of its body
	out  []byte
	body []byte // of the answer
}

// ask sends a request and reads its answer, which must be the upstream's.
func (c *conn) ask(body []byte) error {
	if err := c.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	c.out = append(c.out[:0], c.head...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	if _, err := (&net.Buffers{c.out, body}).WriteTo(c.Conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.ReadFull(resp.Body, c.body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if resp.StatusCode != http.StatusOK || string(c.body[:n]) != answer {
		return fmt.Errorf("the answer is not the upstream's: %s, %.300s", resp.Status, c.body[:n])
	}
	return nil
}
