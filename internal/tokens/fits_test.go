package tokens

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// dumbFits is Fits by its definition: it encodes every prefix of delta which ends where a character does.
func dumbFits(e *Encoding, text, delta []byte, limit int) int {
	all := append(append([]byte(nil), text...), delta...)
	fits := func(n int) bool { return len(e.AppendTokens(nil, all[:n])) <= limit }
	if fits(len(all)) {
		return len(delta)
	}
	best := 0
	for at := 0; at < len(all); {
		n := validPrefix(all[at:])
		if n > 0 {
			n = len(string([]rune(string(all[at : at+n]))[0]))
		} else {
			var open bool
			if n, open = subpart(all[at:]); open {
				break
			}
		}
		if at += n; at > len(text) && fits(at) {
			best = at - len(text)
		}
	}
	return best
}

// checkFits asks for a few limits around the counts of text and of all.
func checkFits(t *testing.T, e *Encoding, text, delta []byte, r *rand.Rand) (between, behind bool) {
	t.Helper()
	var c Counter
	c.Reset(e)
	for at := 0; at < len(text); {
		n := min(1+r.IntN(20), len(text)-at)
		c.Add(text[at : at+n])
		at += n
	}
	now := c.Count()
	after := len(e.AppendTokens(nil, append(append([]byte(nil), text...), delta...)))
	for _, limit := range []int{now - 1, now, now + 1, after - 1, after, now + r.IntN(max(1, after-now)), now + 3*len(delta)} {
		before := c
		got, want := c.Fits(delta, limit), dumbFits(e, text, delta, limit)
		if got != want {
			t.Fatalf("%s: after %q with %d tokens, of %q %d bytes fit into %d, want %d", e.Name(), text, now, delta, got, limit, want)
		}
		if c != before {
			t.Fatalf("%s: Fits(%q) after %q changes the counter", e.Name(), delta, text)
		}
		if 0 < got && got < len(delta) {
			between = true
			for n := 1; n < got; n++ {
				d := c
				behind = behind || d.Add(delta[:n]) > limit
			}
		}
	}
	return between, behind
}

func TestFits(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	between, behind := 0, 0
	for i := range 300 {
		text, delta := []byte(randomText(r, 1+r.IntN(60))), []byte(randomText(r, 1+r.IntN(40)))
		switch i % 4 {
		case 0: // not UTF-8
			for range 1 + r.IntN(5) {
				delta[r.IntN(len(delta))] = byte(r.Uint32())
				text[r.IntN(len(text))] = byte(r.Uint32())
			}
		case 1: // a run
			body := []string{"a", "A", "中", "Aa", "=", " ", " \n", "\t", "a\u0301", "中A"}[r.IntN(10)]
			text = append(text, strings.Repeat(body, 20+r.IntN(50))...)
			delta = append([]byte(strings.Repeat(body, r.IntN(100))), delta...)
			if i%24 == 1 {
				delta = append(repeated(body, 300+r.IntN(300)), delta...)
			}
		case 2: // cut within a character
			all := slices.Concat(text, delta)
			cut := r.IntN(len(all))
			text, delta = all[:cut:cut], all[cut:]
		}
		for _, name := range []string{"o200k_base", "cl100k_base"} {
			a, b := checkFits(t, get(t, name), text, delta, r)
			if a {
				between++
			}
			if b {
				behind++
			}
		}
	}
	if between < 100 || behind < 10 {
		t.Errorf("%d of the answers were within delta, and %d behind a prefix that does not fit: too few to tell", between, behind)
	}
}

// TestFitsDefinition pins the definition.
func TestFitsDefinition(t *testing.T) {
	for _, c := range []struct {
		text, delta string
		limit, want int
	}{
		{"", "", 0, 0},
		{"", "word", 0, 0},
		{"", "word", 1, 4},
		{"", "two words", 1, 3}, // not the space, which is a token until a letter follows
		{"", "two words", 2, 9},
		{"one two", " three", 2, 0},
		{"中", "中文", -1, 0},
		{"", "\xe4\xb8", 0, 0},
		{"", "\xe4\xb8", 1, 2},        // all of it
		{"", "x\xe4\xb8", 1, 1},       // an incomplete character has no end
		{"\xe4\xb8", "\xad", 1, 1},    // it completes the character
		{"\xe4\xb8", "\xadx y", 1, 1}, //
		{"", "x\xff\xff", 1, 1},
		{"", "\xe4\xb8!", 1, 2}, // a maximal subpart is a character
		{"hel", "lo wor", 1, 2}, // the count falls from two to one
	} {
		var counter Counter
		counter.Reset(get(t, "o200k_base"))
		counter.Add([]byte(c.text))
		if got := counter.Fits([]byte(c.delta), c.limit); got != c.want {
			t.Errorf("after %q, of %q %d bytes fit into %d, want %d", c.text, c.delta, got, c.limit, c.want)
		}
	}
}

func TestFitsNoAllocations(t *testing.T) {
	for name, s := range hardTexts {
		var c Counter
		c.Reset(get(t, "o200k_base"))
		text := repeated(s, 3000)
		c.Add(text[:100])
		if n := testing.AllocsPerRun(5, func() { c.Fits(text[100:], c.Count()+200) }); n != 0 {
			t.Errorf("Fits of %s: %v allocations", name, n)
		}
	}
}

// TestFitsOrphan is about a piece of many tokens which is one in the end, when the character behind it is known.
func TestFitsOrphan(t *testing.T) {
	const wide = "\u3000"
	orphan := strings.Repeat(" ", maxTokenLen)
	twin := &fileTwin{
		ids:    map[string]uint32{orphan: 300, wide[:2]: 301, wide: 302},
		merges: [][2]string{{wide[:1], wide[1:2]}, {wide[:2], wide[2:]}},
		ignore: true,
	}
	for c := range 256 {
		twin.ids[string([]byte{byte(c)})] = uint32(c)
	}
	e, err := Parse("twin", twin.file())
	if err != nil {
		t.Fatal(err)
	}
	for before := range maxTokenLen {
		delta := []byte(strings.Repeat("x", before) + orphan + wide + "a!!!!")
		var c Counter
		c.Reset(e)
		limit := before + len("?.a")
		if got, want := c.Fits(delta, limit), dumbFits(e, nil, delta, limit); got != want {
			t.Errorf("behind %d letters: %d bytes fit, want %d", before, got, want)
		}
	}
}
