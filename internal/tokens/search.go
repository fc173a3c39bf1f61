package tokens

// A search finds the encoding of a piece (see encode.go). It goes from left to right and takes the longest
// token that is stable beside the one before it. Where there is none, the position cannot be a border: it is
// marked as dead, the last token is taken back, and the next shorter one is tried instead. A position dies at
// most once, so the work is linear, with a factor of how many tokens begin with one another: in white space
// that is up to 84, in other text a few.
type search struct {
	vocab *vocab
	text  []byte

	// The text in view is text[base:], of which the tokens stack[:depth] stand for text[base:pos]. Before that,
	// there are settled tokens.
	stack     []uint32
	depth     int
	base, pos int
	dead      []uint64 // a set of positions, counted from base
	settled   int

	// again reports that the candidate at pos is the last token once more, and the longest one comes next. Any
	// order of candidates would do. Where the last token could follow itself, it comes first: in a long run of
	// '=' there are longer tokens, but they are right only at its end, and to find that out is slow.
	again bool
}

// run encodes the text and returns the number of tokens; if keep is set, it appends them to dst. If the text is
// longer than the stack, it may fail, because a settled token would have to be taken back.
//
// dst is not part of the search, so that the compiler sees that the stack does not escape.
func (s *search) run(dst []uint32, keep bool) (out []uint32, n int, ok bool) {
	out = dst
	token, size := s.vocab.trie.longest(s.text)
	for {
		if s.fits(token, size) {
			s.stack[s.depth] = token
			s.depth++
			s.pos += size
			if s.pos == len(s.text) {
				if keep {
					out = append(out, s.stack[:s.depth]...)
				}
				return out, s.settled + s.depth, true
			}
			if s.pos-s.base > len(s.stack)-maxTokenLen && len(s.text)-s.base > len(s.stack) {
				older := s.stack[:s.half()]
				if keep {
					out = append(out, older...)
				}
				s.settle(len(older))
			}
			token, size = s.first(token, size)
			continue
		}
		var ok bool
		for token, size, ok = s.next(token); !ok; token, size, ok = s.next(token) {
			if token, ok = s.takeBack(); !ok {
				return dst, 0, false
			}
		}
	}
}

// fits reports whether token may come next.
func (s *search) fits(token uint32, size int) bool {
	end := s.pos + size - s.base
	return s.dead[end/64]>>(end%64)&1 == 0 && (s.depth == 0 || s.vocab.pairs.stable(s.stack[s.depth-1], token))
}

// first returns the first candidate at pos, behind the token last.
func (s *search) first(last uint32, lastSize int) (token uint32, size int) {
	token, size = s.vocab.trie.longest(s.text[s.pos:])
	s.again = size > lastSize && string(s.text[s.pos-lastSize:s.pos]) == string(s.text[s.pos:s.pos+lastSize])
	if s.again {
		return last, lastSize
	}
	return token, size
}

// next returns the candidate behind this one.
func (s *search) next(candidate uint32) (token uint32, size int, ok bool) {
	if s.again {
		s.again = false
		token, size = s.vocab.trie.longest(s.text[s.pos:])
		return token, size, true
	}
	token = s.vocab.trie.shorter[candidate]
	if token == noToken {
		return noToken, 0, false
	}
	return token, s.vocab.len(token), true
}

// takeBack gives up pos and takes the last token off the stack and returns it: the candidates behind it are
// next. There may be none.
func (s *search) takeBack() (token uint32, ok bool) {
	at := s.pos - s.base
	s.dead[at/64] |= 1 << (at % 64)
	s.depth--
	if s.depth < 0 || s.depth == 0 && s.settled > 0 {
		return noToken, false
	}
	token = s.stack[s.depth]
	s.pos -= s.vocab.len(token)
	s.again = s.depth > 0 && s.stack[s.depth-1] == token
	return token, true
}

// half returns how many tokens make up the older half of what is in view, without the last one.
func (s *search) half() int {
	n, size := 0, 0
	for n < s.depth-1 && size < (s.pos-s.base)/2 {
		size += s.vocab.len(s.stack[n])
		n++
	}
	return n
}

// settle takes the oldest n tokens out of view.
func (s *search) settle(n int) {
	size := 0
	for _, token := range s.stack[:n] {
		size += s.vocab.len(token)
	}
	s.settled += n
	s.base += size
	s.depth = copy(s.stack, s.stack[n:s.depth])
	shiftDown(s.dead, size)
}

// shiftDown subtracts n from the members of a set, and removes those less than n.
func shiftDown(set []uint64, n int) {
	words, bits := n/64, n%64
	for i := range set {
		var x uint64
		if j := i + words; j < len(set) {
			x = set[j] >> bits
			if j+1 < len(set) {
				x |= set[j+1] << (64 - bits)
			}
		}
		set[i] = x
	}
}
