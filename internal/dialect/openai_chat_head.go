package dialect

import "bytes"

// maxChunkHead bounds what is kept of a chunk, in bytes.
const maxChunkHead = 512

// chunkHead is what stands in front of the text of the last plain chunk that had one. In most
// streams the next chunk begins with the same bytes, which mean the same, so they need only be
// compared.
type chunkHead struct {
	bytes []byte     // up to the text's opening quote
	chunk plainChunk // what was read of them
}

// read reads data into c as plainChunk.read does.
func (h *chunkHead) read(data []byte, c *plainChunk) bool {
	if h.begins(data) {
		if *c = h.chunk; c.readOn(data) {
			return true
		}
		// The text may be empty, which is no text.
		*c = plainChunk{}
	}
	if !c.read(data) {
		return false
	}
	h.keep(data, c)
	return true
}

// begins says that data begins as the last chunk did, but perhaps for its id: some servers give each
// chunk one of its own.
func (h *chunkHead) begins(data []byte) bool {
	n, id := len(h.bytes), h.chunk.id
	if n == 0 || len(data) <= n {
		return false
	}
	if id.end == 0 {
		return bytes.Equal(data[:n], h.bytes)
	}
	return bytes.Equal(data[id.end:n], h.bytes[id.end:]) && bytes.Equal(data[:id.start], h.bytes[:id.start]) &&
		(bytes.Equal(data[id.start:id.end], h.bytes[id.start:id.end]) || data[id.start] == '"' && plainString(data, id.start) == id.end)
}

// keep takes what stands in front of the text, if there is one, and room for it.
func (h *chunkHead) keep(data []byte, c *plainChunk) {
	if c.text.end == 0 || c.text.start >= maxChunkHead {
		return
	}
	h.bytes = append(h.bytes[:0], data[:c.text.start+1]...)
	h.chunk = *c
	h.chunk.beforeText()
}
