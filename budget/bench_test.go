package budget

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// layered is a ledger with four layers, all of them warm. Two match by what the request
// is; two further limits do not concern it.
func layered(t testing.TB) (*Ledger, Request) { return layeredOver(t, nil) }

func layeredOver(t testing.TB, s Store) (*Ledger, Request) {
	l := open(t, Options{Now: func() time.Time { return noon }, Store: s, Limits: []Limit{
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

	l, q = layeredOver(t, newMemStore())
	r = reserve(t, l, q)
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := r.Spend(500); !ok || r.Wait(ctx) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("Spend and Wait within the hold make %v allocations", n)
	}
	r.SettleHold()
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

// BenchmarkStored is reserve and settle over a file store, each waiting until it is
// written: by one client, and by many, who share writes. Each is a user of its own, so
// two of the four counters are.
func BenchmarkStored(b *testing.B) {
	for _, mode := range []Fsync{FsyncGroup, FsyncOS, FsyncWait} {
		for _, clients := range []int{1, 32, 512} {
			b.Run(fmt.Sprintf("%s/clients=%d", mode, clients), func(b *testing.B) {
				l, _ := layeredOver(b, openStore(b, b.TempDir(), WithFsync(mode)))
				var left atomic.Int64
				left.Store(int64(b.N))
				var workers sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				before := processorTime(b)
				for i := range clients {
					q := ask(1000, 500, "team", "search", "user", fmt.Sprintf("user%d@example.com", i))
					workers.Go(func() {
						for left.Add(-1) >= 0 {
							r, _, err := l.Reserve(b.Context(), q)
							if err != nil || r == nil {
								b.Errorf("refused: %v", err)
								return
							}
							r.Settle(Amount{1000, 100})
							if err := r.Wait(b.Context()); err != nil {
								b.Error(err)
							}
						}
					})
				}
				workers.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "settles/s")
				// Of use where the machine is shared.
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/settle")
			})
		}
	}
}

// processorTime is what this process has used of the processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMarked is what the store costs those who do not wait for it: reserve and
// settle of four warm layers, whose rows are not marked for it, and are.
func BenchmarkMarked(b *testing.B) {
	for _, marked := range []bool{false, true} {
		b.Run(fmt.Sprintf("marked=%t", marked), func(b *testing.B) {
			l, q := layeredOver(b, newMemStore())
			rows := reserve(b, l, q).layers
			var marks *commits
			if marked {
				marks = l.commits
			}
			r := Reservation{commits: marks, layers: rows, charge: charge{input: 1000, requests: 1}}
			b.ReportAllocs()
			for b.Loop() {
				output, _, _ := rows.take(r.charge, demand{least: 1, want: 500, full: 500})
				for i := range rows {
					rows[i].pins.Add(1)
				}
				r.hold(output, output)
				r.mark()
				r.Settle(Amount{1000, 100})
			}
		})
	}
}

// BenchmarkOpen is a start: a snapshot of 100,000 counters, and a journal that is about
// to be rotated.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := openStore(b, dir, WithFsync(FsyncOS))
	var all []Entry
	for i := range 100_000 {
		all = append(all, entry("user-month", fmt.Sprintf("team=search&user=user%d@example.com", i), 1))
	}
	put(b, s, all...)
	s.full = 1
	put(b, s, entry("x", "", 1))
	waitSnapshot(s)
	for i := int64(2); s.size < s.full-1<<20; i++ {
		for j := range all[:10_000] {
			all[j].Used = i
		}
		put(b, s, all[:10_000]...)
	}
	b.Logf("%d bytes of journal", s.size)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := OpenFile(dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
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
