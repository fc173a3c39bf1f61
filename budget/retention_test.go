package budget

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"testing"
	"time"
)

// window is an entry of a window that ended at a time before noon.
func window(limit, subject string, length, ago time.Duration) Entry {
	end := noon.Add(-ago)
	return Entry{Key: Key{Limit: limit, Subject: subject, Start: end.Add(-length).Unix(), End: end.Unix()}, Used: 1}
}

// TestKept: how long a window is kept goes by its length.
func TestKept(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		length, retention, want time.Duration
	}{
		{time.Minute, DefaultRetention, time.Hour},
		{time.Second, DefaultRetention, time.Minute}, // a cell of a rolling limit
		{5 * time.Second, DefaultRetention, 5 * time.Minute},
		{5 * time.Minute, DefaultRetention, 175 * time.Minute},
		{time.Hour, DefaultRetention, 35 * time.Hour},
		{23 * time.Hour, DefaultRetention, 35 * 23 * time.Hour}, // in spring
		{day, DefaultRetention, 35 * day},
		{25 * time.Hour, DefaultRetention, 35 * day},
		{31 * day, DefaultRetention, 35 * day},
		{366 * day, DefaultRetention, 35 * day},
		{time.Minute, 10 * time.Minute, 10 * time.Minute},
		{day, 2 * day, 2 * day},
		{day, 0, 0},
	} {
		s := &FileStore{retention: c.retention}
		now := noon.Unix()
		if e := window("a", "", c.length, c.want); s.expired(e, now) || !s.expired(e, now+1) {
			t.Errorf("a window of %s, retention %s, ended %s ago: kept for %d s", c.length, c.retention, c.want, s.kept(e))
		}
	}
	// A file may have any numbers.
	s := &FileStore{retention: DefaultRetention}
	for _, e := range []Entry{
		{Key: Key{Start: math.MinInt64, End: math.MaxInt64}}, {Key: Key{Start: math.MaxInt64, End: math.MinInt64}},
		{Key: Key{Start: 5, End: -5}}, {Key: Key{Start: math.MinInt64}},
	} {
		if n := s.kept(e); n < int64(keepAlways/time.Second) || n > int64(DefaultRetention/time.Second) {
			t.Errorf("%+v is kept for %d s", e, n)
		}
		if age, ok := s.age(e, noon.Unix()); ok && (age < 0 || age > ages) {
			t.Errorf("%+v has the age %d", e, age)
		}
	}
}

// TestSweep: a store that is half full keeps all windows for a shorter part of their
// time, and running ones as long as they run.
func TestSweep(t *testing.T) {
	c := newClock()
	s := openStore(t, t.TempDir(), WithClock(c.now))
	var all []Entry
	for i := range 1000 {
		subject := fmt.Sprint(i)
		all = append(all,
			Entry{Key: Key{Limit: "ever", Subject: subject}, Used: 1},
			window("running", subject, time.Hour, -time.Minute),
			window("just ended", subject, time.Minute, 59*time.Second),
			window("minute", subject, time.Minute, time.Minute+time.Duration(i)*3*time.Second),
			window("day", subject, 24*time.Hour, time.Hour+time.Duration(i)*40*time.Minute), // ten times their length
			window("long ago", subject, time.Minute, time.Hour+time.Second),
		)
	}
	put(t, s, all...)
	for _, step := range []struct {
		most int
		want map[string]int
	}{
		// What has expired goes first.
		{10_100, map[string]int{"ever": 1000, "running": 1000, "just ended": 1000, "minute": 1000, "day": 1000}},
		// Then minutes are kept for 43 minutes, and days for 25 days: 72 % of their time.
		{9_500, map[string]int{"ever": 1000, "running": 1000, "just ended": 1000, "minute": 843, "day": 905}},
		// What runs or has just ended stays, even if the store is more than full.
		{1_000, map[string]int{"ever": 1000, "running": 1000, "just ended": 1000}},
	} {
		s.most = step.most
		s.sweep()
		got := make(map[string]int)
		var bytes int64
		for _, e := range s.entries {
			got[e.Key.Limit]++
			bytes += entrySize(e)
		}
		if s.bytes != bytes {
			t.Errorf("%d bytes are accounted for, it is %d", s.bytes, bytes)
		}
		if !maps.Equal(got, step.want) {
			t.Errorf("most %d: %v, want %v", step.most, got, step.want)
		}
	}
}

// TestFloodOfWindows: however many counters limits of short periods make in the course of
// time, the store has room for new ones; and those that still count are not lost.
func TestFloodOfWindows(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	limits := []Limit{
		{Name: "all", Amount: 1 << 40, Period: Day},
		{Name: "user", Amount: 1000, Period: Minute, Per: []string{"user"}},
	}
	var l *Ledger
	var s *FileStore
	start := func() {
		s = openStore(t, dir, WithClock(c.now), func(s *FileStore) { s.most = 1000 })
		l = open(t, Options{Now: c.now, Store: s, Limits: limits})
	}
	start()
	const minutes, users = 180, 100
	for minute := range minutes {
		for user := range users {
			r, d, err := l.Reserve(t.Context(), ask(1, 1, "user", fmt.Sprintf("%d-%d", minute, user)))
			if err != nil || r == nil {
				t.Fatalf("minute %d, user %d: %+v, %v", minute, user, d, err)
			}
			r.Settle(Amount{1, 1})
		}
		syncNow(t, l)
		until(t, "the store is about half full again", func() bool {
			s.mu.RLock()
			defer s.mu.RUnlock()
			return s.fill() <= fillHalf
		})
		c.add(time.Minute)
		if minute == minutes/2 { // with all that the journal has
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			start()
		}
	}
	if n := len(content(t, dir)); n < minutes*users {
		t.Errorf("the journal has %d entries: there was no flood", n)
	}
	for _, b := range balances(t, l) {
		if b.Limit == "all" && b.Spent != 2*minutes*users {
			t.Errorf("the day has %d", b.Spent)
		}
	}
}

