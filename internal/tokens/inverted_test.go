package tokens

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// TestStableInverted asks about every pair several times, and at once, because answers are kept and overwritten.
func TestStableInverted(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	kept := 0
	for range 20 {
		e, err := Parse("twin", newFileTwin(r).file())
		if err != nil {
			t.Fatal(err)
		}
		p := &e.vocab.pairs
		if p.inverted == nil {
			continue
		}
		p.answers = p.answers[:1<<r.IntN(answerBits)] // few, so that they are overwritten
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 2 {
					for l := uint32('a'); l < uint32(e.vocab.size()); l++ {
						for r := uint32('a'); r < uint32(e.vocab.size()); r++ {
							if got := p.stable(l, r); got != p.stableByMerging(l, r) {
								t.Errorf("stable(%q, %q) = %t", e.vocab.bytes(l), e.vocab.bytes(r), got)
								return
							}
						}
					}
				}
			})
		}
		all.Wait()
		for i := range p.answers {
			if p.answers[i].Load() != 0 {
				kept++
			}
		}
	}
	if kept == 0 {
		t.Error("no answer was kept")
	}
}
