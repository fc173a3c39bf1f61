package budget

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewErrors(t *testing.T) {
	good := Limit{Name: "a", Amount: 1, Period: Day}
	with := func(change func(*Limit)) []Limit {
		l := good
		change(&l)
		return []Limit{l}
	}
	for _, c := range []struct {
		name    string
		options Options
		want    []string
	}{
		{"no name", Options{Limits: with(func(l *Limit) { l.Name = "" })}, []string{"limit 1", "name"}},
		{"long name", Options{Limits: with(func(l *Limit) { l.Name = strings.Repeat("x", maxName+1) })}, []string{"256 bytes"}},
		{"amount", Options{Limits: with(func(l *Limit) { l.Amount = 0 })}, []string{`"a"`, "above 0"}},
		{"unit", Options{Limits: with(func(l *Limit) { l.Unit = 9 })}, []string{"Unit(9)"}},
		{"period", Options{Limits: with(func(l *Limit) { l.Period = 0 })}, []string{"Period(0)"}},
		{"identity", Options{Limits: with(func(l *Limit) { l.Per = []string{"team", ""} })}, []string{"identity 2"}},
		{"identity twice", Options{Limits: with(func(l *Limit) { l.Per = []string{"team", "team"} })}, []string{`"team"`, "twice"}},
		{"limit twice", Options{Limits: []Limit{good, good}}, []string{"limit 2", "exists"}},
		{"two mistakes", Options{Limits: []Limit{{Name: "x", Period: Day}, {Amount: 1, Period: Day}}}, []string{"limit 1", "limit 2"}},
		{"streams with a period", Options{Limits: with(func(l *Limit) { l.Unit = Streams })}, []string{"has no period"}},
		{"per request with a period", Options{Limits: with(func(l *Limit) { l.PerRequest = true })}, []string{"has no period"}},
		{"per request in requests", Options{Limits: with(func(l *Limit) { l.PerRequest, l.Period, l.Unit = true, 0, Requests })}, []string{"counts tokens"}},
		{"per request and user", Options{Limits: with(func(l *Limit) { l.PerRequest, l.Period, l.Per = true, 0, []string{"user"} })}, []string{"nothing else"}},
		{"subjects", Options{Limits: with(func(l *Limit) { l.MaxSubjects = -1 })}, []string{"MaxSubjects"}},
		{"condition without globs", Options{Limits: with(func(l *Limit) { l.Match = []Condition{{Name: "team"}} })}, []string{"condition 1", "no glob"}},
		{"condition without a name", Options{Limits: with(func(l *Limit) { l.Match = []Condition{{Property: OfHeader, Any: []string{"*"}}} })}, []string{"the name must"}},
		{"condition with a name", Options{Limits: with(func(l *Limit) { l.Match = []Condition{{Property: OfPath, Name: "x", Any: []string{"*"}}} })}, []string{"belongs to"}},
		{"condition of nothing", Options{Limits: with(func(l *Limit) { l.Match = []Condition{{Property: 9, Any: []string{"*"}}} })}, []string{"unknown property 9"}},
		{"override of all", Options{Limits: with(func(l *Limit) { l.Overrides = []Override{{Amount: 1}} })}, []string{"override 1", "each of"}},
		{"override of another", Options{Limits: with(func(l *Limit) {
			l.Per, l.Overrides = []string{"user"}, []Override{{Subject: []Identity{{"team", "x"}}, Amount: 1}}
		})}, []string{"override 1", `"user"`}},
		{"overrides", Options{Limits: with(func(l *Limit) {
			l.Per, l.Overrides = []string{"user"}, []Override{{[]Identity{{"user", "x"}}, 0}, {[]Identity{{"user", "x"}}, 1}}
		})}, []string{"override 1", "above 0", "override 2", "already"}},
		{"options", Options{GrowthStep: -1, SyncInterval: -1, CacheEntries: -1, MaxCounters: -1},
			[]string{"GrowthStep", "SyncInterval", "CacheEntries", "MaxCounters"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(t.Context(), c.options)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not tell %q: %v", w, err)
				}
			}
		})
	}
	other := good
	other.Unit = Requests
	open(t, Options{Limits: []Limit{good, other}}) // one name in two units is good

	s := newMemStore()
	s.fail(true, false)
	if _, err := New(t.Context(), Options{Store: s}); !errors.Is(err, errBroken) {
		t.Errorf("New with a store that cannot be read: %v", err)
	}
}

