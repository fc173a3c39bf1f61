package load

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Noise and a beginning that fills caches are no growth; a leak of any measure is.
func TestFlat(t *testing.T) {
	series := func(n int, f func(i int, s *Sample)) []Sample {
		rng := rand.New(rand.NewPCG(3, 4))
		all := make([]Sample, n)
		for i := range all {
			all[i] = Sample{
				At: time.Unix(int64(i), 0), RSS: 100<<20 + rng.Int64N(8<<20), Live: 40<<20 + rng.Int64N(1<<20), Stacks: 8<<20 + rng.Int64N(4<<20),
				Goroutines: 80 + rng.Int64N(40), Files: 20 + rng.Int64N(8), Exchanges: rng.Int64N(20), Buffered: rng.Int64N(1 << 18),
			}
			f(i, &all[i])
		}
		return all
	}
	if err := Flat(series(100, func(int, *Sample) {})); err != nil {
		t.Errorf("noise: %v", err)
	}
	if err := Flat(series(100, func(i int, s *Sample) { s.RSS -= int64(max(0, 20-i)) << 21 })); err != nil {
		t.Errorf("a beginning: %v", err)
	}
	if err := Flat(series(100, func(i int, s *Sample) {
		if i == 99 {
			s.Goroutines = 10_000
		}
	})); err != nil {
		t.Errorf("a single high one: %v", err)
	}
	for name, leak := range map[string]func(i int64, s *Sample){
		"resident memory": func(i int64, s *Sample) { s.RSS += i << 20 },
		"live heap":       func(i int64, s *Sample) { s.Live += i << 18 },
		"stacks":          func(i int64, s *Sample) { s.Stacks += i << 19 },
		"goroutines":      func(i int64, s *Sample) { s.Goroutines += 2 * i },
		"open files":      func(i int64, s *Sample) { s.Files += i },
		"open exchanges":  func(i int64, s *Sample) { s.Exchanges += i },
		"buffered bytes":  func(i int64, s *Sample) { s.Buffered += i << 16 },
	} {
		err := Flat(series(100, func(i int, s *Sample) { leak(int64(i), s) }))
		if err == nil || !strings.HasPrefix(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s leak: error %v", name, err)
		}
	}
	if err := Flat(series(7, func(int, *Sample) {})); err == nil {
		t.Error("too few are enough")
	}
}

func TestPerHour(t *testing.T) {
	var all []Sample
	for i := range 20 {
		all = append(all, Sample{At: time.Unix(int64(i)*60, 0), Files: 100 + 3*int64(i)})
	}
	if got := Measures[4].PerHour(all); got < 179.99 || got > 180.01 {
		t.Errorf("%v an hour, want 180", got)
	}
	if got := Measures[4].PerHour(all[:1]); got != 0 {
		t.Errorf("of a single sample: %v", got)
	}
}
