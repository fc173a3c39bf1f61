package budget

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestFloodOfOneTeam: a million users of one team leave the newcomers of other teams
// counters of their own, and who has one keeps it, also after a restart.
func TestFloodOfOneTeam(t *testing.T) {
	if testing.Short() {
		t.Skip("a million requests")
	}
	const most = 1000
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			flood := 1_000_000
			store := newMemStore()
			o := Options{Now: newClock().now, Limits: []Limit{
				{Name: "x", Amount: 1 << 50, Period: Day, Per: []string{"team", "user"}, MaxSubjects: most},
			}}
			if stored {
				flood = 100_000
				o.Store = store
			}
			l := open(t, o)
			for i := range 10 {
				check(t, l, "early", fmt.Sprint("u", i), fmt.Sprint("early u", i))
			}
			var r Reservation
			for i := range flood {
				d, err := l.ReserveIn(t.Context(), &r, ask(1, 1, "team", "loud", "user", fmt.Sprint("u", i)))
				if err != nil || !d.Allowed {
					t.Fatalf("request %d: %+v, %v", i, d, err)
				}
				r.Settle(Amount{1, 1})
				if i%(flood/10) == 0 {
					syncNow(t, l)
				}
			}
			for range 2 { // the second time after a restart
				for i := range 10 {
					check(t, l, "early", fmt.Sprint("u", i), fmt.Sprint("early u", i))
				}
				check(t, l, "loud", "u5", "loud u5")
				check(t, l, "loud", "another", "loud (overflow)")
				if !stored {
					break
				}
				syncNow(t, l)
				l = open(t, Options{Store: store.copied(), Now: o.Now, Limits: o.Limits})
			}
			loud := 0
			for _, b := range balances(t, l) {
				if b.Subject[0].Value == "loud" && b.Subject[1].Value != Overflow {
					loud++
				}
			}
			if loud != (most-10)/2 {
				t.Errorf("the loud team has %d counters of %d, want half of what was left", loud, most)
			}
			for team := range 20 {
				for user := range 10 {
					name := fmt.Sprintf("quiet%d u%d", team, user)
					check(t, l, strings.Fields(name)[0], strings.Fields(name)[1], name)
				}
			}
		})
	}
}

// A team leaves room to its org's other teams, and an org to other orgs, among the
// buckets, too; and names are replaced one after the other, from the last.
func TestFloodOfTriples(t *testing.T) {
	l := open(t, Options{Limits: []Limit{{Name: "x", Amount: 1000, Period: Day, Per: []string{"org", "team", "user"}, MaxSubjects: 6}}})
	for _, c := range []struct{ subject, want string }{
		{"a t1 u1", "a t1 u1"},
		{"a t1 u2", "a t1 u2"},
		{"a t1 u3", "a t1 (overflow)"}, // the team has as many as are left to the org: 4 are free, less 2
		{"a t2 u1", "a t2 u1"},
		{"a t3 u1", "a t3 (overflow)"}, // the org has as many as are free
		{"a t4 u1", "a t4 (overflow)"},
		{"a t5 u1", "a (overflow) (overflow)"}, // of the buckets, too
		{"b t1 u1", "b t1 u1"},
		{"b t1 u2", "b t1 (overflow)"},
		{"c t1 u1", "c t1 u1"},
		{"c t1 u2", "c t1 (overflow)"},
		{"d t1 u1", "d t1 u1"}, // the last one
		{"e t1 u1", "(overflow) (overflow) (overflow)"},
		{"a t1 u1", "a t1 u1"},
		{"a t3 v", "a t3 (overflow)"},
	} {
		v := strings.Fields(c.subject)
		b := heldBalances(t, l, ask(1, 1, "org", v[0], "team", v[1], "user", v[2]))
		if got := valuesOf(b[0].Subject); got != c.want {
			t.Errorf("%s counts in %q, want %q", c.subject, got, c.want)
		}
	}
}

func valuesOf(ids []Identity) string {
	values := make([]string, len(ids))
	for i, id := range ids {
		values[i] = id.Value
	}
	return strings.Join(values, " ")
}

// dumbCrowd is what crowd does, by looking through all subjects.
type dumbCrowd struct {
	most int
	has  map[string]bool // values of the rows of one group
}

// takes reports whether a subject, or a bucket, gets a row.
func (d *dumbCrowd) takes(subject string) bool {
	if d.has[subject] {
		return true
	}
	keep := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, Overflow, "")) }
	values := strings.Fields(keep(subject))
	free := d.most - len(d.has)
	if free <= 0 {
		return false
	}
	for n := 1; n < len(values); n++ {
		under := 0
		for s := range d.has {
			if strings.HasPrefix(keep(s), strings.Join(values[:n], " ")+" ") {
				under++
			}
		}
		if free -= under; free <= 0 {
			return false
		}
	}
	d.has[subject] = true
	return true
}

