package main

import (
	"slices"
	"strings"
	"testing"
)

const poFile = `# Comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"

#: a.py:1
msgid "Hello, \"%(name)s\""
msgstr "你好,\"%(name)s\"\n"

msgctxt "x"
msgid ""
"Two "
"lines"
msgstr ""
"两"
"行"

msgid "Not translated"
msgstr ""

msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d 天"
msgstr[1] "%d 日"
#~ msgid "old"
#~ msgstr "旧"
msgid "broken"
msgstr "never \q closed
`

func TestTranslations(t *testing.T) {
	got := translations([]byte(poFile))
	want := []string{"你好,\"%(name)s\"\n", "两行", "%d 天", "%d 日"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzTranslations(f *testing.F) {
	f.Add([]byte(poFile))
	f.Add([]byte("msgid \"a\"\nmsgstr \"b\""))
	f.Fuzz(func(t *testing.T, po []byte) {
		all := translations(po)
		if slices.Contains(all, "") {
			t.Error("an empty message")
		}
		// No escape is shorter than what it stands for: \u1234 has at most 3 bytes for 6. But a byte that is not
		// UTF-8 becomes U+FFFD, which has 3.
		if n := len(strings.Join(all, "")); n > 3*len(po) {
			t.Errorf("%d bytes of messages in %d bytes", n, len(po))
		}
	})
}
