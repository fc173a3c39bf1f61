package wire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
)

// Size is the length in bytes of what MarshalTo writes. It is false for a message that
// only package proto can write, or that it would refuse.
func Size(m *extprocv3.ProcessingResponse) (n int, ok bool) {
	var w writer
	w.response(m)
	return w.n, !w.strange
}

// MarshalTo writes a message into b, whose length must be its Size.
func MarshalTo(b []byte, m *extprocv3.ProcessingResponse) {
	w := writer{b: b}
	w.response(m)
}

// writer writes a message from its end to its beginning: when the length of a nested
// message is to be written, which stands before it, it is known.
type writer struct {
	b       []byte // nil if the bytes are only counted
	n       int    // how many are written, at the end of b
	strange bool   // something can not be written here
}

func (w *writer) raw(p []byte) {
	w.n += len(p)
	if w.b != nil {
		copy(w.b[len(w.b)-w.n:], p)
	}
}

func (w *writer) rawString(s string) {
	w.n += len(s)
	if w.b != nil {
		copy(w.b[len(w.b)-w.n:], s)
	}
}

func (w *writer) varint(v uint64) {
	if v < 1<<7 {
		w.n++
		if w.b != nil {
			w.b[len(w.b)-w.n] = byte(v)
		}
		return
	}
	var buf [binary.MaxVarintLen64]byte
	w.raw(protowire.AppendVarint(buf[:0], v))
}

func (w *writer) tag(number protowire.Number, kind protowire.Type) {
	w.varint(protowire.EncodeTag(number, kind))
}

// since makes a field of what was written since w.n was end.
func (w *writer) since(end int, number protowire.Number) {
	w.varint(uint64(w.n - end))
	w.tag(number, protowire.BytesType)
}

// bytes and the next ones write a field, unless it has the value that it has by default.
func (w *writer) bytes(number protowire.Number, p []byte) {
	if len(p) > 0 {
		end := w.n
		w.raw(p)
		w.since(end, number)
	}
}

func (w *writer) text(number protowire.Number, s string) {
	if s != "" {
		w.chosenText(number, s)
	}
}

func (w *writer) bool(number protowire.Number, v bool) {
	if v {
		w.chosenBool(number, v)
	}
}

func (w *writer) enum(number protowire.Number, v int32) {
	if v != 0 {
		w.varint(uint64(v)) // negative ones take ten bytes
		w.tag(number, protowire.VarintType)
	}
}

// chosenText and chosenBool write a field in any case, since its presence says
// something: it is one of several, or part of a map.
func (w *writer) chosenText(number protowire.Number, s string) {
	if !utf8.ValidString(s) {
		w.strange = true // and an error
	}
	end := w.n
	w.rawString(s)
	w.since(end, number)
}

func (w *writer) chosenBool(number protowire.Number, v bool) {
	w.varint(protowire.EncodeBool(v))
	w.tag(number, protowire.VarintType)
}

func (w *writer) response(m *extprocv3.ProcessingResponse) {
	drain := m.GetRequestDrain() || m.GetRequestDrainRequests() || m.GetRequestDrainResponses() //nolint:staticcheck // the first is deprecated, but may be set
	if drain || m.GetTypedDynamicMetadata() != nil || m.GetModeOverride() != nil || m.GetOverrideMessageTimeout() != nil || m.GetServerWindowUpdate() != nil {
		w.strange = true
		return
	}
	if s := m.GetDynamicMetadata(); s != nil {
		end := w.n
		w.object(s)
		w.since(end, 8)
	}
	end := w.n
	switch r := m.GetResponse().(type) {
	case nil:
	case *extprocv3.ProcessingResponse_RequestHeaders:
		w.common(r.RequestHeaders.GetResponse())
		w.since(end, 1)
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		w.common(r.ResponseHeaders.GetResponse())
		w.since(end, 2)
	case *extprocv3.ProcessingResponse_RequestBody:
		w.common(r.RequestBody.GetResponse())
		w.since(end, 3)
	case *extprocv3.ProcessingResponse_ResponseBody:
		w.common(r.ResponseBody.GetResponse())
		w.since(end, 4)
	default:
		w.strange = true // trailers and refusals: they are few
	}
}

// common writes the only field of an answer about headers or a body.
func (w *writer) common(m *extprocv3.CommonResponse) {
	if m == nil {
		return
	}
	if m.GetTrailers() != nil {
		w.strange = true
		return
	}
	end := w.n
	w.bool(5, m.GetClearRouteCache())
	if body := m.GetBodyMutation(); body != nil {
		end := w.n
		w.bodyMutation(body)
		w.since(end, 3)
	}
	if headers := m.GetHeaderMutation(); headers != nil {
		end := w.n
		w.headerMutation(headers)
		w.since(end, 2)
	}
	w.enum(1, int32(m.GetStatus()))
	w.since(end, 1)
}

func (w *writer) bodyMutation(m *extprocv3.BodyMutation) {
	end := w.n
	switch b := m.GetMutation().(type) {
	case nil:
	case *extprocv3.BodyMutation_Body:
		w.raw(b.Body)
		w.since(end, 1)
	case *extprocv3.BodyMutation_StreamedResponse:
		s := b.StreamedResponse
		w.bool(5, s.GetDrainComplete())
		w.bool(4, s.GetGrpcMessageCompressed())
		w.bool(3, s.GetEndOfStreamWithoutMessage())
		w.bool(2, s.GetEndOfStream())
		w.bytes(1, s.GetBody())
		w.since(end, 3)
	default:
		w.strange = true
	}
}

func (w *writer) headerMutation(m *extprocv3.HeaderMutation) {
	remove := m.GetRemoveHeaders()
	for i := len(remove) - 1; i >= 0; i-- {
		w.chosenText(2, remove[i])
	}
	set := m.GetSetHeaders()
	for i := len(set) - 1; i >= 0; i-- {
		end := w.n
		w.headerValueOption(set[i])
		w.since(end, 1)
	}
}

func (w *writer) headerValueOption(o *corev3.HeaderValueOption) {
	if o.GetAppend() != nil { //nolint:staticcheck // deprecated, but a field that may be set
		w.strange = true
		return
	}
	w.bool(4, o.GetKeepEmptyValue())
	w.enum(3, int32(o.GetAppendAction()))
	if h := o.GetHeader(); h != nil {
		end := w.n
		w.bytes(3, h.GetRawValue())
		w.text(2, h.GetValue())
		w.text(1, h.GetKey())
		w.since(end, 1)
	}
}

// object writes the fields of a struct, which are a map.
func (w *writer) object(s *structpb.Struct) {
	for name, v := range s.GetFields() {
		entry := w.n
		w.value(v)
		w.since(entry, 2)
		w.chosenText(1, name)
		w.since(entry, 1)
	}
}

func (w *writer) value(v *structpb.Value) {
	end := w.n
	switch v := v.GetKind().(type) {
	case nil:
	case *structpb.Value_NumberValue:
		var buf [8]byte
		binary.LittleEndian.PutUint64(buf[:], math.Float64bits(v.NumberValue))
		w.raw(buf[:])
		w.tag(2, protowire.Fixed64Type)
	case *structpb.Value_StringValue:
		w.chosenText(3, v.StringValue)
	case *structpb.Value_BoolValue:
		w.chosenBool(4, v.BoolValue)
	case *structpb.Value_StructValue:
		w.object(v.StructValue)
		w.since(end, 5)
	default:
		w.strange = true // lists and nulls: the record has none
	}
}
