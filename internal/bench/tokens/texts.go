package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

// A text is one that all candidates count. Texts are put together from packages of fixed versions, and their
// hashes are checked, so that two runs measure the same.
type text struct {
	name   string
	source string // for the table
	sha256 string // of the content, the first 16 digits
	make   func(p packages) ([]byte, error)

	data []byte
	file string // where the content is, absolute
}

// packages are the archives that texts are made from.
type packages struct{ django, weblate, botocore string }

const mega = 1 << 20

func theTexts() []*text {
	return []*text{
		{name: "prose", sha256: "eb45f90f7e53a729", source: "paragraphs of Django's English documentation", make: prose},
		{name: "code", sha256: "632b3d2e9ad78bd1", source: "Python and JavaScript of Django and Weblate", make: code},
		{name: "CJK", sha256: "34cc2f51eb445593", source: "Chinese, Japanese and Korean messages of Weblate and Django", make: cjk},
		{name: "multilingual", sha256: "5525db891596f54d", source: "messages of Weblate in 16 languages, in turns", make: multilingual},
		{name: "JSON", sha256: "1d39048b148b29f6", source: "service models of botocore", make: jsonText},
		{name: "base64", sha256: "54a44be5ce13bbb9", source: "Django's source archive, without line ends", make: base64Text},
	}
}

// sources is a sentence that says where the texts are from.
func sources(texts []*text) string {
	var b strings.Builder
	b.WriteString("Texts (Django 5.2.9, BSD; Weblate 5.14.3, GPL; botocore 1.41.5, Apache): ")
	for i, t := range texts {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s, %.1f MB: %s", t.name, float64(len(t.data))/1e6, t.source)
	}
	return b.String() + ".\n"
}

