package main

import (
	"bytes"
	"strconv"
)

// translations returns the translated messages of a gettext file: the strings behind each msgstr, without those
// that are empty and without the header. Lines it does not understand end a message.
func translations(po []byte) []string {
	var (
		all     []string
		current []byte
		open    bool // within a msgstr
		header  bool // the msgid before was empty
	)
	end := func() {
		if open && !header && len(current) > 0 {
			all = append(all, string(current))
		}
		current, open = current[:0], false
	}
	for line := range bytes.Lines(po) {
		line = bytes.TrimSpace(line)
		keyword, quoted, _ := bytes.Cut(line, []byte(" "))
		switch {
		case bytes.HasPrefix(line, []byte(`"`)):
			quoted = line
		case bytes.Equal(keyword, []byte("msgid")):
			end()
			header = true
		case bytes.HasPrefix(keyword, []byte("msgstr")):
			end()
			open = true
		default:
			end()
			continue
		}
		// Its escapes are C's, and Go's are nearly the same.
		s, err := strconv.Unquote(string(bytes.TrimSpace(quoted)))
		if err != nil {
			end()
			continue
		}
		if open {
			current = append(current, s...)
		} else if s != "" {
			header = false
		}
	}
	end()
	return all
}
