package budget

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseRolling(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		text string
		want time.Duration
		name string
	}{
		{"1s", time.Second, "1s"},
		{"90s", 90 * time.Second, "1m30s"},
		{"5m", 5 * time.Minute, "5m"},
		{"24h", day, "24h"},
		{"1d", day, "24h"},
		{"47h", 47 * time.Hour, "47h"},
		{"48h", 2 * day, "2d"},
		{"30d", 30 * day, "30d"},
		{"2w", 14 * day, "14d"},
		{"1w2d3h4m5s", 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second, "9d3h4m5s"},
		{"0h5m", 5 * time.Minute, "5m"},
		{"366d", 366 * day, "366d"},
		{"527040m", 366 * day, "366d"},
	} {
		p, err := ParsePeriod(c.text)
		if err != nil || time.Duration(p) != c.want || p.String() != c.name || !p.Rolling() {
			t.Errorf("ParsePeriod(%q) = %d called %q, %v; want %s called %q", c.text, p, p, err, c.want, c.name)
		}
	}
	for _, bad := range []string{"5", "5 m", "m", "5m5m", "1m1h", "1.5h", "-5m", "+5m", "0s", "367d", "366d1s", "9223372036854775807s", "99999999999999999999w", "5M", "1µs", "1ms", "5m "} {
		if p, err := ParsePeriod(bad); err == nil {
			t.Errorf("ParsePeriod(%q) = %s", bad, p)
		}
	}
	for _, bad := range []Period{Period(time.Second) - 1, Period(time.Second) + 1, Period(MaxRolling + time.Second), -5, math.MinInt64} {
		if bad.Rolling() || bad.valid() {
			t.Errorf("%d is a period", int64(bad))
		}
	}
}

func FuzzParsePeriod(f *testing.F) {
	for _, s := range []string{"month", "5m", "1w2d3h4m5s", "366d", "99999999999999999999h", "1h1h", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePeriod(s)
		if err != nil {
			return
		}
		if again, err := ParsePeriod(p.String()); !p.valid() || err != nil || again != p {
			t.Errorf("%q is %d, called %q, which is %d, %v", s, int64(p), p, int64(again), err)
		}
	})
}

// TestCells: a window is cut into no more cells than there may be, and a cell counts for at
// least the period after its last instant, and less than two widths more.
func TestCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.OneOf(rapid.Int64Range(1, 200), rapid.Int64Range(1, int64(MaxRolling/time.Second))).Draw(t, "seconds")
		r := newRolling(Period(seconds) * Period(time.Second))
		if r.length < 1 || r.length > mostCells || r.width < 1 || seconds > mostCells && r.width > seconds/mostCells+1 {
			t.Fatalf("%d cells of %d s", r.length, r.width)
		}
		at := rapid.Int64Range(-1e10, 1e10).Draw(t, "at")
		n := r.cell(at)
		first, last := n*r.width, (n+1)*r.width-1
		if at < first || at > last {
			t.Fatalf("%d is in cell %d, from %d to %d", at, n, first, last)
		}
		longer := r.leaves(n) - (last + seconds)
		if longer < 1 || longer > r.width || seconds%r.width == 0 && longer != 1 {
			t.Fatalf("the last second of a cell of %d s counts %d s longer than %d s", r.width, longer, seconds)
		}
		if r.near(n, r.cell(r.leaves(n))) || !r.near(n, r.cell(r.leaves(n)-1)) {
			t.Fatal("a cell does not leave when it is said to")
		}
	})
}

// charged is what a request was charged, and when it was admitted.
type charged struct {
	at time.Time
	n  int64
}

