package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/*.txt. A script has one command:
//
//	parse [max=N]
//	<chunk, one a line, with the escapes of Go strings>
//	----
//	<each chunk again, and under it what came of it>
//
// The output shows every block as [start, end) with its event name and data,
// how many bytes are withheld, and the error; then what Flush returned.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "parse" {
				d.Fatalf(t, "unknown command %q; there is only parse", d.Cmd)
			}
			var limit int
			d.MaybeScanArgs(t, "max", &limit)
			var p Parser
			p.Reset(limit)
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				line = strings.TrimSuffix(line, "\n")
				fmt.Fprintf(&out, "> %s\n", line)
				p.Feed(unescape(t, line))
				for b, ok := p.Next(); ok; b, ok = p.Next() {
					show(&out, b)
				}
				if n := p.Pending(); n > 0 {
					fmt.Fprintf(&out, "  withheld: %d\n", n)
				}
				if err := p.Err(); err != nil {
					fmt.Fprintf(&out, "  error: %v\n", err)
				}
			}
			out.WriteString("flush\n")
			for b, ok := p.Flush(); ok; b, ok = p.Flush() {
				show(&out, b)
			}
			return out.String()
		})
	}
}

func show(out *strings.Builder, b Block) {
	fmt.Fprintf(out, "  [%d, %d)", b.Start, b.End)
	if len(b.Event) > 0 {
		fmt.Fprintf(out, " event %q", b.Event)
	}
	if b.HasData {
		fmt.Fprintf(out, " data %q", b.Data)
	} else {
		out.WriteString(" no data")
	}
	out.WriteByte('\n')
}

// unescape reads the escapes of a Go string, of which quotes need none.
func unescape(t *testing.T, s string) []byte {
	var out []byte
	for s != "" {
		r, multibyte, tail, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			t.Fatalf("bad escape at %q: %v", s, err)
		}
		if multibyte {
			out = append(out, string(r)...)
		} else {
			out = append(out, byte(r))
		}
		s = tail
	}
	return out
}

// recordings returns the recorded streams by name.
func recordings(t testing.TB) map[string][]byte {
	root := os.DirFS(filepath.Join("testdata", "recordings"))
	names, err := fs.Glob(root, "*/*/response.sse")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings in testdata: %v", err)
	}
	texts := make(map[string][]byte)
	for _, name := range names {
		if texts[name], err = fs.ReadFile(root, name); err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// TestRecordings cuts recorded streams in two at every byte, and into chunks of
// 1 to 64 bytes: the blocks are always those of the uncut stream.
func TestRecordings(t *testing.T) {
	for name, text := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			want, err := twin(text, nil, DefaultMaxBlock)
			if err != nil {
				t.Fatal(err)
			}
			var p Parser
			for split := range len(text) + 1 {
				p.Reset(0)
				left := p.expect(t, text[:split], want)
				left = p.expect(t, text[split:], left)
				p.expectEnd(t, text, left)
			}
			for size := 1; size <= 64; size++ {
				p.Reset(0)
				left := want
				for chunk := range slices.Chunk(text, size) {
					left = p.expect(t, chunk, left)
				}
				p.expectEnd(t, text, left)
			}
		})
	}
}

// expect feeds a chunk, demands that the blocks which come of it are the first
// ones wanted, and returns the others. It allocates nothing, for it is called
// some hundred thousand times.
func (p *Parser) expect(t *testing.T, chunk []byte, want []event) (left []event) {
	p.Feed(chunk)
	for b, ok := p.Next(); ok; b, ok = p.Next() {
		if len(want) == 0 || !want[0].is(b) {
			t.Fatalf("got block %+v, want the first of %+v", b, want)
		}
		want = want[1:]
	}
	return want
}

// expectEnd demands that Flush returns what is left, one block at most.
func (p *Parser) expectEnd(t *testing.T, text []byte, left []event) {
	if b, ok := p.Flush(); ok {
		if len(left) == 0 || !left[0].is(b) {
			t.Fatalf("Flush() = %+v, want the first of %+v", b, left)
		}
		left = left[1:]
	}
	if len(left) > 0 || p.Err() != nil || p.Pending() != 0 {
		t.Fatalf("at the end of %d bytes: missing %+v, %d bytes withheld, error %v", len(text), left, p.Pending(), p.Err())
	}
}

func (e event) is(b Block) bool {
	return e.Start == b.Start && e.End == b.End && e.HasData == b.HasData && e.Event == string(b.Event) && e.Data == string(b.Data)
}

// TestLineEnds rewrites recordings with other line ends and a byte order mark.
// The twin gives the offsets; events and data must be those of the original.
func TestLineEnds(t *testing.T) {
	for name, text := range recordings(t) {
		if len(text) > 1000 {
			continue // the twin is too slow for every split of the long ones
		}
		original, err := twin(text, nil, DefaultMaxBlock)
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{"\n", "\r\n", "\r"} {
			text := append([]byte("\ufeff"), bytes.ReplaceAll(text, []byte("\n"), []byte(end))...)
			t.Run(fmt.Sprintf("%s/%q", name, end), func(t *testing.T) {
				var p Parser
				for split := range text {
					compare(t, &p, text, []int{split, len(text)}, DefaultMaxBlock)
				}
				got, err := twin(text, nil, DefaultMaxBlock)
				if err != nil || !slices.EqualFunc(got, original, func(a, b event) bool {
					return a.Event == b.Event && a.Data == b.Data && a.HasData == b.HasData
				}) {
					t.Fatalf("got %+v, %v, want the events of %+v", got, err, original)
				}
			})
		}
	}
}

