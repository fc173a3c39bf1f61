package budget

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones below, wherever the test runs
)

var calendarPeriods = []Period{Day, Week, Month, Quarter, Year}

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestParsePeriod(t *testing.T) {
	names := []string{"minute", "hour", "day", "week", "month", "quarter", "year", "total"}
	for i, name := range names {
		p, err := ParsePeriod(name)
		if err != nil || p != Period(i+1) || p.String() != name {
			t.Errorf("ParsePeriod(%q) = %v, %v", name, p, err)
		}
	}
	for _, bad := range []string{"", "Day", "days", "5x", " day"} {
		_, err := ParsePeriod(bad)
		if err == nil {
			t.Errorf("ParsePeriod(%q) succeeded", bad)
			continue
		}
		for _, name := range names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the error for %q does not name %s: %v", bad, name, err)
			}
		}
	}
	if got := Period(0).String(); got != "Period(0)" {
		t.Errorf("zero period is called %q", got)
	}
}

func TestWindow(t *testing.T) {
	for _, c := range []struct{ zone, at, period, start, end string }{
		// Usual days.
		{"UTC", "2026-03-04T15:16:17Z", "minute", "2026-03-04T15:16:00Z", "2026-03-04T15:17:00Z"},
		{"UTC", "2026-03-04T15:16:17Z", "hour", "2026-03-04T15:00:00Z", "2026-03-04T16:00:00Z"},
		{"UTC", "2026-03-04T15:16:17Z", "quarter", "2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"},
		{"UTC", "2026-03-04T15:16:17Z", "year", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"Asia/Kathmandu", "2026-03-04T15:16:17Z", "hour", "2026-03-04T15:15:00Z", "2026-03-04T16:15:00Z"},
		{"Asia/Kathmandu", "2026-03-04T15:16:17Z", "day", "2026-03-03T18:15:00Z", "2026-03-04T18:15:00Z"},
		// The instant of an end belongs to the next window.
		{"UTC", "2026-03-04T23:59:59.999999999Z", "day", "2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"},
		{"UTC", "2026-03-05T00:00:00Z", "day", "2026-03-05T00:00:00Z", "2026-03-06T00:00:00Z"},
		// Weeks begin on Monday, also over the end of a year.
		{"UTC", "2026-03-02T00:00:00Z", "week", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"},
		{"UTC", "2026-03-01T23:59:59Z", "week", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"UTC", "2027-01-01T12:00:00Z", "week", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
		// Ends of months and leap days.
		{"UTC", "2026-01-31T12:00:00Z", "month", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
		{"UTC", "2026-02-28T12:00:00Z", "month", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"UTC", "2028-02-29T12:00:00Z", "day", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"UTC", "2028-02-29T12:00:00Z", "month", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"UTC", "2028-12-31T12:00:00Z", "year", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"},
		{"UTC", "2026-12-31T12:00:00Z", "quarter", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"UTC", "2100-02-28T12:00:00Z", "month", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"},
		// A day of 23 hours and one of 25.
		{"Europe/Berlin", "2026-03-29T12:00:00Z", "day", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", "2026-10-25T12:00:00Z", "day", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		// The hour that the clock shows twice.
		{"Europe/Berlin", "2026-10-25T00:30:00Z", "hour", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{"Europe/Berlin", "2026-10-25T01:30:00Z", "hour", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
		// A change by half an hour cuts the hours at both sides of it.
		{"Australia/Lord_Howe", "2026-10-03T15:40:00Z", "hour", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"},
		{"Australia/Lord_Howe", "2026-04-04T15:10:00Z", "hour", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"},
		// Midnight does not exist.
		{"America/Sao_Paulo", "2018-11-04T12:00:00Z", "day", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		{"Africa/Cairo", "2024-04-26T12:00:00Z", "day", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"},
		// Midnight exists twice.
		{"America/Havana", "2024-11-03T12:00:00Z", "day", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"},
		// A minute after midnight the clock went back to the day before.
		{"America/St_Johns", "2006-10-29T02:45:00Z", "day", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z"},
		// A Friday that did not take place.
		{"Pacific/Apia", "2011-12-30T09:59:59Z", "day", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"Pacific/Apia", "2011-12-30T10:00:00Z", "day", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
	} {
		p, err := ParsePeriod(c.period)
		if err != nil {
			t.Fatal(err)
		}
		loc := location(t, c.zone)
		w := p.Window(instant(t, c.at), loc)
		if !w.Start.Equal(instant(t, c.start)) || !w.End.Equal(instant(t, c.end)) {
			t.Errorf("%s of %s in %s:\n got %s to %s\nwant %s to %s", c.period, c.at, c.zone,
				w.Start.UTC().Format(time.RFC3339), w.End.UTC().Format(time.RFC3339), c.start, c.end)
		}
		if w.Start.Location() != loc || w.End.Location() != loc {
			t.Errorf("%s of %s in %s: the times are in %s and %s", c.period, c.at, c.zone, w.Start.Location(), w.End.Location())
		}
	}
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWindowTotal(t *testing.T) {
	now := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	w := Total.Window(now, nil)
	if w.Start.Unix() != 0 || !w.End.IsZero() || !w.Contains(now) || w.length() != 0 {
		t.Errorf("Total.Window = %+v", w)
	}
	if later := Total.Window(now.AddDate(50, 0, 0), nil); later != w {
		t.Errorf("50 years later it is %+v, before %+v", later, w)
	}
}

func TestWindowUnknownPeriod(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a window of the zero period did not panic")
		}
	}()
	Period(0).Window(time.Now(), nil)
}

// TestWindowChanges walks in half minutes over the days around every change of the
// clock and every end of a month in a year, and compares the windows with what the
// local clock shows.
func TestWindowChanges(t *testing.T) {
	for _, c := range []struct {
		zone    string
		year    int
		changes int
	}{
		{"Europe/Berlin", 2026, 2},
		{"America/New_York", 2026, 2},
		{"Australia/Lord_Howe", 2026, 2}, // by half an hour
		{"America/Sao_Paulo", 2018, 2},   // at midnight
		{"America/Havana", 2024, 2},      // at midnight
		{"Africa/Cairo", 2024, 2},        // at midnight
		{"America/St_Johns", 2006, 2},    // one minute after midnight
		{"Pacific/Apia", 2011, 3},        // over the date line
		{"Africa/Casablanca", 2026, 2},   // for Ramadan
		{"Asia/Kathmandu", 2026, 0},
	} {
		t.Run(strings.ReplaceAll(c.zone, "/", "_"), func(t *testing.T) {
			t.Parallel()
			loc := location(t, c.zone)
			at := time.Date(c.year, 1, 1, 0, 0, 0, 0, loc)
			changes := 0
			for {
				_, next := at.ZoneBounds()
				if next.IsZero() || next.Year() > c.year {
					break
				}
				changes++
				walk(t, next.Add(-50*time.Hour), next.Add(50*time.Hour), loc)
				at = next
			}
			if changes != c.changes {
				t.Fatalf("%d changes of the clock, want %d", changes, c.changes)
			}
			for m := range 12 {
				first := time.Date(c.year, time.Month(m+1), 1, 0, 0, 0, 0, time.UTC)
				walk(t, first.Add(-26*time.Hour), first.Add(26*time.Hour), loc)
			}
		})
	}
}

func walk(t *testing.T, from, to time.Time, loc *time.Location) {
	const step = 30 * time.Second
	before := from.Add(-step)
	newest := make(map[Period]int)
	last := make(map[Period]Window)
	check := func(p Period, at time.Time, begins bool) {
		w := p.Window(at, loc)
		if !w.Contains(at) {
			t.Fatalf("%s: %s is not in its window %v", p, at.In(loc), w)
		}
		old, ok := last[p]
		last[p] = w
		switch {
		case !ok:
		case !begins && w != old:
			t.Fatalf("%s: at %s the window changes from %v to %v", p, at.In(loc), old, w)
		case begins && (!w.Start.Equal(at) || !old.End.Equal(at)):
			t.Fatalf("%s: a window should begin at %s; it is %v after %v", p, at.In(loc), w, old)
		}
	}
	for at := from.Truncate(step); at.Before(to); at = at.Add(step) {
		local := at.In(loc)
		_, offset := local.Zone()
		_, old := before.In(loc).Zone()
		check(Minute, at, local.Second() == 0 || offset != old)
		check(Hour, at, (local.Second() == 0 && local.Minute() == 0) || offset != old)
		for _, p := range calendarPeriods {
			n := ordinal(p, local)
			begins := n > newest[p]
			newest[p] = max(n, newest[p])
			check(p, at, begins)
		}
		before = at
	}
}

// ordinal numbers the windows of a calendar period by what the local clock shows.
func ordinal(p Period, t time.Time) int {
	y, m, d := t.Date()
	days := int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
	months := y*12 + int(m) - 1
	switch p {
	case Day:
		return days
	case Week:
		return (days + 3) / 7 // 1970-01-01 was a Thursday
	case Month:
		return months
	case Quarter:
		return months / 3
	}
	return y
}
