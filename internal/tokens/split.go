package tokens

// split returns the end of the piece ("pretoken") which starts at b[i], i < len(b), as the encoding's regular
// expression would, in a text of valid UTF-8. Final reports that the end was found without looking at the end
// of the text, so that no continuation of the text can change it: this is what lets a stream be counted piece
// by piece.
//
// All calls for one text together read every character at most a small, fixed number of times.
//
// It is a branch and not a function value, so that the compiler sees that b does not escape.
func (e *Encoding) split(b []byte, i int) (end int, final bool) {
	switch e.style.splitter {
	case words:
		return splitCL100k(e.style, b, i)
	case gpt2:
		return splitGPT2(e.style, b, i)
	case deepSeek:
		return splitDeepSeek(e.style, b, i)
	}
	return splitO200k(e.style, b, i)
}

// numberEnd is the end of \p{N}{1,most} where the first digit ends at p. Most is 0 for \p{N}+.
func numberEnd(b []byte, p, most int) (int, bool) {
	for n := 1; n != most; n++ {
		if p == len(b) {
			return p, false
		}
		k, w := classAt(b, p)
		if k != number {
			break
		}
		p += w
	}
	return p, true
}

// spaceRun scans white space from b[i], which is white space, to its end. It returns the end, the position
// after the last line end (i if there is none) and the position of the last character.
func spaceRun(b []byte, i int) (end, afterNewline, last int) {
	end, afterNewline, last = i, i, i
	for end < len(b) {
		k, w := classAt(b, end)
		if k < space {
			break
		}
		last = end
		end += w
		if k == newline {
			afterNewline = end
		}
	}
	return end, afterNewline, last
}

// spaceEnd is the end of
//
//	\s*[\r\n]+ | \s+(?!\S) | \s+
//
// at b[i] in a run of white space which something else follows: line ends take all before them; otherwise
// the last character stays behind for the next piece, if it is not the only one.
func spaceEnd(i, end, afterNewline, last int) int {
	switch {
	case afterNewline > i:
		return afterNewline
	case last > i:
		return last
	}
	return end
}

// contraction returns the length of (?i:'s|'t|'re|'ve|'m|'ll|'d) at b[p], 0 if there is none, and whether that
// was decided without looking at the end of the text. The long s (U+017F) folds to s; no other code point
// outside ASCII folds to one of these letters.
func contraction(b []byte, p int) (n int, final bool) {
	if p == len(b) {
		return 0, false
	}
	if b[p] != '\'' {
		return 0, true
	}
	if p+1 == len(b) {
		return 0, false
	}
	var second byte
	switch b[p+1] | 0x20 {
	case 's', 't', 'm', 'd':
		return 2, true
	case 'r', 'v':
		second = 'e'
	case 'l':
		second = 'l'
	case 0xc5 | 0x20:
		if b[p+1] == 0xc5 && b[p+2] == 0xbf {
			return 3, true
		}
		return 0, true
	default:
		return 0, true
	}
	if p+2 == len(b) {
		return 0, false
	}
	if b[p+2]|0x20 == second {
		return 3, true
	}
	return 0, true
}
