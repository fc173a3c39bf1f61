package tokens

// splitCL100k splits for cl100k_base. The pattern of tiktoken's openai_public.py, its alternatives on lines of
// their own:
//
//	'(?i:[sdmt]|ll|ve|re)
//	[^\r\n\p{L}\p{N}]?+\p{L}++
//	\p{N}{1,3}+
//	 ?[^\s\p{L}\p{N}]++[\r\n]*+
//	\s++$
//	\s*[\r\n]
//	\s+(?!\S)
//	\s
//
// Marks are punctuation here, and white space at the end of the text is one piece whatever is in it.
func splitCL100k(b []byte, i int) (end int, final bool) {
	k, w := classAt(b, i)
	p := i + w
	switch k {
	case upper, lower, other:
		return lettersCL100k(b, p)
	case number:
		return numberEnd(b, p)
	case punct, mark, space:
		if b[i] == '\'' {
			if n, final := contraction(b, i); n > 0 {
				return i + n, final
			}
		}
		if p == len(b) {
			return p, false
		}
		next, _ := classAt(b, p)
		if upper <= next && next <= other {
			return lettersCL100k(b, p)
		}
		if k != space || b[i] == ' ' && (next == punct || next == mark) {
			return punctCL100k(b, p)
		}
	}
	end, afterNewline, last := spaceRun(b, i)
	if end < len(b) {
		return spaceEnd(i, end, afterNewline, last), true
	}
	return end, false
}

// lettersCL100k is the end of \p{L}* at b[p].
func lettersCL100k(b []byte, p int) (end int, final bool) {
	for p < len(b) {
		k, w := classAt(b, p)
		if k < upper || other < k {
			return p, true
		}
		p += w
	}
	return p, false
}

// punctCL100k is the end of [^\s\p{L}\p{N}]*[\r\n]* at b[p].
func punctCL100k(b []byte, p int) (end int, final bool) {
	for p < len(b) {
		k, w := classAt(b, p)
		if k != punct && k != mark {
			break
		}
		p += w
	}
	for p < len(b) && (b[p] == '\n' || b[p] == '\r') {
		p++
	}
	return p, p < len(b)
}
