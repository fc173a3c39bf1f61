package budget

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestActionChecks(t *testing.T) {
	for _, c := range []struct {
		name string
		l    Limit
		want string // of the error; "" for none
	}{
		{"throttle", Limit{Period: Minute, Action: ActionThrottle, MaxDelay: MaxDelay}, ""},
		{"streams throttle", Limit{Unit: Streams, Action: ActionThrottle}, ""},
		{"streams shadow", Limit{Unit: Streams, Action: ActionShadow}, ""},
		{"each shadow", Limit{PerRequest: true, Action: ActionShadow}, ""},
		{"full", Limit{Period: Day, Action: ActionShadow, Admission: AdmitFull}, ""},
		{"unknown", Limit{Period: Day, Action: 9}, "unknown action Action(9)"},
		{"admission", Limit{Period: Day, Admission: 9}, "unknown admission Admission(9)"},
		{"each refuse", Limit{PerRequest: true, Action: ActionRefuse}, "into debt"},
		{"each throttle", Limit{PerRequest: true, Action: ActionThrottle}, "no request smaller"},
		{"each full", Limit{PerRequest: true, Admission: AdmitFull}, "holds nothing"},
		{"total", Limit{Period: Total, Action: ActionThrottle}, "in vain"},
		{"requests full", Limit{Period: Day, Unit: Requests, Admission: AdmitFull}, "in requests holds nothing of the answer"},
		{"input none", Limit{Period: Day, Unit: InputTokens, Admission: AdmitNone}, "in input_tokens holds nothing"},
		{"long", Limit{Period: Minute, Action: ActionThrottle, MaxDelay: MaxDelay + 1}, "between 0 and 1m0s"},
		{"negative", Limit{Period: Minute, Action: ActionThrottle, MaxDelay: -1}, "between 0 and 1m0s"},
		{"delay", Limit{Period: Minute, MaxDelay: 1}, "ActionThrottle only"},
	} {
		c.l.Name, c.l.Amount = c.name, 1
		rules, err := newRules([]Limit{c.l})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if l := rules[0].Limit; l.Action == ActionThrottle && l.MaxDelay != max(c.l.MaxDelay, map[bool]time.Duration{true: DefaultMaxDelay}[c.l.MaxDelay == 0]) {
				t.Errorf("%s: a delay of %v", c.name, l.MaxDelay)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestActionNames(t *testing.T) {
	for a, want := range []string{"cut", "refuse", "throttle", "shadow", "Action(4)"} {
		if got := Action(a).String(); got != want {
			t.Errorf("%d is %s", a, got)
		}
	}
	for a, want := range []string{"predict", "full", "none", "Admission(3)"} {
		if got := Admission(a).String(); got != want {
			t.Errorf("%d is %s", a, got)
		}
	}
}

func TestWaitUntil(t *testing.T) {
	since := noon
	at := since.Add
	throttled := Decision{Unit: Tokens, Amount: 100, Needed: 98, MaxDelay: 10 * time.Second, ResetAt: at(10 * time.Second)}
	with := func(change func(*Decision)) Decision {
		d := throttled
		change(&d)
		return d
	}
	for _, c := range []struct {
		name string
		d    Decision
		want bool
	}{
		{"the window ends in time", throttled, true},
		{"it has ended", with(func(d *Decision) { d.ResetAt = at(-time.Second) }), true},
		{"it ends too late", with(func(d *Decision) { d.ResetAt = at(10*time.Second + 1) }), false},
		{"it never ends", with(func(d *Decision) { d.ResetAt = time.Time{} }), false},
		{"a stream may end", with(func(d *Decision) { d.Unit, d.Needed, d.ResetAt = Streams, 1, time.Time{} }), true},
		{"it never has so much room", with(func(d *Decision) { d.Needed = 99 }), false}, // the guard is 2
		{"another action", with(func(d *Decision) { d.MaxDelay = 0 }), false},
		{"not refused", with(func(d *Decision) { d.Allowed = true }), false},
	} {
		until, ok := c.d.WaitUntil(since)
		if ok != c.want || ok && !until.Equal(at(10*time.Second)) {
			t.Errorf("%s: %v, %v", c.name, until, ok)
		}
	}
}

// TestActions: what each action and admission does, one after the other.
func TestActions(t *testing.T) {
	limit := func(a Action, h Admission) *Ledger {
		return open(t, Options{GrowthStep: 10, Now: newClock().now, Limits: []Limit{
			{Name: "wide", Amount: 1 << 30, Period: Day},
			{Name: "x", Amount: 100, Period: Day, Action: a, Admission: h},
		}})
	}
	x := func(l *Ledger) Balance { return balances(t, l)[1] }
	request := Request{Input: 10, Output: 20, MinOutput: 1, FullOutput: 60}

	t.Run("refuse", func(t *testing.T) {
		l := limit(ActionRefuse, AdmitPredict)
		r := reserve(t, l, request)
		if _, ok := r.Spend(500); !ok {
			t.Error("a running stream was cut")
		}
		if d := refused(t, l, request); d.Limit != "x" || d.MaxDelay != 0 || d.Needed != 11 {
			t.Errorf("refused by %+v", d)
		}
		if n := r.Cuttable(); n < 1<<29 {
			t.Errorf("cuttable after %d", n)
		}
		r.Settle(Amount{10, 500})
		if b := x(l); b.Debt() != 410 || b.Held != 0 {
			t.Errorf("%+v", b)
		}
	})
	t.Run("refuse does not bound the whole request", func(t *testing.T) {
		l := limit(ActionRefuse, AdmitPredict)
		r := reserve(t, l, Request{Input: 10, Output: 4000, MinOutput: 1})
		if r.granted != 4000 || x(l).Held != 98 {
			t.Errorf("granted %d, held %+v", r.granted, x(l))
		}
		r.SettleHold()
		if b := x(l); b.Spent != 4010 {
			t.Errorf("unknown costs: %+v", b)
		}
	})
	t.Run("full", func(t *testing.T) {
		l := limit(ActionCut, AdmitFull)
		r := reserve(t, l, request)
		if b := x(l); b.Held != 70 || balances(t, l)[0].Held != 30 {
			t.Errorf("held %+v", b)
		}
		if d := refused(t, l, request); d.Needed != 70 {
			t.Errorf("needs %d", d.Needed)
		}
		if _, ok := r.Spend(60); !ok || x(l).Held != 70 {
			t.Errorf("within the hold: %v, %+v", ok, x(l))
		}
		if _, ok := r.Spend(90); ok {
			t.Error("not cut")
		}
		r.SettleHold()
		if b := x(l); b.Spent != 70 {
			t.Errorf("unknown costs: %+v", b)
		}
	})
	t.Run("none", func(t *testing.T) {
		l := limit(ActionCut, AdmitNone)
		r := reserve(t, l, request)
		if b := x(l); b.Held != 10 || r.granted != 20 {
			t.Errorf("granted %d, held %+v", r.granted, b)
		}
		if _, ok := r.Spend(5); !ok || x(l).Held != 20 {
			t.Errorf("grown: %v, %+v", ok, x(l))
		}
		if _, ok := r.Spend(89); ok {
			t.Error("not cut")
		}
		r.Settle(Amount{10, 90})
		if d := refused(t, l, request); d.Needed != 11 {
			t.Errorf("needs %d", d.Needed)
		}
	})
	t.Run("none, unknown costs", func(t *testing.T) {
		l := limit(ActionCut, AdmitNone)
		reserve(t, l, request).SettleHold()
		if b := x(l); b.Spent != 30 {
			t.Errorf("%+v", b)
		}
	})
	t.Run("shadow", func(t *testing.T) {
		l := limit(ActionShadow, AdmitPredict)
		a := reserve(t, l, request)
		if _, ok := a.Spend(88); !ok || len(a.Shadows(88)) != 0 {
			t.Errorf("at the limit: %v, %v", ok, a.Shadows(88))
		}
		if _, ok := a.Spend(500); !ok || !slices.Equal(a.Shadows(500), []Shadow{{"x", ShadowCut}}) {
			t.Errorf("beyond it: %v, %v", ok, a.Shadows(500))
		}
		b := reserve(t, l, request)
		b.Spend(500)
		if got := b.Shadows(500); !slices.Equal(got, []Shadow{{"x", ShadowDenied}}) {
			t.Errorf("the next: %v", got)
		}
		if d := b.Strictest(); d.Limit != "wide" {
			t.Errorf("strictest is %s", d.Limit)
		}
		a.Settle(Amount{10, 500})
		b.Settle(Amount{10, 500})
		if b := x(l); b.Spent != 1020 || b.Held != 0 {
			t.Errorf("%+v", b)
		}
	})
	t.Run("shadow, in the midst of a step of growth", func(t *testing.T) {
		l := limit(ActionShadow, AdmitPredict)
		r := reserve(t, l, request)
		for _, output := range []int64{80, 81, 88} { // with the second the hold becomes 10 and 90
			if _, ok := r.Spend(output); !ok || len(r.Shadows(output)) != 0 {
				t.Errorf("%d: %v, %v", output, ok, r.Shadows(output))
			}
		}
		if _, ok := r.Spend(89); !ok || x(l).Held != 100 || !slices.Equal(r.Shadows(89), []Shadow{{"x", ShadowCut}}) {
			t.Errorf("beyond the limit: %v, %v, %+v", ok, r.Shadows(89), x(l))
		}
		r.Settle(Amount{10, 89})
	})
	t.Run("a limit that never has so much room refuses before others", func(t *testing.T) {
		l := open(t, Options{Now: newClock().now, Limits: []Limit{
			{Name: "calls", Unit: Requests, Amount: 1, Period: Hour, Action: ActionThrottle},
			{Name: "small", Amount: 20, Period: Minute, Action: ActionThrottle},
			{Name: "month", Amount: 50, Period: Month},
		}})
		reserve(t, l, Request{Input: 1, Output: 1}).Settle(Amount{Input: 1})
		big := Request{Input: 90, Output: 1}
		if d := refused(t, l, big); d.Limit != "month" { // both never have so much, and the others throttle
			t.Errorf("refused by %+v", d)
		}
		big.Input = 20
		if d := refused(t, l, big); d.Limit != "small" {
			t.Errorf("refused by %+v", d)
		}
	})
	t.Run("a limit that cuts refuses before one that throttles", func(t *testing.T) {
		l := open(t, Options{Now: newClock().now, Limits: []Limit{
			{Name: "throttles", Amount: 1, Period: Month, Action: ActionThrottle},
			{Name: "cuts", Amount: 1, Period: Minute},
		}})
		if d := refused(t, l, request); d.Limit != "cuts" || d.MaxDelay != 0 {
			t.Errorf("refused by %+v", d)
		}
	})
}

// A giant cap of a client's is no giant hold on limits that do not cut, which a crash
// would charge; and no hold overflows.
func TestForcedHoldsAreBounded(t *testing.T) {
	l := open(t, Options{Limits: []Limit{
		{Name: "refuse", Amount: 1000, Period: Day, Action: ActionRefuse},
		{Name: "shadow", Amount: 1000, Period: Day, Action: ActionShadow, Admission: AdmitFull},
	}})
	giant := Request{Input: 1, Output: math.MaxInt64, MinOutput: 1, FullOutput: math.MaxInt64}
	r := reserve(t, l, giant)
	for _, b := range balances(t, l) {
		if b.Held > 1000 {
			t.Errorf("%+v", b)
		}
	}
	r.Settle(Amount{})
	shadow := open(t, Options{Limits: []Limit{{Name: "shadow", Amount: 1000, Period: Day, Action: ActionShadow}}})
	var all []*Reservation
	for range 10 {
		r := reserve(t, shadow, Request{Input: math.MaxInt64, Output: 1, MinOutput: 1})
		r.Spend(math.MaxInt64)
		all = append(all, r)
	}
	for _, r := range all {
		r.Settle(Amount{})
	}
	if b := balances(t, shadow)[0]; b.Spent < 0 || b.Held != 0 {
		t.Errorf("%+v", b)
	}
}

// A limit that only watches refuses nothing for want of room for its counter either.
func TestShadowFull(t *testing.T) {
	for _, action := range []Action{ActionShadow, ActionCut} {
		l := open(t, Options{Store: newMemStore(), MaxCounters: 1, Limits: []Limit{
			{Name: "u", Amount: 1000, Period: Day, Per: []string{"user"}, Action: action},
			{Name: "calls", Unit: Requests, Amount: 1000, Period: Day},
		}})
		reserve(t, l, ask(1, 1, "user", "a")).SettleHold()
		syncNow(t, l)
		b := reserve(t, l, ask(1, 1, "user", "b"))
		r, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "a"))
		if action == ActionShadow {
			if err != nil || r == nil {
				t.Fatalf("Reserve = %v", err)
			}
			if d := r.Strictest(); d.Limit != "calls" {
				t.Errorf("strictest is %s", d.Limit)
			}
			r.SettleHold()
		} else if !errors.Is(err, ErrFull) {
			t.Fatalf("Reserve = %v", err)
		}
		b.SettleHold()
	}
}

// TestShadowPerRequest: what is too large is admitted, and told.
func TestShadowPerRequest(t *testing.T) {
	limits := []Limit{
		{Name: "size", Unit: InputTokens, Amount: 10, PerRequest: true, Action: ActionShadow},
		{Name: "size", Unit: OutputTokens, Amount: 20, PerRequest: true, Action: ActionShadow},
		{Name: "both", Amount: 25, PerRequest: true, Action: ActionShadow},
	}
	l := open(t, Options{Limits: limits})
	for _, c := range []struct {
		input, output int64
		want          []Shadow
	}{
		{10, 15, nil},
		{10, 16, []Shadow{{"both", ShadowCut}}},
		{5, 21, []Shadow{{"size", ShadowCut}, {"both", ShadowCut}}},
		{11, 21, []Shadow{{"size", ShadowDenied}, {"both", ShadowCut}}},
		{25, 1, []Shadow{{"size", ShadowDenied}, {"both", ShadowDenied}}},
	} {
		r := reserve(t, l, Request{Input: c.input, Output: 900, MinOutput: 1})
		if got := r.Shadows(c.output); !slices.Equal(got, c.want) {
			t.Errorf("%d and %d: %v, want %v", c.input, c.output, got, c.want)
		}
		if r.OutputCap() != 0 || r.granted != 900 {
			t.Errorf("capped at %d, granted %d", r.OutputCap(), r.granted)
		}
		r.Settle(Amount{})
	}
	sizes, err := NewSizes(limits)
	if err != nil {
		t.Fatal(err)
	}
	if _, limit := sizes.Room(&Request{}, 1); limit != "" {
		t.Errorf("%s would shorten prompts", limit)
	}
}