// TestReserve: what is granted and what is refused, in which unit.
func TestReserve(t *testing.T) {
	for _, c := range []struct {
		name    string
		unit    Unit
		amount  int64
		used    Amount // settled before
		ask     Request
		granted int64 // 0: refused
		held    int64
	}{
		{"all", Tokens, 1000, Amount{}, Request{Input: 100, Output: 200, MinOutput: 1}, 200, 300},
		{"the guard is min(32, 2 %) tokens", Tokens, 1000, Amount{}, Request{Input: 100, Output: 5000, MinOutput: 1}, 880, 980},
		{"the guard is at most 32", Tokens, 1_000_000, Amount{}, Request{Input: 0, Output: 2_000_000, MinOutput: 1}, 999_968, 999_968},
		{"a small limit has no guard", Tokens, 49, Amount{}, Request{Input: 0, Output: 100, MinOutput: 1}, 49, 49},
		{"exactly MinOutput", Tokens, 1000, Amount{}, Request{Input: 900, Output: 500, MinOutput: 80}, 80, 980},
		{"less than MinOutput", Tokens, 1000, Amount{}, Request{Input: 900, Output: 500, MinOutput: 81}, 0, 0},
		{"input alone does not fit", Tokens, 1000, Amount{}, Request{Input: 980, Output: 1, MinOutput: 1}, 0, 0},
		{"after use", Tokens, 1000, Amount{Input: 300, Output: 200}, Request{Input: 100, Output: 5000, MinOutput: 1}, 380, 480},
		{"in debt", Tokens, 1000, Amount{Output: 5000}, Request{Input: 0, Output: 1, MinOutput: 1}, 0, 0},
		{"input only", InputTokens, 1000, Amount{}, Request{Input: 980, Output: 5000, MinOutput: 5000}, 5000, 980},
		{"too much input", InputTokens, 1000, Amount{}, Request{Input: 981, Output: 1, MinOutput: 1}, 0, 0},
		{"no input", InputTokens, 1000, Amount{Input: 5000}, Request{Input: 0, Output: 1, MinOutput: 1}, 1, 0},
		{"output only", OutputTokens, 1000, Amount{Input: 5000}, Request{Input: 5000, Output: 5000, MinOutput: 1}, 980, 980},
		{"output of others", OutputTokens, 1000, Amount{Output: 980}, Request{Input: 0, Output: 1, MinOutput: 1}, 0, 0},
		{"a request", Requests, 2, Amount{}, Request{Input: 5000, Output: 5000, MinOutput: 1}, 5000, 1},
		{"the last request", Requests, 2, Amount{Output: 1}, Request{Input: 1, Output: 7, MinOutput: 1}, 7, 1},
		{"one request too many", Requests, 1, Amount{Output: 1}, Request{Input: 1, Output: 1, MinOutput: 1}, 0, 0},
		{"numbers out of range", Tokens, 1000, Amount{}, Request{Input: -5, Output: -7, MinOutput: -9}, 1, 1},
		{"MinOutput above Output", Tokens, 1000, Amount{}, Request{Output: 5, MinOutput: 9}, 5, 5},
		{"huge input", Tokens, math.MaxInt64, Amount{}, Request{Input: math.MaxInt64, Output: math.MaxInt64, MinOutput: math.MaxInt64}, maxTokens, 2 * maxTokens},
		{"huge input, huge debt", Tokens, 1, Amount{Input: math.MaxInt64, Output: math.MaxInt64}, Request{Input: math.MaxInt64, Output: math.MaxInt64, MinOutput: math.MaxInt64}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Spent by way of a ledger whose limit has room for it, so that debts and
			// requests can be set up alike.
			store := newMemStore()
			limit := Limit{Name: "x", Unit: c.unit, Amount: c.amount, Period: Day}
			if c.used != (Amount{}) {
				wide := limit
				wide.Amount = math.MaxInt64
				before := open(t, Options{Limits: []Limit{wide}, Store: store, Now: newClock().now})
				reserve(t, before, ask(0, 1)).Settle(c.used)
				syncNow(t, before)
			}
			l := open(t, Options{Limits: []Limit{limit}, Store: store, Now: newClock().now})
			spent := int64(0)
			if c.used != (Amount{}) {
				spent = c.used.clamped().In(c.unit)
			}
			r, d, err := l.Reserve(t.Context(), c.ask)
			if err != nil {
				t.Fatal(err)
			}
			want := Decision{
				Allowed: c.granted > 0, Limit: "x", Unit: c.unit, Amount: c.amount,
				Remaining: max(0, c.amount-spent-c.held), Window: 24 * time.Hour,
				ResetAt: time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC),
			}
			if c.granted == 0 {
				q := c.ask
				q.clamp()
				want.Needed = Amount{q.Input, q.MinOutput}.In(c.unit)
			}
			if !reflect.DeepEqual(d, want) {
				t.Errorf("decision\n     %+v\nwant %+v", d, want)
			}
			if c.granted == 0 {
				if r != nil {
					t.Fatal("a reservation in spite of the refusal")
				}
				for _, b := range balances(t, l) {
					if b.Held != 0 || b.Spent != spent {
						t.Errorf("a refusal left %+v", b)
					}
				}
				return
			}
			if got := r.Held(); got.Output != c.granted || got.Input != clampTokens(c.ask.Input) {
				t.Errorf("held %+v, want output %d", got, c.granted)
			}
			b := balances(t, l)
			if len(b) != 1 || b[0].Held != c.held || b[0].Spent != spent {
				t.Errorf("balances %+v, want held %d, spent %d", b, c.held, spent)
			}
		})
	}
}

