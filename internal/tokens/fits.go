package tokens

import "unicode/utf8"

// Fits returns how many leading bytes of delta may be added so that the count of all stays within limit tokens.
// It changes nothing.
//
// It returns len(delta) if Add(delta) would return at most limit. Otherwise it returns the greatest n such that
// delta[:n] ends where a character does, and Add(delta[:n]) would return at most limit; 0 if there is none, whatever
// the count is now. Characters are those of the text so far with all of delta behind it: a character whose
// beginning came before ends in delta, bytes that are not UTF-8 are one character for each maximal subpart, and an
// incomplete character at the end of delta has no end.
//
// The count is not monotone. So what Fits returns may lie behind a prefix that does not fit, and it may be more than
// 0 where the count is above limit already.
//
// While limit is further away than delta has bytes times three, Fits is a comparison. Otherwise its work is linear
// in len(delta), at most, and ends once no continuation can be within limit. It does not allocate.
func (c *Counter) Fits(delta []byte, limit int) (n int) {
	if c.ceiling()+bytesPerByte*len(delta) <= limit {
		return len(delta)
	}
	if c.final > limit {
		return 0
	}
	ahead := *c
	for at := 0; at < len(delta); {
		rest := delta[at:]
		size := ahead.sureToFit(rest, limit)
		if size == 0 {
			size = ahead.character(rest)
		}
		before := at
		at += size
		switch sum := ahead.Add(rest[:size]); {
		case sum <= limit:
			n = at
		case ahead.final > limit:
			return n
		case before/maxTokenLen != at/maxTokenLen && ahead.floor() > limit: // now and then, as it takes some time
			return n
		}
	}
	return n
}

// bytesPerByte is how many bytes a byte that is not UTF-8 may become: those of U+FFFD.
const bytesPerByte = len(replacement)

// ceiling returns a number that the count does not exceed: no token has less than a byte. With each byte added, it
// grows by bytesPerByte at most.
func (c *Counter) ceiling() int {
	open := c.opens
	if c.run.phase != idle {
		open = c.run.all.n + c.run.holds
	}
	return c.final + open + bytesPerByte*c.partials
}

// floor returns a number that the count does not fall below, however the text continues.
func (c *Counter) floor() int {
	if c.run.phase == idle {
		return c.final
	}
	least := c.run.all.floor()
	if c.run.isCut {
		least = min(least, c.run.cut+c.run.rest.floor())
	}
	return c.final + least
}

// sureToFit returns the length of a prefix of delta that fits whatever is in it, and ends where a character does; 0
// if it would be short.
func (c *Counter) sureToFit(delta []byte, limit int) int {
	const worthwhile = 16
	n := (limit - c.ceiling()) / bytesPerByte
	switch {
	case n < worthwhile:
		return 0
	case n >= len(delta):
		return len(delta)
	}
	for back := range utf8.UTFMax {
		if utf8.RuneStart(delta[n-back]) {
			return n - back
		}
	}
	return n // no character has four bytes like these
}

// character returns how many bytes of delta, which is not empty, are of the next character; if that is not
// complete, all.
func (c *Counter) character(delta []byte) int {
	if c.partials > 0 {
		b := c.partial
		for i, x := range delta {
			b[c.partials+i] = x
			char := b[:c.partials+i+1]
			if utf8.Valid(char) {
				return i + 1
			}
			if _, open := subpart(char); !open {
				break // what is partial ended before delta
			}
			if i+1 == len(delta) {
				return len(delta)
			}
		}
	}
	if r, n := utf8.DecodeRune(delta); r != utf8.RuneError || n > 1 {
		return n
	}
	n, _ := subpart(delta)
	return n
}
