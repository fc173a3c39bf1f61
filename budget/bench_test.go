package budget

import (
	"testing"
	"time"
)

// layered is a ledger with four layers, all of them warm. Two match by what the request
// is; two further limits do not concern it.
func layered(t testing.TB) (*Ledger, Request) {
	l := open(t, Options{Now: func() time.Time { return noon }, Limits: []Limit{
		{Name: "org", Amount: 1 << 50, Period: Month, Location: location(t, "Europe/Berlin")},
		{Name: "team", Amount: 1 << 50, Period: Day, Per: []string{"team"}},
		{Name: "user", Unit: OutputTokens, Amount: 1 << 50, Period: Minute, Per: []string{"team", "user"},
			Match: []Condition{{Property: OfModel, Any: []string{"o*", "gpt-4*"}}, {Property: OfPath, Any: []string{"/v1/*"}}}},
		{Name: "calls", Unit: Requests, Amount: 1 << 50, Period: Minute, Per: []string{"user"},
			Match: []Condition{{Property: OfHeader, Name: "x-env", Any: []string{"*prod*"}}}},
		{Name: "other team", Amount: 1, Period: Minute, Match: []Condition{{Name: "team", Any: []string{"research"}}}},
		{Name: "each", Unit: InputTokens, Amount: 1, PerRequest: true, Match: []Condition{{Property: OfModel, Any: []string{"*mini"}}}},
	}})
	q := ask(1000, 500, "team", "search", "user", "ann@example.com")
	q.Model, q.Path, q.Headers = "gpt-4o", "/v1/chat/completions", []Identity{{"x-env", "eu-prod"}}
	reserve(t, l, q).Settle(Amount{})
	return l, q
}

func TestAllocations(t *testing.T) {
	l, q := layered(t)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		r, _, err := l.Reserve(ctx, q)
		if err != nil || r == nil || !r.Settle(Amount{1000, 100}) {
			t.Fatal("refused")
		}
	}); n > 1 {
		t.Errorf("Reserve and Settle make %v allocations, want the reservation only", n)
	}
	var own Reservation
	if n := testing.AllocsPerRun(1000, func() {
		d, err := l.ReserveIn(ctx, &own, q)
		if err != nil || !d.Allowed || !own.Settle(Amount{1000, 100}) {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("ReserveIn and Settle make %v allocations", n)
	}
	r := reserve(t, l, q)
	output := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		output = min(output+1, 500)
		if _, ok := r.Spend(output); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("Spend within the hold makes %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		output += 200
		if _, ok := r.Spend(output); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("Spend with growth makes %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { r.Strictest() }); n != 0 {
		t.Errorf("Strictest makes %v allocations", n)
	}
}

func BenchmarkReserveSettle(b *testing.B) {
	l, q := layered(b)
	ctx := b.Context()
	var r Reservation
	b.ReportAllocs()
	for b.Loop() {
		if d, err := l.ReserveIn(ctx, &r, q); err != nil || !d.Allowed {
			b.Fatal("refused")
		}
		r.Settle(Amount{1000, 100})
	}
}

func BenchmarkReserveSettleParallel(b *testing.B) {
	l, q := layered(b)
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var r Reservation
		for pb.Next() {
			if d, err := l.ReserveIn(ctx, &r, q); err != nil || !d.Allowed {
				b.Error("refused")
				return
			}
			r.Settle(Amount{1000, 100})
		}
	})
}

func BenchmarkSpend(b *testing.B) {
	b.Run("held", func(b *testing.B) {
		l, q := layered(b)
		r := reserve(b, l, q)
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := r.Spend(400); !ok {
				b.Fatal("refused")
			}
		}
	})
	b.Run("grow", func(b *testing.B) { // every call is a growth
		l, q := layered(b)
		r := reserve(b, l, q)
		output := int64(500)
		b.ReportAllocs()
		for b.Loop() {
			output += DefaultGrowthStep
			if _, ok := r.Spend(output); !ok {
				b.Fatal("refused")
			}
		}
	})
}
