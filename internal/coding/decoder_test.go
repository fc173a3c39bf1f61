package coding

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// encoder is what all encoders have.
type encoder interface {
	io.WriteCloser
	Flush() error
}

// forms are how data is encoded in these tests, by name; the name begins with the coding's.
var forms = map[string]func(io.Writer) encoder{
	"gzip":        func(w io.Writer) encoder { return gzip.NewWriter(w) },
	"deflate":     func(w io.Writer) encoder { return zlib.NewWriter(w) },
	"deflate raw": func(w io.Writer) encoder { return must(flate.NewWriter(w, flate.BestCompression)) },
	"br":          func(w io.Writer) encoder { return brotli.NewWriterLevel(w, 5) },
	"zstd":        func(w io.Writer) encoder { return must(zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))) },
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func codingOf(form string) Coding {
	name, _, _ := strings.Cut(form, " ")
	return Coding(name)
}

// encode encodes parts, with a flush behind each.
func encode(form string, parts ...[]byte) []byte {
	var b bytes.Buffer
	w := forms[form](&b)
	for i, p := range parts {
		must(w.Write(p))
		if i < len(parts)-1 {
			if err := w.Flush(); err != nil {
				panic(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// decode decodes pieces, and fails the test if a slice is too long or a decoder stays open.
func decode(t testing.TB, l List, pieces ...[]byte) (out []byte, err error) {
	d := NewDecoder(l)
	defer d.Close()
	emit := func(b []byte) error {
		if len(b) == 0 || len(b) > MaxSlice {
			t.Fatalf("a slice of %d bytes", len(b))
		}
		out = append(out, b...)
		return nil
	}
	for _, p := range pieces {
		if err = d.Decode(p, false, emit); err != nil {
			return out, err
		}
	}
	return out, d.Decode(nil, true, emit)
}

// bytewise is b in pieces of a byte.
func bytewise(b []byte) [][]byte { return slices.Collect(slices.Chunk(b, 1)) }

func text(n int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for b.Len() < n {
		fmt.Fprintf(&b, "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" w%d\"}}]}\n\n", r.IntN(5000))
	}
	return b.Bytes()[:n]
}

func TestDecode(t *testing.T) {
	for form := range forms {
		t.Run(form, func(t *testing.T) {
			for _, n := range []int{0, 1, 100, MaxSlice, 200 << 10} {
				want := text(n)
				data := encode(form, want[:n/3], want[n/3:])
				l := List{codingOf(form)}
				for name, pieces := range map[string][][]byte{"whole": {data}, "bytewise": bytewise(data)} {
					if got, err := decode(t, l, pieces...); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes %s: %d bytes, %v", n, name, len(got), err)
					}
				}
				for at := 1; at < len(data) && n <= MaxSlice; at += 1 + len(data)/100 {
					if got, err := decode(t, l, data[:at], data[at:]); err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%d bytes split at %d: %d bytes, %v", n, at, len(got), err)
					}
				}
			}
		})
	}
}

// Text is there as soon as its bytes are, if the encoder has flushed them.
func TestNothingWaits(t *testing.T) {
	for outer := range forms {
		for inner := range forms {
			var last bytes.Buffer
			w := forms[outer](&last)
			v := forms[inner](w)
			d := NewDecoder(List{codingOf(inner), codingOf(outer)})
			var got []byte
			for i := range 50 {
				part := text(50 + i)
				must(v.Write(part))
				if err := errors.Join(v.Flush(), w.Flush()); err != nil {
					t.Fatal(err)
				}
				got = got[:0]
				if err := d.Decode(last.Bytes(), false, func(b []byte) error { got = append(got, b...); return nil }); err != nil {
					t.Fatal(err)
				}
				last.Reset()
				if !bytes.Equal(got, part) {
					t.Fatalf("%s in %s: of part %d %d bytes come at once, want %d", inner, outer, i, len(got), len(part))
				}
			}
			d.Close()
		}
	}
}

// Data that ends early is not taken for whole, wherever it ends.
func TestTruncated(t *testing.T) {
	want := text(5000)
	for form := range forms {
		data := encode(form, want[:1000], want[1000:])
		for n := 1; n < len(data); n++ {
			got, err := decode(t, List{codingOf(form)}, data[:n])
			if !errors.Is(err, ErrTruncated) {
				t.Errorf("%s: %d of %d bytes: %v", form, n, len(data), err)
			}
			if !bytes.HasPrefix(want, got) {
				t.Errorf("%s: %d of %d bytes decode to something else", form, n, len(data))
			}
		}
	}
}

func TestCorrupt(t *testing.T) {
	want := text(5000)
	for form := range forms {
		l := List{codingOf(form)}
		data := encode(form, want)
		got, err := decode(t, l, data, []byte("x"), want)
		if form == "br" && (err != nil || !bytes.Equal(got, want)) || form != "br" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: data behind the end: %d bytes, %v", form, len(got), err)
		}
		if _, err := decode(t, l, want); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: plain text: %v", form, err)
		}
		if form == "deflate raw" || form == "br" {
			continue // they have no checksum
		}
		broken := bytes.Clone(data)
		broken[len(broken)-2] ^= 1
		if got, err := decode(t, l, broken); !errors.Is(err, ErrCorrupt) || len(got) > len(want) {
			t.Errorf("%s: another checksum: %v", form, err)
		}
	}
}

func TestForms(t *testing.T) {
	a, b := text(100), text(200)
	both := append(bytes.Clone(a), b...)
	// Several members of gzip, and frames of zstd, are one stream.
	for _, form := range []string{"gzip", "zstd"} {
		data := append(encode(form, a), encode(form, b)...)
		if got, err := decode(t, List{codingOf(form)}, bytewise(data)...); err != nil || !bytes.Equal(got, both) {
			t.Errorf("%s: two in a row: %d bytes, %v", form, len(got), err)
		}
	}
	skip := append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), encode("zstd", a)...)
	if got, err := decode(t, List{Zstd}, bytewise(skip)...); err != nil || !bytes.Equal(got, a) {
		t.Errorf("a frame that is skipped: %d bytes, %v", len(got), err)
	}
	for _, l := range []List{{Gzip}, {Deflate}, {Brotli}, {Zstd}, {Zstd, Brotli}} {
		if got, err := decode(t, l); err != nil || len(got) > 0 {
			t.Errorf("%v: nothing at all: %d bytes, %v", l, len(got), err)
		}
	}
	wide := must(zstd.NewWriter(nil, zstd.WithWindowSize(16<<20)))
	var w bytes.Buffer
	wide.Reset(&w)
	must(wide.Write(a))
	if err := errors.Join(wide.Flush(), wide.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := decode(t, List{Zstd}, w.Bytes()); !errors.Is(err, ErrWindow) {
		t.Errorf("a window of 16 MiB: %v", err)
	}
	later := append(encode("zstd", a), w.Bytes()...)
	if _, err := decode(t, List{Zstd}, later); !errors.Is(err, ErrWindow) {
		t.Errorf("a window of 16 MiB in the second frame: %v", err)
	}
}

