package wire

import (
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// Memory is what requests are read into, one after the other. The zero value is ready. It
// has room for the message that comes most often, with a piece of an answer's body, for
// which nothing is allocated. Headers have memory that all share, since of an exchange
// there are two messages with some.
type Memory struct {
	request extprocv3.ProcessingRequest_ResponseBody
	body    extprocv3.HttpBody
	headers *httpHeaders
}

// Reset lets go of the request that was read last, which must not be used any more.
func (m *Memory) Reset() {
	m.body.Reset()
	if h := m.headers; h != nil {
		m.headers = nil
		h.clear()
		headersMemory.Put(h)
	}
}

// httpHeaders are the headers of a message, in one piece.
type httpHeaders struct {
	request  extprocv3.ProcessingRequest_RequestHeaders
	response extprocv3.ProcessingRequest_ResponseHeaders
	message  extprocv3.HttpHeaders
	fields   corev3.HeaderMap
	values   []corev3.HeaderValue
}

var headersMemory = sync.Pool{New: func() any { return new(httpHeaders) }}

// maxKept bounds the headers whose memory is kept.
const maxKept = 64

func (m *Memory) takeHeaders() *httpHeaders {
	if m.headers == nil {
		m.headers = headersMemory.Get().(*httpHeaders)
	}
	return m.headers
}

func (h *httpHeaders) clear() {
	h.message.Reset()
	h.fields.Headers = h.fields.Headers[:0]
	if len(h.values) > maxKept {
		h.values, h.fields.Headers = nil, nil
	}
	for i := range h.values {
		v := &h.values[i]
		v.Key, v.Value, v.RawValue = "", "", nil
	}
}

// makeRoom gives h.fields so many headers, without anything in them.
func (h *httpHeaders) makeRoom(n int) {
	if n > len(h.values) {
		h.values = make([]corev3.HeaderValue, n)
		h.fields.Headers = make([]*corev3.HeaderValue, n)
		for i := range h.values {
			h.fields.Headers[i] = &h.values[i]
		}
	}
	h.fields.Headers = h.fields.Headers[:n]
}
