package tokens

import "unicode/utf8"

const (
	wordMax    = 96 // bytes
	wordTokens = 32
)

// A word is the tokens of the open text of a Counter, while that is one piece of letters and grows letter by letter:
// as Chinese does, where a piece is a whole clause. Only its last tokens change with a letter, so that only they are
// encoded again.
//
// What tells where the others end is the property that encode.go describes: tokens are the encoding of their text if
// each two neighbours are stable. So the new tokens are right as soon as the first of them is stable beside the old
// token before it.
type word struct {
	tokens [wordTokens]uint32
	n      int // 0 if the open text is not such a piece, or nobody has looked yet
}

// grows reports whether a letter of class k may make a word longer, and the text still is one piece then. A
// capital letter may not, since o200k begins a new piece with it.
func (k class) grows() bool { return lower <= k && k <= mark }

// ends reports whether a character of class k is no part of a piece of letters, whatever follows. An apostrophe, which
// is punct, may be.
func (k class) ends() bool { return k != upper && !k.grows() }

// begin fills the word with the tokens of text, which is one piece, if it is of letters and may grow, and reports whether
// it is. It must be worth it: where a piece is as short as words of English are, to count it again is as quick.
func (w *word) begin(e *Encoding, text []byte) bool {
	if text[len(text)-1] < utf8.RuneSelf || e.style.splitter == deepSeek || e.vocab.orphans != nil {
		return false
	}
	at := len(text) - 1
	for !utf8.RuneStart(text[at]) {
		at--
	}
	// Punctuation may have marks in it, but no letters.
	if k, _ := e.style.classAt(text, at); k != lower && k != other {
		return false
	}
	return w.encode(e.vocab, text, 0)
}

// encode makes the word the tokens of its first n ones and those of text. It returns false if these are too many.
func (w *word) encode(v *vocab, text []byte, n int) bool {
	w.n = 0
	if n == len(w.tokens) {
		return false
	}
	if id, ok := v.find(text); ok {
		w.tokens[n] = id
		w.n = n + 1
		return true
	}
	var buf [mergeMost]uint32
	more, _, ok := v.merge(buf[:0], text, true)
	if !ok || n+len(more) > len(w.tokens) {
		return false
	}
	w.n = n + copy(w.tokens[n:], more)
	return true
}

// grow adds the letter text[at:]; text is the whole piece with it. It returns false, and the word is nothing any more,
// if there are too many tokens.
func (w *word) grow(v *vocab, text []byte, at int) bool {
	n := w.n
	if id := v.seeds.token(text[at:]); id != noToken {
		// Two tokens that make a third one are that token, since each token is the encoding of its text.
		for n > 0 {
			both, ok := v.pairs.merge(w.tokens[n-1], id)
			if !ok {
				break
			}
			id = both
			n--
		}
		if n < len(w.tokens) && (n == 0 || v.pairs.stable(w.tokens[n-1], id)) {
			w.tokens[n] = id
			w.n = n + 1
			return true
		}
	}
	// Encode the last token again, with the letter, and then one more of them each time, or soon all.
	const patience = 3
	n = w.n
	for range patience {
		n--
		if n <= 0 {
			break
		}
		at -= v.len(w.tokens[n])
		before := w.tokens[n-1]
		if !w.encode(v, text[at:], n) {
			return false
		}
		if v.pairs.stable(before, w.tokens[n]) {
			return true
		}
	}
	return w.encode(v, text, 0)
}
