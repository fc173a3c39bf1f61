package tokens

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// toByteLevel is fromByteLevel's inverse.
func toByteLevel(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		for r, have := range byteOfChar() {
			if have == uint16(c)+1 {
				b.WriteRune(rune(r))
			}
		}
	}
	return b.String()
}

func TestByteLevel(t *testing.T) {
	for text, chars := range map[string]string{
		"a": "a", " ": "Ġ", "\n": "Ċ", "\x00": "Ā", "\x7f": "ġ", "\xa0": "ł", "\xad": "Ń", "\xff": "ÿ", "中": "ä¸Ń",
	} {
		if got := toByteLevel(text); got != chars {
			t.Errorf("%q is %q, want %q", text, got, chars)
		}
		if got, ok := fromByteLevel(chars); !ok || got != text {
			t.Errorf("%q is %q, %t, want %q", chars, got, ok, text)
		}
	}
	for _, chars := range []string{" ", "中", "\u0144x", "a\n"} {
		if got, ok := fromByteLevel(chars); ok && utf8.ValidString(got) {
			t.Errorf("%q is %q, want none", chars, got)
		}
	}
}

// A fileTwin encodes as the format has it: it merges the pair of lowest rank, the leftmost of these.
type fileTwin struct {
	ids    map[string]uint32
	merges [][2]string
	ignore bool // a piece which is a token is that token
	ranks  map[[2]string]int
}

func (f *fileTwin) encode(piece string) (out []uint32) {
	if id, ok := f.ids[piece]; ok && f.ignore {
		return []uint32{id}
	}
	if f.ranks == nil {
		f.ranks = make(map[[2]string]int)
		for rank, m := range f.merges {
			f.ranks[m] = rank
		}
	}
	var parts []string
	for i := range len(piece) {
		parts = append(parts, piece[i:i+1])
	}
	for {
		best, at := len(f.merges), -1
		for i := range len(parts) - 1 {
			if rank, ok := f.ranks[[2]string{parts[i], parts[i+1]}]; ok && rank < best {
				best, at = rank, i
			}
		}
		if at < 0 {
			break
		}
		parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
	}
	for _, p := range parts {
		out = append(out, f.ids[p])
	}
	return out
}

func (f *fileTwin) file() []byte {
	vocab := make(map[string]uint32)
	for text, id := range f.ids {
		vocab[toByteLevel(text)] = id
	}
	merges := make([][2]string, len(f.merges))
	for i, m := range f.merges {
		merges[i] = [2]string{toByteLevel(m[0]), toByteLevel(m[1])}
	}
	data, err := json.Marshal(map[string]any{
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false},
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": f.ignore},
	})
	if err != nil {
		panic(err)
	}
	return data
}

// newFileTwin makes up a vocabulary of few letters with any merges in any order: tokens that are made in several
// ways, before their parts, or never.
func newFileTwin(r *rand.Rand) *fileTwin {
	f := &fileTwin{ids: make(map[string]uint32), ignore: r.IntN(2) == 0}
	for i, c := range r.Perm(256) {
		f.ids[string([]byte{byte(c)})] = uint32(i + 1000)
	}
	letters := []string{"a", "b", "c"}[:2+r.IntN(2)]
	texts := slices.Clone(letters)
	for len(f.ids) < 256+5+r.IntN(40) {
		text := texts[r.IntN(len(texts))] + texts[r.IntN(len(texts))]
		if _, ok := f.ids[text]; !ok && len(text) < 60 {
			texts = append(texts, text)
			f.ids[text] = uint32(len(f.ids))
		}
	}
	for _, text := range texts {
		for cut := 1; cut < len(text); cut++ {
			_, left := f.ids[text[:cut]]
			_, right := f.ids[text[cut:]]
			if left && right && r.IntN(5) > 0 {
				f.merges = append(f.merges, [2]string{text[:cut], text[cut:]})
			}
		}
	}
	switch r.IntN(3) {
	case 0:
		r.Shuffle(len(f.merges), func(i, j int) { f.merges[i], f.merges[j] = f.merges[j], f.merges[i] })
	case 1:
		slices.SortStableFunc(f.merges, func(a, b [2]string) int { return len(a[0]+a[1]) - len(b[0]+b[1]) })
	}
	return f
}

