package dialect

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestImageCost: the examples of OpenAI's guide "Images and vision", and what users
// of its forum have measured. In chat, patches cost a token more than elsewhere.
func TestImageCost(t *testing.T) {
	for _, tt := range []struct {
		model         string
		width, height uint32
		low           bool
		want          int64
	}{
		{"gpt-4o", 1024, 1024, false, 765},
		{"gpt-4o", 2048, 4096, false, 1105},
		{"gpt-4o", 4096, 8192, true, 85},
		{"gpt-4o", 128, 64, false, 255},
		{"openai/gpt-4.1-2025-04-14", 512, 512, false, 255},
		{"gpt-4o", 513, 512, false, 425},
		{"gpt-4o", 1020, 760, false, 85 + 4*170}, // its shorter side is short enough
		{"gpt-4o", 0, 0, false, 765},             // not known
		{"claude-opus-4-1", 1024, 1024, false, 765},
		{"gpt-4o-mini", 1024, 1024, false, 2833 + 4*5667},
		{"gpt-5", 1024, 1024, false, 70 + 4*140},
		{"o3", 1024, 1024, false, 75 + 4*150},
		{"gpt-4.1-mini", 1024, 1024, false, 1659 + 1},
		{"gpt-4.1-mini", 1800, 2400, false, 2353 + 1}, // 1452 patches
		{"gpt-5-mini", 256, 256, false, 77 + 1},
		{"gpt-5-mini", 512, 512, true, 308 + 1},
		{"gpt-5-mini", 768, 1024, false, 922 + 1},
		{"gpt-5-mini", 2048, 768, false, 1844 + 1},
		{"gpt-5-mini", 1600, 1600, false, 1826 + 1}, // 39 × 39 patches
		{"gpt-5-nano", 16, 16, false, 2 + 1},
		{"gpt-5.4", 1600, 1600, false, 3000 + 1},
		{"gpt-5-mini", 1, 1 << 31, false, 1844 + 1}, // no overflow
		{"gpt-5-mini", 1<<32 - 1, 1<<32 - 1, false, 1826 + 1},
		{"gpt-4o", 1<<32 - 1, 1, false, 85 + 4*170},
	} {
		if got := chatModelOf(tt.model).image.tokens(tt.width, tt.height, tt.low); got != tt.want {
			t.Errorf("%s, %d × %d, low %v: %d tokens, want %d", tt.model, tt.width, tt.height, tt.low, got, tt.want)
		}
	}
}

func imageURL(kind string, data []byte) []byte {
	return []byte(strconv.Quote("data:image/" + kind + ";base64," + base64.StdEncoding.EncodeToString(data)))
}

