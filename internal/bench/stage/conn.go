package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// requestTimeout bounds one request.
const requestTimeout = 60 * time.Second

// Conn is a client's connection, kept alive from request to request. It is not safe
// for concurrent use, except for Close.
type Conn struct {
	in   reader
	head string // of every request, up to the length of its body
	res  header
	out  []byte
	body []byte
}

// Dial connects a client to an Envoy or an upstream. It asks as the official SDK of OpenAI does, in the name of
// a team and a user, for what the upstream is to answer.
func Dial(ctx context.Context, addr, team, user string, answer Answer) (*Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{in: newReader(c), head: "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\ncontent-type: application/json\r\n" +
		"accept: application/json\r\naccept-encoding: gzip, deflate\r\nuser-agent: OpenAI/Python 1.109.1\r\nx-stainless-lang: python\r\n" +
		"x-stainless-retry-count: 0\r\nauthorization: Bearer sk-none\r\nx-team: " + team + "\r\nx-user: " + user + "\r\n" +
		benchHeader + ": " + answer.String() + "\r\ncontent-length: "}, nil
}

// Close ends the connection, and with it a request that is under way.
func (c *Conn) Close() error { return c.in.Close() }

// Ask sends a request and reads its answer. Whenever some of the answer has come, it calls each with all of the
// body so far, and the time at which the last of it came ([bench.Now]); a nil each is left out. It returns when the
// request was sent, and the body, which is valid until the next call. A status other than 200 is an error.
func (c *Conn) Ask(request []byte, each func(body []byte, at int64) error) (sent int64, body []byte, err error) {
	if err := c.in.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, nil, err
	}
	c.out = append(c.out[:0], c.head...)
	c.out = strconv.AppendInt(c.out, int64(len(request)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	sent = bench.Now()
	if _, err := (&net.Buffers{c.out, request}).WriteTo(c.in.Conn); err != nil {
		return sent, nil, err
	}
	if err := c.in.head(&c.res); err != nil {
		return sent, nil, err
	}
	ok := len(c.res.first) >= len("HTTP/1.1 200") && string(c.res.first[:12]) == "HTTP/1.1 200"
	c.body = c.body[:0]
	err = c.in.body(&c.res, func(piece []byte) error {
		if len(c.body)+len(piece) > maxAnswer {
			return errors.New("the answer is too long")
		}
		c.body = append(c.body, piece...)
		if each == nil || !ok {
			return nil
		}
		return each(c.body, c.in.at)
	})
	if !ok {
		return sent, nil, fmt.Errorf("the answer is not the upstream's: %s, %.300s", c.res.first, c.body)
	}
	return sent, c.body, err
}
