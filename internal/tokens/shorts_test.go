package tokens

import (
	"math/rand/v2"
	"testing"
)

// TestShortKey reads the bytes and their number back from the key, so that no two strings have the same one.
func TestShortKey(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for range 10_000 {
		b := make([]byte, 1+r.IntN(shortToken))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		key := shortKey(b)
		var got []byte
		for i := range int(key >> 56) {
			got = append(got, byte(key>>(8*i)))
		}
		if string(got) != string(b) || key<<8>>8>>(8*len(b)) != 0 {
			t.Fatalf("the key of %q is %#x", b, key)
		}
	}
}
