package budget

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// zonesThatChange are places with rules of their own. In the years given every rule was in
// force.
var zonesThatChange = []struct {
	name    string
	first   int           // of four years
	days    time.Duration // how much shorter or longer days are
	shorter int           // how many such days there are
}{
	{"Europe/Berlin", 2023, time.Hour, 4},
	{"America/New_York", 2023, time.Hour, 4},
	{"Australia/Lord_Howe", 2023, 30 * time.Minute, 4},
	{"America/Sao_Paulo", 2015, time.Hour, 4}, // at midnight
	{"America/Havana", 2023, time.Hour, 4},    // at midnight, and back to midnight
	{"Asia/Beirut", 2023, time.Hour, 4},       // at midnight, and back to the day before
	{"Asia/Kathmandu", 2023, 0, 0},
}

// walkClock looks at the clock of a place minute by minute, and returns when the windows
// of each period begin: where the clock shows a new hour, or a later date than ever before,
// which begins one. No clock of these years changes within a minute.
func walkClock(loc *time.Location, from, to time.Time) map[Period][]time.Time {
	begins := make(map[Period][]time.Time)
	newest := make(map[Period]int)
	date, zone := -1, 0
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		local := at.In(loc)
		_, offset := local.Zone()
		if local.Minute() == 0 || offset != zone {
			begins[Hour] = append(begins[Hour], at)
		}
		zone = offset
		if day := local.YearDay(); day != date {
			date = day
			for _, p := range calendarPeriods {
				if n := ordinal(p, local); n > newest[p] {
					newest[p] = n
					begins[p] = append(begins[p], at)
				}
			}
		}
	}
	return begins
}

// TestClockYears compares the windows of four years, leap day included, with what somebody
// sees who looks at a clock on the wall every minute.
func TestClockYears(t *testing.T) {
	for _, z := range zonesThatChange {
		t.Run(strings.ReplaceAll(z.name, "/", "_"), func(t *testing.T) {
			t.Parallel()
			loc := location(t, z.name)
			from := time.Date(z.first, 1, 1, 0, 0, 0, 0, time.UTC)
			begins := walkClock(loc, from, from.AddDate(4, 0, 0))
			lengths := make(map[time.Duration]int)
			for p, want := range begins {
				// What was under way at the beginning is left out, and what is at the end.
				for i := 1; i+1 < len(want); i++ {
					w := Window{want[i].In(loc), want[i+1].In(loc)}
					inside := want[i].Add(rand.N(w.length()))
					for _, at := range []time.Time{w.Start, inside, w.End.Add(-1)} {
						if got := p.Window(at, loc); got != w {
							t.Fatalf("%s of %s:\n got %v\nwant %v", p, at.In(loc), got, w)
						}
					}
					checkLength(t, p, w)
					if p == Day {
						lengths[w.length()]++
					}
				}
			}
			day := 24 * time.Hour
			if lengths[day-z.days] < z.shorter || lengths[day+z.days] < z.shorter || len(begins[Day]) < 1460 || len(begins[Month]) < 48 {
				t.Errorf("days of %v", lengths)
			}
			if z.days > 0 && (lengths[day-z.days] != z.shorter || lengths[day+z.days] != z.shorter || len(lengths) != 3) {
				t.Errorf("days of %v, want %d of %s less and more", lengths, z.shorter, z.days)
			}
		})
	}
}

// checkLength checks that a window begins at midnight of the first day, or where the clock
// skips that, and lasts as long as its days do.
func checkLength(t *testing.T, p Period, w Window) {
	t.Helper()
	if p == Hour {
		if w.length() > time.Hour {
			t.Fatalf("an hour of %s: %v", w.length(), w)
		}
		return
	}
	y, m, d := w.Start.Date()
	hour := w.Start.Hour()
	if hour > 1 || w.Start.Minute() != 0 || p >= Month && d != 1 || p == Week && w.Start.Weekday() != time.Monday ||
		p == Quarter && m%3 != 1 || p == Year && m != time.January {
		t.Fatalf("a %s begins at %s", p, w.Start)
	}
	days := map[Period]int{Day: 1, Week: 7}[p]
	if p >= Month {
		last := map[Period]time.Month{Month: m, Quarter: m + 2, Year: time.December}[p]
		for month := m; month <= last; month++ {
			days += daysOf(y, month)
		}
	}
	if off := w.length() - time.Duration(days)*24*time.Hour; off < -time.Hour || off > time.Hour {
		t.Fatalf("a %s of %d days is %s off: %v", p, days, off, w)
	}
}

