package budget

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// The encoded subject, as it stands in a [Key], names whose counter it is:
//
//	team=search&user=ann
//
// in the order of the limit's Per. Bytes other than printable ASCII, and the
// signs % & =, are written as %XX. A value of more than maxValue bytes is cut:
// its first keptValue bytes, then %~ and the SHA-256 of the whole in hex. So a
// key has a bounded length, equal subjects have equal keys and different ones
// different keys.
const (
	maxValue  = 256
	keptValue = 64
)

// keyPart is one name that a limit is counted per.
type keyPart struct {
	source
	prefix string // what stands before its value in an encoded subject
}

func partsOf(per []string) []keyPart {
	parts := make([]keyPart, len(per))
	for i, name := range per {
		var b []byte
		if i > 0 {
			b = append(b, '&')
		}
		parts[i] = keyPart{sourceOf(name), string(append(appendEscaped(b, name), '='))}
	}
	return parts
}

// appendSubject appends the encoded subject of q. What q lacks, or has empty, counts
// as [None]; of several identities of a name the first counts.
func appendSubject(b []byte, parts []keyPart, q *Request) []byte {
	for i := range parts {
		b = append(b, parts[i].prefix...)
		b = appendValue(b, parts[i].of(q))
	}
	return b
}

func appendValue(b []byte, v string) []byte {
	if len(v) <= maxValue {
		return appendEscaped(b, v)
	}
	sum := sha256.Sum256([]byte(v))
	b = appendEscaped(b, v[:keptValue])
	b = append(b, "%~"...)
	return hex.AppendEncode(b, sum[:])
}

func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	from := 0 // of what stands for itself
	for i := range len(s) {
		if c := s[i]; !plain[c] {
			b = append(append(b, s[from:i]...), '%', digits[c>>4], digits[c&15])
			from = i + 1
		}
	}
	return append(b, s[from:]...)
}

// plain are the bytes that stand for themselves.
var plain = func() (p [256]bool) {
	for c := ' ' + 1; c < 0x7f; c++ {
		p[c] = c != '%' && c != '&' && c != '='
	}
	return p
}()

// ParseSubject decodes the subject of a [Key], such as [ReadFile] returns it, without the
// %= and period that follow it where the limit has a rolling one: nil for "", else one
// identity for each name the limit is counted per. A value that was too long to be kept
// comes back as its beginning, a tilde and its SHA-256.
func ParseSubject(s string) ([]Identity, error) {
	if s == "" {
		return nil, nil
	}
	ids := make([]Identity, 0, 1+strings.Count(s, "&"))
	for part := range strings.SplitSeq(s, "&") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("subject %q: %q is not name=value", s, part)
		}
		n, err := unescape(name)
		if err != nil {
			return nil, fmt.Errorf("subject %q: %w", s, err)
		}
		v, err := unescape(value)
		if err != nil {
			return nil, fmt.Errorf("subject %q: %w", s, err)
		}
		ids = append(ids, Identity{Name: n, Value: v})
	}
	return ids, nil
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '%':
			out = append(out, s[i])
		case strings.HasPrefix(s[i:], "%~"):
			out = append(out, '~')
			i++
		case i+2 < len(s):
			var err error
			if out, err = hex.AppendDecode(out, []byte(s[i+1:i+3])); err != nil {
				return "", fmt.Errorf("bad escape %q", s[i:i+3])
			}
			i += 2
		default:
			return "", fmt.Errorf("escape %q is cut off", s[i:])
		}
	}
	return string(out), nil
}
