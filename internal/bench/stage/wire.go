package stage

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// Bounds of what is read, in bytes.
const (
	readSize  = 64 << 10 // by one system call; also the longest line
	maxAnswer = 4 << 20  // of the body of an answer
)

// reader reads HTTP/1.1 from a connection, and knows when its bytes came.
type reader struct {
	net.Conn
	buf  []byte
	r, w int   // buf[r:w] has not been read
	at   int64 // when the last of it came, by bench.Now
}

func newReader(c net.Conn) reader { return reader{Conn: c, buf: make([]byte, readSize)} }

// fill reads what there is, at least a byte.
func (c *reader) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.buf) {
		if c.r == 0 {
			return errors.New("a line is too long")
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.Read(c.buf[c.w:])
	if n > 0 {
		c.w += n
		c.at = bench.Now()
		return nil
	}
	return err
}

// line reads a line. It is returned without its end, and valid until the next read.
func (c *reader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			line := c.buf[c.r : c.r+i]
			c.r += i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// some returns up to n bytes that have come, or waits for them. They are valid until
// the next read.
func (c *reader) some(n int) ([]byte, error) {
	if c.r == c.w {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	n = min(n, c.w-c.r)
	c.r += n
	return c.buf[c.r-n : c.r], nil
}

// header is what matters of a message's head.
type header struct {
	first  []byte // the request or status line
	length int    // of the body; 0 if nothing is said of it
	chunks bool   // transfer-encoding: chunked
	close  bool   // connection: close
	bench  []byte // what an upstream is to answer, see Answer
}

// head reads the head of a message into h. What is in it is valid until head is
// called again.
func (c *reader) head(h *header) error {
	line, err := c.line()
	if err != nil {
		return err
	}
	*h = header{first: append(h.first[:0], line...), bench: h.bench[:0]}
	for {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return err
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return fmt.Errorf("a header line without a colon, %d bytes long", len(line))
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if h.length, err = strconv.Atoi(string(value)); err != nil || h.length < 0 {
				return errors.New("content-length is no number")
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			if h.chunks = bytes.EqualFold(value, []byte("chunked")); !h.chunks {
				return errors.New("a transfer-encoding other than chunked")
			}
		case bytes.EqualFold(name, []byte("connection")):
			h.close = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte(benchHeader)):
			h.bench = append(h.bench, value...)
		}
	}
}

// body reads the body of a message with the head h, and hands it on in pieces, each
// valid for the call only.
func (c *reader) body(h *header, each func(piece []byte) error) error {
	if !h.chunks {
		return c.bytes(h.length, each)
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return errors.New("the size of a chunk is no number")
		}
		if n == 0 {
			for { // trailers
				if line, err := c.line(); err != nil || len(line) == 0 {
					return err
				}
			}
		}
		if err := c.bytes(int(n), each); err != nil {
			return err
		}
		if line, err := c.line(); err != nil || len(line) > 0 {
			return errors.Join(err, errors.New("a chunk is longer than it says"))
		}
	}
}

// bytes hands on n bytes in pieces.
func (c *reader) bytes(n int, each func(piece []byte) error) error {
	for n > 0 {
		piece, err := c.some(n)
		if err != nil {
			return err
		}
		n -= len(piece)
		if err := each(piece); err != nil {
			return err
		}
	}
	return nil
}
