package tokens

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

var update = flag.Bool("update", false, "write the files this test checks")

// TestMerges works out by plain merging which two tokens each token is made of. That this ends with exactly two,
// the step before the token itself, is also what the encoder relies on: every token is the encoding of its own
// bytes.
func TestMerges(t *testing.T) {
	for _, name := range builtin {
		t.Run(name, func(t *testing.T) {
			ranks := oracleRanks(t, name)
			tokens := make([]string, len(ranks))
			for text, rank := range ranks {
				tokens[rank] = text
			}
			got := []byte(strings.Join(tokens[:256], ""))
			for id := 256; id < len(tokens); id++ {
				parts := mergePairs(ranks, tokens[id], 2)
				if len(parts) != 2 {
					t.Fatalf("token %d, %q, is not the encoding of itself: %q", id, tokens[id], parts)
				}
				if ranks[parts[0]] >= id || ranks[parts[1]] >= id {
					t.Fatalf("token %d is made of a token of higher rank: %q", id, parts)
				}
				x := uint64(ranks[parts[0]]) | uint64(ranks[parts[1]])<<idBits
				got = append(binary.LittleEndian.AppendUint32(got, uint32(x)), byte(x>>32))
			}
			file := "merges/" + name
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is out of date; run go generate", file)
			}
		})
	}
}

// oracleRanks reads a rank file by the book.
func oracleRanks(t testing.TB, name string) map[string]int {
	data, err := assets.Assets.ReadFile(name + ".tiktoken")
	if err != nil {
		t.Fatal(err)
	}
	v := &vocab{}
	if err := v.parse(data); err != nil {
		t.Fatal(err)
	}
	ranks := make(map[string]int, v.size())
	for id := range v.size() {
		ranks[string(v.bytes(uint32(id)))] = id
	}
	return ranks
}

// mergePairs merges the bytes of text as the definition has it: the pair of lowest rank, the leftmost of these,
// until there is none or no more than enough parts are left.
func mergePairs(ranks map[string]int, text string, enough int) []string {
	var parts []string
	for i := range len(text) {
		parts = append(parts, text[i:i+1])
	}
	for len(parts) > enough {
		best, at := len(ranks), -1
		for i := range len(parts) - 1 {
			if rank, ok := ranks[parts[i]+parts[i+1]]; ok && rank < best {
				best, at = rank, i
			}
		}
		if at < 0 {
			break
		}
		parts[at] += parts[at+1]
		parts = append(parts[:at+1], parts[at+2:]...)
	}
	return parts
}
