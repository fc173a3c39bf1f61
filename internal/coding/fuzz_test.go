package coding

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// reference decodes data with a reader of a library, all at once.
func reference(c Coding, data []byte) ([]byte, error) {
	var r io.Reader
	var err error
	in := bytes.NewReader(data)
	switch c {
	case Gzip:
		r, err = gzip.NewReader(in)
	case Deflate:
		if r, err = zlib.NewReader(in); errors.Is(err, zlib.ErrHeader) {
			in.Reset(data)
			r, err = flate.NewReader(in), nil
		}
	case Brotli:
		r = brotli.NewReader(in)
	case Zstd:
		r, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(maxZstdWindow))
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, FreeBytes+MaxRatio*int64(len(data))))
}

// FuzzDecode: any input, split anywhere, decodes to what the library's own reader makes of all
// of it, or to a beginning of that and an error; within the bounds, and whatever it is.
func FuzzDecode(f *testing.F) {
	want := text(2000)
	for form := range forms {
		data := encode(form, want[:500], want[500:])
		f.Add(byte(len(form)), data, uint(len(data)/2))
		f.Add(byte(len(form)), append(data, data...), uint(3))
	}
	all := []Coding{Gzip, Deflate, Brotli, Zstd}
	f.Fuzz(func(t *testing.T, which byte, data []byte, at uint) {
		for i, c := range all {
			if which != 0 && int(which)%len(all) != i {
				continue
			}
			n := int(at % uint(len(data)+1))
			got, err := decode(t, List{c}, data[:n], data[n:])
			if limit := FreeBytes + MaxRatio*len(data); len(got) > limit {
				t.Fatalf("%s: %d bytes became %d", c, len(data), len(got))
			}
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatalf("%s: %v", c, err)
			}
			single, singleErr := decode(t, List{c}, bytewise(data)...)
			if (err == nil) != (singleErr == nil) || err == nil && !bytes.Equal(single, got) {
				t.Fatalf("%s: split at %d of %d: %d bytes, %v; byte by byte: %d bytes, %v", c, n, len(data), len(got), err, len(single), singleErr)
			}
			ref, refErr := reference(c, data)
			switch {
			case err == nil && !bytes.Equal(got, ref):
				t.Fatalf("%s: %d bytes, where the library has %d, %v", c, len(got), len(ref), refErr)
			case err == nil && refErr != nil && len(data) > 0 && refErr.Error() != excessive:
				t.Fatalf("%s: it passes, where the library says %v", c, refErr)
			case !bytes.HasPrefix(ref, got) && !bytes.HasPrefix(got, ref):
				t.Fatalf("%s: it decodes to something else than with the library", c)
			}
		}
		// Two codings in a row must do no more than end.
		_, _ = decode(t, List{all[int(which)%4], all[int(which)/4%4]}, data)
	})
}
