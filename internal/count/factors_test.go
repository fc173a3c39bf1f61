package count

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestFactorOf(t *testing.T) {
	for _, tt := range []struct {
		f    Factor
		n    int64
		want int64
	}{
		{0, 7, 7},
		{one, 7, 7},
		{one, math.MaxInt64, math.MaxInt64},
		{1200, 0, 0},
		{1200, -3, -3}, // counts can fall; what falls is not scaled
		{1200, 1, 2},
		{1200, 5, 6},
		{1200, 6, 8},
		{1001, 1000, 1001},
		{999, 1000, 999},
		{250, 1, 1},
		{250, 5, 2},
		{4000, 5, 20},
	} {
		if got := tt.f.Of(tt.n); got != tt.want {
			t.Errorf("%d thousandths of %d: got %d, want %d", tt.f, tt.n, got, tt.want)
		}
	}
	for _, f := range []Factor{250, 999, 1001, 4000} {
		before := int64(0)
		for _, n := range []int64{1, 1e6, 1e15, math.MaxInt64 / 4000, math.MaxInt64 / 1000, math.MaxInt64} {
			got := f.Of(n)
			if got < before {
				t.Errorf("%d thousandths of %d is %d, less than of fewer", f, n, got)
			}
			before = got
		}
	}
}