// TestLimitBySplit: whether a block is too large does not depend on the chunks.
func TestLimitBySplit(t *testing.T) {
	text := []byte("data: a\r\n\r\ndata: bcd\r\n\r\ndata: e\r\n\r\n")
	for limit := 8; limit <= 16; limit++ {
		for size := 1; size <= len(text); size++ {
			var p Parser
			p.Reset(limit)
			blocks, err := parse(t, &p, text, chunkEnds(len(text), []byte{byte(size)}))
			events := 0
			for _, b := range blocks {
				if b.HasData { // unlike a last LF parted from its CR
					events++
				}
			}
			want := 3
			switch {
			case limit < 10: // data: a CR LF CR
				want = 0
			case limit < 12: // data: bcd CR LF CR
				want = 1
			}
			if events != want || errors.Is(err, ErrTooLarge) != (want < 3) {
				t.Errorf("limit %d, chunks of %d: %d events, %v; want %d", limit, size, events, err, want)
			}
		}
	}
}

func TestErrorIsSticky(t *testing.T) {
	var p Parser
	p.Reset(4)
	p.Feed([]byte(":\n\ndata: too long"))
	if b, ok := p.Next(); !ok || b.End != 3 {
		t.Fatalf("Next() = %+v, %t, want the comment before the error", b, ok)
	}
	if _, ok := p.Next(); ok || p.Err() != ErrTooLarge {
		t.Fatalf("Next() = %t with error %v, want ErrTooLarge", ok, p.Err())
	}
	if got := p.Bytes(3, 17); string(got) != "data: too long" || p.Pending() != 14 {
		t.Errorf("after the error: Bytes = %q, Pending = %d; want the bytes withheld", got, p.Pending())
	}
	p.Feed([]byte("\n\n:\n\n"))
	if _, ok := p.Next(); ok || p.Err() != ErrTooLarge || p.Pending() != 0 {
		t.Errorf("after another Feed: Next() = %t, error %v, %d bytes withheld", ok, p.Err(), p.Pending())
	}
	if _, ok := p.Flush(); ok {
		t.Error("Flush returned a block after an error")
	}
	p.Reset(4)
	p.Feed([]byte(":\n\n"))
	if b, ok := p.Next(); !ok || b.Start != 0 || p.Err() != nil {
		t.Errorf("after Reset: Next() = %+v, %t, error %v", b, ok, p.Err())
	}
}

// TestFeedWithoutNext: what the caller does not fetch stays, within the limit.
func TestFeedWithoutNext(t *testing.T) {
	var p Parser
	p.Reset(20)
	for range 4 {
		p.Feed([]byte("data: x\n\n"))
	}
	if _, ok := p.Next(); ok || p.Err() != ErrTooLarge {
		t.Errorf("27 bytes not fetched, limit 20: Next() = %t, error %v, want ErrTooLarge", ok, p.Err())
	}
	p.Reset(40)
	for range 4 {
		p.Feed([]byte("data: x\n\n"))
	}
	for i := range 4 {
		if b, ok := p.Flush(); !ok || string(b.Data) != "x" || b.Start != int64(9*i) {
			t.Fatalf("Flush() = %+v, %t for block %d", b, ok, i)
		}
	}
}

func TestBytesOutOfRange(t *testing.T) {
	var p Parser
	p.Feed([]byte(":\n\n"))
	p.Next()
	p.Feed([]byte("data: a"))
	for _, r := range [][2]int64{{2, 5}, {3, 11}, {5, 4}, {-1, 3}} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, "at hand, 3 to 10") {
					t.Errorf("Bytes(%d, %d): panic %s; want one that names the bytes at hand, 3 to 10", r[0], r[1], text)
				}
			}()
			p.Bytes(r[0], r[1])
		}()
	}
	if got := p.Bytes(3, 10); string(got) != "data: a" {
		t.Errorf("Bytes(3, 10) = %q", got)
	}
}

// TestAppendIsSafe: appending to what the parser returns does not write into the
// stream or its buffers.
func TestAppendIsSafe(t *testing.T) {
	var p Parser
	p.Feed([]byte("event: e\ndata: a\n\ndata: b\ndata: c\n\n"))
	for b, ok := p.Next(); ok; b, ok = p.Next() {
		for name, got := range map[string][]byte{"Event": b.Event, "Data": b.Data, "Bytes": p.Bytes(b.Start, b.End)} {
			if cap(got) != len(got) {
				t.Errorf("block at %d: %s has %d bytes and a capacity of %d", b.Start, name, len(got), cap(got))
			}
		}
	}
}

// TestNoCopy: a chunk fed when nothing is withheld is referred to, not copied.
func TestNoCopy(t *testing.T) {
	chunk := []byte("data: a\n\ndata: b\n\n")
	var p Parser
	p.Feed(chunk)
	p.Next()
	b, _ := p.Next()
	if &p.Bytes(0, 18)[0] != &chunk[0] || &b.Data[0] != &chunk[15] {
		t.Error("the chunk was copied")
	}
}
