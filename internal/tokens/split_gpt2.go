package tokens

// splitGPT2 splits for r50k_base and p50k_base, and for the ByteLevel pre-tokenizer of Hugging Face's tokenizers. The
// pattern of the latter, its alternatives on lines of their own:
//
//	's|'t|'re|'ve|'m|'ll|'d
//	 ?\p{L}+
//	 ?\p{N}+
//	 ?[^\s\p{L}\p{N}]+
//	\s+(?!\S)
//	\s+
//
// Line ends are white space like any other. If s.isolated is set, numbers have been cut out before, so that they
// have no space in front, and white space before them is one piece.
func splitGPT2(s *style, b []byte, i int) (end int, final bool) {
	k, w := s.classAt(b, i)
	p := i + w
	switch k {
	case number:
		return numberEnd(b, p, s.digits)
	case lower, punct:
		if b[i] == '\'' {
			n, decided := contractionGPT2(b, i)
			if n > 0 {
				return i + n, true
			}
			end, final = classEnd(s, b, p, k)
			return end, final && decided
		}
		return classEnd(s, b, p, k)
	}
	if b[i] == ' ' && p < len(b) {
		next, w := s.classAt(b, p)
		switch {
		case next == number && !s.isolated:
			return numberEnd(b, p+w, s.digits)
		case next == lower, next == punct:
			return classEnd(s, b, p+w, next)
		}
	}
	end, _, last := spaceRun(b, i)
	if end == len(b) {
		return end, false
	}
	if next, _ := s.classAt(b, end); last == i || s.isolated && next == number {
		return end, true
	}
	return last, true
}

// classEnd is the end of a run of class k at b[p].
func classEnd(s *style, b []byte, p int, k class) (end int, final bool) {
	for p < len(b) {
		next, w := s.classAt(b, p)
		if next != k {
			return p, true
		}
		p += w
	}
	return p, false
}

// contractionGPT2 returns the length of 's|'t|'re|'ve|'m|'ll|'d at b[p], which is an apostrophe, 0 if there is none,
// and whether that was decided without looking at the end of the text.
func contractionGPT2(b []byte, p int) (n int, final bool) {
	if p+1 == len(b) {
		return 0, false
	}
	var second byte
	switch b[p+1] {
	case 's', 't', 'm', 'd':
		return 2, true
	case 'r', 'v':
		second = 'e'
	case 'l':
		second = 'l'
	default:
		return 0, true
	}
	if p+2 == len(b) {
		return 0, false
	}
	if b[p+2] == second {
		return 3, true
	}
	return 0, true
}
