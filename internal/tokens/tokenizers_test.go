package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// tokenizersVersion is the reference's. Its regular expressions know Unicode 16.0, as our tables do.
const tokenizersVersion = "tokenizers==0.23.3"

// tokenizerTexts returns texts for all patterns: random ones of few and of many kinds of characters, words, and long
// pieces in front of every kind of ending.
func tokenizerTexts(r *rand.Rand) []string {
	words := strings.Fields(`The quick brown fox couldn't've jumped over 13 lazy dogs, DON'T! HTTPServer's parseURL("https://example.org/a?b=c&d=%20")
		naïve Straße größer ещё раз 東京タワー・ひらがな゛ は。 한국어 שלום สวัสดี नमस्ते 🎉🎉 ------ ====== <|endoftext|> <think> İstanbul 1234567 ½ Ⅷ é ` + "e\u0301 'S 'ſ 'll \u0001 \ue000")
	between := []string{" ", " ", " ", "\n", "\n\n", "  ", "\t", "", "", "\r\n", " \n ", "    "}
	runs := strings.Split("a A 中 ー カ・ \u0301 ! ' = / 1 ² \t \n \u3000 \x01 \ue000 Aa 中A", " ")
	runs = append(runs, " ", " \n")
	var texts []string
	for range 700 {
		texts = append(texts, randomText(r, 1+r.IntN(60)))
		var b strings.Builder
		for range 1 + r.IntN(30) {
			b.WriteString(words[r.IntN(len(words))])
			b.WriteString(between[r.IntN(len(between))])
		}
		texts = append(texts, b.String())
		b.Reset()
		for range 1 + r.IntN(3) {
			run := runs[r.IntN(len(runs))]
			b.WriteString(strings.Repeat(run, 1+r.IntN(60/len(run))))
			if r.IntN(2) == 0 {
				b.WriteString(randomText(r, 1+r.IntN(3)))
			}
		}
		texts = append(texts, b.String())
	}
	return texts
}

// TestTokenizers compares with Hugging Face's library: it trains a tokenizer for each pattern, and changes some so
// that their merges are as bad as can be.
func TestTokenizers(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is needed, to run the reference")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	python, err := envoyrun.PythonVenv(ctx, "tokenizers", tokenizersVersion)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(21, 22))
	texts, dir := tokenizerTexts(r), t.TempDir()
	task, err := json.Marshal(map[string]any{"dir": dir, "train": tokenizerTexts(r)[:1000], "texts": texts})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, python, "testdata/huggingface.py")
	cmd.Stdin = bytes.NewReader(task)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var want map[string][][]uint32
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != 48 {
		t.Errorf("%d tokenizers, want 48", len(want))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		t.Run(name, func(t *testing.T) {
			e, err := LoadFile(filepath.Join(dir, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range texts {
				got := e.AppendTokens(nil, []byte(text))
				if !slices.Equal(got, want[name][i]) {
					t.Fatalf("%q is %v, want %v", text, got, want[name][i])
				}
				if n := e.CountString(text); n != len(got) {
					t.Fatalf("%q: Count is %d, want %d", text, n, len(got))
				}
				if i%8 == 0 && !e.nfc { // a stream is not normalized
					stream(t, e, []byte(text), r, 1+r.IntN(12))
				}
			}
			if has := e.vocab.orphans != nil; has != strings.HasSuffix(name, "-ignoring") {
				t.Errorf("it has orphans: %t", has) // <|endoftext|> at least, if merges are ignored
			}
			bad := strings.Contains(name, "shuffled") || strings.Contains(name, "nearly_sorted") || strings.Contains(name, "orphans")
			if has := e.vocab.pairs.inverted != nil; has != bad {
				t.Errorf("it has inverted merges: %t", has)
			}
		})
	}
}
