package budget

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A rolling period is a Period of so many nanoseconds, such as Period(5*time.Minute):
// whole seconds between these two. See the file rolling.go for how it is kept.
const (
	MinRolling = time.Second
	MaxRolling = 366 * 24 * time.Hour
)

// Rolling reports whether p is a rolling period: its window is the time up to now.
func (p Period) Rolling() bool {
	d := time.Duration(p)
	return d >= MinRolling && d <= MaxRolling && d%time.Second == 0
}

// rollingUnits are the units of a rolling period, in the order in which they stand.
var rollingUnits = [...]struct {
	sign byte
	d    time.Duration
}{{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

// parseRolling reads a duration such as 1h30m: whole numbers with their units, the
// greatest first.
func parseRolling(s string) (Period, error) {
	var sum time.Duration
	rest := s
	for _, u := range rollingUnits {
		digits := 0
		for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
			digits++
		}
		if digits == 0 || digits == len(rest) || rest[digits] != u.sign {
			continue
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil || n > int64(MaxRolling/u.d) {
			return 0, errRollingRange
		}
		sum += time.Duration(n) * u.d
		rest = rest[digits+1:]
	}
	switch {
	case s == "" || rest != "":
		return 0, errNotRolling
	case !Period(sum).Rolling():
		return 0, errRollingRange
	}
	return Period(sum), nil
}

var (
	errNotRolling   = errors.New("use whole numbers with w, d, h, m and s in this order, such as 90s or 1h30m")
	errRollingRange = fmt.Errorf("a rolling period lasts between %s and 366d", MinRolling)
)

// rollingString writes a rolling period so that parseRolling reads it: in hours,
// minutes and seconds, from two days on in days, too. So "24h" is not taken for a day.
func rollingString(d time.Duration) string {
	var b []byte
	for _, u := range rollingUnits[1:] {
		n := d / u.d
		if n == 0 || u.sign == 'd' && n == 1 {
			continue
		}
		b = append(strconv.AppendInt(b, int64(n), 10), u.sign)
		d %= u.d
	}
	return string(b)
}
