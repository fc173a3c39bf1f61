package extproc

import (
	"fmt"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tokenbudget/tokenbudget/internal/wire"
)

// codec is gRPC's codec for protobuf, but for the messages of ext_proc, most of which
// package wire reads and writes in less time.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Unmarshal reads a message; those of ext_proc into a [received].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*received)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if isPiece(data) {
		m.data = data.MaterializeToBuffer(&pooled)
	} else {
		m.data = mem.SliceBuffer(data.Materialize())
	}
	if err := wire.Unmarshal(m.data.ReadOnlyData(), &m.message, &m.memory); err != nil {
		return fmt.Errorf("a message of ext_proc cannot be read: %w", err)
	}
	return nil
}

// isPiece says that a message begins with a piece of an answer's body, by the tag of that
// field. Envoy writes it first.
func isPiece(data mem.BufferSlice) bool {
	if len(data) == 0 {
		return false
	}
	b := data[0].ReadOnlyData()
	return len(b) > 0 && b[0] == 5<<3|byte(protowire.BytesType)
}

// received is a message of Envoy's with the memory that it is in. The bytes of pieces of an
// answer, of which there are many, are gRPC's own, which will be used again. Those of all
// others are copies, since what is made of a request refers to its body.
type received struct {
	message extprocv3.ProcessingRequest
	memory  wire.Memory
	data    mem.Buffer // that message refers to
}

// own is a server whose gRPC server has our codec.
type own struct{ *Server }

func (s own) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	return s.process(stream)
}

// foreign is a stream of a gRPC server that has another codec, or a stream that stands in
// front of one.
type foreign struct {
	extprocv3.ExternalProcessor_ProcessServer
}

// RecvMsg receives into a [received].
func (f foreign) RecvMsg(m any) error {
	got, err := f.Recv()
	if err != nil {
		return err
	}
	in := &m.(*received).message
	in.Request, in.MetadataContext, in.Attributes = got.GetRequest(), got.GetMetadataContext(), got.GetAttributes()
	in.ProtocolConfig, in.ObservabilityMode = got.GetProtocolConfig(), got.GetObservabilityMode()
	return nil
}

// release lets go of the message. Nothing of it may be in use any more, but for the bytes
// of a request's body.
func (m *received) release() {
	if m.data != nil {
		m.data.Free() // of a copy this does nothing
		m.data = nil
	}
	m.message.Reset()
	m.memory.Reset()
}

// Marshal writes a message.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*extprocv3.ProcessingResponse)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	n, ok := wire.Size(m)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	if mem.IsBelowBufferPoolingThreshold(n) {
		b := make([]byte, n)
		wire.MarshalTo(b, m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	b := pooled.Get(n)
	wire.MarshalTo(*b, m)
	return mem.BufferSlice{mem.NewBuffer(b, &pooled)}, nil
}
