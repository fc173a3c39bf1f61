package tokens

import (
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalized returns text in normalization form C, as UTF-8. Text which is in it already, nearly all there is, costs
// one look and is returned as it is.
func normalized(text []byte) []byte {
	if n := norm.NFC.QuickSpan(text); n == len(text) && utf8.Valid(text) {
		return text
	}
	if !utf8.Valid(text) {
		text = replaceInvalid(text)
	}
	if norm.NFC.IsNormal(text) {
		return text
	}
	return norm.NFC.Bytes(text)
}
