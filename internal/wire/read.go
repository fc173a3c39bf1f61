package wire

import (
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Unmarshal reads a message of Envoy's into m, whatever was in it before. m refers to data
// and to memory afterwards. The error is package proto's.
func Unmarshal(data []byte, m *extprocv3.ProcessingRequest, memory *Memory) error {
	m.Reset()
	memory.Reset()
	if request(data, m, memory) {
		return nil
	}
	return proto.Unmarshal(data, m)
}

// inner reads a message that is a field of the request, which counts as a level of nesting.
var inner = proto.UnmarshalOptions{RecursionLimit: protowire.DefaultRecursionLimit - 1}

// The readers below are false for everything that they do not know: unknown fields,
// what is malformed, and messages in several parts, which are to be merged.
//
// Each has the loop over its fields written out: with one that keeps its place in a struct
// they take a fifth longer (BenchmarkUnmarshal).

// field is one field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	bytes  []byte // of a message, a string or bytes
	varint uint64 // of numbers
}

// next takes the next field off the front of data.
func next(data []byte) (f field, rest []byte, ok bool) {
	var n int
	if f.number, f.kind, n = protowire.ConsumeTag(data); n < 0 {
		return f, nil, false
	}
	data = data[n:]
	switch f.kind {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(data)
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(data)
	default:
		return f, nil, false
	}
	if n < 0 {
		return f, nil, false
	}
	return f, data[n:], true
}

// is says that the field has this number and type.
func (f *field) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

func request(data []byte, m *extprocv3.ProcessingRequest, memory *Memory) bool {
	for len(data) > 0 {
		f, rest, ok := next(data)
		if !ok {
			return false
		}
		data = rest
		switch {
		case f.kind == protowire.BytesType && f.number >= 2 && f.number <= 7:
			if m.Request != nil || !part(f, m, memory) {
				return false
			}
		case f.is(8, protowire.BytesType):
			if m.MetadataContext != nil {
				return false
			}
			m.MetadataContext = new(corev3.Metadata)
			if inner.Unmarshal(f.bytes, m.MetadataContext) != nil {
				return false
			}
		case f.is(10, protowire.VarintType):
			m.ObservabilityMode = protowire.DecodeBool(f.varint)
		case f.is(11, protowire.BytesType):
			if m.ProtocolConfig != nil {
				return false
			}
			m.ProtocolConfig = new(extprocv3.ProtocolConfiguration)
			if !protocolConfig(f.bytes, m.ProtocolConfig) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// part reads the part of an HTTP exchange that a message is about.
func part(f field, m *extprocv3.ProcessingRequest, memory *Memory) bool {
	switch f.number {
	case 2:
		h := memory.takeHeaders()
		h.request.RequestHeaders = &h.message
		m.Request = &h.request
		return h.read(f.bytes)
	case 3:
		h := memory.takeHeaders()
		h.response.ResponseHeaders = &h.message
		m.Request = &h.response
		return h.read(f.bytes)
	case 4:
		p := &struct {
			request extprocv3.ProcessingRequest_RequestBody
			body    extprocv3.HttpBody
		}{}
		p.request.RequestBody = &p.body
		m.Request = &p.request
		return body(f.bytes, &p.body)
	case 5:
		memory.request.ResponseBody = &memory.body
		m.Request = &memory.request
		return body(f.bytes, &memory.body)
	}
	return false // trailers: few have any
}

func (h *httpHeaders) read(data []byte) bool {
	for len(data) > 0 {
		f, rest, ok := next(data)
		if !ok {
			return false
		}
		data = rest
		switch {
		case f.is(1, protowire.BytesType):
			if h.message.Headers != nil {
				return false
			}
			h.message.Headers = &h.fields
			if !h.readMap(f.bytes) {
				return false
			}
		case f.is(3, protowire.VarintType):
			h.message.EndOfStream = protowire.DecodeBool(f.varint)
		default:
			return false
		}
	}
	return true
}

func (h *httpHeaders) readMap(data []byte) bool {
	n := 0
	for rest := data; len(rest) > 0; n++ {
		f, after, ok := next(rest)
		if !ok || !f.is(1, protowire.BytesType) {
			return false
		}
		rest = after
	}
	if n == 0 {
		return true
	}
	h.makeRoom(n)
	text := string(data) // all names and values are parts of it
	for i, rest := 0, data; i < n; i++ {
		f, after, _ := next(rest)
		rest = after
		end := len(data) - len(rest)
		if !headerValue(f.bytes, text[end-len(f.bytes):end], h.fields.Headers[i]) {
			return false
		}
	}
	return true
}

// headerValue reads a header from data, and from the same as text.
func headerValue(data []byte, text string, v *corev3.HeaderValue) bool {
	for len(data) > 0 {
		f, rest, ok := next(data)
		if !ok {
			return false
		}
		data = rest
		end := len(text) - len(data)
		start := end - len(f.bytes)
		switch {
		case f.is(1, protowire.BytesType):
			v.Key = text[start:end]
			if !utf8.ValidString(v.Key) {
				return false
			}
		case f.is(2, protowire.BytesType):
			v.Value = text[start:end]
			if !utf8.ValidString(v.Value) {
				return false
			}
		case f.is(3, protowire.BytesType):
			v.RawValue = f.bytes
		default:
			return false
		}
	}
	return true
}

func body(data []byte, m *extprocv3.HttpBody) bool {
	for len(data) > 0 {
		f, rest, ok := next(data)
		if !ok {
			return false
		}
		data = rest
		switch {
		case f.is(1, protowire.BytesType):
			m.Body = f.bytes
		case f.is(2, protowire.VarintType):
			m.EndOfStream = protowire.DecodeBool(f.varint)
		case f.is(3, protowire.VarintType):
			m.EndOfStreamWithoutMessage = protowire.DecodeBool(f.varint)
		case f.is(4, protowire.VarintType):
			m.GrpcMessageCompressed = protowire.DecodeBool(f.varint)
		default:
			return false
		}
	}
	return true
}

func protocolConfig(data []byte, m *extprocv3.ProtocolConfiguration) bool {
	for len(data) > 0 {
		f, rest, ok := next(data)
		if !ok {
			return false
		}
		data = rest
		switch {
		case f.is(1, protowire.VarintType):
			m.RequestBodyMode = filterv3.ProcessingMode_BodySendMode(f.varint)
		case f.is(2, protowire.VarintType):
			m.ResponseBodyMode = filterv3.ProcessingMode_BodySendMode(f.varint)
		case f.is(3, protowire.VarintType):
			m.SendBodyWithoutWaitingForHeaderResponse = protowire.DecodeBool(f.varint)
		default:
			return false
		}
	}
	return true
}
