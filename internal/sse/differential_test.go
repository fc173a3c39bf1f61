package sse

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gosse "github.com/tmaxmax/go-sse"
)

// dispatched is an event as a client sees it.
type dispatched struct{ Event, Data string }

// reference reads a text with another parser. Known differences are left out:
//
//   - It also dispatches what has a name or an id and no data; this package calls that a
//     block without data. Events without data are compared by neither.
//   - An event whose blank line never came is discarded by it, as by a browser, and
//     returned here; see Caveats in the package's comment.
//   - It takes off a byte order mark behind blank lines, too. The specification has it at
//     the very beginning only. Such texts are not compared.
func reference(t *testing.T, text string) (events []dispatched) {
	t.Helper()
	for e, err := range gosse.Read(strings.NewReader(text), &gosse.ReadConfig{MaxEventSize: 8 << 20}) {
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if e.Data != "" {
			events = append(events, dispatched{e.Type, e.Data})
		}
	}
	return events
}

// ours reads a text in chunks, without the event that has not ended.
func ours(text string, ends []int) (events []dispatched) {
	var p Parser
	p.Reset(8 << 20)
	at := 0
	for _, end := range ends {
		p.Feed([]byte(text[at:end]))
		at = end
		for b, ok := p.Next(); ok; b, ok = p.Next() {
			if len(b.Data) > 0 {
				events = append(events, dispatched{string(b.Event), string(b.Data)})
			}
		}
	}
	return events
}

// randomEnds cuts n bytes at random.
func randomEnds(r *rand.Rand, n int) (ends []int) {
	longest := 1 + r.IntN(1+r.IntN(2000))
	for at := 0; at < n; {
		at = min(n, at+1+r.IntN(longest))
		ends = append(ends, at)
	}
	return ends
}

func alike(t *testing.T, text string, ends []int) {
	t.Helper()
	want := reference(t, text)
	if got := ours(text, ends); !slices.Equal(got, want) {
		t.Fatalf("%.300q, cut at %.20v:\ngot  %.300q\nwant %.300q", text, ends, got, want)
	}
}

// TestDifferential: recordings, cut at random, and made-up texts mean to this parser what
// they mean to github.com/tmaxmax/go-sse.
func TestDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	n, events := 0, 0
	for _, dir := range []string{"testdata/recordings", "../standin/recordings"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".sse" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n++
			events += len(reference(t, string(text)))
			for range 50 {
				alike(t, string(text), randomEnds(r, len(text)))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 8 || events < 200 {
		t.Errorf("only %d recordings with %d events", n, events)
	}
	pieces := []string{"data", "data:", "data: ", ": ", ":", " ", "event: a", "event:", "id: 7", "retry: 5", "x", "y: z", "\n", "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\x00", "é", "\xff", "{\"a\":1}", "[DONE]", "Data: no", "data :no"}
	texts := 20_000
	if testing.Short() {
		texts = 2_000
	}
	for range texts {
		var b strings.Builder
		if r.IntN(10) == 0 {
			b.WriteString("\ufeff")
		}
		for range r.IntN(30) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		alike(t, b.String(), randomEnds(r, b.Len()))
	}
}

// FuzzDifferential is the same for any text.
func FuzzDifferential(f *testing.F) {
	f.Add("data: a\n\ndata: b\r\n\r\n: c\r\rdata\n", uint64(1))
	f.Add("\ufeffevent: x\ndata: a\ndata: b\n\n", uint64(2))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		if strings.Contains(strings.TrimPrefix(text, "\ufeff"), "\ufeff") {
			return
		}
		alike(t, text, randomEnds(rand.New(rand.NewPCG(seed, 0)), len(text)))
	})
}
