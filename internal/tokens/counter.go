package tokens

import "unicode/utf8"

// openMax is how many bytes of text a Counter keeps which are not in a final piece, and looks at again with each
// part. Nearly all words are shorter. If more come and the piece is still open, it is given to a run; but of a word
// (word.go), of which little is looked at again, it keeps wordMax.
const openMax = 32

// A Counter counts the tokens of a text that arrives in parts, which may begin and end anywhere, within a
// character as well. It takes about 2.5 KB, whatever the text, and a few hundred nanoseconds for each small part.
//
// It must be Reset before use, may be Reset and used again any number of times, and is not safe for concurrent
// use.
type Counter struct {
	enc   *Encoding
	sum   int // tokens of the whole text so far
	final int // tokens of the pieces which no continuation can change

	// The text behind those is either in open, or in the run (which then is not idle).
	open  [wordMax]byte
	opens int
	piece bool // open is known to be one piece, if nothing follows
	word  word // the tokens of open, if it is one
	run   run

	// partial is the beginning of a character, the last bytes of all.
	partial  [utf8.UTFMax]byte
	partials int
}

// Reset makes c count a new text, with the encoding e.
func (c *Counter) Reset(e *Encoding) {
	c.enc, c.sum, c.final, c.opens, c.partials = e, 0, 0, 0, 0
	c.run.phase = idle
	c.piece, c.word.n = false, 0
}

// Count returns what the last Add returned, and 0 after Reset.
func (c *Counter) Count() int { return c.sum }

// Add appends delta to the text and returns the number of tokens of all of it, exactly what the encoding's
// Count returns for it. The number may be lower than before. An incomplete character at the end counts as
// U+FFFD until the rest of it comes.
//
// Add does not keep delta.
func (c *Counter) Add(delta []byte) int {
	if len(delta) == 0 {
		return c.sum
	}
	if c.partials == 0 && utf8.Valid(delta) {
		c.feed(delta)
	} else {
		c.feedBytes(delta)
	}
	c.sum = c.final + c.unsettled(c.partials > 0)
	return c.sum
}

// feedBytes feeds what is valid of delta, U+FFFD for what is not, and keeps an incomplete character at the end.
func (c *Counter) feedBytes(delta []byte) {
	for c.partials > 0 && len(delta) > 0 {
		c.partial[c.partials] = delta[0]
		b := c.partial[:c.partials+1]
		if utf8.Valid(b) {
			c.feed(b)
			c.partials = 0
		} else if _, open := subpart(b); open {
			c.partials++
		} else {
			c.feed([]byte(replacement))
			c.partials = 0
			continue // the byte that does not fit begins anew
		}
		delta = delta[1:]
	}
	for len(delta) > 0 {
		n := validPrefix(delta)
		c.feed(delta[:n])
		if delta = delta[n:]; len(delta) == 0 {
			break
		}
		n, open := subpart(delta)
		if open {
			c.partials = copy(c.partial[:], delta)
			break
		}
		c.feed([]byte(replacement))
		delta = delta[n:]
	}
}

// feed appends text, which is valid UTF-8.
func (c *Counter) feed(text []byte) {
	for len(text) > 0 {
		switch {
		case c.run.phase != idle:
			text = text[c.feedRun(text):]
		case c.word.n > 0 && len(text) <= openMax/2: // of a larger part it is quicker to find the pieces first
			text = text[c.feedWord(text):]
		case c.opens > 0:
			c.word.n = 0
			// Fill open with whole characters.
			room := openMax
			if c.opens > openMax {
				room = wordMax
			}
			n := min(room-c.opens, len(text))
			for n > 0 && n < len(text) && !utf8.RuneStart(text[n]) {
				n--
			}
			before := c.opens
			c.opens += copy(c.open[c.opens:], text[:n])
			used := c.settle(c.open[:c.opens])
			switch {
			case n < len(text) && used == 0:
				c.beginRun(c.open[:c.opens])
				text = text[n:]
			case n < len(text) && used >= before:
				// What is open lies in text as a whole, so that there is no need to carry it through the
				// buffer.
				text = text[used-before:]
				c.opens = 0
			default:
				c.opens = copy(c.open[:], c.open[used:c.opens])
				if text = text[n:]; c.opens > openMax {
					c.beginRun(c.open[:c.opens])
				}
			}
		default:
			text = text[c.settle(text):]
			if len(text) > openMax {
				c.beginRun(text)
				return
			}
			c.opens = copy(c.open[:], text)
			return
		}
	}
}

// settle counts the final pieces at the beginning of text and returns where they end. What is behind them is open.
func (c *Counter) settle(text []byte) int {
	c.piece = false
	i := 0
	for i < len(text) {
		end, final := c.enc.split(text, i)
		if !final {
			c.piece = end == len(text)
			break
		}
		c.final += c.enc.vocab.count(text[i:end])
		i = end
	}
	return i
}

// feedWord feeds the word the letters at the beginning of text. When something else comes, or too many of them, the word
// is over.
func (c *Counter) feedWord(text []byte) (used int) {
	for used < len(text) {
		k, n := c.enc.style.classAt(text, used)
		before := c.opens
		switch {
		case k.ends() && text[used] != '\'':
			c.final += c.word.n
			c.opens, c.word.n = 0, 0
			return used
		case !k.grows() || before+n > wordMax:
			c.word.n = 0
			return used
		}
		c.opens += copy(c.open[before:], text[used:used+n])
		used += n
		if !c.word.grow(c.enc.vocab, c.open[:c.opens], before) {
			if c.opens > openMax {
				c.beginRun(c.open[:c.opens])
			}
			return used
		}
	}
	return used
}

// beginRun moves text, all of it open and more than fits the buffer, to a run.
func (c *Counter) beginRun(text []byte) {
	c.opens = 0
	used := c.run.begin(c.enc, text)
	c.feedRun(text[used:])
}

// feedRun feeds the run. When that is over, what it held back becomes the open text.
func (c *Counter) feedRun(text []byte) (used int) {
	used, done := c.run.feed(c.enc, text)
	if c.run.phase == idle {
		c.final += done
		c.opens, c.piece = copy(c.open[:], c.run.held[:c.run.holds]), false
	}
	return used
}

// unsettled counts the tokens of the open text as if nothing followed, or as if just a U+FFFD did.
func (c *Counter) unsettled(replaced bool) int {
	if c.run.phase == idle {
		text := c.open[:c.opens]
		if c.word.n == 0 && (!c.piece || !c.word.begin(c.enc, text)) {
			if c.piece && !replaced {
				return c.enc.vocab.count(text)
			}
			return c.countReplaced(text, replaced)
		}
		if replaced {
			return c.word.n + c.enc.vocab.count([]byte(replacement)) // it is no letter, so a piece of its own
		}
		return c.word.n
	}
	if !replaced {
		return c.run.count(c.enc)
	}
	saved := c.run
	_, n := c.run.feed(c.enc, []byte(replacement))
	if c.run.phase == idle {
		n += c.countReplaced(c.run.held[:c.run.holds], true)
	} else {
		n = c.run.count(c.enc)
	}
	c.run = saved
	return n
}

// countReplaced counts at most openMax bytes of text, with a U+FFFD behind it if replaced is set.
func (c *Counter) countReplaced(text []byte, replaced bool) int {
	if !replaced {
		return c.enc.count(text)
	}
	var b [openMax + len(replacement)]byte
	n := copy(b[:], text)
	n += copy(b[n:], replacement)
	return c.enc.count(b[:n])
}
