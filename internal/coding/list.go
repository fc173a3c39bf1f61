package coding

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Coding is a content coding, by its registered name.
type Coding string

// The codings that can be undone.
const (
	Gzip    Coding = "gzip"
	Deflate Coding = "deflate"
	Brotli  Coding = "br"
	Zstd    Coding = "zstd"
)

// Accepted lists the codings, as a value of the header accept-encoding.
const Accepted = "gzip, deflate, br, zstd"

// MaxLayers is how many codings may follow each other.
const MaxLayers = 2

// List is what was done to a body, in order: the last is undone first.
type List []Coding

// Errors of [Parse].
var (
	ErrUnknown = errors.New("not a known content coding")
	ErrTooMany = fmt.Errorf("more than %d content codings in a row", MaxLayers)
)

// Parse reads the values of content-encoding headers. Names are of any case, x-gzip is gzip
// (RFC 9110, section 8.4.1.3), and identity, which should not be there, is nothing. The list
// is nil if there is no coding. Errors are ErrUnknown and ErrTooMany.
func Parse(values iter.Seq[string]) (List, error) {
	var list List
	for value := range values {
		for name := range strings.SplitSeq(value, ",") {
			switch c := Coding(strings.ToLower(strings.Trim(name, " \t"))); c {
			case "", "identity":
				continue
			case Gzip, Deflate, Brotli, Zstd:
				list = append(list, c)
			case "x-gzip":
				list = append(list, Gzip)
			default:
				return nil, ErrUnknown
			}
			if len(list) > MaxLayers {
				return nil, ErrTooMany
			}
		}
	}
	return list, nil
}

// String is the list as a header has it.
func (l List) String() string {
	names := make([]string, len(l))
	for i, c := range l {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}
