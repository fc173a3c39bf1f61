package tokens

import (
	"bytes"
	"testing"
)

func TestReplaceInvalid(t *testing.T) {
	// The right column is what Python's bytes.decode(errors="replace") returns.
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain é 中 🎉", "plain é 中 🎉"},
		{"a\x80b", "a\ufffdb"},
		{"\xc0\xaf", "\ufffd\ufffd"},
		{"\xc3", "\ufffd"},
		{"\xc3(", "\ufffd("},
		{"\xe4\xb8", "\ufffd"},
		{"\xe4\xb8x", "\ufffdx"},
		{"\xe4\xb8\xe4\xb8\xad", "\ufffd中"},
		{"\xe0\x80\x80", "\ufffd\ufffd\ufffd"},
		{"\xe0\xa0", "\ufffd"},
		{"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		{"\xed\x9f", "\ufffd"},
		{"\xf0\x9f\x8e", "\ufffd"},
		{"\xf0\x9f\x8e\x89\xf0\x9f", "🎉\ufffd"},
		{"\xf0\x8f\x80", "\ufffd\ufffd\ufffd"},
		{"\xf4\x8f\xbf", "\ufffd"},
		{"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		{"\xf1\x80\x80(", "\ufffd("},
		{"\xf5\x80", "\ufffd\ufffd"},
		{"\xff\xfe", "\ufffd\ufffd"},
	} {
		if got := replaceInvalid([]byte(c.in)); string(got) != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

// TestSubpartOpen checks, for all prefixes of all kinds of characters, that they are waited for, and that they
// are not once a byte came that does not fit.
func TestSubpartOpen(t *testing.T) {
	for _, char := range []string{"\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U000fffff", "\U0010ffff"} {
		for n := 1; n < len(char); n++ {
			b := []byte(char[:n])
			if got, open := subpart(b); got != n || !open {
				t.Errorf("%q: %d bytes, open: %t", b, got, open)
			}
			for _, c := range []byte{'a', 0xc3, 0xff} {
				if got, open := subpart(append(bytes.Clone(b), c)); got != n || open {
					t.Errorf("%q and %#x: %d bytes, open: %t", b, c, got, open)
				}
			}
		}
	}
}