// TestAnyMerges compares with plain merging for vocabularies which no training would make.
func TestAnyMerges(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	inverted, withOrphans := 0, 0
	for range 300 {
		twin := newFileTwin(r)
		e, err := Parse("twin", twin.file())
		if err != nil {
			t.Fatal(err)
		}
		if e.vocab.pairs.inverted != nil {
			inverted++
		}
		if e.vocab.orphans != nil {
			withOrphans++
		}
		var long []string // tokens that a Counter gives to a run
		for text := range twin.ids {
			if len(text) > openMax {
				long = append(long, text)
			}
		}
		slices.Sort(long)
		for range 40 {
			text := make([]byte, 1+r.IntN(50))
			for i := range text {
				text[i] = "abc"[r.IntN(3)]
			}
			if len(long) > 0 && r.IntN(4) == 0 {
				text = []byte(long[r.IntN(len(long))])
			}
			want := twin.encode(string(text))
			if got := e.AppendTokens(nil, text); !slices.Equal(got, want) {
				t.Fatalf("%q is %v, want %v, with the merges %q", text, got, want, twin.merges)
			}
			stream(t, e, text, r, 3)
		}
	}
	if inverted < 50 || withOrphans < 50 {
		t.Errorf("%d vocabularies with inverted merges, %d with orphans: too few to tell", inverted, withOrphans)
	}
}

// edited returns a small tokenizer.json with one text in it replaced.
func edited(t testing.TB, from, to string) []byte {
	t.Helper()
	twin := &fileTwin{ids: map[string]uint32{"ab": 300, "abc": 301, "zz": 302}, merges: [][2]string{{"a", "b"}, {"ab", "c"}}}
	for c := range 256 {
		twin.ids[string([]byte{byte(c)})] = uint32(c)
	}
	file := string(twin.file())
	if !strings.Contains(file, from) {
		t.Fatalf("%q is not in the file", from)
	}
	return []byte(strings.Replace(file, from, to, 1))
}