// What the header says of brotli's window is what its decoder takes.
func TestBrotliWindow(t *testing.T) {
	for bits := 10; bits <= 24; bits++ {
		var b bytes.Buffer
		w := brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 5, LGWin: bits})
		// The writer takes a smaller window for what it knows to be short.
		must(w.Write(text(1 << 20)))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := brotliWindow(b.Bytes()[0]); got != bits {
			t.Errorf("window %d, want %d", got, bits)
		}
	}
}

func TestMemory(t *testing.T) {
	d := NewDecoder(List{Zstd, Brotli})
	defer d.Close()
	first := d.Memory()
	data := encode("br", encode("zstd", text(1<<20), text(1)))
	if err := d.Decode(data[:len(data)/2], false, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if n := d.Memory(); n < first+2<<20 || n > 32<<20 {
		t.Errorf("%d bytes, then %d", first, n)
	}
	if d.Close(); d.Memory() != 0 {
		t.Errorf("%d bytes when it is closed", d.Memory())
	}
}

// No coroutine stays, however a decoder ends.
func TestCoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	data := encode("gzip", text(100<<10))
	stop := errors.New("stop")
	for range 100 {
		for end, use := range map[string]func(d *Decoder){
			"unused":  func(d *Decoder) { d.Close() },
			"whole":   func(d *Decoder) { _ = d.Decode(data, true, func([]byte) error { return nil }) },
			"corrupt": func(d *Decoder) { _ = d.Decode(data[1:], false, func([]byte) error { return nil }) },
			"stopped": func(d *Decoder) {
				if err := d.Decode(data, false, func([]byte) error { return stop }); !errors.Is(err, stop) {
					t.Error(err)
				}
			},
			"in the middle": func(d *Decoder) {
				_ = d.Decode(data[:500], false, func([]byte) error { return nil })
				d.Close()
				d.Close()
			},
		} {
			d := NewDecoder(List{Gzip})
			use(d)
			if err := d.Decode(data, true, func([]byte) error { t.Error("it goes on"); return nil }); err == nil && end != "whole" {
				t.Errorf("%s: it can be used again", end)
			}
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		values string // separated by |
		want   string
		err    error
	}{
		{"", "", nil}, {"identity", "", nil}, {"Identity, ", "", nil},
		{"gzip", "gzip", nil}, {"x-gzip", "gzip", nil}, {"GZip", "gzip", nil}, {"br,\tgzip", "br, gzip", nil}, {"br|zstd", "br, zstd", nil},
		{"deflate, identity|br", "deflate, br", nil},
		{"gzip, gzip, gzip", "", ErrTooMany}, {"gzip|gzip|gzip", "", ErrTooMany},
		{"snappy", "", ErrUnknown}, {"gzip, compress", "", ErrUnknown}, {"gzip;q=1", "", ErrUnknown}, {"*", "", ErrUnknown},
	} {
		l, err := Parse(slices.Values(strings.Split(c.values, "|")))
		if l.String() != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %q, %v", c.values, l, err)
		}
	}
}