// daysOf is the rhyme that children learn.
func daysOf(year int, m time.Month) int {
	switch m {
	case time.April, time.June, time.September, time.November:
		return 30
	case time.February:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// TestLedgerOverChanges runs a ledger through the year 2000 in virtual time, over each
// change of the clock and a leap day: it starts again exactly when a day, a week or a month
// begins on the clock of the place, and a stream over midnight belongs to the day before.
func TestLedgerOverChanges(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/Havana", "America/Sao_Paulo", "Australia/Lord_Howe"} {
		t.Run(strings.ReplaceAll(zone, "/", "_"), func(t *testing.T) {
			t.Parallel()
			loc := location(t, zone)
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				begins := walkClock(loc, start, start.AddDate(1, 0, 0))
				var limits []Limit
				for _, p := range calendarPeriods[:3] {
					limits = append(limits, Limit{Name: p.String(), Amount: 1 << 40, Period: p, Location: loc})
				}
				limits = append(limits, Limit{Name: "24h", Amount: 1 << 40, Period: Period(24 * time.Hour)})
				ctx, cancel := context.WithCancel(t.Context())
				l := open(t, Options{Limits: limits, SyncInterval: time.Hour, GrowthStep: 1})
				ended := make(chan error, 1)
				go func() { ended <- l.Run(ctx) }()

				b := &book{ledger: l, spent: make(map[string]int64)}
				days := begins[Day][1:]
				for i, day := range days[:len(days)-1] {
					time.Sleep(time.Until(day) - 1) // to the last nanosecond of the day before
					var night *Reservation
					if i > 0 {
						b.charge(t, 10)
						b.check(t, days[i-1], day)
						night = reserve(t, l, ask(1, 1))
						b.all = append(b.all, charged{time.Now(), 6})
					}
					time.Sleep(time.Nanosecond)
					if night != nil {
						night.Spend(5)
						night.Settle(Amount{1, 5}) // to the day before, and its week and month
					}
					for _, p := range calendarPeriods[:3] {
						switch {
						case slices.Contains(begins[p], day):
							b.spent[p.String()] = 0
						case night != nil:
							b.spent[p.String()] += 6
						}
					}
					b.charge(t, 3)
					b.check(t, day, days[i+1])
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func charge1(t *testing.T, l *Ledger, n int64) {
	t.Helper()
	reserve(t, l, ask(n-1, 1)).Settle(Amount{n - 1, 1})
}

// book is what somebody has written down of a ledger.
type book struct {
	ledger *Ledger
	spent  map[string]int64 // in the present windows
	all    []charged
}

func (b *book) charge(t *testing.T, n int64) {
	t.Helper()
	charge1(t, b.ledger, n)
	b.all = append(b.all, charged{time.Now(), n})
	for _, p := range calendarPeriods[:3] {
		b.spent[p.String()] += n
	}
}

// check compares the ledger with the book, on the day from start to end.
func (b *book) check(t *testing.T, start, end time.Time) {
	t.Helper()
	least, most := int64(0), int64(0) // of the last 24 hours, which go on in steps of 24 minutes
	for _, c := range b.all {
		if time.Since(c.at) < 24*time.Hour {
			least += c.n
		}
		if time.Since(c.at) < 24*time.Hour+24*time.Minute {
			most += c.n
		}
	}
	seen := 0
	for _, l := range balances(t, b.ledger) {
		seen++
		n, ok := b.spent[l.Limit]
		if ok && l.Spent != n || l.Held != 0 || l.Limit == "24h" && (l.Spent < least || l.Spent > most) {
			t.Fatalf("at %s: %+v, want %d, or %d to %d", time.Now(), l, n, least, most)
		}
		if l.Limit == "day" && (!l.WindowStart.Equal(start) || !l.WindowEnd.Equal(end)) {
			t.Fatalf("at %s the day is %s to %s, want %s to %s", time.Now(), l.WindowStart, l.WindowEnd, start, end)
		}
	}
	if seen != 4 {
		t.Fatalf("%d balances", seen)
	}
}

// TestClockSet: a clock that is set back or ahead, and right again. In between there are
// requests, and a stream grows and ends that was admitted before. The window of the first
// requests has all of them then, and nothing is ever negative.
func TestClockSet(t *testing.T) {
	periods := []Period{Minute, Hour, Day, Month, Period(10 * time.Second), Period(5 * time.Minute), Period(24 * time.Hour)}
	steps := []time.Duration{time.Second, 20 * time.Second, time.Minute, time.Hour, 25 * time.Hour, 40 * 24 * time.Hour}
	for _, p := range periods {
		for _, step := range append(steps, negative(steps)...) {
			for _, stored := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/stored=%t", p, step, stored), func(t *testing.T) {
					c := newClock()
					o := Options{Now: c.now, GrowthStep: 1, Limits: []Limit{{Name: "a", Amount: 1000, Period: p}}}
					store := newMemStore()
					if stored {
						o.Store = store
					}
					l := open(t, o)
					tidy := func() {
						if stored { // memory alone forgets what seems to have ended
							syncNow(t, l)
						}
						for _, b := range balances(t, l) {
							if b.Spent < 0 || b.Held < 0 {
								t.Errorf("negative: %+v", b)
							}
						}
					}
					has := func(when string, used int64) {
						t.Helper()
						tidy()
						r, d, err := l.Reserve(t.Context(), Request{Output: 1, MinOutput: 1})
						if err != nil || r == nil {
							t.Fatalf("%s: %+v, %v", when, d, err)
						}
						left := r.Strictest().Remaining
						r.Settle(Amount{})
						if left != 1000-used-1 {
							t.Errorf("%s: %d are left, want %d", when, left, 1000-used-1)
						}
						tidy()
					}
					charge1(t, l, 100)
					stream := reserve(t, l, ask(5, 5))
					ended := reserve(t, l, ask(20, 20))
					has("before", 150)

					c.add(step)
					same := p.Window(c.now(), nil) == p.Window(noon, nil)
					if p.Rolling() {
						r := newRolling(p)
						same = r.near(r.cell(noon.Unix()), r.cell(c.now().Unix()))
					}
					first := int64(0)
					if same {
						first = 100 + 10 + 40
					} else if p.Rolling() {
						first = 10 + 40 // holds count as long as they are under way
					}
					has("while it is wrong", first)
					charge1(t, l, 7)
					elsewhere := int64(7)               // what the present window has beside what was admitted before
					if d, ok := stream.Spend(25); !ok { // grows by 20
						t.Fatalf("cut: %+v", d)
					}
					ended.Settle(Amount{20, 30}) // more than was held
					switch {
					case same:
						first += 20 + 10
					case p.Rolling():
						first += 20 - 40
					}
					has("while it is wrong, later", first+elsewhere)

					c.add(-step)
					right := int64(100 + 30 + 50)
					if same {
						right += elsewhere
					}
					has("right again", right)
					stream.Settle(Amount{5, 45})
					has("in the end", right+20)
					if !stored {
						return
					}
					// And so it is after a restart.
					if err := l.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
					o.Store = store.copied()
					l = open(t, o)
					has("after a restart", right+20)
				})
			}
		}
	}
}

func negative(steps []time.Duration) []time.Duration {
	out := slices.Clone(steps)
	for i := range out {
		out[i] = -out[i]
	}
	return out
}
