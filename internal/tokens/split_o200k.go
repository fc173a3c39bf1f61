package tokens

// splitO200k splits for o200k_base and o200k_harmony. The pattern of tiktoken's openai_public.py, its
// alternatives on lines of their own:
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n/]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
//
// Marks count as letters without case here. A mark may also be the leading [^\r\n\p{L}\p{N}], but the match is
// the same whether it is that or the first of the letters, so the code takes the latter.
//
// Tekken's pattern, of Mistral, has numbers of one digit and no contractions; s says so.
func splitO200k(s *style, b []byte, i int) (end int, final bool) {
	k, w := classAt(b, i)
	p := i + w
	switch k {
	case upper, lower, other, mark:
		return lettersO200k(s, b, i)
	case number:
		return numberEnd(b, p, s.digits)
	case punct, space:
		if p == len(b) {
			return p, false
		}
		next, _ := classAt(b, p)
		if upper <= next && next <= mark {
			return lettersO200k(s, b, p)
		}
		if k == punct || next == punct && b[i] == ' ' {
			return punctO200k(b, p)
		}
	}
	end, afterNewline, last := spaceRun(b, i)
	if end < len(b) {
		return spaceEnd(i, end, afterNewline, last), true
	}
	if afterNewline > i {
		return afterNewline, false
	}
	return end, false
}

// lettersO200k is the end of the first two alternatives after their optional first character. The run of
// upper-case and caseless letters belongs together if a lower-case letter follows, however long it is. If none
// follows, the first alternative gives back letters until it can end on a caseless one, and the second one
// takes over if there is none.
func lettersO200k(s *style, b []byte, p int) (end int, final bool) {
	caseless := 0 // the position after the last caseless letter
scan:
	for p < len(b) {
		k, w := classAt(b, p)
		switch k {
		case upper:
			p += w
		case other, mark:
			p += w
			caseless = p
		case lower:
			p = lowerRun(b, p+w)
			caseless = p
			break scan
		default:
			break scan
		}
	}
	if 0 < caseless && caseless < p {
		return caseless, p < len(b)
	}
	if !s.contraction {
		return p, p < len(b)
	}
	n, final := contraction(b, p)
	return p + n, final
}

// lowerRun is the end of [\p{Ll}\p{Lm}\p{Lo}\p{M}]* at b[p].
func lowerRun(b []byte, p int) int {
	for p < len(b) {
		k, w := classAt(b, p)
		if k < lower || mark < k {
			break
		}
		p += w
	}
	return p
}

// punctO200k is the end of [^\s\p{L}\p{N}]*[\r\n/]* at b[p].
func punctO200k(b []byte, p int) (end int, final bool) {
	for p < len(b) {
		k, w := classAt(b, p)
		if k != punct && k != mark {
			break
		}
		p += w
	}
	for p < len(b) && (b[p] == '\n' || b[p] == '\r' || b[p] == '/') {
		p++
	}
	return p, p < len(b)
}