// TestFullOfWindows: a store that is full of running windows has room again when they
// have ended, though nothing could be put meanwhile.
func TestFullOfWindows(t *testing.T) {
	c := newClock()
	s := openStore(t, t.TempDir(), WithClock(c.now))
	s.most, s.sweepEvery = 4, 0
	l := open(t, Options{Now: c.now, Store: s, Limits: []Limit{{Name: "user", Amount: 1000, Period: Minute, Per: []string{"user"}}}})
	for user := range s.most {
		reserve(t, l, ask(1, 1, "user", fmt.Sprint(user))).Settle(Amount{1, 1})
	}
	for range 100 {
		if _, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "new")); !errors.Is(err, ErrFull) {
			t.Fatalf("in a full store: %v", err)
		}
	}
	c.add(2 * time.Minute)
	until(t, "there is room", func() bool {
		r, _, err := l.Reserve(t.Context(), ask(1, 1, "user", "new"))
		return err == nil && r != nil
	})
}

// TestSweepBesideSnapshots: sweeps, snapshots and writes at the same time lose nothing that
// runs, on disk neither, and the books are right.
func TestSweepBesideSnapshots(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	s := openStore(t, dir, WithClock(c.now), func(s *FileStore) { s.most, s.sweepEvery, s.rotateAt = 3000, 0, 1<<14 })
	last := make([]Entry, 1000)
	for round := range 100 {
		ended := make([]Entry, 200)
		for i := range ended {
			ended[i] = window("minute", fmt.Sprintf("%d-%d", round, i), time.Minute, time.Duration(2+i%50)*time.Minute)
		}
		for i := range last[:round*10] {
			last[i] = Entry{Key: Key{Limit: "ever", Subject: fmt.Sprint(i)}, Used: int64(round)}
		}
		put(t, s, append(ended, last[:round*10]...)...)
	}
	waitSnapshot(s)
	s.sweep()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, entries := range []map[Key]Entry{s.entries, openStore(t, dir, WithClock(c.now)).entries} {
		for _, want := range last[:990] {
			if got := entries[want.Key]; got != want {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
	}
	var bytes int64
	for _, e := range s.entries {
		bytes += entrySize(e)
	}
	if bytes != s.bytes || len(s.entries) > 1500 {
		t.Errorf("%d entries of %d bytes; %d bytes are accounted for", len(s.entries), bytes, s.bytes)
	}
}

// until waits for a condition, but not forever.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 60_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

// A clock that jumps ahead and back takes nothing from the windows that run; one that stays
// ahead is right.
func TestRunawayClock(t *testing.T) {
	for _, drop := range []struct {
		name string
		f    func(*FileStore) error
	}{
		{"snapshot", func(s *FileStore) error { return s.snapshot(s.next) }},
		{"sweep", func(s *FileStore) error { s.sweep(); return nil }},
	} {
		t.Run(drop.name, func(t *testing.T) {
			wall, passed := noon, time.Duration(0)
			s := openStore(t, t.TempDir())
			s.clock = newSober(func() time.Time { return wall }, func() time.Duration { return passed })
			// They expire when a minute has passed, an hour and a half, and six hours.
			old, soon, long := window("old", "", time.Minute, 59*time.Minute), window("soon", "", time.Minute, -30*time.Minute), window("long", "", time.Minute, -5*time.Hour)
			put(t, s, old, soon, long)
			for _, step := range []struct {
				name         string
				ahead        time.Duration
				passed       time.Duration
				old, soon, l bool
			}{
				{"right", 0, 0, true, true, true},
				{"ahead", 48 * time.Hour, time.Second, true, true, true},
				{"back", 0, 2 * time.Second, true, true, true},
				{"ahead again", 48 * time.Hour, time.Hour, false, true, true}, // the time that has passed counts
				{"ahead for long", 48 * time.Hour, time.Hour + 59*time.Minute, false, false, true},
				{"behind", -time.Hour, time.Hour + 59*time.Minute, false, false, true},
				{"ahead a third time", 48 * time.Hour, 2 * time.Hour, false, false, true},
				{"ahead for too long", 48 * time.Hour, 3 * time.Hour, false, false, false},
			} {
				wall, passed = noon.Add(step.passed+step.ahead), step.passed
				if err := drop.f(s); err != nil {
					t.Fatal(err)
				}
				for e, want := range map[Entry]bool{old: step.old, soon: step.soon, long: step.l} {
					if _, ok, err := s.Get(t.Context(), e.Key); err != nil || ok != want {
						t.Errorf("%s: %s is there: %t, %v", step.name, e.Key.Limit, ok, err)
					}
				}
			}
		})
	}
}