func TestNoLimits(t *testing.T) {
	l := open(t, Options{})
	r, d, err := l.Reserve(t.Context(), ask(10, 10))
	if err != nil || !reflect.DeepEqual(d, Decision{Allowed: true}) {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, ok := r.Spend(math.MaxInt64); !ok {
		t.Error("Spend was refused")
	}
	if !r.Settle(Amount{}) || len(balances(t, l)) != 0 {
		t.Error("settling without limits")
	}
}

// TestRefusalNamesLongestWait: of the limits that refuse, the one which resets last.
func TestRefusalNamesLongestWait(t *testing.T) {
	limits := map[string]Limit{
		"m": {Name: "m", Amount: 1000, Period: Minute},
		"d": {Name: "d", Amount: 1000, Period: Day, Per: []string{"user"}},
		"D": {Name: "D", Unit: OutputTokens, Amount: 1000, Period: Day},
		"t": {Name: "t", Amount: 1000, Period: Total},
		"w": {Name: "w", Amount: 100_000, Period: Week}, // does not refuse
	}
	for order, want := range map[string]string{
		"m": "m", "md": "d", "dm": "d", "mdt": "t", "tdm": "t", "wmd": "d", "dmw": "d",
		"dD": "d", "Dd": "D", // of equals the first
	} {
		var o Options
		for _, c := range order {
			o.Limits = append(o.Limits, limits[string(c)])
		}
		o.Now = newClock().now
		l := open(t, o)
		reserve(t, l, ask(0, 980, "user", "ann")).SettleHold()
		d := refused(t, l, ask(0, 1, "user", "ann"))
		if d.Limit != want || d.Remaining != 20 {
			t.Errorf("limits %s: refused by %+v, want %s", order, d, want)
		}
		if want == "d" && !reflect.DeepEqual(d.Subject, []Identity{{"user", "ann"}}) {
			t.Errorf("subject %v", d.Subject)
		}
		if want == "t" && (d.Window != 0 || !d.ResetAt.IsZero()) {
			t.Errorf("a limit that never resets: %+v", d)
		}
	}
}

// TestAllOrNone: the least of all limits is granted, and on all of them.
func TestAllOrNone(t *testing.T) {
	l := open(t, Options{Now: newClock().now, Limits: []Limit{
		{Name: "org", Amount: 10_000, Period: Month},
		{Name: "team", Amount: 1000, Period: Day, Per: []string{"team"}},
		{Name: "user", Unit: OutputTokens, Amount: 500, Period: Hour, Per: []string{"team", "user"}},
		{Name: "calls", Unit: Requests, Amount: 3, Period: Minute},
	}})
	heldNow := func() (held []int64) {
		for _, b := range balances(t, l) {
			held = append(held, b.Held)
		}
		return held
	}
	a := reserve(t, l, ask(100, 5000, "team", "x", "user", "ann"))
	if got, want := heldNow(), []int64{590, 590, 490, 1}; !reflect.DeepEqual(got, want) {
		t.Fatalf("held %v, want %v", got, want)
	}
	b := reserve(t, l, ask(100, 5000, "team", "x", "user", "bob"))
	if got := b.Held(); got != (Amount{100, 290}) {
		t.Fatalf("the second user got %+v", got)
	}
	before := balances(t, l)
	if d := refused(t, l, ask(100, 5000, "team", "x", "user", "eve")); d.Limit != "team" {
		t.Fatalf("refused by %+v", d)
	}
	if after := balances(t, l); !reflect.DeepEqual(before, after) {
		t.Fatalf("a refusal changed\n%+v to\n%+v", before, after)
	}
	if d := a.Strictest(); d.Limit != "user" || d.Remaining != 10 || !d.Allowed {
		t.Errorf("strictest of a: %+v", d)
	}
	if d := b.Strictest(); d.Limit != "team" || d.Remaining != 20 {
		t.Errorf("strictest of b: %+v", d)
	}
	a.Settle(Amount{100, 90})
	b.Settle(Amount{100, 10})
	var got []Balance
	for _, b := range balances(t, l) {
		b.WindowStart, b.WindowEnd = time.Time{}, time.Time{}
		got = append(got, b)
	}
	want := []Balance{
		{Limit: "org", Amount: 10_000, Spent: 300},
		{Limit: "team", Amount: 1000, Spent: 300, Subject: []Identity{{"team", "x"}}},
		{Limit: "user", Unit: OutputTokens, Amount: 500, Spent: 90, Subject: []Identity{{"team", "x"}, {"user", "ann"}}},
		{Limit: "user", Unit: OutputTokens, Amount: 500, Spent: 10, Subject: []Identity{{"team", "x"}, {"user", "bob"}}},
		{Limit: "calls", Unit: Requests, Amount: 3, Spent: 2},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("balances\n     %+v\nwant %+v", got, want)
	}
}

func TestStrictest(t *testing.T) {
	calls := Limit{Name: "calls", Unit: Requests, Amount: 2, Period: Day}
	rare := Limit{Name: "rare", Unit: Requests, Amount: 1, Period: Day}
	day := Limit{Name: "day", Amount: 1000, Period: Day}
	hour := Limit{Name: "hour", Amount: 1000, Period: Hour}
	in := Limit{Name: "in", Unit: InputTokens, Amount: 999, Period: Day}
	for _, c := range []struct {
		limits []Limit
		want   string
	}{
		{[]Limit{calls}, "calls"},
		{[]Limit{calls, rare}, "rare"},
		{[]Limit{rare, calls}, "rare"},
		{[]Limit{rare, day}, "day"},
		{[]Limit{day, rare}, "day"},
		{[]Limit{hour, day}, "day"}, // of equals the one that resets last
		{[]Limit{day, hour}, "day"},
		{[]Limit{day, in, hour}, "in"},
	} {
		l := open(t, Options{Now: newClock().now, Limits: c.limits})
		r := reserve(t, l, ask(100, 1))
		if c.want == "in" {
			r.Settle(Amount{Input: 985}) // of tokens 15 are left, of input 14
		}
		if d := r.Strictest(); d.Limit != c.want {
			t.Errorf("strictest of %+v is %+v", c.limits, d)
		}
	}
}

func TestSpend(t *testing.T) {
	l := open(t, Options{Now: newClock().now, GrowthStep: 100, Limits: []Limit{
		{Name: "org", Amount: 100_000, Period: Day},
		{Name: "out", Unit: OutputTokens, Amount: 1000, Period: Hour}, // 980 may be held
		{Name: "in", Unit: InputTokens, Amount: 100, Period: Total},   // full, but grows never
		{Name: "calls", Unit: Requests, Amount: 1, Period: Total},     // the same
	}})
	r := reserve(t, l, ask(98, 50))
	for _, s := range []struct {
		output int64
		ok     bool
		held   int64
	}{
		{-5, true, 50}, {0, true, 50}, {50, true, 50}, // within the hold
		{51, true, 150},                  // grown by a step
		{20, true, 150},                  // the total went down, the hold does not
		{400, true, 400},                 // grown by what is missing
		{850, true, 850},                 //
		{860, true, 950},                 //
		{960, true, 980},                 // grown by what is left
		{980, true, 980},                 //
		{981, false, 980},                // nothing is left
		{5000, false, 980},               //
		{980, true, 980}, {0, true, 980}, // what is held stays good
	} {
		d, ok := r.Spend(s.output)
		if ok != s.ok || d.Allowed != ok || r.Held() != (Amount{98, s.held}) {
			t.Fatalf("Spend(%d) = %+v, %t with %+v held; want %t, %d", s.output, d, ok, r.Held(), s.ok, s.held)
		}
		if !ok && (d.Limit != "out" || d.Remaining != 20 || d.Window != time.Hour) {
			t.Fatalf("Spend(%d) was refused by %+v", s.output, d)
		}
		for _, b := range balances(t, l) {
			if want := (Amount{98, s.held}).In(b.Unit); b.Held != want || b.Spent != 0 {
				t.Fatalf("after Spend(%d): %+v, want %d held", s.output, b, want)
			}
		}
	}
	if !r.SettleHold() {
		t.Fatal("SettleHold returned false")
	}
	if d, ok := r.Spend(1); ok || d.Limit != "" {
		t.Errorf("Spend after settlement: %+v, %t", d, ok)
	}
	if d, ok := r.Spend(-1); ok {
		t.Errorf("Spend(-1) after settlement: %+v", d)
	}
	if r.Held() != (Amount{}) {
		t.Errorf("held after settlement: %+v", r.Held())
	}
}

// TestSettleOnce: on all ways, later settlements change nothing.
func TestSettleOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		settle func(*Reservation) bool
		spent  []int64 // tokens, requests
	}{
		{"less", func(r *Reservation) bool { return r.Settle(Amount{100, 30}) }, []int64{130, 1}},
		{"nothing", func(r *Reservation) bool { return r.Settle(Amount{}) }, []int64{0, 1}},
		{"negative", func(r *Reservation) bool { return r.Settle(Amount{-7, math.MinInt64}) }, []int64{0, 1}},
		{"debt", func(r *Reservation) bool { return r.Settle(Amount{100, 5000}) }, []int64{5100, 1}},
		{"huge", func(r *Reservation) bool { return r.Settle(Amount{math.MaxInt64, math.MaxInt64}) }, []int64{2 * maxTokens, 1}},
		{"hold", (*Reservation).SettleHold, []int64{300, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := open(t, Options{Now: newClock().now, Limits: []Limit{
				{Name: "tokens", Amount: 1000, Period: Day}, {Name: "calls", Unit: Requests, Amount: 10, Period: Day},
			}})
			r := reserve(t, l, ask(100, 200))
			if !c.settle(r) {
				t.Fatal("the first settlement returned false")
			}
			for range 2 {
				if r.Settle(Amount{1, 1}) || r.SettleHold() || c.settle(r) {
					t.Error("a later settlement returned true")
				}
			}
			for i, b := range balances(t, l) {
				if b.Held != 0 || b.Spent != c.spent[i] {
					t.Errorf("%+v, want %d spent", b, c.spent[i])
				}
				if want := max(0, c.spent[i]-b.Amount); b.Debt() != want {
					t.Errorf("debt %d, want %d", b.Debt(), want)
				}
			}
		})
	}
}