func TestTokenizerErrors(t *testing.T) {
	const pre = `"pre_tokenizer":{"add_prefix_space":false,"type":"ByteLevel"}`
	steps := func(list string) string { return `"pre_tokenizer":{"type":"Sequence","pretokenizers":[` + list + `]}` }
	const bytesOnly = `{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}`
	for _, c := range []struct{ old, new, want string }{
		{"{", "[", "no tokenizer.json: "},
		{`"model":`, `"modell":`, `it has no "model"`},
		{`"type":"BPE"`, `"type":"WordPiece"`, `model "WordPiece" is not supported, only BPE`},
		{`"type":"BPE"`, `"type":"BPE","byte_fallback":true`, "byte_fallback is not supported"},
		{`"type":"BPE"`, `"type":"BPE","dropout":0.1`, "dropout is not supported"},
		{`"type":"BPE"`, `"type":"BPE","dropout":1` + strings.Repeat("0", 5000), "dropout is not supported"},
		{`"type":"BPE"`, `"type":"BPE","end_of_word_suffix":"</w>"`, "end_of_word_suffix are not supported"},
		{`"type":"BPE"`, `"type":"BPE","continuing_subword_prefix":"##"`, "continuing_subword_prefix"},
		{pre, pre + `,"normalizer":{"type":"Lowercase"}`, `normalizer "Lowercase" is not supported, only NFC`},
		{pre, pre + `,"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Strip"}]}`, `normalizer "Strip"`},
		{pre, pre + `,"normalizer":[]`, "no tokenizer.json: normalizer: "},
		{pre, `"pre_tokenizer":7`, "no tokenizer.json: pre_tokenizer: "},
		{pre, steps(strings.Repeat("{},", maxComponent/3) + "{}"), "the pre_tokenizer has more than 1024 KiB"},
		{pre, pre + `,"normalizer":{"type":"` + strings.Repeat("x", maxComponent) + `"}`, "the normalizer has more than 1024 KiB"},
		{pre, `"pre_tokenizer":null`, "there is no pre_tokenizer"},
		{pre, `"pre_tokenizer":{"type":"Metaspace"}`, `pre_tokenizer "Metaspace" is not supported`},
		{pre, steps(""), `pre_tokenizer "Sequence" is not supported`},
		{`"add_prefix_space":false`, `"add_prefix_space":true`, "add_prefix_space is not supported"},
		{`"add_prefix_space":false,`, ``, "add_prefix_space is not supported"},
		{pre, steps(bytesOnly), "pre_tokenizer with 0 steps"},
		{pre, steps(`{"type":"Split","pattern":{"Regex":"x+"},"behavior":"Isolated"},` + bytesOnly), `the split pattern "x+" is not known; those of GPT-2`},
		{pre, steps(`{"type":"Split","pattern":{"String":" "},"behavior":"Isolated"},` + bytesOnly), "Split without a Regex"},
		{pre, steps(`{"type":"Split","pattern":{"Regex":"x"},"behavior":"MergedWithNext"},` + bytesOnly), `behavior "MergedWithNext"`},
		{pre, steps(`{"type":"Punctuation"},` + bytesOnly), `pre_tokenizer "Punctuation" is not supported; Split`},
		{`"d":100`, `"zzz":100`, "no token for the byte 0x64"},
		{`"ab":300`, `"ab":301`, "the id 301 is there twice"},
		{`"ab":300`, `"ab":-1`, "no whole number below 2^32"},
		{`"ab":300`, `"ab":"x"`, "no whole number below 2^32"},
		{`"ab":300`, `"ab":300,"ab":305`, "there before, with another id"},
		{`"zz":302`, `"zz":302,"中":303,"中":304`, "there before, with another id"},
		{`"vocab":{`, `"vocab":{"other":9},"vocab":{`, "the vocabulary is there twice"},
		{`"merges":[`, `"merges":[["a","b"]],"merges":[`, "the merges are there twice"},
		{`["a","b"]`, `["z","b"]`, "merge 0 makes what is no token"},
		{`["a","b"]`, `["ab","c"]`, "merge 1 is in the list before"},
		{`["a","b"]`, `["中","b"]`, "merge 0 has a part which is no token"},
		{`["a","b"]`, `"a b c"`, `merge 0 is not of the form "left right"`},
		{`["a","b"]`, `["a","b","c"]`, "merge 0 is no pair of texts"},
		{`["a","b"]`, `{"a":"b"}`, "merge 0 is no pair of texts"},
		{`["a","b"]`, `7`, "merge 0 is no pair of texts"},
		{`"merges":[`, `"merges":{"x":[`, "no tokenizer.json"},
		{`"vocab":{`, `"vocab":[{`, "no tokenizer.json"},

		// These are fine.
		{pre, pre, ""},
		{`"type":"BPE"`, `"byte_fallback":false`, ""},
		{`"type":"BPE"`, `"dropout":0.0`, ""},
		{`"type":"BPE"`, `"dropout":null`, ""},
		{pre, pre + `,"normalizer":null`, ""},
		{`["a","b"]`, `"a b"`, ""},
		{pre, pre + `,"normalizer":{"type":"Sequence","normalizers":[]}`, ""},
		{`"zz":302`, `"<｜end｜>":302`, ""},
	} {
		_, err := Parse("t.json", edited(t, c.old, c.new))
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || c.want == "" || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "t.json: ") {
			t.Errorf("%s instead of %s: error %v, want %q", short(c.new), c.old, err, c.want)
			continue
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s instead of %s: an error of %d bytes", short(c.new), c.old, len(err.Error()))
		}
	}
}

// TestTokenizerLongToken is about tokens which the engine's tables cannot hold.
func TestTokenizerLongToken(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		twin := &fileTwin{ids: map[string]uint32{strings.Repeat("x", maxTokenLen+1): 300}, ignore: ignore}
		for c := range 256 {
			twin.ids[string([]byte{byte(c)})] = uint32(c)
		}
		_, err := Parse("t.json", twin.file())
		if ignore != (err != nil) || ignore && !strings.Contains(err.Error(), "the token with the id 300 has 129 bytes; up to 128 are supported") {
			t.Errorf("ignore_merges %t: error %v", ignore, err)
		}
	}
}

