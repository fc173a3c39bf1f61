package dialect

import (
	"bytes"
	"iter"
)

// The functions of this file walk over JSON that a strict decoder has accepted
// already. So they check nothing, and take a fraction of the decoder's time.
// They read forwards only, and what they do is linear in the value they are given.

// span is a place in a text: of a value with its quotes or brackets, or of a
// member's name with its quotes. Its end is 0 if there is none.
type span struct{ start, end int }

func (s span) of(text []byte) []byte { return text[s.start:s.end] }

// members yields the name and the value of each member of the object at at, and
// nothing if another kind of value stands there.
func members(text []byte, at span) iter.Seq2[span, span] {
	return func(yield func(name, value span) bool) {
		if at.end == 0 || text[at.start] != '{' {
			return
		}
		for i := skipFiller(text, at.start+1); text[i] != '}'; i = skipFiller(text, i) {
			name := span{i, skipString(text, i)}
			i = skipFiller(text, name.end)
			value := span{i, skipValue(text, i)}
			if !yield(name, value) {
				return
			}
			i = value.end
		}
	}
}

// elements yields each element of the array at at, and nothing if another kind of
// value stands there.
func elements(text []byte, at span) iter.Seq[span] {
	return func(yield func(value span) bool) {
		if at.end == 0 || text[at.start] != '[' {
			return
		}
		for i := skipFiller(text, at.start+1); text[i] != ']'; i = skipFiller(text, i) {
			value := span{i, skipValue(text, i)}
			if !yield(value) {
				return
			}
			i = value.end
		}
	}
}

// skipFiller returns where the next name, value or closing bracket begins.
func skipFiller(text []byte, i int) int {
	for {
		switch text[i] {
		case ' ', '\t', '\n', '\r', ',', ':':
			i++
		default:
			return i
		}
	}
}

// skipValue returns the end of the value that begins at i.
func skipValue(text []byte, i int) int {
	switch text[i] {
	case '"':
		return skipString(text, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch text[i] {
			case '"':
				i = skipString(text, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(text) {
		switch text[i] {
		case ' ', '\t', '\n', '\r', ',', '}', ']':
			return i
		}
		i++
	}
	return i
}

// skipString returns the end of the string whose opening quote is at i.
func skipString(text []byte, i int) int {
	for start := i + 1; ; {
		i += 1 + bytes.IndexByte(text[i+1:], '"')
		escapes := 0
		for j := i - 1; j >= start && text[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}