// TestSaturation: debts that pass the range of numbers stay at its end.
func TestSaturation(t *testing.T) {
	l := open(t, Options{Now: newClock().now, Limits: []Limit{{Name: "x", Amount: math.MaxInt64, Period: Total}}})
	other := reserve(t, l, ask(500, 500))
	rs := make([]*Reservation, 6)
	for i := range rs {
		rs[i] = reserve(t, l, ask(0, 1))
	}
	for _, r := range rs {
		r.Settle(Amount{math.MaxInt64, math.MaxInt64})
	}
	check := func(held int64) {
		t.Helper()
		b := balances(t, l)[0]
		if b.Spent < math.MaxInt64-2000 || b.Held != held || b.Remaining() < 0 || b.Debt() != 0 {
			t.Errorf("%+v", b)
		}
	}
	check(1000)
	if d := refused(t, l, ask(math.MaxInt64, 1)); d.Remaining != 0 {
		t.Errorf("%+v", d)
	}
	other.Settle(Amount{})
	check(0)
}

// TestWindowOfAdmission: a stream over the end of a window is charged to the window
// that admitted it, its growth included.
func TestWindowOfAdmission(t *testing.T) {
	for _, store := range []Store{nil, newMemStore()} {
		c := newClock()
		l := open(t, Options{Now: c.now, Store: store, GrowthStep: 1, Limits: []Limit{{Name: "x", Amount: 1000, Period: Minute}}})
		r := reserve(t, l, ask(0, 100))
		c.add(time.Minute)
		syncNow(t, l)
		fresh := reserve(t, l, ask(0, 10_000))
		if got := fresh.Held().Output; got != 980 {
			t.Errorf("the new window gave %d", got)
		}
		if _, ok := r.Spend(980); !ok {
			t.Error("growth in the old window was refused")
		}
		if d, ok := r.Spend(981); ok || !d.ResetAt.Equal(noon.Add(time.Minute)) {
			t.Errorf("growth beyond the old window: %+v", d)
		}
		r.Settle(Amount{Output: 2000})
		b := balances(t, l)
		if len(b) != 1 || b[0].Held != 980 || b[0].Spent != 0 || !b[0].WindowStart.Equal(noon.Add(time.Minute)) {
			t.Errorf("balances %+v", b)
		}
		syncNow(t, l)
		if n := inMemory(l); n != 1 {
			t.Errorf("%d rows in memory, want the one that is in use", n)
		}
		c.add(-time.Minute) // back in the old window
		if store == nil {
			fresh.Settle(Amount{})
			continue
		}
		if d := refused(t, l, ask(0, 1)); d.Remaining != 0 || !d.ResetAt.Equal(noon.Add(time.Minute)) {
			t.Errorf("the old window had been overdrawn: %+v", d)
		}
		if b := balances(t, l); len(b) != 2 || b[0].Spent != 2000 || b[1].Held != 980 {
			t.Errorf("after the clock was set back: %+v", b)
		}
		fresh.Settle(Amount{})
	}
}

