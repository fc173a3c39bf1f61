package sse

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// DefaultMaxBlock is how many bytes of an unfinished block are withheld before
// the parser gives up, unless Reset says otherwise. The room is for images in
// base64 and for events that repeat a whole answer.
const DefaultMaxBlock = 4 << 20

// keepBuffer is the size up to which a buffer is kept for later use, however
// little of it is needed.
const keepBuffer = 64 << 10

// ErrTooLarge says that a block is longer than the limit given to Reset.
var ErrTooLarge = errors.New("sse: an event is larger than the block limit; allow larger blocks, or end the stream")

// Block is an event with the bytes around it that belong to no other: comments,
// unknown fields and blank lines before it. A block need not hold an event.
type Block struct {
	// Start and End are offsets in the stream: the block is the bytes from
	// Start up to, not including, End.
	Start, End int64

	// Event is the value of the last event field, empty when there is none
	// (which a browser calls "message"). Data is the values of the data fields,
	// joined by line feeds. Both are valid until the next Next, Flush, Feed or
	// Reset, and must not be changed.
	Event, Data []byte

	// HasData says that there is a data field, though it may be empty. A block
	// without one dispatches nothing: comments, or fields on their own.
	HasData bool
}

// Parser splits a stream of chunks into blocks. The zero value is ready, with a
// limit of DefaultMaxBlock. It is not safe for concurrent use.
//
// Each byte is searched once for either line end and copied at most twice (and
// once more where data fields are joined), however the stream is cut.
type Parser struct {
	// win is the bytes at hand: from the start of the oldest block returned
	// since the last Feed to the end of what was fed. It is the caller's chunk,
	// or, if bytes were withheld before the chunk came, all of own. The
	// positions below are indexes into it.
	win   []byte
	base  int64 // stream offset of win[0]
	own   []byte
	owned bool

	start  int  // of the unfinished block
	line   int  // of the first line that was not read yet
	lf, cr int  // the first LF and CR from line on, or len(win); stale when below line
	pastCR bool // the line before ended in a CR that was the last byte fed

	// Of the unfinished block:
	lead  int  // 1 if its first byte is the LF to a CR that ended the block before
	begun bool // it has a line that is not blank
	event span
	lines int    // data fields
	data  span   // the first one's value
	text  []byte // all of them joined, when there are several

	max  int // as given to Reset; 0 for DefaultMaxBlock
	err  error
	work int // bytes searched or copied, for the tests of linearity
}

// span is a range of bytes counted from the block's start, so that it stays
// right while the block moves from one buffer to another.
type span struct{ from, to int }

// Reset makes the parser ready for another stream, keeping its buffers unless
// they grew large. maxBlock bounds the length of a block, and with it the bytes
// withheld; DefaultMaxBlock if it is not positive.
func (p *Parser) Reset(maxBlock int) {
	*p = Parser{own: reuse(p.own, 0), text: reuse(p.text, 0), max: max(maxBlock, 0)}
}

// Feed takes the stream's next bytes. The parser refers to chunk, which must not
// change before the following Feed or Reset has returned; a caller that reads
// again and again into one buffer has to feed copies. Nothing is copied unless
// bytes are withheld: then they and chunk are joined in a buffer of the parser's
// own.
//
// Blocks which Next was not asked for stay available, but count as withheld:
// past the limit they too are ErrTooLarge. After an error Feed drops its chunk,
// and what was withheld with it.
func (p *Parser) Feed(chunk []byte) {
	p.check(len(p.win))
	if p.err != nil {
		p.base += int64(len(p.win))
		p.win, p.own, p.owned = nil, nil, false
		p.start, p.line, p.lf, p.cr = 0, 0, 0, 0
		return
	}

	tail := p.win[p.start:]
	held := len(tail)
	if held == 0 {
		p.own = reuse(p.own, 0)
		p.win, p.owned = chunk, false
	} else {
		need := held + len(chunk)
		// A tail which already opens own stays where it is: moving it for each
		// small chunk would take quadratic time.
		if !p.owned || p.start > 0 {
			p.own = append(slices.Grow(reuse(p.own, need), need), tail...)
			p.work += held
		}
		p.own = append(p.own, chunk...)
		p.work += len(chunk)
		p.win, p.owned = p.own, true
	}

	p.base += int64(p.start)
	p.line -= p.start
	p.lf -= p.start
	p.cr -= p.start
	p.start = 0
	if p.lf == held {
		p.lf = p.find('\n', held)
	}
	if p.cr == held {
		p.cr = p.find('\r', held)
	}
	if p.pastCR && len(chunk) > 0 {
		p.pastCR = false
		if chunk[0] == '\n' {
			p.line++
			if held == 0 {
				p.lead = 1
			}
		}
	}
}

// Next returns the next whole block, or false when there is none until more is
// fed, or at all: see Err.
func (p *Parser) Next() (Block, bool) {
	for p.err == nil {
		if p.lf < p.line {
			p.lf = p.find('\n', p.line)
		}
		if p.cr < p.line {
			p.cr = p.find('\r', p.line)
		}
		from, to := p.line, min(p.lf, p.cr)
		if to == len(p.win) {
			p.check(to)
			break
		}
		p.line = to + 1
		if p.win[to] == '\r' {
			if p.line == len(p.win) {
				p.pastCR = true
			} else if p.win[p.line] == '\n' {
				p.line++
			}
		}
		if blank := p.read(from, to); !blank || !p.begun {
			continue
		}
		// Measured without the LF of a final CRLF, which may come too late.
		if p.check(to + 1); p.err == nil {
			return p.block(p.line), true
		}
	}
	return Block{}, false
}

