package extproc

import (
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// scribbling is a pool that overwrites what it gets back, as others who use the buffer would.
type scribbling struct{ got int }

func (*scribbling) Get(length int) *[]byte { b := make([]byte, length); return &b }

func (p *scribbling) Put(b *[]byte) {
	p.got++
	for i := range *b {
		(*b)[i] = '#'
	}
}

// What was read stays as it is until it is released, though gRPC lets go of its bytes at
// once. They are kept for a piece of an answer that lies in one buffer, else copied.
func TestReceived(t *testing.T) {
	long := strings.Repeat("long ", 1000) // shorter ones are in no pool
	var m received
	for range 3 {
		for _, tc := range []struct {
			message *extprocv3.ProcessingRequest
			piece   bool
		}{
			{requestHeaders(":method", "POST", "x-long", long), false},
			{requestBody(long), false},
			{responseHeaders(":status", "200", "x-long", long), false},
			{responseBody(long, false), true},
			{responseBody(long, true), true},
		} {
			data, err := proto.Marshal(tc.message)
			if err != nil {
				t.Fatal(err)
			}
			for _, cut := range []int{0, 1, len(data) / 2} { // in one buffer and in two
				var pool scribbling
				all := mem.BufferSlice{mem.NewBuffer(new(append([]byte(nil), data...)), &pool)}
				if cut > 0 {
					all = mem.BufferSlice{mem.SliceBuffer(data[:cut]), mem.NewBuffer(new(append([]byte(nil), data[cut:]...)), &pool)}
				}
				m.release()
				if err := newCodec().Unmarshal(all, &m); err != nil {
					t.Fatal(err)
				}
				all.Free()
				if !proto.Equal(&m.message, tc.message) {
					t.Errorf("read %v, want %v", &m.message, tc.message)
				}
				if kept := pool.got == 0; kept != (tc.piece && cut == 0) {
					t.Errorf("gRPC's bytes are kept: %v, of piece %v", kept, tc.piece)
				}
				if m.release(); pool.got != 1 {
					t.Errorf("gRPC's bytes were given back %d times", pool.got)
				}
			}
		}
	}
}
