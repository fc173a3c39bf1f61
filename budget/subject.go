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

// appendSubject appends the encoded subject of per, with values from ids. A name
// that is absent from ids, or empty there, counts as [None]; of several the first
// counts.
func appendSubject(b []byte, per []string, ids []Identity) []byte {
	for i, name := range per {
		if i > 0 {
			b = append(b, '&')
		}
		b = appendEscaped(b, name)
		b = append(b, '=')
		b = appendValue(b, valueOf(name, ids))
	}
	return b
}

func valueOf(name string, ids []Identity) string {
	for i := range ids {
		if ids[i].Name == name && ids[i].Value != "" {
			return ids[i].Value
		}
	}
	return None
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
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '%' && c != '&' && c != '=' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// ParseSubject decodes the subject of a [Key], such as [ReadFile] returns it: nil
// for "", else one identity for each name the limit is counted per. A value that
// was too long to be kept comes back as its beginning, a tilde and its SHA-256.
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
