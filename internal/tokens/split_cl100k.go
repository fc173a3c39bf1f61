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
//
// The patterns of Llama 3 and Qwen differ in the length of numbers, in whether marks are letters, and in the end of
// the text; s says so. Their contraction is written in another way, and means the same.
func splitCL100k(s *style, b []byte, i int) (end int, final bool) {
	k, w := s.classAt(b, i)
	p := i + w
	switch k {
	case lower:
		return lettersCL100k(s, b, p)
	case number:
		return numberEnd(b, p, s.digits)
	case punct, space:
		if b[i] == '\'' {
			if n, final := contraction(b, i); n > 0 {
				return i + n, final
			}
		}
		if p == len(b) {
			return p, false
		}
		next, _ := s.classAt(b, p)
		if next == lower {
			return lettersCL100k(s, b, p)
		}
		if k != space || b[i] == ' ' && next == punct {
			return punctCL100k(s, b, p)
		}
	}
	end, afterNewline, last := spaceRun(b, i)
	if end < len(b) {
		return spaceEnd(i, end, afterNewline, last), true
	}
	if afterNewline > i && !s.wholeEnd {
		return afterNewline, false
	}
	return end, false
}

// lettersCL100k is the end of \p{L}* at b[p].
func lettersCL100k(s *style, b []byte, p int) (end int, final bool) {
	for p < len(b) {
		k, w := s.classAt(b, p)
		if k != lower {
			return p, true
		}
		p += w
	}
	return p, false
}

// punctCL100k is the end of [^\s\p{L}\p{N}]*[\r\n]* at b[p].
func punctCL100k(s *style, b []byte, p int) (end int, final bool) {
	for p < len(b) {
		k, w := s.classAt(b, p)
		if k != punct {
			break
		}
		p += w
	}
	for p < len(b) && (b[p] == '\n' || b[p] == '\r') {
		p++
	}
	return p, p < len(b)
}