// TestEviction: what leaves memory after a sync, and what comes back.
func TestEviction(t *testing.T) {
	limits := []Limit{{Name: "u", Amount: 1000, Period: Day, Per: []string{"user"}}}
	for _, entries := range []int64{1, 100} {
		store := newMemStore()
		l := open(t, Options{Now: newClock().now, Store: store, CacheEntries: entries, Limits: limits})
		busy := reserve(t, l, ask(10, 10, "user", "busy"))
		rs := make(map[string]*Reservation)
		for _, user := range []string{"a", "b", "c"} {
			rs[user] = reserve(t, l, ask(10, 10, "user", user))
		}
		refused(t, l, ask(5000, 10, "user", "greedy"))
		store.fail(false, true)
		for _, r := range rs {
			r.Settle(Amount{10, 5})
		}
		if err := l.Sync(t.Context()); !errors.Is(err, errBroken) {
			t.Fatalf("Sync = %v", err)
		}
		if n := inMemory(l); n != 4 {
			t.Fatalf("%d rows after a failed write; only the refused one may go", n)
		}
		store.fail(false, false)
		syncNow(t, l)
		if n := inMemory(l); n != 1 {
			t.Fatalf("%d rows, want the busy one only", n)
		}
		if b := balances(t, l); len(b) != 4 || b[2].Held != 20 || b[0].Spent != 15 {
			t.Fatalf("balances %+v", b)
		}
		for _, user := range []string{"a", "b", "c"} {
			if d := reserve(t, l, ask(10, 10, "user", user)).Strictest(); d.Remaining != 965 {
				t.Errorf("user %s came back with %+v", user, d)
			}
		}
		busy.Settle(Amount{})
		// What did not change is not written again.
		syncNow(t, l)
		puts := store.puts
		syncNow(t, l)
		if store.puts != puts {
			t.Error("an unchanged ledger was written")
		}
	}
}

