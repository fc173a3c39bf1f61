package tokens

// The encoder of one piece. The reference merges pairs by rank, which costs the square of the length; merge.go does
// the same where pieces are short. What it arrives at has a property that allows a linear method, which GitHub
// published with its Rust crate bpe ("So many tokens, so little time", 2024): a sequence of tokens is the encoding of
// its text if and only if each two neighbours in it are the encoding of theirs. Hence there is one such sequence, and
// any search that finds one has found the encoding.

// reach is how many bytes of a long piece the search holds in view. Tokens further back are settled; that one of
// them must be taken back is not known to happen, but if so, encodeForward does the work.
const reach = 512

// count returns the number of tokens of a piece, which is valid UTF-8. It does not use find, which has to look up the
// id as well: one more cache miss for most pieces.
func (v *vocab) count(b []byte) int {
	if len(b) <= shortToken {
		if _, ok := v.shorts.slot(shortKey(b)); ok {
			return 1
		}
	} else if _, ok := v.findLong(b); ok {
		return 1
	}
	_, n := v.encodeParts(nil, b, false)
	return n
}

// encode appends the tokens of a piece, which is valid UTF-8, to dst.
func (v *vocab) encode(dst []uint32, b []byte) []uint32 {
	if id, ok := v.find(b); ok {
		return append(dst, id)
	}
	dst, _ = v.encodeParts(dst, b, true)
	return dst
}

// encodeParts returns the number of tokens of a piece that is no token which merging makes, and appends them to dst if
// keep is set.
func (v *vocab) encodeParts(dst []uint32, b []byte, keep bool) ([]uint32, int) {
	if id, ok := v.orphans.find(b); ok {
		if keep {
			dst = append(dst, uint32(v.size())+id)
		}
		return dst, 1
	}
	if out, n, ok := v.merge(dst, b, keep); ok {
		return out, n
	}
	return v.encodeLong(dst, b, keep)
}

// encodeLong is encodeParts for pieces of any length and any bytes, without orphans.
func (v *vocab) encodeLong(dst []uint32, b []byte, keep bool) ([]uint32, int) {
	v.needTrie()
	var (
		stack [reach]uint32
		dead  [reach/64 + 1]uint64
	)
	s := search{vocab: v, text: b, stack: stack[:], dead: dead[:]}
	if out, n, ok := s.run(dst, keep); ok {
		return out, n
	}
	return v.encodeForward(dst, b, keep)
}

// encodeForward does the same with an appender: slower, but without anything to take back.
func (v *vocab) encodeForward(dst []uint32, b []byte, keep bool) ([]uint32, int) {
	var a appender
	a.reset()
	if !keep {
		a.appendAll(v, b)
		return dst, a.total
	}
	last := make([]uint32, len(b)+1)
	for i, c := range b {
		a.append(v, c)
		last[i+1] = a.last()
	}
	dst = append(dst, make([]uint32, a.total)...)
	for i, at := len(dst)-1, len(b); at > 0; i-- {
		dst[i] = last[at]
		at -= v.len(last[at])
	}
	return dst, a.total
}