// TestCrowdTwin: in any order of requests, refusals, syncs and restarts each request
// counts where the dumb twin says; and the bookkeeping is what the rows are.
func TestCrowdTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		per := []string{"org", "team", "user"}[:rapid.IntRange(1, 3).Draw(t, "names")]
		most := rapid.IntRange(1, 8).Draw(t, "most")
		store := newMemStore()
		o := Options{Now: newClock().now, CacheEntries: 1, Store: store, Limits: []Limit{
			{Name: "x", Amount: 1000, Period: Day, Per: per, MaxSubjects: int64(most)},
		}}
		l, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		own := dumbCrowd{most, make(map[string]bool)}
		shared := dumbCrowd{most, make(map[string]bool)}
		refused := make(map[string]bool) // in memory only, though nothing was granted
		expect := func(values []string) string {
			if s := strings.Join(values, " "); own.takes(s) {
				return s
			}
			for keep := len(values) - 1; keep > 0; keep-- {
				s := strings.Join(values[:keep], " ") + strings.Repeat(" "+Overflow, len(values)-keep)
				if shared.takes(s) {
					return s
				}
			}
			return strings.TrimPrefix(strings.Repeat(" "+Overflow, len(values)), " ")
		}
		draw := func(t *rapid.T) (values []string, q Request) {
			var ids []string
			for i, name := range per {
				values = append(values, rapid.SampledFrom([]string{"a", "b", "c", "d"}[:2+i]).Draw(t, name))
				ids = append(ids, name, values[i])
			}
			return values, ask(1, 1, ids...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				c := &l.rules.Load().rules[0].at(noon).crowd
				if int(c.own.rows) != len(own.has) || int(c.shared.rows) != len(shared.has) {
					t.Fatalf("%d and %d rows, want %v and %v", c.own.rows, c.shared.rows, own.has, shared.has)
				}
				if n := len(c.own.under) + len(c.shared.under); n > 2*most*(len(per)-1) {
					t.Fatalf("%d parents", n)
				}
			},
			"request": func(t *rapid.T) {
				values, q := draw(t)
				want := expect(values)
				r, _, err := l.Reserve(t.Context(), q)
				if err != nil || r == nil {
					t.Fatal(r, err)
				}
				r.Settle(Amount{})
				if got := valuesOf(r.layers[0].subject); got != want {
					t.Fatalf("%v counts in %q, want %q; there are %v and %v", values, got, want, own.has, shared.has)
				}
				delete(refused, want)
			},
			"refusal": func(t *rapid.T) {
				values, q := draw(t)
				q.Input = 5000
				before := [2]int{len(own.has), len(shared.has)}
				want := expect(values)
				r, d, err := l.Reserve(t.Context(), q)
				if err != nil || r != nil || valuesOf(d.Subject) != want {
					t.Fatalf("%v %+v %v, want a refusal of %q", r, d, err, want)
				}
				if before != [2]int{len(own.has), len(shared.has)} {
					refused[want] = true
				}
			},
			"sync": func(t *rapid.T) {
				if err := l.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				for s := range refused {
					delete(own.has, s)
					delete(shared.has, s)
				}
				clear(refused)
			},
			"restart": func(t *rapid.T) {
				if err := l.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				store = store.copied()
				o.Store = store
				if l, err = New(t.Context(), o); err != nil {
					t.Fatal(err)
				}
				for s := range refused {
					delete(own.has, s)
					delete(shared.has, s)
				}
				clear(refused)
			},
		})
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// The rule holds exactly, also if all come at once: in the end each team has as many as
// are free, and the one that got the last has one more at most.
func TestCrowdParallel(t *testing.T) {
	const most = 90
	l := open(t, Options{Store: newMemStore(), Limits: []Limit{{Name: "x", Amount: 1 << 40, Period: Day, Per: []string{"team", "user"}, MaxSubjects: most}}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				r, _, err := l.Reserve(t.Context(), ask(1, 1, "team", fmt.Sprint("t", g%2), "user", fmt.Sprint(i*7%200)))
				if err != nil || r == nil {
					t.Errorf("%v, %v", r, err)
					return
				}
				r.Settle(Amount{1, 1})
				if i%50 == 0 {
					_ = l.Sync(t.Context())
				}
			}
		})
	}
	wg.Wait()
	got, spent := make(map[string]int), int64(0)
	for _, b := range balances(t, l) {
		spent += b.Spent
		if b.Subject[1].Value != Overflow {
			got[b.Subject[0].Value]++
		}
	}
	few, many := min(got["t0"], got["t1"]), max(got["t0"], got["t1"])
	if free := most - few - many; few < free || few > free+1 || many > most/2 || spent != 8*200*2 {
		t.Errorf("%v counters, %d free, %d spent of %d", got, free, spent, 8*200*2)
	}
}