// TestTokenizerOrphans is about tokens which no merge makes, of many bytes in all.
func TestTokenizerOrphans(t *testing.T) {
	for _, tooMany := range []bool{false, true} {
		twin := &fileTwin{ids: make(map[string]uint32), ignore: true}
		for c := range 256 {
			twin.ids[string([]byte{byte(c)})] = uint32(c)
		}
		// The beginnings differ, so that nearly every byte is a node.
		n := maxOrphanNodes / maxTokenLen
		if tooMany {
			n += n / 16
		}
		for i := range n {
			twin.ids[fmt.Sprintf("%04x%s", i, strings.Repeat("x", maxTokenLen-4))] = uint32(i + 256)
		}
		_, err := Parse("t.json", twin.file())
		if tooMany != (err != nil) || tooMany && !strings.Contains(err.Error(), "has too many tokens which no merge makes") {
			t.Errorf("%d orphans: error %v", n, err)
		}
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(path, edited(t, "{", "{"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := LoadFile(path)
	if err != nil || e.Name() != path {
		t.Fatalf("%v, %v", e, err)
	}
	if got := e.AppendTokens(nil, []byte("abcab zz")); !slices.Equal(got, []uint32{301, 300, 32, 'z', 'z'}) {
		t.Errorf("ids %v", got)
	}
	if _, err := LoadFile(dir); err == nil || !strings.Contains(err.Error(), "is not a file; give the path of a tokenizer.json") {
		t.Errorf("error %v for a directory", err)
	}
	if _, err := LoadFile(path + "x"); !os.IsNotExist(err) {
		t.Errorf("error %v for no file", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxTokenizerFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(large); err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("error %v for a large file", err)
	}
}

// TestFilePatterns runs the splitters against the twin of regular expressions, with no library: the patterns as the
// files have them, and the promise of final pieces.
func TestFilePatterns(t *testing.T) {
	loadClasses()
	for text, style := range patterns {
		e := &Encoding{style: style}
		twin := newTwin(text)
		r := rand.New(rand.NewPCG(25, 26))
		for range 5000 {
			s := randomText(r, 1+r.IntN(20))
			if got, want := pieces(e, s), twin.split(s); style != &styleCL100kOniguruma && !slices.Equal(got, want) {
				t.Fatalf("%s: %q is split %q, want %q", text, s, got, want)
			}
		}
	}
	loadGaps()
	styles := append(slices.Collect(maps.Values(patterns)), &styleGPT2Digits, &styleGPT2Numbers, &styleGPT2Triples, &styleDeepSeek)
	for _, style := range styles {
		e := &Encoding{style: style}
		r := rand.New(rand.NewPCG(27, 28))
		for range 20_000 {
			text := randomText(r, 1+r.IntN(8))
			end, final := e.split([]byte(text), 0)
			longer := text + randomText(r, 1+r.IntN(4))
			if again, still := e.split([]byte(longer), 0); final && (again != end || !still) {
				t.Fatalf("%+v: the first piece of %q was said to be final, but that of %q is %q", style, text, longer, longer[:again])
			}
		}
	}
}

func TestTokenizerNoAllocations(t *testing.T) {
	twin := newFileTwin(rand.New(rand.NewPCG(29, 30)))
	twin.ignore = true
	for _, normalizer := range []string{"null", `{"type":"NFC"}`} {
		e, err := Parse("twin", []byte(strings.Replace(string(twin.file()), "{", `{"normalizer":`+normalizer+`,`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(strings.Repeat("abcab", 20) + " été 12 中文\n  don't " + strings.Repeat("-", 50))
		var c Counter
		if n := testing.AllocsPerRun(5, func() {
			e.Count(text)
			c.Reset(e)
			for i := range text {
				c.Add(text[i : i+1])
			}
		}); n != 0 {
			t.Errorf("normalizer %s: %v allocations", normalizer, n)
		}
	}
}

// FuzzTokenizerJSON parses anything; what is accepted must count, the same in a stream and at once.
func FuzzTokenizerJSON(f *testing.F) {
	f.Add(edited(f, "{", "{"), "abc zz")
	f.Add(edited(f, `"type":"BPE"`, `"ignore_merges":true`), "zz\n  abab 12 don't")
	f.Add(edited(f, `["a","b"]`, `"a b"`), "")
	f.Add([]byte(`{"model":{"vocab":{},"merges":[]}}`), "x")
	f.Add([]byte(strings.Repeat("[", 1000)), "x")
	f.Add([]byte(`{"pre_tokenizer":`+strings.Repeat(`{"type":"Sequence","pretokenizers":[`, 100)), "x")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		e, err := Parse("fuzz", file)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if len(text) > 500 {
			t.Skip("every prefix is encoded again")
		}
		n := len(e.AppendTokens(nil, []byte(text)))
		if got := e.CountString(text); got != n {
			t.Fatalf("Count is %d, want %d", got, n)
		}
		if !e.nfc {
			stream(t, e, []byte(text), rand.New(rand.NewPCG(uint64(len(text)), 0)), 5)
		}
	})
}

func ExampleParse() {
	_, err := Parse("llama2/tokenizer.json", []byte(`{"pre_tokenizer": {"type": "Metaspace"}, "model": {"type": "BPE"}}`))
	fmt.Println(err)
	// Output: llama2/tokenizer.json: pre_tokenizer "Metaspace" is not supported; ByteLevel is needed, alone or at the end of a Sequence
}
