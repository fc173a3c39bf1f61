package exchange

import (
	"strconv"
	"testing"
)

// TestContextsBounded: what was not asked for longest makes room.
func TestContextsBounded(t *testing.T) {
	c := NewContexts()
	key := func(i int) storedKey { return c.key("host", "/v1", strconv.Itoa(i)) }
	for i := range maxContexts {
		c.learn(key(i), int64(i))
	}
	if _, ok := c.of(key(0)); !ok { // it is asked for now
		t.Fatal("a context is forgotten that has room")
	}
	c.learn(key(2), 7) // and this is learned anew
	c.learn(key(maxContexts), 1)
	c.learn(key(maxContexts+1), 1)
	if len(c.known) != maxContexts || c.used.Len() != maxContexts {
		t.Fatalf("%d contexts are remembered, and %d are in order, want %d", len(c.known), c.used.Len(), maxContexts)
	}
	for i, want := range map[int]bool{0: true, 1: false, 2: true, 3: false, 4: true, maxContexts: true, maxContexts + 1: true} {
		if _, ok := c.known[key(i).id]; ok != want {
			t.Errorf("context %d is known: %v, want %v", i, ok, want)
		}
	}
	if n, _ := c.of(key(2)); n != 7 {
		t.Errorf("a context that was learned again has %d tokens, want 7", n)
	}
}
