package extproc

import (
	"fmt"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/tokenbudget/tokenbudget/internal/wire"
)

// codec is gRPC's codec for protobuf, but for the messages of ext_proc, most of which
// package wire reads and writes in less time.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Unmarshal reads a message. The received bytes are gRPC's and will be used again; the
// message refers to a copy.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*extprocv3.ProcessingRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if err := wire.Unmarshal(data.Materialize(), m); err != nil {
		return fmt.Errorf("a message of ext_proc cannot be read: %w", err)
	}
	return nil
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