func TestImageSize(t *testing.T) {
	img := image.NewPaletted(image.Rect(0, 0, 300, 200), color.Palette{color.Black, color.White})
	var pngs, jpegs, gifs bytes.Buffer
	for _, err := range []error{png.Encode(&pngs, img), jpeg.Encode(&jpegs, img, nil), gif.Encode(&gifs, img, nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A profile of 40 KB in front of the frame, as cameras write it.
	profile := append([]byte("\xff\xd8\xff\xe1"), binary.BigEndian.AppendUint16(nil, 40_000)...)
	profile = append(append(profile, make([]byte, 39_998)...), jpegs.Bytes()[2:]...)
	far := []byte("\xff\xd8")
	for range 5 {
		far = append(append(far, "\xff\xe1\xff\xff"...), make([]byte, 65_533)...)
	}
	far = append(far, jpegs.Bytes()[2:]...)
	webp := func(chunk, header string) []byte {
		return []byte("RIFF\x00\x00\x00\x00WEBP" + chunk + "\x00\x00\x00\x00" + header)
	}
	escaped := bytes.ReplaceAll(imageURL("jpeg", jpegs.Bytes()), []byte("/"), []byte(`\/`))
	escaped = bytes.Replace(escaped, []byte(`image\/`), []byte("image/"), 1)
	for _, tt := range []struct {
		name          string
		url           []byte
		width, height uint32
	}{
		{"PNG", imageURL("png", pngs.Bytes()), 300, 200},
		{"GIF", imageURL("gif", gifs.Bytes()), 300, 200},
		{"JPEG", imageURL("jpeg", jpegs.Bytes()), 300, 200},
		{"JPEG with slashes escaped", escaped, 300, 200},
		{"JPEG with a profile", imageURL("jpeg", profile), 300, 200},
		{"JPEG with its size too far behind", imageURL("jpeg", far), 0, 0},
		{"kind in the URL does not matter", imageURL("webp", pngs.Bytes()), 300, 200},
		{"WebP, lossy", imageURL("webp", webp("VP8 ", "\x00\x00\x00\x9d\x01\x2a\x2c\x01\xc8\x00")), 300, 200},
		{"WebP, lossless", imageURL("webp", webp("VP8L", "\x2f\x2b\xc1\x31\x00")), 300, 200},
		{"WebP, extended", imageURL("webp", webp("VP8X", "\x00\x00\x00\x00\x2b\x01\x00\xc7\x00\x00")), 300, 200},
		{"cut short", imageURL("png", pngs.Bytes()[:10]), 0, 0},
		{"JPEG cut short", imageURL("jpeg", jpegs.Bytes()[:30]), 0, 0},
		{"not base64", []byte(`"data:image/png;base64,%%%%"`), 0, 0},
		{"remote", []byte(`"https://example.com/a.png"`), 0, 0},
		{"no string", []byte(`7`), 0, 0},
		{"nothing", nil, 0, 0},
	} {
		if w, h := imageSize(tt.url); w != tt.width || h != tt.height {
			t.Errorf("%s: %d × %d, want %d × %d", tt.name, w, h, tt.width, tt.height)
		}
	}
}

func TestAudioTokens(t *testing.T) {
	wav := func(rate uint32, size int) []byte {
		b := append([]byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00"), binary.LittleEndian.AppendUint32(nil, rate)...)
		b = append(append(b, "\x02\x00\x10\x00data\x00\x00\x00\x00"...), make([]byte, size)...)
		return []byte(strconv.Quote(base64.StdEncoding.EncodeToString(b)))
	}
	// 8 kHz of 8 bits, beside the byte rate of another sound.
	lie := append([]byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00"), "\x00\xe0\x2e\x00\x01\x00\x08\x00data\x00\x00\x00\x00"...)
	samples := []byte(strconv.Quote(base64.StdEncoding.EncodeToString(append(lie, make([]byte, 8000)...))))
	for _, tt := range []struct {
		name string
		data []byte
		want int64
	}{
		{"WAV of 3 s", wav(48_000, 144_000-44), 30},
		{"WAV that lies about its rate", wav(1<<32-1, 8*96_000*4), 10},
		{"WAV that lies the other way", wav(0, 10_000), 101},
		{"WAV whose samples say otherwise", samples, 11},
		{"16 s of something at 64 kbit/s", []byte(`"` + strings.Repeat("A", 128_000/3*4) + `"`), 160},
		{"nothing", nil, tokensPerFile},
		{"empty", []byte(`""`), 1},
	} {
		if got := audioTokens(tt.data); got < tt.want || got > tt.want+1 {
			t.Errorf("%s: %d tokens, want %d", tt.name, got, tt.want)
		}
	}
}

func FuzzImageSize(f *testing.F) {
	f.Add([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00"))
	f.Add([]byte("\xff\xd8\xff\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08\x00\x10\x00\x20"))
	f.Add([]byte("RIFF....WEBPVP8X"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, h := imageSize(imageURL("x", data))
		for i := range chatModels {
			if n := chatModels[i].image.tokens(w, h, false); n < 1 || n > 1<<20 {
				t.Fatalf("%q: %d tokens for %d × %d", chatModels[i].prefix, n, w, h)
			}
		}
		imageSize(data)
		audioTokens(data)
		if std, err := png.DecodeConfig(bytes.NewReader(data)); err == nil && (uint32(std.Width) != w || uint32(std.Height) != h) {
			t.Fatalf("%d × %d, image/png says %d × %d", w, h, std.Width, std.Height)
		}
	})
}

// FuzzUnquote: the text of a string is what the decoder makes of it.
func FuzzUnquote(f *testing.F) {
	for _, s := range []string{`"a\n\"\\\/\b\f\r\tb"`, `"\u00e9\ud83d\ude00"`, `"\ud83dx\ude00"`, `"\ud83d\u0041"`, `"\uFFfd"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		text := jsontext.Value(v)
		if !text.IsValid(jsontext.AllowInvalidUTF8(true)) || v[0] != '"' || v[len(v)-1] != '"' {
			return
		}
		want, err := jsontext.AppendUnquote(nil, v)
		scratch := []byte("before")
		got := unquote(v, &scratch)
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q is %q, want %q", v, got, want)
		}
		if !bytes.HasPrefix(scratch, []byte("before")) {
			t.Fatal("it wrote over what was there")
		}
	})
}
