package dialect

import "encoding/binary"

// A second of sound that is sent costs ten tokens: OpenAI's guide to audio says one
// for 100 ms.
const (
	tokensPerSecond = 10
	// bytesPerSecond is assumed for what is not WAV: 64 kbit/s, as speech is
	// commonly compressed.
	bytesPerSecond = 8000
)

// audioTokens is the cost of a sound, given as the raw JSON string of its base64.
// WAV says how long it lasts; the length of others is estimated from their size.
func audioTokens(data []byte) int64 {
	if len(data) < 2 || data[0] != '"' {
		return tokensPerFile
	}
	data = data[1 : len(data)-1]
	size, rate := decodedSize(data), int64(bytesPerSecond)
	var b [45]byte // the header has 44
	if decodePrefix(b[:], data) >= 44 && string(b[:4]) == "RIFF" && string(b[8:16]) == "WAVEfmt " {
		// From telephone quality to eight channels of 96 kHz; what is beyond was
		// made up.
		le := binary.LittleEndian
		rate = int64(le.Uint32(b[28:]))
		// Players go by rate, channels and bits of the samples rather than by the
		// bytes in a second, which follow from them.
		if samples := int64(le.Uint32(b[24:])) * int64(le.Uint16(b[22:])) * int64(le.Uint16(b[34:])) / 8; samples > 0 {
			rate = min(rate, samples)
		}
		rate = min(max(rate, 1000), 8*96_000*4)
		size -= 44
	}
	return 1 + max(size, 0)*tokensPerSecond/rate
}
