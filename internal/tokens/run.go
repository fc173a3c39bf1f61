package tokens

import "unicode/utf8"

// A run counts a piece which is too long to be looked at as a whole, character by character, or rather the two
// pieces it may turn out to be: what the pattern takes in such a place depends on what ends it.
//
//	letters of o200k    if a lower-case letter follows, all is one piece; otherwise the first piece ends after the last
//	                    caseless letter and the upper-case letters behind that are a second one
//	white space         the first piece ends after the last line end; of the rest, a second piece, the last character
//	                    belongs to what follows. With wholeEnd, all is one piece if nothing follows
//	gaps of DeepSeek    the last character belongs to a letter that follows
//
// So all holds the tokens of the whole, cut how many of them lead up to the place it may be cut at, and rest
// the tokens behind that. The place moves on with every caseless letter or line end.
type run struct {
	phase phase
	all   growing
	rest  growing // unused in phases which have no cut
	cut   int
	isCut bool

	// held are bytes which may belong to the run or not: of a contraction, with the character that decides it,
	// or the last character of white space, which is in all and rest as well.
	held  [len("'r") + utf8.UTFMax]byte
	holds int
	// atHeld is how many tokens rest had before the held white space.
	atHeld int

	cjk bool // the run is in the part of a text that DeepSeek's pattern sees as CJK
}

// A phase is where in the pattern a run is.
type phase uint8

const (
	idle         phase = iota // there is no run
	inUppers                  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*, of o200k only
	inLowers                  // letters which can no longer be cut
	inEnding                  // letters are over, an apostrophe came: perhaps a contraction
	inPunct                   // [^\s\p{L}\p{N}]*
	inPunctLines              // the line ends after punctuation
	inSpace                   // white space
	inNumbers                 // \p{N}+, of GPT-2 only
	inASCII                   // [A-Za-z]+ after punctuation, of DeepSeek only
	inGap                     // what no alternative takes, of DeepSeek only
)

// begin prepares a run for the piece at the start of text and feeds it the characters that say nothing about
// what comes. It returns how many bytes it took.
func (r *run) begin(e *Encoding, text []byte) (used int) {
	r.all.reset()
	r.rest.reset()
	r.cut, r.isCut, r.holds = 0, false, 0
	s := e.style
	k, w := s.classAt(text, 0)
	next := k
	if w < len(text) {
		next, _ = s.classAt(text, w)
	}
	r.cjk = s.splitter == deepSeek && isCJK(text)
	switch {
	case isLetter(k):
		r.phase = inUppers
	case k == number:
		r.phase = inNumbers
	case k == punct && s.splitter == deepSeek && isLetter(next):
		r.phase = inASCII
		used = w
	case k != newline && isLetter(next):
		r.phase = inUppers
		used = w
	case k == gap:
		r.phase = inGap
	case k == punct:
		r.phase = inPunct
	case text[0] == ' ' && next == punct:
		r.phase = inPunct
		used = w
	case next == number:
		r.phase = inNumbers
		used = w
	default:
		r.phase = inSpace
	}
	r.all.appendAll(e.vocab, text[:used])
	return used
}

func isLetter(k class) bool { return upper <= k && k <= mark }

// feed takes characters as long as they belong to the run, and returns how many bytes it took. When the run is
// over it is idle, done are the tokens of what it stood for, and the first held bytes are the beginning of the
// next piece.
func (r *run) feed(e *Encoding, text []byte) (used, done int) {
	v, s := e.vocab, e.style
	for used < len(text) {
		k, w := s.classAt(text, used)
		char := text[used : used+w]
		if s.isolated && k == number && r.phase != inNumbers || s.splitter == deepSeek && isCJK(char) != r.cjk {
			// To the pattern the text ends here.
			r.holds = 0
			return used, r.end()
		}
		switch r.phase {
		case inUppers:
			switch k {
			case upper:
				r.all.appendAll(v, char)
				if r.isCut {
					r.rest.appendAll(v, char)
				}
			case other, mark:
				r.all.appendAll(v, char)
				r.cutHere()
			case lower:
				r.phase = inLowers
				r.isCut = false
				r.all.appendAll(v, char)
			default:
				if !r.endLetters(e, char) {
					return used, r.end()
				}
			}
		case inLowers:
			switch k {
			case lower, other, mark:
				r.all.appendAll(v, char)
			default:
				if !r.endLetters(e, char) {
					return used, r.end()
				}
			}
		case inEnding:
			r.holds += copy(r.held[r.holds:], char)
			n, final := contraction(r.held[:r.holds], 0)
			switch {
			case n > 0:
				last := &r.all
				if r.isCut && r.rest.n > 0 {
					last = &r.rest
				}
				last.appendAll(v, r.held[:n])
				r.holds = 0
				return used + w, r.end()
			case final:
				r.holds -= w
				return used, r.end()
			}
		case inPunct, inPunctLines:
			switch {
			case r.phase == inPunct && (k == punct || k == mark):
			case k == newline || s.slash && char[0] == '/':
				r.phase = inPunctLines
			default:
				return used, r.end()
			}
			r.all.appendAll(v, char)
		case inSpace:
			if k != space && k != newline {
				return used, r.endSpace()
			}
			r.atHeld = r.rest.tokens()
			r.holds = copy(r.held[:], char)
			r.all.appendAll(v, char)
			if k == newline {
				r.cutHere()
				r.holds, r.atHeld = 0, 0
			} else {
				r.rest.appendAll(v, char)
			}
		case inNumbers:
			if k != number {
				return used, r.end()
			}
			r.all.appendAll(v, char)
		case inASCII:
			if !isASCIILetter(char[0]) {
				return used, r.end()
			}
			r.all.appendAll(v, char)
		case inGap:
			if isLetter(k) {
				return used, r.endSpace()
			}
			if k != gap {
				r.holds = 0
				return used, r.end()
			}
			r.atHeld = r.rest.tokens()
			r.holds = copy(r.held[:], char)
			r.all.appendAll(v, char)
			r.rest.appendAll(v, char)
		}
		used += w
	}
	return used, 0
}

// cutHere moves the place where the run may be cut to its end.
func (r *run) cutHere() {
	r.cut = r.all.tokens()
	r.isCut = true
	r.rest.reset()
}

// endLetters begins phase inEnding if char may begin a contraction.
func (r *run) endLetters(e *Encoding, char []byte) bool {
	if !e.style.contraction || char[0] != '\'' {
		return false
	}
	r.phase = inEnding
	r.holds = copy(r.held[:], char)
	return true
}

// end makes the run idle and returns the tokens of its pieces, without what is held.
func (r *run) end() int {
	r.phase = idle
	return r.pieces()
}

// endSpace is end for white space, with something else behind it, and for gaps: the last character goes to what
// follows.
func (r *run) endSpace() int {
	r.phase = idle
	return r.cut + r.atHeld
}

// pieces returns the tokens of the run with its cut, if there is something behind that.
func (r *run) pieces() int {
	if r.isCut && r.rest.n > 0 {
		return r.cut + r.rest.tokens()
	}
	return r.all.tokens()
}

// count returns the tokens of the run if the text ends here.
func (r *run) count(e *Encoding) int {
	if r.phase == inEnding {
		return r.pieces() + e.count(r.held[:r.holds])
	}
	if r.phase == inSpace && e.style.wholeEnd {
		return r.all.tokens()
	}
	return r.pieces()
}
