package tokens

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkoukk/tiktoken-go"
	loader "github.com/pkoukk/tiktoken-go-loader"
)

// builtin are the encodings that differ, without those that are another's under a second name.
var builtin = []string{"o200k_base", "cl100k_base", "p50k_base", "r50k_base"}

func get(t testing.TB, name string) *Encoding {
	t.Helper()
	e, err := Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A vector is a text with its counts by Python tiktoken 0.14.
type vector struct {
	Text  []byte `json:"text_b64"`
	O200k int    `json:"o200k_base"`
	CL100 int    `json:"cl100k_base"`
}

func (v vector) counts() map[string]int {
	return map[string]int{"o200k_base": v.O200k, "o200k_harmony": v.O200k, "cl100k_base": v.CL100}
}

var vectors = sync.OnceValues(func() (all []vector, err error) {
	f, err := os.Open("testdata/vectors.jsonl.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(z); ; {
		var v vector
		if err := d.Decode(&v); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
})

func getVectors(t testing.TB) []vector {
	t.Helper()
	all, err := vectors()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 4000 {
		t.Fatalf("%d vectors, want 4000", len(all))
	}
	return all
}

func TestVectors(t *testing.T) {
	for i, v := range getVectors(t) {
		for name, want := range v.counts() {
			e := get(t, name)
			if got := e.Count(v.Text); got != want {
				t.Errorf("%s, vector %d, %q: %d tokens, want %d", name, i, v.Text, got, want)
			}
			if got := e.CountString(string(v.Text)); got != want {
				t.Errorf("%s, vector %d, %q as a string: %d tokens, want %d", name, i, v.Text, got, want)
			}
			ids := e.AppendTokens([]uint32{7}, v.Text)
			if ids[0] != 7 || len(ids) != want+1 {
				t.Errorf("%s, vector %d, %q: %d ids, want %d", name, i, v.Text, len(ids)-1, want)
			}
			var text []byte
			for _, id := range ids[1:] {
				text = append(text, e.vocab.bytes(id)...)
			}
			if string(text) != string(v.Text) {
				t.Errorf("%s, vector %d: the tokens stand for %q, want %q", name, i, text, v.Text)
			}
		}
	}
}

// TestIDs pins a few encodings by Python tiktoken.
func TestIDs(t *testing.T) {
	for _, c := range []struct {
		encoding, text string
		want           []uint32
	}{
		{"o200k_base", "<|endoftext|>", []uint32{27, 91, 419, 1440, 919, 91, 29}},
		{"o200k_base", "It's 12345 o'clock", []uint32{15834, 220, 7633, 2548, 293, 141801}},
		{"o200k_base", "don'\u017f", []uint32{22130, 6, 70067}},
		{"o200k_base", "\u4e2d\u6587CD's", []uint32{10667, 8257, 885}},
		{"o200k_base", "  \n \n", []uint32{4066, 793}},
		{"o200k_base", "\U00010d4a\u1c8a", []uint32{172, 238, 113, 232, 157, 110, 232}},
		{"o200k_base", strings.Repeat("=", 100), []uint32{193856, 904}},
		{"o200k_base", strings.Repeat("a", 40), []uint32{117525, 117525, 117525, 117525, 117525}},
		{"cl100k_base", "<|endoftext|>", []uint32{27, 91, 8862, 728, 428, 91, 29}},
		{"cl100k_base", "It's 12345 o'clock", []uint32{2181, 596, 220, 4513, 1774, 297, 63510}},
		{"cl100k_base", "don'\u017f", []uint32{15357, 6, 129, 123}},
		{"cl100k_base", "\u4e2d\u6587CD's", []uint32{16325, 17161, 6620, 596}},
		{"cl100k_base", "  \n \n", []uint32{2355, 720}},
		{"cl100k_base", "\U00010d4a\u1c8a", []uint32{172, 238, 113, 232, 157, 110, 232}},
		{"cl100k_base", strings.Repeat("=", 100), []uint32{8315, 3134, 608}},
		{"cl100k_base", strings.Repeat("a", 40), []uint32{70540, 70540, 70540, 70540, 70540}},
	} {
		if got := get(t, c.encoding).AppendTokens(nil, []byte(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q is %v, want %v", c.encoding, c.text, got, c.want)
		}
	}
}

// TestAgainstTiktokenGo takes tiktoken-go as a second reference, with text it gets right: no characters newer
// than Go's Unicode tables, no long s, and in cl100k_base no white space at the end.
func TestAgainstTiktokenGo(t *testing.T) {
	tiktoken.SetBpeLoader(loader.NewOfflineLoader())
	words := strings.Fields(`The quick brown fox couldn't've jumped over 13 lazy dogs, but HTTPServer's parseURL("https://example.org/a?b=c&d=%20") did;
		x := map[string]int{"naïve": 0xFF, "Straße": 1e-9} // größer ещё раз 東京タワー は 한국어 텍스트 שלום עולם สวัสดี नमस्ते 🎉🎉 ------ ====== <|endoftext|>
		ΑΒΓ İstanbul ǅungla 1234567 ½ Ⅷ e\u0301 \r\n $12.50 -- ... I'll we're DON'T`)
	between := []string{" ", " ", " ", "\n", "\n\n", "  ", "\t", "", "\r\n", " \n ", "    "}
	for _, name := range builtin {
		e := get(t, name)
		reference, err := tiktoken.GetEncoding(name)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(5, 6))
		for range 3000 {
			var b strings.Builder
			for range 1 + r.IntN(30) {
				b.WriteString(words[r.IntN(len(words))])
				b.WriteString(between[r.IntN(len(between))])
			}
			b.WriteString("end")
			text := b.String()
			want := reference.EncodeOrdinary(text)
			got := e.AppendTokens(nil, []byte(text))
			if !slices.EqualFunc(got, want, func(a uint32, b int) bool { return int(a) == b }) {
				t.Fatalf("%s: %q is %v, want %v", name, text, got, want)
			}
		}
	}
}

func TestGet(t *testing.T) {
	for _, name := range []string{"o200k_base", "o200k_harmony", "cl100k_base"} {
		if e := get(t, name); e.Name() != name || e != get(t, name) {
			t.Errorf("Get(%q) is not one encoding of that name", name)
		}
	}
	if o, h := get(t, "o200k_base"), get(t, "o200k_harmony"); o.vocab != h.vocab {
		t.Error("o200k_base and o200k_harmony do not share their tables")
	}
	_, err := Get("p100k_base")
	const want = `tokens: unknown encoding "p100k_base"; use one of cl100k_base, o200k_base, o200k_harmony, p50k_base, p50k_edit, r50k_base`
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestEmpty(t *testing.T) {
	e := get(t, "o200k_base")
	if n := e.Count(nil) + e.CountString("") + len(e.AppendTokens(nil, nil)); n != 0 {
		t.Errorf("no text has %d tokens", n)
	}
	var c Counter
	c.Reset(e)
	if n := c.Count() + c.Add(nil) + c.Add([]byte{}); n != 0 {
		t.Errorf("no text has %d tokens in a stream", n)
	}
}

// TestConcurrent is for the race detector: one Encoding, many users.
func TestConcurrent(t *testing.T) {
	e := get(t, "cl100k_base")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var c Counter
			c.Reset(e)
			for _, v := range getVectors(t)[:200] {
				if got := e.Count(v.Text); got != v.CL100 {
					t.Errorf("%q: %d tokens, want %d", v.Text, got, v.CL100)
				}
				c.Reset(e)
				if got := c.Add(v.Text); got != v.CL100 {
					t.Errorf("%q: %d tokens in a stream, want %d", v.Text, got, v.CL100)
				}
			}
		})
	}
	wg.Wait()
}
