package extproc

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// A flood of long prompts: streams under way go on nearly as if there were none, some of the
// prompts are turned away instead of waiting without bound, and nothing is lost. The control
// is a server that counts all prompts at once and turns none away.
//
// How long a message takes is told in prompts: how many were counted until it came back. So
// it does not matter how busy the machine is otherwise.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // a flood for any number would need as many clients
	guarded, open := newFlood(t, 50*time.Millisecond), newFlood(t, time.Hour)
	open.server.overload.counting = newCounting(1000)
	open.server.overload.strain.asked.Store(math.MaxInt64 / 2) // it is not asked
	for range 2 {
		guarded.run(t)
		open.run(t)
	}
	g, o := quantile(guarded.passed, 99), quantile(open.passed, 99)
	t.Logf("99%% of %d messages of streams wait for no more than %d prompts, in the control, of %d, for %d", len(guarded.passed), g, len(open.passed), o)
	t.Logf("90%% of the messages take up to %v without a flood, %v with it, %v with it in the control",
		quantile(guarded.quiet, 90), quantile(guarded.messages, 90), quantile(open.messages, 90))
	t.Logf("prompts: %d admitted and %d turned away, answered within %v; in the control %d and %d, within %v",
		guarded.admitted, guarded.refused, guarded.longest, open.admitted, open.refused, open.longest)
	if g > o/2 {
		t.Errorf("with a guard messages wait for %d prompts, without for %d", g, o)
	}
	if guarded.admitted == 0 || guarded.refused == 0 || open.refused > 0 {
		t.Errorf("%d prompts were admitted, %d turned away, in the control %d", guarded.admitted, guarded.refused, open.refused)
	}
	guarded.finish(t)
	open.finish(t)
}

// flood is a server with a few streams, to which others send long prompts.
type flood struct {
	*rig
	prompt          string
	delay           time.Duration // MaxDelay
	mu              sync.Mutex
	flooded         bool
	quiet, messages []time.Duration // how long messages of streams took, without and with the flood
	passed          []int           // how many prompts were admitted while a message was under way
	ended           int             // streams
	admitted        int
	refused         int
	longest         time.Duration // until a prompt was answered
}

func newFlood(t *testing.T, delay time.Duration) *flood {
	t.Helper()
	return &flood{prompt: words(256 << 10), delay: delay, rig: newRig(t, func(o *Options) {
		ledger, err := budget.New(t.Context(), budget.Options{Limits: []budget.Limit{{Name: "all", Amount: 1e15, Period: budget.Total}}})
		if err != nil {
			t.Fatal(err)
		}
		o.Ledger, o.Overload.MaxDelay = ledger, delay
	})}
}

// run has streams talk for a while, and then while others send prompts.
func (f *flood) run(t *testing.T) {
	const (
		streams = 8
		clients = 32
		lasts   = 700 * time.Millisecond
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.calm(t)
	var talking, flooding sync.WaitGroup
	for i := range streams {
		p := f.dial()
		p.begin(fmt.Sprint("user", i))
		talking.Go(func() { f.talk(ctx, t, p) })
	}
	time.Sleep(lasts / 4)
	f.setFlooded(true)
	defer f.setFlooded(false)
	// It lasts until a prompt was admitted at least, which on a busy machine may be after its time.
	over, giveUp := time.Now().Add(lasts), time.Now().Add(time.Minute)
	before := f.count()
	for range clients {
		flooding.Go(func() {
			for time.Now().Before(over) || f.count() == before && time.Now().Before(giveUp) {
				begin := time.Now()
				admitted := f.ask(t)
				f.mu.Lock()
				f.longest = max(f.longest, time.Since(begin))
				if admitted {
					f.admitted++
				} else {
					f.refused++
				}
				f.mu.Unlock()
			}
		})
	}
	flooding.Wait()
	cancel()
	talking.Wait()
}

// calm waits until the server does not turn streams away any more for what a flood has left.
func (f *flood) calm(t *testing.T) {
	t.Helper()
	s := &f.server.overload.strain
	for giveUp := time.Now().Add(time.Minute); s.late(); time.Sleep(strainEvery) {
		if s.look(time.Now(), f.delay/4); time.Now().After(giveUp) {
			t.Fatalf("goroutines wait for %v in a server in which nothing happens", s.delay())
		}
	}
}

// talk sends events and waits for each, until ctx ends; then it ends the stream.
func (f *flood) talk(ctx context.Context, t *testing.T, p *peer) {
	defer p.hangUp()
	for ctx.Err() == nil {
		begin, before := time.Now(), f.count()
		p.send(responseBody(event(" a"), false))
		if got := bodyOf(p.next()); string(got.GetBody()) != event(" a") {
			t.Errorf("an event came back as %v", got)
		}
		passed := f.count() - before
		f.mu.Lock()
		if f.flooded {
			f.messages, f.passed = append(f.messages, time.Since(begin)), append(f.passed, passed)
		} else {
			f.quiet = append(f.quiet, time.Since(begin))
		}
		f.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
	p.send(responseBody("", true))
	p.next()
	if err := p.end(); err != nil {
		t.Error(err)
	}
	f.mu.Lock()
	f.ended++
	f.mu.Unlock()
}

func (f *flood) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.admitted
}

func (f *flood) setFlooded(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flooded = on
}

// ask sends a prompt, and hangs up when there is an answer. It reports whether the prompt
// was admitted.
func (f *flood) ask(t *testing.T) bool {
	p := f.dial()
	defer p.hangUp()
	m := p.ask("flood")
	if m.GetImmediateResponse() == nil {
		p.send(requestBody(f.prompt))
		m = p.next()
	}
	return !refused(t, m)
}

// finish ends the server, and checks that it has charged what the log says, and that no
// stream was lost.
func (f *flood) finish(t *testing.T) {
	t.Helper()
	f.stop()
	<-f.rig.ended
	charged, completed := int64(0), len(f.log.lines("outcome", "completed"))
	for _, outcome := range []string{"completed", "aborted"} {
		for _, l := range f.log.lines("outcome", outcome) {
			charged += int64(l["input_tokens"].(float64) + l["output_tokens"].(float64))
		}
	}
	if b := f.balances()[0]; b.Held != 0 || b.Spent != charged || completed != f.ended || f.ended == 0 {
		t.Errorf("spent %d, held %d; charged by the log %d; %d streams ended, %d by the log", b.Spent, b.Held, charged, f.ended, completed)
	}
	if o := f.server.overload; o.open.Load() != 0 || o.buffered.Load() != 0 || len(o.counting.turns) != 0 {
		t.Errorf("the end leaves %d exchanges, %d bytes, %d that are counted", o.open.Load(), o.buffered.Load(), len(o.counting.turns))
	}
	if err := f.conn.Close(); err != nil {
		t.Error(err)
	}
	if err := f.ledger.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// words is a chat request of about n bytes with words that differ.
func words(n int) string {
	rng := rand.New(rand.NewPCG(1, 2))
	var s strings.Builder
	for s.Len() < n {
		for range 2 + rng.IntN(9) {
			s.WriteByte(byte('a' + rng.IntN(26)))
		}
		s.WriteByte(' ')
	}
	return chatBody(s.String(), true)
}

func quantile[T cmp.Ordered](d []T, percent int) (zero T) {
	if len(d) == 0 {
		return zero
	}
	slices.Sort(d)
	return d[len(d)*percent/100]
}