// TestStaleCache: a balance that was cached before the row was in memory again is
// void, whenever the cache shows it.
func TestStaleCache(t *testing.T) {
	store := newMemStore()
	l := open(t, Options{Now: newClock().now, Store: store, Limits: []Limit{{Name: "x", Amount: 1000, Period: Day}}})
	use := func(n int64) { reserve(t, l, ask(0, 1)).Settle(Amount{Output: n}) }
	use(100)
	syncNow(t, l)
	l.cache.entries.Wait()
	gets := store.gets
	use(200)
	if store.gets != gets {
		t.Fatal("the cache was not asked")
	}
	var x *row
	l.table.each(func(w *row) { x = w })
	syncNow(t, l)
	l.cache.entries.Wait()
	// The cache applies the first write only now.
	_, generation := l.table.look(x.hash, x.key)
	stale := &cached{key: x.key, stored: 100, generation: generation - 1}
	l.cache.entries.Set(x.key, stale, 1)
	l.cache.entries.Wait()
	if v, _ := l.cache.entries.Get(x.key); v != stale {
		t.Fatal("the test did not get its value into the cache")
	}
	if d := reserve(t, l, ask(0, 1)).Strictest(); d.Remaining != 699 {
		t.Errorf("remaining %d, want 699", d.Remaining)
	}
}

func TestStoreCannotBeRead(t *testing.T) {
	store := newMemStore()
	limits := []Limit{{Name: "org", Amount: 1000, Period: Day}, {Name: "u", Amount: 1000, Period: Day, Per: []string{"user"}}}
	l := open(t, Options{Now: newClock().now, Store: store, Limits: limits})
	r := reserve(t, l, ask(10, 10, "user", "a"))
	store.fail(true, false)
	for range 2 {
		if got, d, err := l.Reserve(t.Context(), ask(10, 10, "user", "b")); got != nil || d.Allowed || !errors.Is(err, errBroken) {
			t.Fatalf("Reserve = %v, %+v, %v", got, d, err)
		}
	}
	if _, err := l.Balances(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("Balances: %v", err)
	}
	reserve(t, l, ask(10, 10, "user", "a")).Settle(Amount{}) // in memory: goes on
	store.fail(false, false)
	reserve(t, l, ask(10, 10, "user", "b")).Settle(Amount{})
	r.Settle(Amount{})
	syncNow(t, l)
	if n := inMemory(l); n != 0 {
		t.Errorf("%d rows are still pinned", n)
	}

	store.mu.Lock()
	for k, e := range store.entries {
		e.Used = -1
		store.entries[k] = e
	}
	store.mu.Unlock()
	fresh := open(t, Options{Now: newClock().now, Store: store, Limits: limits})
	if _, _, err := fresh.Reserve(t.Context(), ask(1, 1, "user", "a")); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("a store with negative usage: %v", err)
	}
	if _, err := fresh.Balances(t.Context()); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("a store with negative usage: %v", err)
	}
}

