package exchange

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// goesOn begins n responses on a ledger, each of which holds 30 tokens, and keeps those for which
// there is room.
func goesOn(t *testing.T, l *budget.Ledger, b *Background, n int, until time.Time) (kept int) {
	t.Helper()
	for i := range n {
		r, d, err := l.Reserve(t.Context(), budget.Request{Input: 10, Output: 20})
		if err != nil || r == nil {
			t.Fatalf("%+v, %v", d, err)
		}
		c := &continued{key: storedKey{1, strconv.Itoa(i)}, reservation: r, until: until, model: count.New(count.Options{}).Model("gpt-4o")}
		if ended, ok := b.keep(c, time.Now()); ok {
			kept++
			if ended != nil {
				t.Error("one has made room for another that holds no more")
			}
		} else {
			r.SettleHold()
		}
	}
	return kept
}

func newBackgroundLedger(t *testing.T) *budget.Ledger {
	t.Helper()
	l, err := budget.New(t.Context(), budget.Options{Limits: []budget.Limit{{Name: "all", Amount: 1e9, Period: budget.Total}}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func balanceOf(t *testing.T, l *budget.Ledger) (spent, held int64) {
	t.Helper()
	all, err := l.Balances(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0].Spent, all[0].Held
}

// TestBackgroundBounded: what finds no room is not kept, nor what comes before the table is
// open or after it is closed, nor a second of one name.
func TestBackgroundBounded(t *testing.T) {
	l, b, later := newBackgroundLedger(t), NewBackground(), time.Now().Add(time.Hour)
	if n := goesOn(t, l, b, 1, later); n != 0 {
		t.Errorf("%d are kept by one that is shut", n)
	}
	b.Open()
	if n := goesOn(t, l, b, maxBackground+10, later); n != maxBackground {
		t.Errorf("%d are kept, want %d", n, maxBackground)
	}
	for _, e := range b.Expired(later) {
		e.Apply()
	}
	if n := goesOn(t, l, b, 1, later) + goesOn(t, l, b, 1, later); n != 1 {
		t.Errorf("%d are kept under one name", n)
	}
	for _, e := range b.Close(later) {
		e.Apply()
	}
	if n := goesOn(t, l, b, 1, later); n != 0 {
		t.Errorf("%d are kept by one that is closed", n)
	}
	if spent, held := balanceOf(t, l); spent != 30*(maxBackground+14) || held != 0 {
		t.Errorf("%d are spent and %d held, want %d and 0", spent, held, 30*(maxBackground+14))
	}
}

// TestBackgroundCrowded: of too many the one that holds the least is charged that, and makes room for one
// that holds more. A flood of short responses is nobody else's loss.
func TestBackgroundCrowded(t *testing.T) {
	l, b, now := newBackgroundLedger(t), NewBackground(), time.Now()
	b.Open()
	goesOn(t, l, b, maxBackground, now.Add(time.Hour))
	keep := func(id string, output int64) (*Ending, bool) {
		r, _, err := l.Reserve(t.Context(), budget.Request{Input: 10, Output: output})
		if err != nil || r == nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.SettleHold() })
		return b.keep(&continued{key: storedKey{1, id}, reservation: r, until: now.Add(time.Hour)}, now)
	}
	for i, tt := range []struct {
		output     int64
		kept, ends bool
	}{{19, false, false}, {20, false, false}, {21, true, true}, {16384, true, true}} {
		id := "long" + strconv.Itoa(i)
		e, kept := keep(id, tt.output)
		if kept != tt.kept || (e != nil) != tt.ends {
			t.Fatalf("one that holds %d of output: %v, %v, want %v, %v", tt.output, e, kept, tt.kept, tt.ends)
		}
		if kept && b.find(id) == nil || len(b.kept) != maxBackground {
			t.Errorf("%d go on, and %s among them: %v", len(b.kept), id, b.find(id) != nil)
		}
		if e == nil {
			continue
		}
		if e.By != EndedCrowded || !e.Hold || e.Record.Output != 20 || !e.Apply() {
			t.Errorf("what made room ends as %+v", e)
		}
	}
	if spent, _ := balanceOf(t, l); spent != 60 {
		t.Errorf("%d are spent, want 60", spent)
	}
	for _, e := range b.Close(now) {
		e.Apply()
	}
}

// TestBackgroundOnce: however many notice the end of a response, one settles it.
func TestBackgroundOnce(t *testing.T) {
	const responses = 200
	l, b, now := newBackgroundLedger(t), NewBackground(), time.Now()
	b.Open()
	goesOn(t, l, b, responses, now.Add(time.Hour))
	answer := dialect.ReadStored([]byte(`{"id":"r","object":"response","status":"completed","usage":{"input_tokens":1,"output_tokens":2}}`))
	var ends, seen, twice atomic.Int64
	end := func(all ...*Ending) {
		for _, e := range all {
			ends.Add(1)
			if e.By == EndedSeen {
				seen.Add(1)
			}
			if !e.Apply() {
				twice.Add(1)
			}
		}
	}
	var done sync.WaitGroup
	for w := range 4 {
		done.Go(func() {
			for i := range responses {
				if c := b.find(strconv.Itoa(i)); c != nil {
					if e, _ := b.end(c, c.key, answer, now); e != nil {
						end(e)
					}
				}
				if w == 1 && i == responses/2 {
					end(b.Expired(now.Add(2 * time.Hour))...)
				}
				if w == 0 && i%10 == 0 {
					end(b.Expired(now)...)
				}
			}
		})
	}
	done.Wait()
	end(b.Close(now)...)
	if ends.Load() != responses || twice.Load() != 0 {
		t.Errorf("of %d responses %d have ended, %d twice", responses, ends.Load(), twice.Load())
	}
	spent, held := balanceOf(t, l)
	if want := 3*seen.Load() + 30*(responses-seen.Load()); spent != want || held != 0 {
		t.Errorf("%d are spent and %d held, want %d and 0", spent, held, want)
	}
}

// TestWatchedMemory: of a stream about a response that goes on nothing is kept once it was read.
func TestWatchedMemory(t *testing.T) {
	const streams, event = 16, 1 << 20
	l, p := newBackgroundLedger(t), NewPolicy(Policy{})
	p.Background.Open()
	goesOn(t, l, p.Background, 1, time.Now().Add(time.Hour))
	before := live()
	var all []*Exchange
	for range streams {
		x := New(p)
		x.state, x.watch = statePassing, &watch{key: storedKey{1, "0"}}
		x.can = abilities{requestModes[modeStreamed], answerModes[modeStreamed]}
		x.Step(responseHeaders("200", "text/event-stream", nil, false))
		x.Step(body(`data: {"type":"response.output_text.delta","delta":"` + strings.Repeat("a", event) + "\"}\n\n"))
		x.Sent()
		all = append(all, x)
	}
	if grown := live() - before; grown > streams*event/4 {
		t.Errorf("%d bytes more are alive", grown)
	}
	for _, x := range all {
		if x.watch == nil || x.watch.shown.bytes != event {
			t.Fatal("the stream was not read")
		}
		x.End()
	}
	for _, e := range p.Background.Close(time.Now()) {
		e.Apply()
	}
}