// Flush is called at the end of the stream, until it returns false. It returns
// the blocks that Next was not asked for, then what is left, if anything: an
// event without its final blank line, its last line perhaps without a line end,
// or stray comments and line ends. After an error it returns false. Only Reset
// may follow it.
func (p *Parser) Flush() (Block, bool) {
	if b, ok := p.Next(); ok {
		return b, true
	}
	if p.err != nil || p.Pending() == 0 {
		return Block{}, false
	}
	p.read(p.line, len(p.win))
	p.line = len(p.win)
	return p.block(len(p.win)), true
}

// Bytes returns the stream's bytes from the offset start up to, not including,
// the offset end, without copying: they are valid until the next Feed or Reset
// and must not be changed. The range must lie between the start of the oldest
// block returned since the last Feed (of the unfinished block, if none was) and
// the end of what was fed; otherwise Bytes panics, as an index does.
func (p *Parser) Bytes(start, end int64) []byte {
	from, to := start-p.base, end-p.base
	if from < 0 || from > to || to > int64(len(p.win)) {
		panic(fmt.Sprintf("sse: Bytes(%d, %d) out of the range at hand, %d to %d", start, end, p.base, p.base+int64(len(p.win))))
	}
	return p.win[from:to:to]
}

// Pending returns how many bytes are withheld: fed, but not yet part of a
// returned block.
func (p *Parser) Pending() int { return len(p.win) - p.start }

// Err returns ErrTooLarge once a block is longer than the limit, nil otherwise.
// The blocks before that one have been returned; its bytes can be had from Bytes
// until the next Feed. Only Reset removes the error.
func (p *Parser) Err() error { return p.err }

// check sets the error if the unfinished block is too large when it reaches to
// the position end.
func (p *Parser) check(end int) {
	if end-p.start-p.lead > cmp.Or(p.max, DefaultMaxBlock) {
		p.err = ErrTooLarge
	}
}

// find returns the position of the first c from the position from on, or
// len(win).
func (p *Parser) find(c byte, from int) int {
	n := bytes.IndexByte(p.win[from:], c)
	if n < 0 {
		n = len(p.win) - from
	}
	p.work += n
	return from + n
}

// read takes the line between two positions, without its line end, into the
// unfinished block and reports whether it is blank.
func (p *Parser) read(from, to int) (blank bool) {
	line := p.win[from:to]
	if p.base+int64(from) == 0 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(line) == 0 {
		return true
	}
	p.begun = true
	if v, ok := value(line, "event"); ok {
		p.event = p.span(to-len(v), to)
	}
	if v, ok := value(line, "data"); ok {
		p.addData(p.span(to-len(v), to))
	}
	return false
}

// addData adds a data field. The first one is only remembered; copying begins
// with the second.
func (p *Parser) addData(v span) {
	p.lines++
	if p.lines == 1 {
		p.data = v
		return
	}
	if p.lines == 2 {
		p.text = append(p.text, p.at(p.data)...)
		p.work += len(p.text)
	}
	p.text = append(p.text, '\n')
	p.text = append(p.text, p.at(v)...)
	p.work += 1 + v.to - v.from
}

// block returns the unfinished block, finished at the position end, and begins
// the next one there.
func (p *Parser) block(end int) Block {
	b := Block{
		Start:   p.base + int64(p.start),
		End:     p.base + int64(end),
		Event:   p.at(p.event),
		Data:    p.at(p.data),
		HasData: p.lines > 0,
	}
	if p.lines > 1 {
		b.Data = slices.Clip(p.text)
	}
	p.start = end
	p.lead, p.begun = 0, false
	p.event, p.lines, p.data = span{}, 0, span{}
	// The block still refers to the text; it is overwritten by a later Next.
	p.text = reuse(p.text, 0)
	return b
}

// span turns two positions into a span of the unfinished block.
func (p *Parser) span(from, to int) span { return span{from - p.start, to - p.start} }

// at returns the bytes of a span of the unfinished block. Their capacity ends
// with them, so that appending cannot overwrite the stream.
func (p *Parser) at(s span) []byte {
	return p.win[p.start+s.from : p.start+s.to : p.start+s.to]
}

// value returns the value of the field in line, if it has that name.
func value(line []byte, name string) ([]byte, bool) {
	n := len(name)
	if len(line) < n || string(line[:n]) != name {
		return nil, false
	}
	v := line[n:]
	if len(v) == 0 {
		return v, true
	}
	if v[0] != ':' {
		return nil, false
	}
	v = v[1:]
	if len(v) > 0 && v[0] == ' ' {
		v = v[1:]
	}
	return v, true
}

// reuse returns buf emptied, or nil if it is large and more than four times what
// is needed.
func reuse(buf []byte, need int) []byte {
	if cap(buf) > keepBuffer && cap(buf)/4 > need {
		return nil
	}
	return buf[:0]
}
