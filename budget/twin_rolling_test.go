package budget

import (
	"fmt"
	"slices"
	"time"
)

// The twin of a rolling limit remembers every single request.

var twinRolling = []Period{
	Period(time.Second), Period(7 * time.Second), Period(61 * time.Second), Period(90 * time.Second),
	Period(5 * time.Minute), Period(24 * time.Hour), Period(30 * 24 * time.Hour),
}

// twinGrant is what a request was granted by a rolling limit.
type twinGrant struct {
	at          time.Time
	spent, held int64
}

func (r *twinRow) rolling() bool { return !r.single && r.limit.Period.Rolling() }

// rollingOf is the period of a rolling limit; else 0.
func rollingOf(l Limit) Period {
	if l.Period.Rolling() {
		return l.Period
	}
	return 0
}

// holds is how much output a reservation has on a row.
func (t *twinReservation) holds(r *twinRow) int64 {
	if i := slices.Index(t.rows, r); i >= 0 {
		return t.has(i)
	}
	return 0
}

// steps tells how the window of a row moves: in steps of so many seconds, and how many
// of them it lasts. Each is a whole number, with as few seconds to a step as make no more
// than 60 steps.
func (w *twin) steps(r *twinRow) (seconds, many int64) {
	s := twinSteps[r.limit.Period]
	return s[0], s[1]
}

var twinSteps = func() map[Period][2]int64 {
	steps := make(map[Period][2]int64)
	for _, p := range twinRolling {
		length, seconds, many := int64(time.Duration(p).Seconds()), int64(1), int64(1)
		for 60*seconds < length {
			seconds++
		}
		for many*seconds < length {
			many++
		}
		steps[p] = [2]int64{seconds, many}
	}
	return steps
}()

// stepOf is in which step of a row's window t lies.
func (w *twin) stepOf(r *twinRow, t time.Time) int64 {
	seconds, _ := w.steps(r)
	return t.Unix() / seconds // it is not 1969
}

// counts is whether what was granted at the one time counts at the other.
func (w *twin) counts(r *twinRow, granted, at time.Time) bool {
	_, many := w.steps(r)
	distance := w.stepOf(r, at) - w.stepOf(r, granted)
	return -many <= distance && distance <= many
}

func (w *twin) used(r *twinRow) int64 {
	used := r.spent + r.held
	for _, g := range r.grants {
		used += g.held
		if w.counts(r, g.at, w.now()) {
			used += g.spent
		}
	}
	return used
}

// fullest is the most that any window with the given time has.
func (w *twin) fullest(r *twinRow, at time.Time) (most int64) {
	_, many := w.steps(r)
	own := w.stepOf(r, at)
	for end := own; end <= own+many; end++ {
		sum := int64(0)
		for _, g := range r.grants {
			if n := w.stepOf(r, g.at); end-many <= n && n <= end {
				sum += g.spent + g.held
			}
		}
		most = max(most, sum)
	}
	if own == w.stepOf(r, w.now()) {
		return 0 // used has it, and what lies in the future
	}
	return most
}

// hold holds n for a request.
func (w *twin) hold(r *twinRow, n int64, at time.Time) (g *twinGrant) {
	if r.rolling() {
		g = &twinGrant{at: at}
		r.grants = append(r.grants, g)
	}
	r.add(g, 0, n)
	return g
}

func (r *twinRow) add(g *twinGrant, spent, held int64) {
	if g != nil {
		g.spent += spent
		g.held += held
		return
	}
	r.spent += spent
	r.held += held
}

// stored is what a store has of the row: that nobody will settle what is held.
func (r *twinRow) stored() twinRow {
	s := *r
	s.grants = nil
	for _, g := range r.grants {
		s.grants = append(s.grants, &twinGrant{g.at, g.spent + g.held, 0})
	}
	return s
}

// allLeft is whether nothing counts any more, and will not when time goes on.
func (w *twin) allLeft(r *twinRow) bool {
	return !slices.ContainsFunc(r.grants, func(g *twinGrant) bool {
		return w.counts(r, g.at, w.now()) || g.at.After(w.now())
	})
}

// windowOf is the row's window. That of a rolling limit ends when a request that needs so
// much has room, if what is held is settled; or with 0 when the first charge leaves.
func (w *twin) windowOf(r *twinRow, needs int64) Window {
	if !r.rolling() {
		return r.window
	}
	now := w.now()
	seconds, many := w.steps(r)
	present := w.stepOf(r, now)
	end := present * seconds // nothing counts
	for n := present - many; n <= present+many; n++ {
		if w.in(r, n) > 0 {
			end = (n + many + 1) * seconds
			if needs == 0 {
				break
			}
		}
	}
	for next := present + 1; needs > 0 && next <= present+2*many+1; next++ {
		left := int64(0)
		for n := present - many; n <= present+many; n++ {
			if n+many >= next {
				left += w.in(r, n)
			}
		}
		if left+needs <= w.ceiling(r) {
			end = next * seconds
			break
		}
	}
	return Window{now.Add(-time.Duration(r.limit.Period)), time.Unix(end, 0)}
}

// in is what was granted in a step.
func (w *twin) in(r *twinRow, step int64) (sum int64) {
	for _, g := range r.grants {
		if w.stepOf(r, g.at) == step {
			sum += g.spent + g.held
		}
	}
	return sum
}

// rollingBalance is a line of balances; false if nothing counts.
func (w *twin) rollingBalance(r *twinRow, order int) (string, bool) {
	l, spent, held, counts := w.limits[order], int64(0), int64(0), false
	some := false
	for _, g := range r.grants {
		held += g.held
		counts = counts || g.held > 0
		if w.counts(r, g.at, w.now()) {
			counts = true
			spent += g.spent
			some = some || g.spent+g.held > 0
		}
	}
	window := w.windowOf(r, 0)
	if !some {
		window.End = w.now()
	}
	return fmt.Sprintf("%d %s %s %s %s %d spent %d held %d", order, l.Name, l.Unit, r.subject+"rolling ", utc(window), w.amount(r), spent, held), counts
}

// known is whether the rows of r know their window: after a clock was set back they learn
// it from the store with the next request, and tell of the former one until then.
func (m *machine) known(r *Reservation) bool {
	for _, w := range r.layers {
		if h := w.history; h != nil {
			h.mu.Lock()
			known := h.knows(h.cell(m.clock.now().Unix()))
			h.mu.Unlock()
			if !known {
				return false
			}
		}
	}
	return true
}
