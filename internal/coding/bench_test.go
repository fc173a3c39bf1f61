package coding

import (
	"bytes"
	"testing"
)

// BenchmarkDecode decodes a stream of 1,000 events that come one by one, each flushed, the making
// of the decoder included.
func BenchmarkDecode(b *testing.B) {
	events := bytes.SplitAfter(text(100<<10), []byte("\n\n"))[:1000]
	size := len(bytes.Join(events, nil))
	for form := range forms {
		var pieces [][]byte
		var out bytes.Buffer
		w := forms[form](&out)
		for _, e := range events {
			must(w.Write(e))
			if err := w.Flush(); err != nil {
				b.Fatal(err)
			}
			pieces = append(pieces, bytes.Clone(out.Bytes()))
			out.Reset()
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		pieces = append(pieces, out.Bytes())
		b.Run(form, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				d := NewDecoder(List{codingOf(form)})
				for i, p := range pieces {
					if err := d.Decode(p, i == len(pieces)-1, func(s []byte) error { n += len(s); return nil }); err != nil {
						b.Fatal(err)
					}
				}
				if n != size {
					b.Fatalf("%d bytes, want %d", n, size)
				}
			}
		})
	}
}
