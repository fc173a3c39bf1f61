package dialect

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// optionWords are by what an upstream's complaint about stream_options is known.
var optionWords = []string{"stream_options", "include_usage"}

// mentionsOptions says that a body has one of optionWords, or may have it behind escapes
// of letters, so that an upstream which repeats what it was sent would say it.
func mentionsOptions(body []byte) bool {
	for _, w := range optionWords {
		if bytes.Contains(body, []byte(w)) {
			return true
		}
	}
	const escape = `\u00`
	for {
		i := bytes.Index(body, []byte(escape))
		if i < 0 || i+len(escape) >= len(body) {
			return false
		}
		if c := body[i+len(escape)]; c >= '4' && c <= '7' { // from @ to DEL
			return true
		}
		body = body[i+len(escape):]
	}
}

// RejectsStreamOptions says that the body of an error, or its beginning, complains about
// stream_options: by the parameter that it names, or else by its words. Words do not count
// where the request is repeated: many servers in Python quote the whole of it with
// whatever they complain about.
func RejectsStreamOptions(body []byte) bool {
	s := newLenientScanner()
	s.reset(body)
	param := ""
	err := s.object(func(name []byte) error {
		if string(name) != `"error"` {
			return s.dec.SkipValue()
		}
		return s.object(func(name []byte) error {
			if string(name) != `"param"` || s.dec.PeekKind() != jsontext.KindString {
				return s.dec.SkipValue()
			}
			v, err := s.dec.ReadValue()
			if err == nil {
				var scratch []byte
				param = string(unquote(v, &scratch))
			}
			return err
		})
	})
	if err == nil && param != "" {
		return strings.HasPrefix(param, optionWords[0])
	}
	for _, w := range optionWords {
		for rest := body; ; {
			_, after, found := bytes.Cut(rest, []byte(w))
			if !found {
				break
			}
			if !repeatsMember(after) {
				return true
			}
			rest = after
		}
	}
	return false
}

// repeatsMember says that the word in front of rest is the name of a member, with a value
// behind it: in JSON, be it within a string, or as Python writes a dictionary or an object.
func repeatsMember(rest []byte) bool {
	value := bytes.TrimLeft(rest, `\"'`)
	quoted := len(value) < len(rest)
	value = bytes.TrimLeft(value, " ")
	return len(value) > 0 && (value[0] == ':' && quoted || value[0] == '=')
}
