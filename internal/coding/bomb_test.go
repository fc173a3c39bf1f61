package coding

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/andybalholm/brotli"
)

// zeros are n bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bomb is what size bytes of nothing are in the form.
func bomb(form string, size int64) []byte {
	var b bytes.Buffer
	var w encoder = brotli.NewWriterLevel(&b, 1)
	if form != "br" {
		w = forms[form](&b)
	}
	must(io.Copy(w, zeros(size)))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Bombs, single and layered, end with an error as soon as they make more than is
// allowed, and take no more memory than a decoder may.
func TestBombs(t *testing.T) {
	const size = 64 << 20
	inner := map[string][]byte{}
	for form := range forms {
		inner[form] = bomb(form, size)
	}
	for form, data := range inner {
		all := map[string][]byte{"": data}
		for outer := range forms {
			all[outer] = encode(outer, data)
		}
		for outer, data := range all {
			l := List{codingOf(form)}
			if outer != "" {
				l = append(l, codingOf(outer))
			}
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d := NewDecoder(l)
			n, most := 0, int64(0)
			err := d.Decode(data, true, func(b []byte) error {
				n += len(b)
				most = max(most, d.Memory())
				return nil
			})
			runtime.ReadMemStats(&after)
			if allowed := FreeBytes + MaxRatio*len(data); !errors.Is(err, ErrExpands) || n > allowed {
				t.Errorf("%s in %q: %d bytes became %d, %v", form, outer, len(data), n, err)
			}
			// The window of brotli grows by doubling; what it was before is counted here, too.
			if took := int64(after.TotalAlloc - before.TotalAlloc); took > 2*most+2<<20 {
				t.Errorf("%s in %q: %d bytes were allocated, %d accounted for", form, outer, took, most)
			}
		}
	}
}

// TestBombOfTime: millions of frames of nothing, which compress well, make nothing that could be
// too large. What is between two codings is bounded for that.
func TestBombOfTime(t *testing.T) {
	nothing := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0} // a frame of zstd
	frames := bytes.Repeat(nothing, 8<<20/len(nothing))
	noise := make([]byte, len(frames)/(MaxRatio-10))
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // which never fails
	skipped := append([]byte{0x50, 0x2a, 0x4d, 0x18, byte(len(noise)), byte(len(noise) >> 8), byte(len(noise) >> 16), 0}, noise...)
	data := append(encode("gzip", frames), encode("gzip", skipped)...)
	if len(frames)+len(skipped) > FreeBytes+MaxRatio*len(data) {
		t.Fatalf("%d bytes of %d are too much for any coding", len(frames)+len(skipped), len(data))
	}
	d := NewDecoder(List{Zstd, Gzip})
	if err := d.Decode(data, true, func(b []byte) error { t.Errorf("it made %d bytes", len(b)); return nil }); !errors.Is(err, ErrExpands) {
		t.Errorf("%v, want %v", err, ErrExpands)
	}
	if d.stages[0].made > FreeBytes+MaxInner*int64(len(data))+MaxSlice {
		t.Errorf("%d bytes of %d were decoded once more", d.stages[0].made, len(data))
	}
}
