package main

import (
	"io"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// Lines that a script cannot hold.
func TestCountLines(t *testing.T) {
	enc, err := tokens.Get("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	good := `{"text": "hello"}` + "\n"
	for _, tc := range []struct {
		name string
		in   io.Reader
		out  string
		err  string // what the error begins with
	}{
		{"windows line ends", strings.NewReader("{\"text\": \"hello\"}\r\n{\"text\": \"hello\"}\r\n"), "1\n1\n", ""},
		{"no final newline", strings.NewReader(good + strings.TrimSpace(good)), "1\n1\n", ""},
		{"not UTF-8", strings.NewReader(good + "{\"text\": \"\xff\"}\n"), "1\n", "line 2: it is not UTF-8; put bytes into text_b64"},
		{"no object", strings.NewReader(good + "[1]\n"), "1\n", `line 2: it needs to be an object, with a string as "text" or "text_b64"`},
		{"no string", strings.NewReader(`{"text": 1}`), "", `line 1: it needs to be an object, with a string as "text" or "text_b64"`},
		{"no JSON", strings.NewReader(`{"text": "a"} b`), "", "line 1: invalid character"},
		{"too long", io.MultiReader(strings.NewReader(good), strings.NewReader(`{"text": "`), io.LimitReader(letters{}, maxLine)), "1\n", "line 2: "},
		{"a reader that fails", io.MultiReader(strings.NewReader(good), failing{}), "1\n", "line 2: unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			err := countLines(&out, tc.in, enc)
			if out.String() != tc.out {
				t.Errorf("printed %q, want %q", out.String(), tc.out)
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

// letters reads as endless text.
type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	return len(b), nil
}

// failing is a reader that fails.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
