package sse

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// feed runs the text through the parser in chunks and returns how many blocks
// came of it.
func feed(p *Parser, text []byte, size int) (blocks int) {
	for chunk := range slices.Chunk(text, size) {
		p.Feed(chunk)
		for _, ok := p.Next(); ok; _, ok = p.Next() {
			blocks++
		}
	}
	return blocks
}

// TestAllocs: once the buffers have grown, nothing is allocated, neither with
// chunks that end with an event nor with others, nor for joined data.
func TestAllocs(t *testing.T) {
	for _, c := range []struct {
		name, event string
		size        int
	}{
		{"whole events", "event: e\ndata: {\"a\":1}\n\n", 24},
		{"split events", "event: e\ndata: {\"a\":1}\n\n", 17},
		{"bytes", "event: e\ndata: {\"a\":1}\n\n", 1},
		{"joined data", "data: one\ndata: two\ndata: three\n\n", 50},
		{"carriage returns", "data: one\r\rdata: two\r\n\r\n", 11},
	} {
		text := []byte(strings.Repeat(c.event, 100))
		var p Parser
		blocks := 0
		if n := testing.AllocsPerRun(10, func() {
			p.Reset(0)
			blocks = feed(&p, text, c.size)
		}); n != 0 {
			t.Errorf("%s: %v allocations for %d blocks, want none", c.name, n, blocks)
		}
		if blocks < 100 {
			t.Errorf("%s: %d blocks, want at least 100", c.name, blocks)
		}
	}
}

// TestLinear counts the bytes that were searched or copied: at most two searches,
// two copies and one more to join data for each byte of the text, whatever the
// text and the chunks.
func TestLinear(t *testing.T) {
	const n = 1 << 18
	fill := func(s string) []byte { return bytes.Repeat([]byte(s), n/len(s)) }
	for name, text := range map[string][]byte{
		"one long line":      append([]byte("data: "), fill("x")...),
		"many data lines":    fill("data: x\n"),
		"empty data lines":   fill("data\n"),
		"events":             fill("data: x\n\n"),
		"events, CR":         fill("data: x\r\r"),
		"events, CRLF":       fill("data: x\r\n\r\n"),
		"LF, a CR far away":  append(fill("data: x\n\n"), '\r'),
		"CR, an LF far away": append(fill("data: x\r\r"), '\n'),
		"blank lines":        fill("\n"),
	} {
		for _, size := range []int{1, 7, 4096, n / 2, 2 * n} {
			var p Parser
			feed(&p, text, size)
			if err := p.Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if most := 5 * len(text); p.work > most {
				t.Errorf("%s in chunks of %d: %d bytes searched or copied, of %d; want at most %d", name, size, p.work, len(text), most)
			}
			if p.work < len(text) {
				t.Errorf("%s in chunks of %d: only %d bytes counted; the counter is broken", name, size, p.work)
			}
		}
	}
}

// TestBuffersShrink: after one huge event the parser returns to small buffers,
// even if every later chunk leaves something withheld, and over a Reset.
func TestBuffersShrink(t *testing.T) {
	huge := "data: a\ndata: " + strings.Repeat("x", 1<<20) + "\n\n"
	var p Parser
	grow := func(next string) {
		p.Reset(0)
		if feed(&p, []byte(huge+next), 1000) != 1 {
			t.Fatal("the huge event did not come")
		}
	}

	grow(": some")
	if cap(p.own) < len(huge) {
		t.Fatalf("the buffer has %d bytes, too few for the event", cap(p.own))
	}
	for range 10 {
		p.Feed([]byte("thing\n\ndata: some"))
		drain(&p)
	}
	if cap(p.own) > keepBuffer || cap(p.text) > keepBuffer {
		t.Errorf("buffers of %d and %d bytes are kept, more than %d", cap(p.own), cap(p.text), keepBuffer)
	}

	grow("")
	for range 10 {
		p.Feed([]byte(": whole\n\n"))
		p.Next()
	}
	if cap(p.own) > keepBuffer {
		t.Errorf("a buffer of %d bytes is kept although nothing is withheld", cap(p.own))
	}

	grow("")
	p.Reset(0)
	if cap(p.own) > keepBuffer || cap(p.text) > keepBuffer {
		t.Errorf("after Reset buffers of %d and %d bytes are kept, more than %d", cap(p.own), cap(p.text), keepBuffer)
	}
}

// TestMemoryIsBounded: a stream without a blank line is held up to the limit
// and no further.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 100_000
	var p Parser
	p.Reset(limit)
	chunk := bytes.Repeat([]byte("x"), 1000)
	for range 10_000 {
		p.Feed(chunk)
		p.Next()
		if cap(p.own) > 3*limit {
			t.Fatalf("a buffer of %d bytes for a limit of %d", cap(p.own), limit)
		}
	}
	if p.Err() != ErrTooLarge || p.own != nil {
		t.Errorf("error %v, a buffer of %d bytes; want ErrTooLarge and none", p.Err(), cap(p.own))
	}
}

func BenchmarkParser(b *testing.B) {
	text := recordings(b)["openai-compatible/stream/response.sse"]
	for _, size := range []int{64, 512, 4096, len(text)} {
		b.Run(fmt.Sprintf("chunk=%d", size), func(b *testing.B) {
			var p Parser
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				p.Reset(0)
				feed(&p, text, size)
			}
		})
	}
}

// drain fetches all whole blocks.
func drain(p *Parser) {
	for {
		if _, ok := p.Next(); !ok {
			return
		}
	}
}
