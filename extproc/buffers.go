package extproc

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// buffers is a pool of buffers for what is received and sent, in place of gRPC's own,
// which fills each buffer with zeros to its whole capacity before it is used again: a
// megabyte for a message of 40 KB. Here it has what it had. gRPC and the codec write all
// of the bytes that they ask for before they are read.
type buffers struct {
	bySize [maxBuffer - minBuffer + 1]sync.Pool // of *[]byte whose capacity is a power of two
}

// The least and the greatest capacity of a buffer that is kept, as powers of two.
const (
	minBuffer = 8
	maxBuffer = 20
)

// pooled is the pool that all servers share.
var pooled buffers

var _ mem.BufferPool = (*buffers)(nil)

// Get returns a buffer of the given length. What is in it is not defined.
func (p *buffers) Get(length int) *[]byte {
	n := max(bits.Len(uint(max(length, 1)-1)), minBuffer)
	if n > maxBuffer {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.bySize[n-minBuffer].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<n)
	return &b
}

// Put takes a buffer back.
func (p *buffers) Put(b *[]byte) {
	n := bits.Len(uint(cap(*b))) - 1
	if n >= minBuffer && n <= maxBuffer && cap(*b) == 1<<n {
		p.bySize[n-minBuffer].Put(b)
	}
}
