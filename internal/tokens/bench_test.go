package tokens

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkoukk/tiktoken-go"
	loader "github.com/pkoukk/tiktoken-go-loader"
)

// benchTexts are about 30 KB each: the comments and the code of this package, Chinese and Japanese that repeats
// cut in other places, and compressed data in base64.
func benchTexts(b *testing.B) map[string][]byte {
	const size = 30_000
	files, err := filepath.Glob("*.go")
	if err != nil {
		b.Fatal(err)
	}
	var prose, code strings.Builder
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		if name == "unicode_tables.go" {
			continue
		}
		for line := range strings.Lines(string(source)) {
			if comment, ok := strings.CutPrefix(line, "// "); ok {
				prose.WriteString(comment)
			} else {
				code.WriteString(line)
			}
		}
	}
	var cjk strings.Builder
	for i := 0; cjk.Len() < size; i++ {
		line := []string{
			"人工智能技术正在迅速改变我们的生活方式,从医疗诊断到自动驾驶,各个领域都出现了前所未有的创新。",
			"東京は日本の首都であり、世界でも有数の大都市です。多くの人々が電車で通勤しています。",
			"这条河流穿过三座古老的城市,两岸种满了柳树,春天的时候游客络绎不绝,当地居民以捕鱼为生。",
		}[i%3]
		runes := []rune(line)
		k := i * 7 % len(runes)
		cjk.WriteString(string(runes[k:]) + string(runes[:k]))
	}
	packed, err := os.ReadFile("testdata/vectors.jsonl.gz")
	if err != nil {
		b.Fatal(err)
	}
	texts := map[string][]byte{
		"prose":  []byte(prose.String()),
		"code":   []byte(code.String()),
		"CJK":    []byte(cjk.String()),
		"base64": []byte(base64Of(string(packed[:size]))),
		"rule":   repeated("=", size),
	}
	for name, text := range texts {
		texts[name] = text[:min(size, len(text))]
	}
	return texts
}

func BenchmarkCount(b *testing.B) {
	for name, text := range benchTexts(b) {
		e := get(b, "o200k_base")
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				e.Count(text)
			}
		})
	}
}

// BenchmarkTiktokenGo is BenchmarkCount with tiktoken-go. Its work is quadratic in the length of a piece, so
// there is no rule.
func BenchmarkTiktokenGo(b *testing.B) {
	tiktoken.SetBpeLoader(loader.NewOfflineLoader())
	e, err := tiktoken.GetEncoding("o200k_base")
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range benchTexts(b) {
		if name == "rule" {
			continue
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				e.EncodeOrdinary(string(text))
			}
		})
	}
}

// BenchmarkAdd streams text in parts of four bytes; an operation is one part.
func BenchmarkAdd(b *testing.B) {
	for name, text := range benchTexts(b) {
		e := get(b, "o200k_base")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var c Counter
			at := len(text)
			for b.Loop() {
				if at+4 > len(text) {
					at = 0
					c.Reset(e)
				}
				c.Add(text[at : at+4])
				at += 4
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := newVocab("o200k_base"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFits asks before each part of four bytes, with the limit far away, and near enough for a look at each
// character.
func BenchmarkFits(b *testing.B) {
	text := benchTexts(b)["prose"]
	for name, room := range map[string]int{"far": 1000, "near": 4} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var c Counter
			c.Reset(get(b, "o200k_base"))
			c.Add(text[:1000])
			limit := c.Count() + room
			for b.Loop() {
				c.Fits(text[1000:1004], limit)
			}
		})
	}
}
