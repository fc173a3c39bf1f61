package campaign

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

const vectorFile = "../../../tokens/testdata/vectors.jsonl.gz"

// prepare returns the reference, and options for a campaign of next to nothing.
func prepare(t *testing.T) (*python.Reference, Options) {
	t.Helper()
	ref, err := python.Prepare(t.Context(), t.TempDir())
	if errors.Is(err, python.ErrNone) {
		t.Skipf("SKIPPED, nothing was compared with the reference: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	vectors, err := ReadVectors(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 4000 {
		t.Fatalf("%d vectors, want 4000", len(vectors))
	}
	return ref, Options{Seed: 1, CodePoints: 0x10ffff, Real: vectors, Log: t.Logf}
}

// TestSample is a sample of the campaign.
func TestSample(t *testing.T) {
	ref, o := prepare(t)
	o.Seed = uint64(time.Now().UnixNano()) // another one each time; it is logged
	o.Vectors = o.Real
	o.CodePoints, o.Fuzz, o.SplitTexts, o.SplitBytes = 97, 20_000, 200, 500_000
	results, err := Run(t.Context(), ref, Engines, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Checked == 0 {
			t.Errorf("%s: nothing was checked", r.Stage)
		}
		for _, example := range r.Examples {
			t.Errorf("%s: %s", r.Stage, example)
		}
		if r.Differences > 0 {
			t.Errorf("%s: %d differences", r.Stage, r.Differences)
		}
	}
}

// faulty is an engine with a fault.
type faulty struct {
	Engine
	ids    func([]uint32) []uint32
	count  func(text string, n int) int
	stream func(sofar string, part string, n int) int
}

func (f faulty) AppendTokens(dst []uint32, text []byte) []uint32 {
	dst = f.Engine.AppendTokens(dst, text)
	if f.ids != nil {
		dst = f.ids(dst)
	}
	return dst
}

func (f faulty) Count(text []byte) int {
	n := f.Engine.Count(text)
	if f.count != nil {
		n = f.count(string(text), n)
	}
	return n
}

func (f faulty) NewStream() func([]byte) int {
	add := f.Engine.NewStream()
	sofar := ""
	return func(part []byte) int {
		n := add(part)
		if f.stream != nil {
			n = f.stream(sofar, string(part), n)
		}
		sofar += string(part)
		return n
	}
}

// TestFinds puts faults in, which the campaign must find, and make small.
func TestFinds(t *testing.T) {
	ref, base := prepare(t)
	for _, c := range []struct {
		name    string
		fault   faulty
		stage   string
		example string // what an example contains
	}{
		{
			name: "another id", stage: "fuzz", example: `" the" is [7] with count 1, want [290]`,
			fault: faulty{ids: func(ids []uint32) []uint32 {
				for i := range ids {
					if ids[i] == 290 { // " the" in o200k_base
						ids[i] = 7
					}
				}
				return ids
			}},
		},
		{
			name: "another count", stage: "fuzz", example: `"ſ" is [`,
			fault: faulty{count: func(text string, n int) int { return n + strings.Count(text, "ſ") }},
		},
		{
			name: "a code point", stage: "code points", example: `"\U0010ffff" is [`,
			fault: faulty{count: func(text string, n int) int { return n + strings.Count(text, "\U0010ffff") }},
		},
		{
			name: "a split character", stage: "every split", example: `"é" has 1 tokens, but not in parts`,
			fault: faulty{stream: func(sofar, part string, n int) int {
				if strings.HasSuffix(sofar, "\xc3") && strings.HasPrefix(part, "\xa9") {
					n++
				}
				return n
			}},
		},
		{
			name: "a split in a long text", stage: "streams", example: `"é" has 1 tokens, but not in parts`,
			fault: faulty{stream: func(sofar, part string, n int) int {
				if strings.HasSuffix(sofar, "\xc3") && strings.HasPrefix(part, "\xa9") {
					n++
				}
				return n
			}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := base
			o.Log = t.Logf
			switch c.stage {
			case "fuzz":
				o.Fuzz = 3000
			case "every split":
				o.SplitTexts = 200
			case "streams":
				o.SplitBytes = 500_000
			}
			results, err := Run(t.Context(), ref, func() []Engine {
				all := Engines()
				for i, e := range all {
					f := c.fault
					f.Engine = e
					all[i] = f
				}
				return all
			}, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if (r.Differences > 0) != (r.Stage == c.stage) {
					t.Errorf("%s: %d differences", r.Stage, r.Differences)
				}
				if r.Stage == c.stage && !strings.Contains(strings.Join(r.Examples, "\n"), c.example) {
					t.Errorf("the examples are %q, want one with %q", r.Examples, c.example)
				}
			}
		})
	}
}

// TestSeed makes the same texts twice, and others from another seed.
func TestSeed(t *testing.T) {
	texts := func(seed uint64) string {
		var b strings.Builder
		for _, s := range stages(Options{Real: [][]byte{[]byte("Some real text, “déjà vu”.")}, CodePoints: 9999, Fuzz: 500, SplitTexts: 50, SplitBytes: 5000}) {
			for _, text := range s.texts(0, newRand(seed, 1, 0)) {
				b.Write(text)
			}
		}
		return b.String()
	}
	first, again, other := texts(1), texts(1), texts(2)
	if first != again {
		t.Error("the same seed makes other texts")
	}
	if first == other {
		t.Error("another seed makes the same texts")
	}
}

func TestBatches(t *testing.T) {
	for _, things := range []int{0, 1, 4999, 5000, 5001, 12345} {
		sum := 0
		for b := range batches(things, 5000) {
			sum += inBatch(b, things, 5000)
		}
		if sum != things {
			t.Errorf("%d things are %d in batches", things, sum)
		}
	}
}

func TestMinimal(t *testing.T) {
	long := strings.Repeat("x", 1000) + "ab" + strings.Repeat("y", 500) + "c" + strings.Repeat("z", 77)
	got := minimal([]byte(long), func(b []byte) bool {
		_, rest, ok := strings.Cut(string(b), "ab")
		return ok && strings.Contains(rest, "c")
	})
	if string(got) != "abc" {
		t.Errorf("%q, want abc", got)
	}
}
