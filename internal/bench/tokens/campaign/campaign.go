// Package campaign compares internal/tokens with its reference, Python tiktoken, on as many texts as time
// allows: the vectors, every code point, generated texts, and streams that are split everywhere.
//
//	results, err := campaign.Run(ctx, ref, campaign.Engines(), options)
//	for _, r := range results { fmt.Println(r) }
//
// All texts follow from the seed. Work is cut into batches, each with a random generator of its own, which as
// many workers as there are processors take from a counter; so the texts do not depend on who is faster. A
// worker has a Python process, and sends it megabytes at a time. A text on which the two differ is made as
// short as possible before it is told.
//
// Every text is encoded in both encodings; what must agree are the ids of AppendTokens and the number from
// Count. For the streams, the running totals of a Counter must agree with what AppendTokens says of the text
// so far.
package campaign

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// An Engine is what is tested, one encoding of it.
type Engine interface {
	Name() string
	Count(text []byte) int
	AppendTokens(dst []uint32, text []byte) []uint32
	// NewStream starts a text that arrives in parts. The function it returns takes the next part and returns the
	// tokens of all so far. It may be called again only once the text before is done with.
	NewStream() func(part []byte) int
}

// Engines are those of internal/tokens: a function, because each worker needs its own.
func Engines() []Engine {
	var all []Engine
	for _, name := range python.Encodings {
		enc, err := tokens.Get(name)
		if err != nil {
			panic(err) // the binary is damaged
		}
		all = append(all, &engine{Encoding: enc})
	}
	return all
}

type engine struct {
	*tokens.Encoding
	counter tokens.Counter
}

func (e *engine) NewStream() func([]byte) int {
	e.counter.Reset(e.Encoding)
	return e.counter.Add
}

// Options say how much is done. No field has a default.
type Options struct {
	Seed       uint64
	Vectors    [][]byte // texts that are known to be hard
	CodePoints int      // every how many code points one is tried; 1 for all
	Fuzz       int      // generated texts
	SplitTexts int      // texts that are split at every byte
	SplitBytes int      // bytes of longer texts that are split at random
	Real       [][]byte // real texts, from which others are made by mutation; at least one

	Log func(format string, args ...any) // a line of progress; it must be safe for concurrent use
}

// A Result tells of one stage.
type Result struct {
	Stage       string
	Checked     int64 // texts, or splits, each in both encodings
	What        string
	Differences int64
	Examples    []string // of the differences, minimal
	Took        time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%-12s %10d %s, %d differences, %.1f s", r.Stage, r.Checked, r.What, r.Differences, r.Took.Seconds())
}

// maxExamples bounds how many differences of a stage are made minimal.
const maxExamples = 5

// stage is a part of the campaign: a number of batches.
type stage struct {
	name, what string
	batches    int
	texts      func(batch int, r *rand.Rand) [][]byte

	// streams is what is done besides, if anything. It returns how many splits it tried, which are what is counted
	// then.
	streams func(w *worker, e Engine, text []byte, r *rand.Rand) int
}

// Run runs the campaign. Differences are no error; they are in the results.
func Run(ctx context.Context, ref *python.Reference, engines func() []Engine, o Options) ([]Result, error) {
	if len(o.Real) == 0 {
		return nil, errors.New("campaign: no real texts to make others from")
	}
	o.Log("seed %d", o.Seed)
	var workers []*worker
	defer func() {
		for _, w := range workers {
			_ = w.oracle.Close() // an error that matters was returned by Encode
		}
	}()
	for range runtime.GOMAXPROCS(0) {
		oracle, err := ref.Start(ctx)
		if err != nil {
			return nil, err
		}
		workers = append(workers, &worker{oracle: oracle, engines: engines()})
	}
	var results []Result
	for i, s := range stages(o) {
		r, err := run(ctx, s, workers, o, uint64(i))
		if err != nil {
			return results, fmt.Errorf("campaign: %s: %w", s.name, err)
		}
		o.Log("%v", r)
		for _, example := range r.Examples {
			o.Log("  %s", example)
		}
		results = append(results, r)
	}
	return results, nil
}

// run runs a stage on all workers.
func run(ctx context.Context, s stage, workers []*worker, o Options, number uint64) (Result, error) {
	begin := time.Now()
	t := &tally{}
	var next atomic.Int64
	stop := progress(s, t, o.Log)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range workers {
		group.Go(func() error {
			w.tally = t
			for ctx.Err() == nil {
				batch := int(next.Add(1)) - 1
				if batch >= s.batches {
					return nil
				}
				if err := w.batch(s, batch, newRand(o.Seed, number, batch)); err != nil {
					return err
				}
				t.batches.Add(1)
			}
			return ctx.Err()
		})
	}
	err := group.Wait()
	return Result{
		Stage: s.name, Checked: t.checked.Load(), What: s.what, Differences: t.differences.Load(),
		Examples: t.examples, Took: time.Since(begin),
	}, err
}

// progress says every few seconds how far a stage is. The function it returns ends that.
func progress(s stage, t *tally, log func(string, ...any)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				log("%s: %d %% of the batches, %d %s, %d differences", s.name, 100*t.batches.Load()/int64(s.batches), t.checked.Load(), s.what, t.differences.Load())
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// tally is what the workers of a stage have found.
type tally struct {
	batches, checked, differences atomic.Int64

	mu       sync.Mutex
	examples []string
}

// differ notes a difference. It asks for an example while there are few.
func (t *tally) differ(example func() string) {
	if t.differences.Add(1) > maxExamples {
		return
	}
	s := example()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.examples, s) {
		t.examples = append(t.examples, s)
	}
}

// newRand is the generator of a batch of a stage.
func newRand(seed, stage uint64, batch int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stage<<32|uint64(batch)))
}
