package budget

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Period is how long a window of a limit lasts and where it begins. The zero
// value is no period and is refused by [New].
//
// The named periods are small numbers. Values from one second (in nanoseconds) upwards
// are rolling periods, whose window is always the time up to now: Period(5*time.Minute).
type Period int64

// The calendar periods. Each is aligned to the clock and calendar of a place.
const (
	Minute  Period = iota + 1
	Hour           // on the hour of the local clock
	Day            // from local midnight
	Week           // from Monday
	Month          // from the 1st
	Quarter        // from the 1st of January, April, July and October
	Year           // from the 1st of January
	Total          // one window that never ends
)

// periodNames has the name of each named period, in the order of the constants.
var periodNames = [...]string{
	Minute: "minute", Hour: "hour", Day: "day", Week: "week",
	Month: "month", Quarter: "quarter", Year: "year", Total: "total",
}

// ParsePeriod reads a period as it stands in the configuration: a name, or a rolling
// duration such as 90s, 5m, 1h30m, 24h, 30d or 2w, between [MinRolling] and
// [MaxRolling]. The error lists what is allowed.
func ParsePeriod(s string) (Period, error) {
	if i := slices.Index(periodNames[1:], s); i >= 0 {
		return Period(i + 1), nil
	}
	p, err := parseRolling(s)
	if err != nil {
		return 0, fmt.Errorf("unknown period %q: use one of %s; or a rolling one: %w", s, strings.Join(periodNames[1:], ", "), err)
	}
	return p, nil
}

// String returns the name that [ParsePeriod] reads.
func (p Period) String() string {
	switch {
	case p.Rolling():
		return rollingString(time.Duration(p))
	case !p.valid():
		return fmt.Sprintf("Period(%d)", int64(p))
	}
	return periodNames[p]
}

func (p Period) valid() bool { return Minute <= p && p <= Total || p.Rolling() }

// Window is one run of a period: the instants from Start up to, not including,
// End. Both lie on whole seconds, unless the period is a rolling one.
type Window struct {
	Start time.Time // the Unix epoch for a period that never ends
	End   time.Time // zero for a period that never ends
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t time.Time) bool {
	return !t.Before(w.Start) && (w.End.IsZero() || t.Before(w.End))
}

// length is how long the window lasts; 0 if it never ends.
func (w Window) length() time.Duration {
	if w.End.IsZero() {
		return 0
	}
	return w.End.Sub(w.Start)
}

// Window returns the window which holds t, by the calendar and clock of loc (nil
// is UTC). The windows of a period follow each other without gap or overlap,
// whatever the clock of the place does:
//
//   - A day or longer begins at the first instant whose local date is reached.
//     Where the clock skips midnight that is the instant of the change; where it
//     shows midnight twice, the first one. A date that is shown again after the
//     next one has begun belongs to the next one.
//   - Hours and minutes are those of the local clock, cut at a change of the
//     clock: none is longer than its name says, and an hour which the clock shows
//     twice is two windows.
//
// Of a rolling period it is the time up to t: from t less the period up to, not
// including, t.
//
// It panics if p is no period.
func (p Period) Window(t time.Time, loc *time.Location) Window {
	if loc == nil {
		loc = time.UTC
	}
	if p.Rolling() {
		return Window{Start: t.Add(-time.Duration(p)).In(loc), End: t.In(loc)}
	}
	switch p {
	case Total:
		return Window{Start: time.Unix(0, 0).In(loc)}
	case Minute:
		return clockWindow(t.In(loc), 60)
	case Hour:
		return clockWindow(t.In(loc), 3600)
	case Day, Week, Month, Quarter, Year:
		return p.calendarWindow(t.In(loc))
	}
	panic("budget: Window of unknown " + p.String())
}

// clockWindow returns the window of size seconds on the clock of t's location,
// cut at the changes of the clock next to it.
func clockWindow(t time.Time, size int64) Window {
	loc := t.Location()
	_, offset := t.Zone()
	local := t.Unix() + int64(offset)
	start := local - floorMod(local, size) - int64(offset)
	w := Window{Start: time.Unix(start, 0).In(loc), End: time.Unix(start+size, 0).In(loc)}
	if c, ok := change(w.Start, t); ok {
		w.Start = c
	}
	if c, ok := change(t, w.End); ok {
		w.End = c
	}
	return w
}

// floorMod is a modulo m for m > 0, never negative.
func floorMod(a, m int64) int64 { return (a%m + m) % m }

// calendarWindow returns the window of a period of whole days.
func (p Period) calendarWindow(t time.Time) Window {
	loc := t.Location()
	y, m, d := t.Date()
	days, months := 0, 0 // from one window to the next
	switch p {
	case Day:
		days = 1
	case Week:
		d -= int(t.Weekday()+6) % 7 // back to Monday
		days = 7
	case Month:
		d, months = 1, 1
	case Quarter:
		m, d, months = m-(m-1)%3, 1, 3
	case Year:
		m, d, months = time.January, 1, 12
	}
	w := Window{
		Start: firstInstant(y, m, d, loc),
		End:   firstInstant(y, m+time.Month(months), d+days, loc),
	}
	for n := 2; !t.Before(w.End); n++ { // the local date is shown a second time, see Window
		w.Start, w.End = w.End, firstInstant(y, m+time.Month(n*months), d+n*days, loc)
	}
	return w
}

// firstInstant returns the first instant at which the clock in loc shows the given
// date or a later one. Month and day may lie outside their usual ranges.
//
// [time.Date] does not promise which instant it returns for a midnight that does
// not exist or exists twice, so this walks over the stretches of constant offset.
func firstInstant(y int, m time.Month, d int, loc *time.Location) time.Time {
	midnight := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	// No place is more than 26 hours away from UTC: before, the date is not yet
	// reached anywhere, and afterwards it is everywhere.
	const farthest = 26
	at := midnight.Add(-farthest * time.Hour).In(loc)
	if o := offset(at); o == offset(midnight.In(loc)) && o == offset(midnight.Add(farthest*time.Hour).In(loc)) {
		return midnight.Add(-o).In(loc) // no change near, as on most days; none is undone within a day
	}
	for range 2 * farthest {
		next := at.Add(time.Hour)
		if c, ok := change(at, next); ok {
			if first := shows(midnight, at); first.Before(c) {
				return first
			}
			at = c
		}
		if first := shows(midnight, at); first.Before(next) {
			return first
		}
		at = next
	}
	return at
}

// shows returns when the clock shows midnight or a later time, from the instant at
// on, if its offset stays as it is then.
func shows(midnight, at time.Time) time.Time {
	first := midnight.Add(-offset(at)).In(at.Location())
	if first.Before(at) {
		return at
	}
	return first
}

// change returns the instant after from, and not after to, since which the clock of
// their location has the offset that it has at to, if that is another than at from.
// They lie an hour apart at the most, and no clock changes twice in that time.
//
// [time.Time.ZoneBounds] would tell, were it right: where a zone goes on by a rule,
// it reckons each year with 365 days, so that on 31 December of a leap year the
// end that it gives lies in the past, and it takes each New Year for a change.
func change(from, to time.Time) (time.Time, bool) {
	if offset(from) == offset(to) {
		return time.Time{}, false
	}
	loc := from.Location()
	before, after := from.Unix(), to.Unix() // offsets change on whole seconds
	for after-before > 1 {
		middle := before + (after-before)/2
		if offset(time.Unix(middle, 0).In(loc)) == offset(to) {
			after = middle
		} else {
			before = middle
		}
	}
	return time.Unix(after, 0).In(loc), true
}

// offset is how far the clock of t's location is ahead of UTC.
func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}
