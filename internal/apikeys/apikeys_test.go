package apikeys

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Vectors of RFC 4231, section 4.
func TestHashOf(t *testing.T) {
	for _, tt := range []struct{ secret, key, want string }{
		{"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{strings.Repeat("\x0b", 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	} {
		h := HashOf([]byte(tt.secret), []byte(tt.key))
		if h.String() != tt.want {
			t.Errorf("%q: %v", tt.key, h)
		}
		if parsed, err := ParseHash(tt.want); err != nil || parsed != h {
			t.Errorf("ParseHash: %v, %v", parsed, err)
		}
	}
}

func TestParseHashRefuses(t *testing.T) {
	good := strings.Repeat("0f", 32)
	for _, s := range []string{"", good[1:], good + "0", good[:63] + "g", good[:63] + "F", "sk-proj-" + good[8:], good[:62] + "é"} {
		if _, err := ParseHash(s); !errors.Is(err, ErrHash) || err.Error() != ErrHash.Error() {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func some(secret string, n int) *Keys {
	subjects := make(map[Hash]*Subject)
	for i := range n {
		subjects[HashOf([]byte(secret), fmt.Append(nil, "sk-", i))] = &Subject{"team": fmt.Sprint("team", i)}
	}
	return New([]byte(secret), subjects)
}

func TestFind(t *testing.T) {
	k := some("a secret of the tests", 100)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 200 {
				s := k.Find(fmt.Append(nil, "sk-", i))
				if known := i < 100; (s != nil) != known || known && (*s)["team"] != fmt.Sprint("team", i) {
					t.Errorf("sk-%d: %v", i, s)
				}
			}
		})
	}
	group.Wait()
	if s := some("another", 1).Find([]byte("sk-0")); s == nil {
		t.Error("sk-0 is unknown under another secret")
	}
	mixed := New([]byte("another"), k.subjects)
	for _, key := range []string{"", "sk-0", "sk-0 ", "SK-0", strings.Repeat("k", MaxKey+1)} {
		if s := mixed.Find([]byte(key)); s != nil {
			t.Errorf("%.20q: %v", key, *s)
		}
	}
	long := strings.Repeat("k", MaxKey+1)
	if s := New([]byte("s"), map[Hash]*Subject{HashOf([]byte("s"), []byte(long)): {}}).Find([]byte(long)); s != nil {
		t.Error("a key beyond MaxKey is known")
	}
}

func TestFindAllocates(t *testing.T) {
	k, key := some("a secret of the tests", 10), []byte("sk-3")
	// Under the race detector a pool forgets every fourth thing that it is given.
	if n := testing.AllocsPerRun(1000, func() { k.Find(key) }); n >= 4 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkFind: one of ten thousand keys, and one that nobody has.
func BenchmarkFind(b *testing.B) {
	k := some("a secret of the tests", 10_000)
	for _, key := range []string{"sk-77", "sk-proj-" + strings.Repeat("0123456789", 15)} {
		b.Run(fmt.Sprintf("bytes=%d", len(key)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.Find([]byte(key))
			}
		})
	}
}
