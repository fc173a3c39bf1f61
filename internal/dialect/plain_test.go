package dialect

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// plainTexts are plain, and have all that there is in JSON.
var plainTexts = []string{
	`{"model":"gpt-4o","stream":true,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Größe \"x\"\n\té 你好 😀"}],"temperature":0.2}`,
	" \t\r\n[ ] ", `{ }`, `null`, `true`, `false`, `""`, `0`, `-0`, `-0.10e+5`, `12E-3`, `1e9`, `7`,
	`[{"a":1},{"a":1,"b":{"a":{},"b":[]}},{"b":1}]`, `["\"\\\/\b\f\n\r\t\u00e9\uD7FF\uE000\ufFfF"]`,
	`{"":1,"a":2}`, "\"\u007f\u0080\u2028\U0010ffff\ufffd\"", `["` + strings.Repeat("a long text \\n", 30) + `"]`,
	`[` + strings.Repeat(`{"role":"user","content":"x"},`, plainNames) + `0]`,
}

// notPlain are no JSON, or what plainlyValid leaves to the decoder.
var notPlain = []string{
	``, ` `, `{`, `[`, `"`, `"\`, `"\u12`, `"\u12"`, `"a`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `[1,]`, `[,]`, `{,}`, `[1 2]`, `{"a" 1}`, `{a:1}`,
	`01`, `-`, `+1`, `1.`, `.5`, `1e`, `1e+`, `--1`, `0x1`, `1 1`, `tru`, `truee`, `nul`, `True`, `NaN`, `{} {}`, `[]]`, `]`, `}`, `:`, `,`,
	`"\x"`, `"\u00zz"`, `"\ud800"`, `"\udc00"`, `"\ud83d\ude00"`, "\"\x00\"", "\"\n\"", "\"\x1f\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe4\xbd\"",
	`{"a":1,"a":2}`, `{"a":{"b":1,"c":{},"b":2}}`, `{"a":1,"\u0061":2}`, "\ufeff{}", "{}\x00", "\x00", `'a'`, "[1]//", "\v1",
	strings.Repeat("[", plainDepth+1) + strings.Repeat("]", plainDepth+1),
}

func TestPlainlyValid(t *testing.T) {
	for _, s := range plainTexts {
		if !plainlyValid([]byte(s)) {
			t.Errorf("%s is not plain", s)
		}
		if err := decode([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range notPlain {
		if plainlyValid([]byte(s)) {
			t.Errorf("%q is plain", s)
		}
	}
}

// membersOf returns an object with n names of the same length.
func membersOf(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"k%03d":%d`, i, i))
	}
	return "{" + strings.Join(all, ",") + "}"
}

// The bounds are where they are said to be; a name that comes twice is found wherever it is.
func TestPlainNames(t *testing.T) {
	for n, want := range map[int]bool{plainMembers: true, plainMembers + 1: false} {
		if plainlyValid([]byte(membersOf(n))) != want {
			t.Errorf("%d members: want %t", n, want)
		}
	}
	for i := range plainMembers {
		s := strings.Replace(membersOf(plainMembers), fmt.Sprintf(`"k%03d"`, i), fmt.Sprintf(`"k%03d"`, (i+7)%plainMembers), 1)
		if plainlyValid([]byte(s)) {
			t.Errorf("a name that comes twice was not seen: %s", s)
		}
	}
	// Of an object within others, the names of those count, too.
	nested := membersOf(plainMembers)
	for range plainNames / plainMembers {
		nested = strings.Replace(membersOf(plainMembers), ":31}", ":"+nested+"}", 1)
	}
	if plainlyValid([]byte(nested)) {
		t.Error("more names than there is room for")
	}
	if err := validate([]byte(nested)); err != nil {
		t.Error(err)
	}
}

// sound fails if a text is taken for plain that the decoder refuses.
func sound(t *testing.T, b []byte) {
	t.Helper()
	if plainlyValid(b) {
		if err := decode(b); err != nil {
			t.Fatalf("%q is taken for plain: %v", b, err)
		}
	}
}

// Every text that differs in one byte, or lacks one, or has one more.
func TestPlainEveryByte(t *testing.T) {
	for _, s := range slices.Concat(plainTexts, notPlain) {
		if len(s) > 200 {
			continue
		}
		for i := range len(s) {
			sound(t, append([]byte(s[:i]), s[i+1:]...))
			for c := range 256 {
				sound(t, append(append([]byte(s[:i]), byte(c)), s[i+1:]...))
				sound(t, append(append([]byte(s[:i]), byte(c)), s[i:]...))
			}
		}
	}
}

// FuzzPlain: what is plain is valid.
func FuzzPlain(f *testing.F) {
	for _, s := range slices.Concat(plainTexts, notPlain) {
		f.Add([]byte(s))
	}
	f.Fuzz(sound)
}

// All beginnings of what may be UTF-8, alone and before ASCII.
func TestPlainUTF8(t *testing.T) {
	later := []byte{0x00, 'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc3, 0xe4, 0xed, 0xf0, 0xff}
	for first := utf8.RuneSelf; first < 256; first++ {
		for second := range 256 {
			for _, third := range later {
				for _, fourth := range later {
					all := []byte{byte(first), byte(second), third, fourth}
					for n := 1; n <= len(all); n++ {
						b := all[:n]
						end := n
						if i := bytes.IndexFunc(b, func(r rune) bool { return r < utf8.RuneSelf }); i >= 0 {
							end = i
						}
						if !utf8.Valid(b[:end]) {
							end = -1
						}
						if got := pastRunes(b, 0); got != end {
							t.Fatalf("%x: %d, want %d", b, got, end)
						}
					}
				}
			}
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	for name, text := range map[string]string{
		"quotes": `A line of prose, as it is written.\nAnd \"another\" one.\n\n`, "English": `A line of prose, as it is written.\n`,
		"German": `Größe und Maße für übrige Häuser. `, "Chinese": `你好，世界。这是一个很长的提示。\n`, "Russian": `Строка прозы, как её пишут. `, "emoji": `hi 😀 there `,
	} {
		body := []byte(`{"model":"gpt-4o","messages":[`)
		for len(body) < 64<<10 {
			body = append(body, `{"role":"user","content":"`+strings.Repeat(text, 20)+`"},`...)
		}
		body = append(body[:len(body)-1], `]}`...)
		for by, f := range map[string]func([]byte) error{"plain": validate, "decoder": decode} {
			b.Run(name+"/"+by, func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if err := f(body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
