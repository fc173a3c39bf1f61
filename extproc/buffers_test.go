package extproc

import "testing"

// A buffer has the length that was asked for, in a capacity that it can be kept by.
func TestBuffers(t *testing.T) {
	var p buffers
	for _, tc := range []struct{ length, capacity int }{
		{0, 256}, {1, 256}, {256, 256}, {257, 512}, {1024, 1024}, {1025, 2048}, {16384, 16384}, {40_000, 65_536}, {1 << 20, 1 << 20}, {1<<20 + 1, 1<<20 + 1},
	} {
		for range 3 {
			b := p.Get(tc.length)
			if len(*b) != tc.length || cap(*b) != tc.capacity {
				t.Errorf("Get(%d) has length %d and capacity %d, want %d", tc.length, len(*b), cap(*b), tc.capacity)
			}
			for i := range *b {
				(*b)[i] = 'x'
			}
			*b = (*b)[:tc.length/2] // as gRPC may give it back
			p.Put(b)
		}
	}
	// A capacity of no class would be too small for what the class promises.
	for range 10 {
		odd := make([]byte, 0, 700)
		p.Put(&odd)
	}
	if b := p.Get(1000); cap(*b) != 1024 {
		t.Errorf("Get(1000) has capacity %d", cap(*b))
	}
}
