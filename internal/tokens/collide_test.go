package tokens

import (
	"errors"
	"testing"
)

// TestCollisions makes up vocabularies whose tokens have nearly the same place in one of the hash tables, as somebody
// would who wants that every look-up takes long.
func TestCollisions(t *testing.T) {
	const many = 3 * maxProbes
	near := func(hash uint64, of int) bool { return hash>>32*uint64(of)>>32 < many }
	all := func(int, string, int, string) bool { return true }
	for name, wants := range map[string][2]func(l int, left string, r int, right string) bool{
		"pairs": {func(l int, _ string, r int, _ string) bool {
			return near(pairKey(uint32(l), uint32(r))*golden, 1<<20)
		}},
		"shorts": {func(_ int, left string, _ int, right string) bool {
			return near(shortKey([]byte(left+right))*golden, 1<<20)
		}},
		"whole": {all, func(_ int, left string, _ int, right string) bool {
			return near(hash([]byte(left+right)), 1<<20)
		}},
		"none": {all},
	} {
		twin := &fileTwin{ids: make(map[string]uint32)}
		var texts []string // by rank, which is how the engine numbers them
		for c := range 256 {
			text := string([]byte{byte(c)})
			twin.ids[text] = uint32(c)
			texts = append(texts, text)
		}
		add := func(left, right string) {
			twin.merges = append(twin.merges, [2]string{left, right})
			twin.ids[left+right] = uint32(len(texts))
			texts = append(texts, left+right)
		}
		// The left halves are of other letters than the right ones, so that merging makes all of these tokens.
		for left := byte('0'); left <= 'O'; left++ {
			for right := byte('P'); right <= 'o'; right++ {
				add(string([]byte{left}), string([]byte{right}))
			}
		}
		from, size := 256, len(texts)
		for _, want := range wants {
			if want == nil {
				break
			}
		level:
			for l := from; l < size; l++ {
				for r := from; r < size; r++ {
					if len(texts) == size+many {
						break level
					}
					if want(l, texts[l], r, texts[r]) {
						add(texts[l], texts[r])
					}
				}
			}
			from, size = size, len(texts)
		}
		_, err := Parse(name, twin.file())
		if collide := errors.Is(err, errCollide); collide != (name != "none") || err != nil && !collide {
			t.Errorf("%s: %d tokens, error %v", name, len(texts), err)
		}
	}
}

func TestCrowded(t *testing.T) {
	table := make([]uint32, 4*maxProbes)
	for i := range maxProbes {
		table[7+i] = 1
	}
	if crowded(table) {
		t.Errorf("%d places side by side are too many", maxProbes)
	}
	if table[7+maxProbes] = 1; !crowded(table) {
		t.Errorf("%d places side by side are not too many", maxProbes+1)
	}
}
