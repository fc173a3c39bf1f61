package count

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Factor is what a stand-in's count is multiplied by to get a model's own tokens, in
// thousandths: whole numbers, so that the same count costs the same everywhere. The
// zero value is one.
type Factor int32

const one Factor = 1000

// Of returns n tokens of the stand-in as tokens of the model, rounded up.
func (f Factor) Of(n int64) int64 {
	if f == one || f == 0 || n <= 0 {
		return n
	}
	const most = math.MaxInt64 / int64(maxRatio*float64(one)) / 2
	return (min(n, most)*int64(f) + int64(one) - 1) / int64(one)
}

// Bounds of what is learned.
const (
	maxModels = 1024 // models; the one whose last lesson is the oldest makes room
	maxName   = 256  // bytes of a model's name

	// What a real tokenizer can differ by from the stand-in. What lies beyond has
	// another reason: a prompt that the provider adds, an answer that it hides.
	minRatio, maxRatio = 0.25, 4.0

	maxStep = 2.0 // one exchange counts as at most twice, at least half of what is known

	// Weights are tokens that were counted. A lesson weighs what it counted, up to
	// maxWeight; a prior weighs little; all that is known never weighs more than
	// memory, so that it takes about memory/maxWeight long answers to forget.
	maxWeight   = 1000
	priorWeight = 2000
	memory      = 50_000
)

// priors are where learning starts, by a part of the model's name, for input and
// output. All other models start at one.
//
// Claude: Anthropic publishes no tokenizer. In the comparison "Hidden costs in AI
// deployment" (VentureBeat, May 2025) Claude 3.5 Sonnet had 16 % (English), 21 %
// (mathematics) and 30 % (Python) more tokens than GPT-4o, whose encoding is the
// stand-in.
var priors = []struct {
	part  string
	ratio float64
}{
	{"claude", 1.2},
}

func prior(name string) float64 {
	for _, p := range priors {
		if strings.Contains(name, p.part) {
			return p.ratio
		}
	}
	return 1
}

// Pair is what was counted of a text with the stand-in, and what the provider
// reported for it, in tokens. If one of them is not positive there is nothing to learn.
type Pair struct{ Counted, Reported int64 }

// Estimate is a ratio of reported to counted tokens.
type Estimate struct {
	Ratio  float64 `json:"ratio"`  // within [0.25, 4]
	Tokens int64   `json:"tokens"` // weight: tokens counted lately, a prior's included; at most 50,000
}

// learn moves the ratio towards that of one exchange.
func (e *Estimate) learn(p Pair) {
	if p.Counted <= 0 || p.Reported <= 0 {
		return
	}
	clamp := func(v, low, high float64) float64 { return min(max(v, low), high) }
	ratio := clamp(float64(p.Reported)/float64(p.Counted), minRatio, maxRatio)
	ratio = clamp(ratio, e.Ratio/maxStep, e.Ratio*maxStep)
	weight := min(p.Counted, maxWeight)
	e.Tokens = min(e.Tokens+weight, memory)
	e.Ratio = clamp(e.Ratio+(ratio-e.Ratio)*float64(weight)/float64(e.Tokens), minRatio, maxRatio)
}

func (e Estimate) factor() Factor { return Factor(math.Round(e.Ratio * float64(one))) }

// Learned is what is known of one model.
type Learned struct {
	Name   string   `json:"name"` // in lower case
	Input  Estimate `json:"input"`
	Output Estimate `json:"output"`
}

// Factors learns, for models that are counted with a stand-in, how many of their own
// tokens one token of the stand-in is. Recent exchanges count more, long ones more
// than short ones, and a single one never much.
//
// Clients choose the names of models. So a name is kept only once an upstream has
// answered for it and reported its usage, and names have bounds in length and number.
//
// It is safe for concurrent use and does no I/O; see [Factors.Save] and
// [Factors.Load]. The zero value knows only the priors; so does nil, which learns nothing.
type Factors struct {
	mu      sync.RWMutex
	models  map[string]*known
	lessons uint64
}

type known struct {
	Learned
	last uint64 // lessons, when the model had its last
}

// of returns the factors of a model for input and output.
func (f *Factors) of(name string) (input, output Factor) {
	name = strings.ToLower(name)
	if f != nil {
		f.mu.RLock()
		defer f.mu.RUnlock()
		if k, ok := f.models[name]; ok {
			return k.Input.factor(), k.Output.factor()
		}
	}
	p := Estimate{Ratio: prior(name)}.factor()
	return p, p
}

// learn takes in one exchange with a model.
func (f *Factors) learn(name string, input, output Pair) {
	name = strings.ToLower(name)
	teaches := func(p Pair) bool { return p.Counted > 0 && p.Reported > 0 }
	if f == nil || name == "" || len(name) > maxName || !utf8.ValidString(name) || !teaches(input) && !teaches(output) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.models[name]
	if !ok {
		f.makeRoom()
		start := Estimate{Ratio: prior(name), Tokens: priorWeight}
		k = &known{Learned: Learned{Name: strings.Clone(name), Input: start, Output: start}}
		f.models[k.Name] = k
	}
	f.lessons++
	k.last = f.lessons
	k.Input.learn(input)
	k.Output.learn(output)
}

// makeRoom makes sure that one more model has a place. Looking through all of them
// is done only where there are too many, which a sane installation never has.
func (f *Factors) makeRoom() {
	if f.models == nil {
		f.models = make(map[string]*known)
	}
	if len(f.models) < maxModels {
		return
	}
	var oldest *known
	for _, k := range f.models {
		if oldest == nil || k.last < oldest.last {
			oldest = k
		}
	}
	delete(f.models, oldest.Name)
}

// Lessons counts the exchanges that something was learned from. It tells whether
// there is something to save.
func (f *Factors) Lessons() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.lessons
}

// List returns all that was learned, sorted by name.
func (f *Factors) List() []Learned {
	all := f.byAge()
	slices.SortFunc(all, func(a, b Learned) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// byAge returns all that was learned, the model with the oldest last lesson first.
func (f *Factors) byAge() []Learned {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := make([]known, 0, len(f.models))
	for _, k := range f.models {
		all = append(all, *k)
	}
	slices.SortFunc(all, func(a, b known) int { return cmp.Compare(a.last, b.last) })
	out := make([]Learned, len(all))
	for i, k := range all {
		out[i] = k.Learned
	}
	return out
}