// TestRollingPromise: whatever requests are admitted, grow and end, in whatever order, and
// however the clock goes: in no stretch of time as long as the period is more charged, by
// when requests were admitted, than the limit allows, unless settlements exceed holds.
func TestRollingPromise(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%t", stored), func(t *testing.T) {
			grown := 0
			rapid.Check(t, func(t *rapid.T) {
				length := time.Duration(rapid.SampledFrom([]int64{1, 2, 10, 59, 61, 90, 300}).Draw(t, "seconds")) * time.Second
				const amount = 1000
				c := newClock()
				o := Options{Now: c.now, GrowthStep: 1, Limits: []Limit{{Name: "a", Amount: amount, Period: Period(length)}}}
				if stored {
					o.Store = newMemStore()
				}
				l, err := New(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close(t.Context())
				l.rules.Load().rules[0].rolling.spare = 0 // it often forgets, and reads again
				if !stored {
					l.rules.Load().rules[0].rolling.spare = math.MaxInt32
				}
				type open struct {
					r     *Reservation
					at    time.Time
					spent int64
				}
				var under []open
				var done []charged
				end := func(i int) {
					o := under[i]
					under = slices.Delete(under, i, i+1)
					o.r.Settle(Amount{Output: o.spent})
					done = append(done, charged{o.at, o.spent})
				}
				t.Repeat(map[string]func(*rapid.T){
					"reserve": func(t *rapid.T) {
						n := rapid.Int64Range(1, 700).Draw(t, "output")
						r, d, err := l.Reserve(t.Context(), Request{Output: n, MinOutput: n})
						if err != nil {
							t.Fatal(err)
						}
						if r != nil {
							under = append(under, open{r, c.now(), n})
						} else if wait := d.ResetAt.Sub(c.now()); wait <= 0 || wait > 3*length+2*time.Second {
							t.Fatalf("refused until %s from now", wait)
						}
					},
					"grow": func(t *rapid.T) {
						if len(under) == 0 {
							t.Skip("nothing is open")
						}
						i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
						more := rapid.Int64Range(1, 700).Draw(t, "more")
						if _, ok := under[i].r.Spend(under[i].spent + more); ok {
							under[i].spent += more
							grown++
						}
					},
					"settle": func(t *rapid.T) {
						if len(under) == 0 {
							t.Skip("nothing is open")
						}
						end(rapid.IntRange(0, len(under)-1).Draw(t, "which"))
					},
					"clock": func(t *rapid.T) {
						c.add(time.Duration(rapid.Int64Range(1, int64(length)*2/3).Draw(t, "ahead")))
					},
					"clock back": func(t *rapid.T) {
						c.add(-time.Duration(rapid.Int64Range(1, int64(length)).Draw(t, "back")))
					},
					"clock far": func(t *rapid.T) {
						c.add(rapid.SampledFrom([]time.Duration{-5 * length, 5 * length}).Draw(t, "way"))
					},
					"sync": func(t *rapid.T) {
						if stored { // memory alone forgets what seems to have ended
							if err := l.Sync(t.Context()); err != nil {
								t.Fatal(err)
							}
						}
					},
					"": func(t *rapid.T) {
						all := slices.Clone(done)
						for _, o := range under {
							all = append(all, charged{o.at, o.spent})
						}
						for _, first := range all {
							sum := int64(0)
							for _, o := range all {
								if d := o.at.Sub(first.at); d >= 0 && d < length {
									sum += o.n
								}
							}
							if sum > amount-20 {
								t.Fatalf("%d in %s from %s on", sum, length, first.at)
							}
						}
						held := int64(0)
						for _, o := range under {
							held += o.spent
						}
						if held > amount-20 {
							t.Fatalf("%d held", held)
						}
					},
				})
				for len(under) > 0 {
					end(0)
				}
				l.table.each(func(w *row) {
					w.history.mu.Lock() // the writer may still be at work
					defer w.history.mu.Unlock()
					for _, c := range w.history.cells {
						if c.held != 0 || c.open != 0 || c.used < 0 || w.held.Load() != 0 || w.used.Load() < 0 {
							t.Fatalf("in the end: %+v", c)
						}
					}
				})
			})
			if grown == 0 {
				t.Error("nothing ever grew")
			}
		})
	}
}