// TestSingleFlight: many calls for a counter that is not in memory make one read, and
// one that gives up does not spoil it for the others.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		arrive := make(chan struct{})
		store.onGet = func(ctx context.Context) {
			select {
			case <-arrive:
			case <-ctx.Done():
			}
		}
		l := open(t, Options{Store: store, Limits: []Limit{{Name: "x", Amount: 1000, Period: Day}}})
		impatient, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := l.Reserve(impatient, ask(0, 1)); !errors.Is(err, context.Canceled) {
				t.Errorf("the impatient call: %v", err)
			}
		})
		synctest.Wait()
		var granted atomic.Int64
		for range 10 {
			wg.Go(func() {
				r, _, err := l.Reserve(t.Context(), ask(0, 100))
				if err != nil {
					t.Error(err)
				} else if r != nil {
					granted.Add(r.Held().Output)
					r.Settle(Amount{})
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(arrive)
		wg.Wait()
		if store.gets != 1 {
			t.Errorf("%d reads, want 1", store.gets)
		}
		if granted.Load() == 0 {
			t.Error("nothing was granted")
		}

		// A store that does not answer is given up after loadTimeout.
		silent := newMemStore()
		silent.onGet = func(ctx context.Context) { <-ctx.Done() }
		began := time.Now()
		other := open(t, Options{Store: silent, Limits: []Limit{{Name: "y", Amount: 1000, Period: Day}}})
		if _, _, err := other.Reserve(t.Context(), ask(0, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a silent store: %v", err)
		}
		if took := time.Since(began); took != loadTimeout {
			t.Errorf("gave up after %s", took)
		}
	})
}

// TestEvictionBesideWrite: a row does not leave memory while a balance of it is on its way
// to the store, even if it has the written one again by now.
func TestEvictionBesideWrite(t *testing.T) {
	store, c := newMemStore(), newClock()
	l := open(t, Options{Now: c.now, Store: store, GrowthStep: 1, Limits: []Limit{{Name: "x", Amount: 1000, Period: Day}}})
	r := reserve(t, l, ask(0, 100))
	syncNow(t, l)
	began, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	store.onPut = func() {
		once.Do(func() { close(began) })
		<-gate
	}
	r.Spend(150)
	<-began
	r.Settle(Amount{Output: 100})
	l.table.evict(c.now(), l.keep)
	if n := inMemory(l); n != 1 {
		t.Errorf("%d rows in memory while one is written", n)
	}
	close(gate)
	syncNow(t, l)
	if d := reserve(t, l, ask(0, 1)).Strictest(); d.Remaining != 899 || inMemory(l) != 1 {
		t.Errorf("%+v, want 899 remaining", d)
	}
}

// vagueStore fails after it has written.
type vagueStore struct {
	*memStore
	vague bool
}

func (s *vagueStore) Put(ctx context.Context, e []Entry) error {
	if err := s.memStore.Put(ctx, e); err != nil || !s.vague {
		return err
	}
	return errBroken
}

// TestVagueFailure: after a write that failed, what the store has is not known, and is
// written again even if nothing has changed in the end.
func TestVagueFailure(t *testing.T) {
	s := &vagueStore{memStore: newMemStore()}
	l := open(t, Options{Now: newClock().now, Store: s, Limits: []Limit{{Name: "x", Amount: 1000, Period: Total}}})
	reserve(t, l, ask(50, 50)).SettleHold()
	syncNow(t, l)
	s.vague = true
	if _, _, err := l.Reserve(t.Context(), ask(7, 7)); !errors.Is(err, errBroken) {
		t.Fatalf("Reserve = %v", err)
	}
	s.vague = false
	syncNow(t, l)
	for k, e := range s.entries {
		if e.Used != 100 {
			t.Errorf("%+v in the store, used are 100", k)
		}
	}
}

func TestMaxCounters(t *testing.T) {
	c := newClock()
	l := open(t, Options{Now: c.now, MaxCounters: 3, Limits: []Limit{{Name: "u", Amount: 1000, Period: Minute, Per: []string{"user"}}}})
	for _, user := range []string{"a", "b", "c"} {
		reserve(t, l, ask(1, 1, "user", user)).SettleHold()
	}
	if d := reserve(t, l, ask(1, 1, "user", "d")).Strictest(); !slices.Equal(d.Subject, []Identity{{"user", Overflow}}) {
		t.Fatalf("the fourth counter: %+v", d)
	}
	reserve(t, l, ask(1, 1, "user", "a")).SettleHold()
	c.add(time.Minute)
	syncNow(t, l)
	if d := reserve(t, l, ask(1, 1, "user", "d")).Strictest(); !slices.Equal(d.Subject, []Identity{{"user", "d"}}) {
		t.Fatalf("a counter of the next minute: %+v", d)
	}
}

// A counter that only the store has is not replaced by a shared one: its balance counts.
func TestMaxCountersStored(t *testing.T) {
	store := newMemStore()
	l := open(t, Options{Store: store, MaxCounters: 1, Limits: []Limit{{Name: "u", Amount: 1000, Period: Day, Per: []string{"user"}}}})
	reserve(t, l, ask(1, 1, "user", "a")).SettleHold()
	syncNow(t, l)
	b := reserve(t, l, ask(1, 1, "user", "b"))
	if _, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "a")); !errors.Is(err, ErrFull) {
		t.Fatalf("a stored counter without room for it: %v", err)
	}
	b.SettleHold()
	syncNow(t, l)
	if d := reserve(t, l, ask(1, 1, "user", "a")).Strictest(); d.Remaining != 1000-2-2 {
		t.Errorf("its balance: %+v", d)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		var failures atomic.Int64
		l := open(t, Options{Store: store, SyncInterval: time.Second, Limits: []Limit{{Name: "x", Amount: 1000, Period: Total}},
			OnStoreError: func(err error) {
				if !errors.Is(err, errBroken) {
					t.Errorf("OnStoreError(%v)", err)
				}
				failures.Add(1)
			}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		inStore := func() (used int64) {
			store.mu.Lock()
			defer store.mu.Unlock()
			for _, e := range store.entries {
				used += e.Used
			}
			return used
		}
		r := reserve(t, l, ask(100, 100))
		if got := inStore(); got != 200 {
			t.Errorf("%d in the store when Reserve returns, want 200", got)
		}
		r.Spend(300)
		if err := r.Wait(ctx); err != nil || inStore() != 400 {
			t.Errorf("%d in the store after a growth, %v; want 400", inStore(), err)
		}
		time.Sleep(500 * time.Millisecond)
		store.fail(false, true)
		r.Settle(Amount{10, 20})
		if err := r.Wait(ctx); !errors.Is(err, errBroken) || !errors.Is(l.Err(), errBroken) {
			t.Errorf("Wait = %v, Err = %v", err, l.Err())
		}
		if _, _, err := l.Reserve(ctx, ask(1, 1)); !errors.Is(err, errBroken) {
			t.Errorf("Reserve beside a store that fails: %v", err)
		}
		time.Sleep(2 * time.Second)
		if failures.Load() != 3 || inStore() != 400 {
			t.Errorf("%d failures, %d in the store", failures.Load(), inStore())
		}
		store.fail(false, false)
		time.Sleep(time.Second)
		if got := inStore(); got != 30 || l.Err() != nil {
			t.Errorf("%d in the store after it recovered, want 30; %v", got, l.Err())
		}
		if err := r.Wait(ctx); !errors.Is(err, errBroken) {
			t.Errorf("Wait = %v, though the settlement was late", err)
		}
		reserve(t, l, ask(1, 1)).SettleHold()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		if got := inStore(); got != 32 {
			t.Errorf("%d in the store after Run, want 32", got)
		}
		// The last write fails.
		r = reserve(t, l, ask(1, 1))
		store.fail(false, true)
		r.Settle(Amount{7, 7})
		if err := l.Run(ctx); !errors.Is(err, errBroken) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		l := open(t, Options{Store: store, Limits: []Limit{{Name: "u", Amount: 1000, Period: Total, Per: []string{"user"}}}})
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		r := reserve(t, l, ask(100, 100, "user", "a"))
		arrive := make(chan struct{})
		store.onGet = func(context.Context) { <-arrive }
		slow := make(chan error, 1)
		go func() {
			_, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "b"))
			slow <- err
		}()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Close beside a read under way: %v", err)
		}
		close(arrive)
		if err := <-slow; err != nil {
			t.Errorf("the read under way: %v", err)
		}
		for range 2 {
			if err := l.Close(t.Context()); err != nil {
				t.Errorf("Close = %v", err)
			}
		}
		if !store.closed {
			t.Error("the store is open")
		}
		for k, e := range store.entries {
			if want := map[string]int64{"user=a": 200, "user=b": 2}[k.Subject]; e.Used != want {
				t.Errorf("%+v in the store, want %d", e, want)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		if _, _, err := l.Reserve(t.Context(), ask(1, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("Reserve = %v", err)
		}
		if _, err := l.Balances(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Balances = %v", err)
		}
		if err := l.Sync(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Sync = %v", err)
		}
		if !r.Settle(Amount{}) {
			t.Error("Settle after Close returned false")
		}
	})
}

// TestChangedLimits: what a restart with other limits makes of the stored balances.
// What Balances shows is what Reserve goes by.
func TestChangedLimits(t *testing.T) {
	c := newClock()
	c.add(-48 * time.Hour) // Monday: a day and a week that begin together
	store := newMemStore()
	day := Limit{Name: "x", Amount: 1000, Period: Day, Per: []string{"team"}}
	l := open(t, Options{Now: c.now, Store: store, Limits: []Limit{day}})
	reserve(t, l, ask(100, 1, "team", "a")).Settle(Amount{Input: 100})
	syncNow(t, l)
	for _, test := range []struct {
		name   string
		change func(*Limit)
		later  time.Duration
		spent  int64
	}{
		{"the same", func(*Limit) {}, 0, 100},
		{"the next day", func(*Limit) {}, 24 * time.Hour, 0},
		{"amount", func(l *Limit) { l.Amount = 5000 }, 0, 100},
		{"a longer period that began at the same time", func(l *Limit) { l.Period = Week }, 0, 0},
		{"the same, a day later", func(l *Limit) { l.Period = Week }, 24 * time.Hour, 0},
		{"a zone of another name with the same windows", func(l *Limit) { l.Location = time.FixedZone("west", 0) }, 0, 100},
		{"another period", func(l *Limit) { l.Period = Month }, 0, 0},
		{"a period that begins later", func(l *Limit) { l.Period = Hour }, 0, 0},
		{"unit", func(l *Limit) { l.Unit = InputTokens }, 0, 0},
		{"name", func(l *Limit) { l.Name = "y" }, 0, 0},
		{"identities", func(l *Limit) { l.Per = []string{"user"} }, 0, 0},
		{"place", func(l *Limit) { l.Location = time.FixedZone("east", 3600) }, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			limit := day
			test.change(&limit)
			c.add(test.later)
			defer c.add(-test.later)
			l := open(t, Options{Now: c.now, Store: store.copied(), Limits: []Limit{limit}})
			before := balances(t, l)
			if test.spent == 0 && len(before) != 0 || test.spent > 0 && (len(before) != 1 || before[0].Spent != test.spent) {
				t.Errorf("balances %+v, want %d spent", before, test.spent)
			}
			r := reserve(t, l, ask(10, 10, "team", "a", "user", "ann"))
			defer r.Settle(Amount{})
			if b := balances(t, l); len(b) != 1 || b[0].Spent != test.spent || b[0].Held == 0 || b[0].Amount != limit.Amount {
				t.Errorf("after Reserve: %+v, want %d spent", b, test.spent)
			}
		})
	}
}

// TestNoOverflow: the hugest request meets the hugest debt.
func TestNoOverflow(t *testing.T) {
	store := newMemStore()
	for _, u := range []Unit{Tokens, InputTokens, OutputTokens} {
		put(t, store, Entry{Key: Key{Limit: "x", Unit: u}, Used: math.MaxInt64})
	}
	for _, u := range []Unit{Tokens, InputTokens, OutputTokens} {
		l := open(t, Options{Store: store.copied(), Limits: []Limit{{Name: "x", Unit: u, Amount: 1, Period: Total}}})
		d := refused(t, l, Request{Input: math.MaxInt64, Output: math.MaxInt64, MinOutput: math.MaxInt64})
		if d.Limit != "x" || d.Remaining != 0 {
			t.Errorf("%s: %+v", u, d)
		}
	}
}
