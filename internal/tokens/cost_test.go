package tokens

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// hardTexts are bad cases of the encoder, one piece each.
var hardTexts = map[string]string{
	"letter":     "a",
	"letters":    "abcdefghijklmnopqrstuvwxyz",
	"two":        "vaaaavavvavvaavaavvvvvavavaavavaavavvav",
	"rule":       "=",
	"rules":      strings.Repeat("=", 70) + strings.Repeat("-", 70),
	"spaces":     " ",
	"tab spaces": "\t" + strings.Repeat(" ", 120),
	"Chinese":    "人工智能技术正在迅速改变我们的生活方式从医疗诊断到自动驾驶",
	"cut":        "中A",
	"invalid":    "\xe4",
}

func repeated(s string, n int) []byte { return bytes.Repeat([]byte(s), n/len(s)+1)[:n] }

func TestNoAllocations(t *testing.T) {
	texts := map[string][]byte{
		"prose": []byte("It's a truth universally acknowledged, that tokenizers don't like unbelievably long words: Donaudampfschifffahrtsgesellschaft.\n\n\tEnd 12345"),
		"mixed": []byte("人工智能 مرحبا \xff\xe4\xb8 🎉🎉 !!\r\n"),
	}
	for name, s := range hardTexts {
		texts[name] = repeated(s, 3000)
	}
	for _, encoding := range builtin {
		e := get(t, encoding)
		for name, text := range texts {
			str := string(text)
			if n := testing.AllocsPerRun(5, func() { e.Count(text) }); n != 0 {
				t.Errorf("%s: Count of %s: %v allocations", encoding, name, n)
			}
			if n := testing.AllocsPerRun(5, func() { e.CountString(str) }); n != 0 {
				t.Errorf("%s: CountString of %s: %v allocations", encoding, name, n)
			}
			var c Counter
			c.Reset(e)
			if n := testing.AllocsPerRun(5, func() {
				for i := 0; i < len(text); i += 3 {
					c.Add(text[i:min(i+3, len(text))])
				}
			}); n != 0 {
				t.Errorf("%s: Add of %s: %v allocations", encoding, name, n)
			}
		}
	}
}

// TestLinear compares the time for a long text with that for a short one, in the same run. With 16 times the
// text, quadratic work would take 256 times as long; the bound leaves a linear one room. Where it can be had, the time
// is the process's own, so that it does not matter what else the machine does.
func TestLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("measures times")
	}
	const (
		short, long = 4 << 10, 64 << 10
		bound       = 100
	)
	fastest := func(f func()) time.Duration {
		least := time.Duration(1 << 62)
		for range 3 {
			start := bench.Clock()
			f()
			least = min(least, bench.Clock()-start)
		}
		return max(least, time.Microsecond)
	}
	e := get(t, "o200k_base")
	add := func(text []byte) {
		var c Counter
		c.Reset(e)
		for i := 0; i < len(text); i += 4 {
			c.Add(text[i:min(i+4, len(text))])
		}
	}
	for name, s := range hardTexts {
		small, large := repeated(s, short), repeated(s, long)
		if a, b := fastest(func() { e.Count(small) }), fastest(func() { e.Count(large) }); b > bound*a {
			t.Errorf("Count of %s: %v for %d bytes, %v for %d", name, a, short, b, long)
		}
		if a, b := fastest(func() { add(small) }), fastest(func() { add(large) }); b > bound*a {
			t.Errorf("Add of %s: %v for %d bytes, %v for %d", name, a, short, b, long)
		}
	}
}

// TestVeryLong counts four megabytes without a boundary, which takes days if the work is quadratic.
func TestVeryLong(t *testing.T) {
	e := get(t, "o200k_base")
	if got, want := e.Count(repeated("a", 4<<20)), 4<<20/8; got != want {
		t.Errorf("%d tokens, want %d", got, want)
	}
}

func TestHeap(t *testing.T) {
	const most = 40 << 20
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	v, err := newVocab("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	after := heap()
	runtime.KeepAlive(v)
	if after > before+most {
		t.Errorf("the tables of o200k_base take %d bytes, want at most %d", after-before, most)
	}
	t.Logf("%.1f MB", float64(after-before)/1e6)
}