// loadTexts makes the texts that are not in the cache.
func loadTexts(ctx context.Context, ref func() (*python.Reference, error)) ([]*text, error) {
	dir, err := filepath.Abs(filepath.Join(cacheDir, "texts"))
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(dir, "\n\r") {
		return nil, errors.New("the name of this directory has a line end, which the protocol of the helpers does not bear")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	texts := theTexts()
	var (
		p      packages
		others []error
	)
	for _, t := range texts {
		t.file = filepath.Join(dir, t.name+".txt")
		if t.data, err = os.ReadFile(t.file); err == nil && hash(t.data) == t.sha256 {
			continue
		}
		if p == (packages{}) {
			if p, err = fetchPackages(ctx, ref); err != nil {
				return nil, err
			}
		}
		if t.data, err = t.make(p); err != nil {
			return nil, fmt.Errorf("making the text %s: %w", t.name, err)
		}
		if got := hash(t.data); got != t.sha256 {
			others = append(others, fmt.Errorf("text %s: %d bytes with the hash %s, want %s", t.name, len(t.data), got, t.sha256))
			continue
		}
		if err := os.WriteFile(t.file, t.data, 0o644); err != nil {
			return nil, err
		}
	}
	if others != nil {
		return nil, fmt.Errorf("the texts are not those of earlier runs:\n%w\ndelete %s; if that does not help, a package has changed: correct texts.go and measure everything again", errors.Join(others...), cacheDir)
	}
	return texts, nil
}

func fetchPackages(ctx context.Context, ref func() (*python.Reference, error)) (p packages, err error) {
	for _, f := range []struct {
		file                 *string
		requirement, archive string
	}{
		{&p.django, "Django==5.2.9", "django-5.2.9.tar.gz"},
		{&p.weblate, "weblate==5.14.3", "weblate-5.14.3-py3-none-any.whl"},
		{&p.botocore, "botocore==1.41.5", "botocore-1.41.5-py3-none-any.whl"},
	} {
		if *f.file, err = fetch(ctx, ref, f.requirement, f.archive); err != nil {
			return p, err
		}
	}
	return p, nil
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// cut cuts a text at the end of a line.
func cut(b []byte, most int) []byte {
	if len(b) <= most {
		return b
	}
	for most > 0 && b[most-1] != '\n' {
		most--
	}
	return b[:most]
}

// prose keeps the paragraphs of reStructuredText: blocks of lines that begin with a letter, without lists,
// headings, directives and code.
func prose(p packages) ([]byte, error) {
	files, err := members(p.django, func(name string) bool {
		return strings.Contains(name, "/docs/") && strings.HasSuffix(name, ".txt")
	})
	var b []byte
	for _, f := range files {
		for block := range strings.SplitSeq(string(f.data), "\n\n") {
			block = strings.Trim(block, "\n")
			if isParagraph(block) {
				b = append(b, block+"\n\n"...)
			}
		}
	}
	return cut(b, 2*mega), err
}

func isParagraph(block string) bool {
	for line := range strings.SplitSeq(block, "\n") {
		if line == "" {
			return false
		}
		first, _ := utf8.DecodeRuneInString(line)
		if !unicode.IsLetter(first) && first != '`' || strings.Trim(line, line[:1]) == "" {
			return false
		}
	}
	return len(block) > 80
}

func code(p packages) ([]byte, error) {
	want := func(name string) bool {
		name = name[strings.Index(name, "/")+1:]
		return (strings.HasSuffix(name, ".py") || strings.HasSuffix(name, ".js")) && !strings.HasSuffix(name, ".min.js") &&
			!strings.Contains(name, "/vendor/") && !strings.Contains(name, "/locale/") && !strings.Contains(name, "/migrations/") && !strings.HasPrefix(name, "tests/")
	}
	var b []byte
	for _, archive := range []string{p.django, p.weblate} {
		files, err := members(archive, want)
		if err != nil {
			return nil, err
		}
		var part []byte
		for _, f := range files {
			part = append(part, f.data...)
		}
		b = append(b, cut(part, mega)...)
	}
	return b, nil
}

// messages are the translations into one language, of Weblate and then of Django.
func messages(p packages, language string) (all []string, err error) {
	for _, archive := range []string{p.weblate, p.django} {
		files, err := members(archive, func(name string) bool {
			return strings.Contains(name, "/locale/"+language+"/LC_MESSAGES/") && strings.HasSuffix(name, ".po")
		})
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			all = append(all, translations(f.data)...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no messages in the language %s", language)
	}
	return all, nil
}

// cjk keeps the messages that are mostly Chinese, Japanese or Korean; the others are names and code.
func cjk(p packages) ([]byte, error) {
	var b []byte
	for _, language := range []string{"zh_Hans", "ja", "zh_Hant", "ko"} {
		all, err := messages(p, language)
		if err != nil {
			return nil, err
		}
		for _, m := range all {
			wide := 0
			for _, c := range m {
				if unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) {
					wide += utf8.RuneLen(c)
				}
			}
			if 2*wide > len(m) {
				b = append(b, m+"\n"...)
			}
		}
	}
	return b, nil
}

// multilingual takes a message of each language in turn.
func multilingual(p packages) ([]byte, error) {
	var all [][]string
	for language := range strings.FieldsSeq("de ru ar fr el he uk ta tr pt_BR th vi pl fa hi cs") {
		m, err := messages(p, language)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	var b []byte
	for i, more := 0, true; more; i++ {
		more = false
		for _, m := range all {
			if i < len(m) {
				b = append(b, m[i]+"\n"...)
				more = true
			}
		}
	}
	return cut(b, 2*mega), nil
}

// jsonText is models of several services, every other one without white space, the larger ones in part.
func jsonText(p packages) ([]byte, error) {
	var b []byte
	for i, service := range []string{"bedrock-runtime", "lambda", "sqs", "dynamodb", "s3", "ec2"} {
		files, err := members(p.botocore, func(name string) bool {
			return strings.HasPrefix(name, "botocore/data/"+service+"/") && strings.HasSuffix(name, "/service-2.json.gz")
		})
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("no model of %s", service)
		}
		model, err := gunzip(files[len(files)-1].data)
		if err != nil {
			return nil, err
		}
		if i%2 == 1 {
			var compact bytes.Buffer
			if err := json.Compact(&compact, model); err != nil {
				return nil, fmt.Errorf("the model of %s: %w", service, err)
			}
			model = compact.Bytes()
		}
		b = append(b, model[:min(len(model), mega/3)]...)
		b = append(b, '\n')
	}
	return b, nil
}

func base64Text(p packages) ([]byte, error) {
	packed, err := os.ReadFile(p.django)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, packed[:mega]), nil
}
