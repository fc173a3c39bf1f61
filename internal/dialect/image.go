package dialect

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math"
)

// imageCost is what a model takes for an image: for tiles of 512 pixels, or for
// patches of 32.
//
//	tiles    scaled to fit into 2048 × 2048, then until its shorter side has 768
//	         pixels: base + tile × tiles. At low detail the base alone.
//	patches  scaled until at most budget patches cover it: ⌈patches × factor⌉ + 1.
//	         The detail does not matter. The one token more is what users of the
//	         chat API have measured; OpenAI's guide does not mention it.
type imageCost struct {
	base, tile     int64
	factor, budget int64 // factor in hundredths; 0 for a model with tiles
}

func tiles(base, tile int64) imageCost       { return imageCost{base: base, tile: tile} }
func patches(factor, budget int64) imageCost { return imageCost{factor: factor, budget: budget} }

// unknownSide is the width and height assumed for an image that cannot be looked
// at: one behind a URL, or in an unknown format.
const unknownSide = 1024

// tokens is the cost of an image of the given size in pixels.
func (c imageCost) tokens(width, height uint32, low bool) int64 {
	if width == 0 || height == 0 {
		width, height = unknownSide, unknownSide
	}
	w, h := float64(width), float64(height)
	if c.factor == 0 {
		if low {
			return c.base
		}
		if most := max(w, h); most > 2048 {
			w, h = w*2048/most, h*2048/most
		}
		if least := min(w, h); least > 768 {
			w, h = w*768/least, h*768/least
		}
		return c.base + c.tile*across(w, 512)*across(h, 512)
	}
	n := across(w, 32) * across(h, 32)
	if n > c.budget || n < 0 {
		// The guide's way: shrink to the budget's area, then until one side is
		// a whole number of patches.
		shrink := math.Sqrt(float64(c.budget) * 32 * 32 / (w * h))
		pw, ph := w*shrink/32, h*shrink/32
		shrink = min(max(1, math.Floor(pw))/pw, max(1, math.Floor(ph))/ph)
		n = min(c.budget, across(pw*shrink, 1)*across(ph*shrink, 1))
	}
	return (n*c.factor+99)/100 + 1
}

// across is how many pieces of the given size cover a length. What scaling adds by
// rounding is not a piece more.
func across(length, size float64) int64 { return max(1, int64(math.Ceil(length/size-1e-9))) }

// maxImageHeader bounds what is read of an image to find its size, in bytes. Only
// JPEG needs more than 30: its size stands behind profiles and previews.
const maxImageHeader = 256 << 10

// imageSize reads an image's size in pixels from a data URL, given as a raw JSON
// string. It is zero if the URL is none, or the image is neither PNG, JPEG, GIF nor
// WebP. It takes time in proportion to the image's header, not to the image.
func imageSize(url []byte) (width, height uint32) {
	data, ok := dataURL(url)
	if !ok {
		return 0, 0
	}
	return encodedImageSize(data)
}

// encodedImageSize is imageSize of the image's base64, without quotes.
func encodedImageSize(data []byte) (width, height uint32) {
	var b [30]byte // a short image is zeros behind its end
	decodePrefix(b[:], data)
	switch le, be := binary.LittleEndian, binary.BigEndian; {
	case bytes.HasPrefix(b[:], []byte("\x89PNG\r\n\x1a\n")) && string(b[12:16]) == "IHDR":
		return be.Uint32(b[16:]), be.Uint32(b[20:])
	case bytes.HasPrefix(b[:], []byte("GIF8")):
		return uint32(le.Uint16(b[6:])), uint32(le.Uint16(b[8:]))
	case bytes.HasPrefix(b[:], []byte("\xff\xd8\xff")):
		return jpegSize(base64.NewDecoder(base64.StdEncoding, &jsonText{data[:min(len(data), maxImageHeader/3*4)]}))
	case string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP":
		switch string(b[12:16]) {
		case "VP8 ": // lossy, RFC 6386 section 9.1
			return uint32(le.Uint16(b[26:]) & 0x3fff), uint32(le.Uint16(b[28:]) & 0x3fff)
		case "VP8L": // lossless: 14 bits each, less one
			bits := le.Uint32(b[21:])
			return bits&0x3fff + 1, bits>>14&0x3fff + 1
		case "VP8X": // extended: 24 bits each, less one
			return le.Uint32(b[24:])&0xffffff + 1, le.Uint32(b[26:])>>8 + 1
		}
	}
	return 0, 0
}

// jpegSize walks over the segments of a JPEG to its frame header (ITU T.81, B.2.2).
func jpegSize(r io.Reader) (width, height uint32) {
	var b [5]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil { // the start of the image
		return 0, 0
	}
	for {
		if _, err := io.ReadFull(r, b[:2]); err != nil || b[0] != 0xff {
			return 0, 0
		}
		for b[1] == 0xff { // fill bytes
			if _, err := io.ReadFull(r, b[1:2]); err != nil {
				return 0, 0
			}
		}
		marker := b[1]
		if marker == 0x01 || marker >= 0xd0 && marker <= 0xd7 { // no segment behind it
			continue
		}
		if _, err := io.ReadFull(r, b[:2]); err != nil {
			return 0, 0
		}
		length := int64(binary.BigEndian.Uint16(b[:])) - 2
		switch {
		case length < 0 || marker == 0xd9 || marker == 0xda: // the end, or the scan
			return 0, 0
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc:
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return 0, 0
			}
			return uint32(binary.BigEndian.Uint16(b[3:])), uint32(binary.BigEndian.Uint16(b[1:]))
		}
		if _, err := io.CopyN(io.Discard, r, length); err != nil {
			return 0, 0
		}
	}
}

// dataURL returns the base64 text of a data URL (RFC 2397), which is given as a
// raw JSON string.
func dataURL(url []byte) (data []byte, ok bool) {
	if len(url) < 2 || url[0] != '"' {
		return nil, false
	}
	url = url[1 : len(url)-1]
	if !bytes.HasPrefix(url, []byte("data:")) {
		return nil, false
	}
	head := url[:min(len(url), 128)]
	if i := bytes.Index(head, []byte(";base64,")); i >= 0 {
		return url[i+len(";base64,"):], true
	}
	return nil, false
}

// decodePrefix decodes the beginning of a text in base64, as much as fits into b.
// It returns how many bytes there are.
func decodePrefix(b, text []byte) int {
	var chars [64]byte
	n, _ := (&jsonText{text[:min(len(text), 2*len(chars))]}).Read(chars[:len(b)/3*4])
	n, _ = base64.StdEncoding.Decode(b, chars[:n]) // what stands before a mistake counts
	return n
}

// decodedSize is how many bytes a text in base64 stands for.
func decodedSize(text []byte) int64 { return int64(len(text)) / 4 * 3 }

// jsonText reads base64 out of a raw JSON string. Some encoders escape slashes; no
// other character of base64 needs it.
type jsonText struct{ text []byte }

func (t *jsonText) Read(p []byte) (n int, err error) {
	for n < len(p) && len(t.text) > 0 {
		if c := t.text[0]; c != '\\' {
			p[n] = c
			n++
		}
		t.text = t.text[1:]
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
