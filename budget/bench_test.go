package budget

import (
	"testing"
	"time"
)

// layered is a ledger with four layers, all of them warm.
func layered(t testing.TB) (*Ledger, Request) {
	l := open(t, Options{Now: func() time.Time { return noon }, Limits: []Limit{
		{Name: "org", Amount: 1 << 50, Period: Month, Location: location(t, "Europe/Berlin")},
		{Name: "team", Amount: 1 << 50, Period: Day, Per: []string{"team"}},
		{Name: "user", Unit: OutputTokens, Amount: 1 << 50, Period: Minute, Per: []string{"team", "user"}},
		{Name: "calls", Unit: Requests, Amount: 1 << 50, Period: Minute, Per: []string{"user"}},
	}})
	q := ask(1000, 500, "team", "search", "user", "ann@example.com")
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
	b.ReportAllocs()
	for b.Loop() {
		r, _, err := l.Reserve(ctx, q)
		if err != nil || r == nil {
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
		for pb.Next() {
			r, _, err := l.Reserve(ctx, q)
			if err != nil || r == nil {
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