// Models that have their own encoding are never scaled, whatever is reported.
func TestExactModelsLearnNothing(t *testing.T) {
	var f Factors
	c := New(Options{Factors: &f})
	m := c.Model("gpt-4o")
	c.Learn(m, Pair{1000, 2000}, Pair{1000, 2000})
	if m = c.Model("gpt-4o"); m.Estimated || m.Input != one || m.Output != one || len(f.List()) != 0 {
		t.Errorf("got %+v and %v", m, f.List())
	}
	if n := testing.AllocsPerRun(100, func() { _ = m.Input.Of(100) + m.Output.Of(100) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPriors(t *testing.T) {
	for name, want := range map[string]Factor{
		"claude-sonnet-4-5": 1200, "anthropic/Claude-3": 1200, "us.anthropic.claude-opus-4-v1:0": 1200,
		"gemini-2.5-pro": one, "": one, "llama": one,
	} {
		for _, c := range []*Counter{New(Options{}), New(Options{Factors: new(Factors)})} {
			if m := c.Model(name); m.Input != want || m.Output != want || !m.Estimated {
				t.Errorf("%q: got %+v, want %d", name, m, want)
			}
		}
	}
	New(Options{}).Learn(Model{Name: "x", Estimated: true}, Pair{1, 1}, Pair{1, 1}) // nobody learns; nothing happens
}

// near says that a factor is within parts of what it should be.
func near(f Factor, want, parts float64) bool {
	return math.Abs(float64(f)/float64(one)-want) <= want*parts
}

func TestFactorConverges(t *testing.T) {
	for _, ratio := range []float64{0.3, 0.8, 1, 1.35, 2.5, 3.9} {
		var f Factors
		r := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			n := 20 + r.Int64N(4000)
			scaled := int64(math.Round(float64(n) * ratio * (0.9 + 0.2*r.Float64())))
			f.learn("m", Pair{n, scaled}, Pair{n / 2, int64(math.Round(float64(n/2) / ratio))})
		}
		input, output := f.of("M")
		if !near(input, ratio, 0.03) {
			t.Errorf("ratio %v: learned %d thousandths", ratio, input)
		}
		if !near(output, max(minRatio, 1/ratio), 0.03) {
			t.Errorf("ratio %v: learned %d thousandths for the output", 1/ratio, output)
		}
	}
}

func TestFactorFollowsDrift(t *testing.T) {
	var f Factors
	teach := func(n int, ratio float64) {
		for range n {
			f.learn("m", Pair{1000, int64(1000 * ratio)}, Pair{})
		}
	}
	teach(10_000, 1.1) // for however long
	teach(250, 1.5)
	if input, _ := f.of("m"); !near(input, 1.5, 0.02) {
		t.Errorf("after the drift: %d thousandths", input)
	}
	if l := f.List(); l[0].Output != (Estimate{1, priorWeight}) {
		t.Errorf("the output was not taught, but became %v", l[0].Output)
	}
}

// A few absurd reports among many sound ones, and many from tiny answers, change little.
func TestFactorOutliers(t *testing.T) {
	var f Factors
	for range 100 {
		f.learn("m", Pair{1000, 1200}, Pair{})
	}
	f.learn("m", Pair{1, math.MaxInt64}, Pair{})
	f.learn("m", Pair{math.MaxInt64, 1}, Pair{})
	f.learn("m", Pair{1000, 1_000_000}, Pair{})
	if input, _ := f.of("m"); !near(input, 1.2, 0.05) {
		t.Errorf("after outliers: %d thousandths", input)
	}
	for range 100 {
		f.learn("m", Pair{1, 50}, Pair{})
	}
	if input, _ := f.of("m"); !near(input, 1.2, 0.05) {
		t.Errorf("after tiny answers: %d thousandths", input)
	}
}

// The very first exchange may be the odd one.
func TestFactorFirstOutlier(t *testing.T) {
	var f Factors
	f.learn("m", Pair{1000, 1_000_000}, Pair{1000, 1})
	input, output := f.of("m")
	if input > 1340 || output < 830 {
		t.Errorf("one exchange made it %d and %d thousandths", input, output)
	}
}

// Whatever is reported, factors stay within their bounds, and so does the number
// of models; the one that was not taught for the longest makes room.
func TestFactorsBounded(t *testing.T) {
	var f Factors
	r := rand.New(rand.NewPCG(3, 4))
	odd := []int64{math.MinInt64, -1, 0, 1, 2, 1000, 1 << 40, math.MaxInt64}
	pair := func() Pair { return Pair{odd[r.IntN(len(odd))], odd[r.IntN(len(odd))]} }
	for i := range maxModels + maxModels/4 {
		f.learn(fmt.Sprint("model-", i), Pair{1, 1}, pair())
		f.learn(fmt.Sprint("model-", i), pair(), pair())
		f.learn("busy", Pair{1, 1}, Pair{})
		f.learn("busy", pair(), pair())
	}
	f.learn(strings.Repeat("x", maxName+1), Pair{1, 1}, Pair{})
	f.learn("", Pair{1, 1}, Pair{})
	f.learn("a\xff", Pair{1, 1}, Pair{}) // becomes the replacement character
	all := f.List()
	if len(all) != maxModels {
		t.Errorf("%d models, want %d", len(all), maxModels)
	}
	if !slices.ContainsFunc(all, func(l Learned) bool { return l.Name == "busy" }) {
		t.Error("the busiest model made room")
	}
	for _, l := range all {
		if l.Name == "" || len(l.Name) > maxName || !l.Input.valid() || !l.Output.valid() {
			t.Errorf("out of bounds: %+v", l)
		}
	}
}

func TestFactorsRoundTrip(t *testing.T) {
	var f Factors
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		f.learn(fmt.Sprintf("Model-<%d>", r.IntN(1100)), Pair{r.Int64N(3000), r.Int64N(3000)}, Pair{r.Int64N(3000), r.Int64N(3000)})
	}
	saved := f.Save()
	var g Factors
	if err := g.Load(saved); err != nil {
		t.Fatal(err)
	}
	if again := g.Save(); !bytes.Equal(saved, again) {
		t.Error("what was loaded is saved differently")
	}
	// Both go on alike, making room included.
	for i := range 500 {
		name := fmt.Sprint("other-", i)
		f.learn(name, Pair{500, 700}, Pair{})
		g.learn(name, Pair{500, 700}, Pair{})
	}
	if !bytes.Equal(f.Save(), g.Save()) {
		t.Error("what was loaded learns differently")
	}

	var longest Factors
	for i := range maxModels {
		longest.learn(strings.Repeat("\x01", maxName-4)+fmt.Sprintf("%04d", i), Pair{999, 777}, Pair{999, 777})
	}
	if n := len(longest.Save()); n > MaxFile || len(longest.List()) != maxModels {
		t.Errorf("%d bytes for %d models, at most %d are read again", n, len(longest.List()), MaxFile)
	}
}

func TestFactorsLoadRefuses(t *testing.T) {
	const good = `{"name":"a","input":{"ratio":1,"tokens":2000},"output":{"ratio":1,"tokens":2000}}`
	whole := func(models string) string { return `{"version":1,"models":[` + models + `]}` }
	var f Factors
	if err := f.Load([]byte(whole(good))); err != nil {
		t.Fatal(err)
	}
	before := f.Save()
	for name, bad := range map[string]string{
		"nothing":       "",
		"no JSON":       "\x00\x00",
		"half":          string(before[:len(before)/2]),
		"version":       `{"version":2,"models":[]}`,
		"no version":    `{"models":[]}`,
		"more behind":   whole(good) + "1",
		"unknown key":   `{"version":1,"models":[],"x":1}`,
		"twice":         whole(good + "," + good),
		"no name":       whole(strings.Replace(good, `"a"`, `""`, 1)),
		"upper case":    whole(strings.Replace(good, `"a"`, `"A"`, 1)),
		"long name":     whole(strings.Replace(good, `"a"`, `"`+strings.Repeat("a", maxName+1)+`"`, 1)),
		"ratio":         whole(strings.Replace(good, `"ratio":1`, `"ratio":4.1`, 1)),
		"no ratio":      whole(strings.Replace(good, `"ratio":1,`, ``, 1)),
		"weight":        whole(strings.Replace(good, `2000`, `1e6`, 1)),
		"little weight": whole(strings.Replace(good, `2000`, `0`, 1)),
		"too long":      whole(good) + strings.Repeat(" ", MaxFile),
		"too many": whole(func() string {
			var all []string
			for i := range maxModels + 1 {
				all = append(all, strings.Replace(good, `"a"`, fmt.Sprintf(`"%d"`, i), 1))
			}
			return strings.Join(all, ",")
		}()),
	} {
		if err := f.Load([]byte(bad)); !errors.Is(err, ErrFile) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if !bytes.Equal(f.Save(), before) {
		t.Error("a file that was refused has changed something")
	}
}

// Whatever loads is within bounds and saves to what loads the same.
func FuzzFactorsLoad(f *testing.F) {
	var some Factors
	some.learn("claude-x", Pair{1000, 1300}, Pair{10, 12})
	some.learn("b", Pair{7, 9}, Pair{})
	f.Add(some.Save())
	f.Add([]byte(`{"version":1,"models":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b Factors
		if a.Load(data) != nil {
			return
		}
		for _, l := range a.List() {
			if !l.Input.valid() || !l.Output.valid() || len(l.Name) > maxName {
				t.Fatalf("loaded %+v", l)
			}
			if input, _ := a.of(l.Name); input != l.Input.factor() {
				t.Fatalf("%q is not found", l.Name)
			}
		}
		saved := a.Save()
		if err := b.Load(saved); err != nil {
			t.Fatalf("%v: %s", err, saved)
		}
		if !bytes.Equal(saved, b.Save()) {
			t.Fatal("saved differently")
		}
	})
}

func TestFactorsConcurrently(t *testing.T) {
	var f Factors
	c := New(Options{Factors: &f})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 300 {
				m := Model{Name: fmt.Sprint("m", (g+i)%1500), Estimated: true}
				c.Learn(m, Pair{100, 150}, Pair{100, 50})
				if m := c.Model(m.Name); m.Input <= one || m.Output >= one {
					t.Errorf("%+v", m)
				}
				if i%50 == 0 {
					var other Factors
					if err := other.Load(f.Save()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if n := f.Lessons(); n != 1200 {
		t.Errorf("%d lessons", n)
	}
}
