package sse

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// event is a Block that owns its bytes.
type event struct {
	Start, End  int64
	Event, Data string
	HasData     bool
}

var lines = regexp.MustCompile(`[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$`)

// twin is the parser once more, as dumb as can be: it has the whole text and
// goes over it line by line. ends are the offsets at which chunks end.
func twin(text []byte, ends []int, maxBlock int) (blocks []event, err error) {
	var (
		b     event
		data  []string
		begun bool
		lead  int
	)
	finish := func(end int) {
		b.End, b.Data, b.HasData = int64(end), strings.Join(data, "\n"), len(data) > 0
		blocks = append(blocks, b)
		b, data, begun, lead = event{Start: int64(end)}, nil, false, 0
	}
	for _, at := range lines.FindAllIndex(text, -1) {
		line, isCRLF := bytes.CutSuffix(text[at[0]:at[1]], []byte("\r\n"))
		line = bytes.TrimRight(line, "\r\n")
		if at[0] == 0 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if len(line) > 0 {
			begun = true
			name, value, _ := strings.Cut(string(line), ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "event":
				b.Event = value
			case "data":
				data = append(data, value)
			}
			continue
		}
		if !begun {
			continue
		}
		end := at[1]
		if isCRLF {
			end--
		}
		if end-int(b.Start)-lead > maxBlock {
			return blocks, ErrTooLarge
		}
		late := isCRLF && slices.Contains(ends, end)
		if isCRLF && !late {
			end++
		}
		finish(end)
		if late {
			lead = 1
		}
	}
	rest := len(text) - int(b.Start)
	if rest-lead > maxBlock {
		return blocks, ErrTooLarge
	}
	if rest > 0 {
		finish(len(text))
	}
	return blocks, nil
}

// chunkEnds cuts n bytes into chunks of the given sizes, over and over.
func chunkEnds(n int, sizes []byte) []int {
	var ends []int
	for at, i := 0, 0; at < n; i++ {
		size := 1
		if len(sizes) > 0 {
			size = int(sizes[i%len(sizes)])
		}
		if size == 0 && i%2 == 0 {
			size = 1 // empty chunks, but not for ever
		}
		at = min(at+size, n)
		ends = append(ends, at)
	}
	return ends
}

// parse runs the parser over the text in chunks, and fails if what it promises
// of bytes and counts does not hold on the way.
func parse(t *testing.T, p *Parser, text []byte, ends []int) (blocks []event, err error) {
	t.Helper()
	var joined, last []byte
	take := func(b Block) {
		raw := p.Bytes(b.Start, b.End)
		if b.Start != int64(len(joined)) || len(raw) == 0 {
			t.Fatalf("block [%d, %d) after %d bytes", b.Start, b.End, len(joined))
		}
		joined = append(joined, raw...)
		blocks = append(blocks, event{b.Start, b.End, string(b.Event), string(b.Data), b.HasData})
	}
	at := 0
	for _, end := range ends {
		chunk := bytes.Clone(text[at:end])
		p.Feed(chunk)
		for i := range last {
			last[i] = '#' // the parser must have let go of it
		}
		last, at = chunk, end
		oldest := len(joined)
		for b, ok := p.Next(); ok; b, ok = p.Next() {
			take(b)
		}
		if p.Pending() != end-len(joined) {
			t.Fatalf("Pending() = %d after %d bytes, %d of them returned", p.Pending(), end, len(joined))
		}
		if got := p.Bytes(int64(oldest), int64(end)); !bytes.Equal(got, text[oldest:end]) {
			t.Fatalf("Bytes(%d, %d) = %q, want %q", oldest, end, got, text[oldest:end])
		}
		if p.Err() != nil {
			return blocks, p.Err()
		}
	}
	for b, ok := p.Flush(); ok; b, ok = p.Flush() {
		take(b)
	}
	if p.Err() == nil && !bytes.Equal(joined, text) {
		t.Fatalf("the blocks' bytes are %q, want %q", joined, text)
	}
	return blocks, p.Err()
}

// compare runs parser and twin and demands that they agree.
func compare(t *testing.T, p *Parser, text []byte, ends []int, maxBlock int) {
	t.Helper()
	p.Reset(maxBlock)
	got, gotErr := parse(t, p, text, ends)
	want, wantErr := twin(text, ends, maxBlock)
	if gotErr != wantErr || !slices.Equal(got, want) {
		t.Fatalf("text %q, chunk ends %v, limit %d:\n got %+v, %v\nwant %+v, %v", text, ends, maxBlock, got, gotErr, want, wantErr)
	}
}

// TestTwin compares on texts made of the pieces that matter.
func TestTwin(t *testing.T) {
	pieces := []string{
		"\n", "\n", "\n\n", "\r", "\r\n", "\r\n\r\n", "data", "data:", "data: ", "data: x", "data:\tx", "event", "event: e",
		":", ": c", " ", "x", "id: 7", "datum: no", "Data: no", "\xef\xbb\xbf", "\xef", "\xbb\xbf", "\x00", "\xff",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var p Parser
	for range 20_000 {
		var text []byte
		for range rng.IntN(24) {
			text = append(text, pieces[rng.IntN(len(pieces))]...)
		}
		sizes := make([]byte, 1+rng.IntN(4))
		for i := range sizes {
			sizes[i] = byte(rng.IntN(7))
		}
		compare(t, &p, text, chunkEnds(len(text), sizes), 1+rng.IntN(60))
	}
}

func FuzzParser(f *testing.F) {
	f.Add([]byte("event: e\ndata: a\ndata: b\n\n: c\n\ndata: [DONE]\n\n"), []byte{5}, uint16(0))
	f.Add([]byte("\xef\xbb\xbfdata: a\r\n\r\n\r\rdata\r\rdata:b"), []byte{1, 0, 2}, uint16(20))
	f.Add([]byte(": c\r\r\n\r\ndata\n\r"), []byte{}, uint16(3))
	f.Fuzz(func(t *testing.T, text, sizes []byte, maxBlock uint16) {
		if len(text) > 4096 {
			t.Skip("the twin looks chunk ends up one by one")
		}
		limit := int(maxBlock)
		if limit == 0 {
			limit = DefaultMaxBlock
		}
		compare(t, new(Parser), text, chunkEnds(len(text), sizes), limit)
	})
}
