package budget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// twin is a ledger that is too simple to be wrong: a list of counters, looked through
// from end to end, without concurrency, cache or store. The real ledger must agree
// with it after every action.
type twin struct {
	limits []Limit
	step   int64
	stored bool // whether it plays a ledger with a store
	now    func() time.Time
	rows   []*twinRow
	synced []twinRow // what the store has
}

type twinRow struct {
	limit       Limit // that it was made for
	last        int64 // amount when that limit was there last
	single      bool  // no counter: a limit per request
	subject     string
	window      Window
	spent, held int64 // nothing if the limit is a rolling one: its grants have it
	open        int
	grants      []*twinGrant
}

type twinReservation struct {
	rows   []*twinRow
	as     []Limit      // what each row was for at admission
	grants []*twinGrant // of each row; nil if it is not of a rolling limit
	at     time.Time    // of the admission
	first  []int64      // output held on each row at admission
	would  []ShadowOutcome
	// wouldHold is output that each row would hold, if its limit did more than watch.
	wouldHold []int64
	input     int64
	granted   int64    // output, at admission
	level     int64    // output that all rows hold
	cap       int64    // of the output
	capped    *twinRow // by whom
	watched   []twinWatched
}

// twinWatched is a limit per request that only watches.
type twinWatched struct {
	name   string
	most   int64
	denied bool
}

// matches is Match, for the globs that are drawn: a text, or * behind a text.
func (w *twin) matches(l Limit, q Request) bool {
	for _, c := range l.Match {
		value := map[Property]string{OfIdentity: None, OfModel: q.Model, OfPath: q.Path}[c.Property]
		for _, id := range append(slices.Clone(q.Identities), q.Headers...) {
			if id.Name == c.Name {
				value = id.Value
			}
		}
		if !slices.ContainsFunc(c.Any, func(g string) bool {
			text, star := strings.CutSuffix(g, "*")
			return g == value || star && strings.HasPrefix(value, text) && (c.Property != OfHeader || value != "")
		}) {
			return false
		}
	}
	return true
}

// order is the place of the limit that a row counts for now; -1 if there is none.
func (w *twin) order(r *twinRow) int {
	return slices.IndexFunc(w.limits, func(l Limit) bool {
		return l.Name == r.limit.Name && l.Unit == r.limit.Unit && l.PerRequest == r.single &&
			(r.single || slices.Equal(l.Per, r.limit.Per) && rollingOf(l) == rollingOf(r.limit) &&
				twinWindow(l, r.window.Start).End.Equal(r.window.End) && twinWindow(l, r.window.Start).Start.Equal(r.window.Start))
	})
}

func twinWindow(l Limit, t time.Time) Window {
	if l.Period == 0 || l.Period.Rolling() {
		return Total.Window(t, nil)
	}
	return l.Period.Window(t, l.Location)
}

// amount is what a row may use.
func (w *twin) amount(r *twinRow) int64 {
	if r.single {
		return r.limit.Amount
	}
	if i := w.order(r); i >= 0 {
		return amountOf(w.limits[i], r.subject)
	}
	return r.last
}

func amountOf(l Limit, of string) int64 {
	for _, o := range l.Overrides {
		subject := ""
		for _, name := range l.Per {
			for _, id := range o.Subject {
				if id.Name == name {
					subject += name + "=" + id.Value + " "
				}
			}
		}
		if subject == of {
			return o.Amount
		}
	}
	return l.Amount
}

// change puts other limits in place.
func (w *twin) change(limits []Limit) {
	for _, r := range w.rows {
		r.last = w.amount(r)
	}
	w.limits = limits
}

func (w *twin) row(l Limit, q Request, now time.Time) *twinRow {
	subject := ""
	for _, name := range l.Per {
		value := None
		for _, id := range slices.Backward(q.Identities) {
			if id.Name == name {
				value = id.Value
			}
		}
		if name == ByModel {
			value = q.Model
		}
		subject += name + "=" + value + " "
	}
	window := twinWindow(l, now)
	for _, r := range w.rows {
		if r.limit.Name == l.Name && r.limit.Unit == l.Unit && r.subject == subject && rollingOf(r.limit) == rollingOf(l) && r.window.Start.Equal(window.Start) && r.window.End.Equal(window.End) {
			return r
		}
	}
	r := &twinRow{limit: l, subject: subject, window: window}
	return r // joins rows when something is granted
}

func (w *twin) ceiling(r *twinRow) int64 {
	ceiling := w.amount(r)
	if u := r.limit.Unit; u != Requests && u != Streams {
		ceiling -= min(32, ceiling*2/100)
	}
	return ceiling
}

// room is what a request may take that was admitted some time.
func (w *twin) room(r *twinRow, admitted time.Time) int64 {
	used := w.used(r)
	if r.rolling() {
		used = max(used, w.fullest(r, admitted))
	}
	return w.ceiling(r) - used
}

// holds is what a hold of input and output is in each unit.
func holds(u Unit, input, output int64) int64 {
	switch u {
	case Tokens:
		return input + output
	case InputTokens:
		return input
	case OutputTokens:
		return output
	}
	return 1
}

// countsOutput is what holds says of it.
func (r *twinRow) countsOutput() bool {
	return holds(r.limit.Unit, 0, 1) > holds(r.limit.Unit, 0, 0)
}

// needs is what a limit must have room for at admission.
func needs(l Limit, q Request, output, full int64) int64 {
	switch {
	case l.Action == ActionShadow:
		return 0
	case l.Admission == AdmitFull:
		return holds(l.Unit, q.Input, full)
	case l.Admission == AdmitNone, l.Action != ActionCut:
		return holds(l.Unit, q.Input, q.MinOutput)
	}
	return holds(l.Unit, q.Input, output)
}

// grant counts down to the greatest output that all rows can give.
func (w *twin) grant(t *twinReservation, q Request, want, full int64) (output int64, refused *twinRow) {
	fits := func(i int, output int64) bool {
		n := needs(t.as[i], q, output, full)
		return n == 0 || n <= w.room(t.rows[i], t.at)
	}
	worst := q.MinOutput // of what can be granted
	if q.Whole {
		worst = want
	}
	for output = want; output >= worst; output-- {
		all := true
		for i := range t.rows {
			all = all && fits(i, output)
		}
		if all {
			return output, nil
		}
	}
	throttled, hopeless := false, false // whether refused throttles, and never has so much room
	least := int64(0)                   // what it needs
	for i, r := range t.rows {
		throttles, n := t.as[i].Action == ActionThrottle, needs(t.as[i], q, worst, full)
		never := n > w.ceiling(r)
		switch {
		case fits(i, worst), refused != nil && hopeless && !never:
		case refused == nil, never && !hopeless, throttled && !throttles, throttled == throttles && w.outlasts(r, refused, n, least):
			refused, throttled, hopeless, least = r, throttles, never, n
		}
	}
	return 0, refused
}

// outlasts: streams end soonest.
func (w *twin) outlasts(a, b *twinRow, needsA, needsB int64) bool {
	if a.limit.Unit == Streams {
		return false
	}
	return b.limit.Unit == Streams || endsAfter(w.windowOf(a, needsA), w.windowOf(b, needsB))
}

func endsAfter(a, b Window) bool {
	if a.End.IsZero() || b.End.IsZero() {
		return a.End.IsZero() && !b.End.IsZero()
	}
	return a.End.After(b.End)
}

func (w *twin) reserve(q Request, now time.Time) (*twinReservation, *twinRow) {
	t := &twinReservation{input: q.Input, cap: maxTokens, at: now}
	for _, l := range w.limits {
		if !w.matches(l, q) {
			continue
		}
		if !l.PerRequest {
			t.rows, t.as = append(t.rows, w.row(l, q, now)), append(t.as, l)
			continue
		}
		left := l.Amount
		if l.Unit != OutputTokens {
			left -= q.Input
		}
		denied := left < 0 || l.Unit != InputTokens && left < max(q.MinOutput, q.LeastSize)
		if l.Action == ActionShadow {
			most := left
			if l.Unit == InputTokens {
				most = maxTokens
			}
			t.watched = append(t.watched, twinWatched{l.Name, most, denied})
			continue
		}
		if denied {
			return nil, &twinRow{limit: l, single: true}
		}
		if l.Unit != InputTokens && left < t.cap {
			t.cap, t.capped = left, &twinRow{limit: l, single: true}
		}
	}
	var refused *twinRow
	full := min(max(q.Output, q.FullOutput), t.cap)
	if t.granted, refused = w.grant(t, q, min(q.Output, t.cap), full); refused != nil {
		return nil, refused
	}
	t.level = t.granted
	some := false
	for i, r := range t.rows {
		if !slices.Contains(w.rows, r) {
			w.rows = append(w.rows, r)
		}
		l := t.as[i]
		need := map[Admission]int64{AdmitPredict: q.MinOutput, AdmitFull: full, AdmitNone: q.MinOutput}[l.Admission]
		first := map[Admission]int64{AdmitPredict: t.granted, AdmitFull: full}[l.Admission]
		if !r.countsOutput() {
			need, first = 0, 0
		}
		left := w.room(r, now) - holds(l.Unit, q.Input, 0)
		would := ShadowOutcome(0)
		if n := holds(l.Unit, q.Input, need); l.Action == ActionShadow && n > 0 && n > w.room(r, now) {
			would = ShadowDenied
		}
		if l.Action != ActionCut {
			first = max(0, min(first, left))
		}
		t.grants = append(t.grants, w.hold(r, holds(l.Unit, t.input, first), now))
		r.open++
		t.first, t.would, t.wouldHold = append(t.first, first), append(t.would, would), append(t.wouldHold, first)
		if r.countsOutput() && (!some || first < t.level) {
			t.level, some = first, true
		}
	}
	return t, nil
}

// has is how much output a row holds.
func (t *twinReservation) has(i int) int64 { return max(t.first[i], t.level) }

func (w *twin) spend(t *twinReservation, output int64) (refused *twinRow) {
	if output <= t.level {
		w.watch(t, output)
		return nil
	}
	if output > t.cap {
		return t.capped
	}
	fits := func(i int, level int64) bool {
		r := t.rows[i]
		return t.as[i].Action != ActionCut || !r.countsOutput() || level <= t.has(i) || level-t.has(i) <= w.room(r, t.at)
	}
	level := min(max(output, t.level+w.step), t.cap)
	for ; level >= output; level-- {
		all := true
		for i := range t.rows {
			all = all && fits(i, level)
		}
		if all {
			break
		}
	}
	if level < output {
		least := int64(0) // what refused needs
		for i, r := range t.rows {
			if n := output - t.has(i); !fits(i, output) && (refused == nil || w.outlasts(r, refused, n, least)) {
				refused, least = r, n
			}
		}
		return refused
	}
	for i, r := range t.rows {
		if !r.countsOutput() {
			continue
		}
		has := t.has(i)
		r.add(t.grants[i], 0, max(has, level)-has)
	}
	t.level = level
	w.watch(t, output)
	return nil
}

// watch notes what limits would have cut that only watch. What one would hold is less than
// what it holds by what that exceeds the limit.
func (w *twin) watch(t *twinReservation, output int64) {
	for i, r := range t.rows {
		if t.as[i].Action != ActionShadow || !r.countsOutput() || t.would[i] != 0 || output <= t.wouldHold[i] {
			continue
		}
		t.wouldHold[i] = max(t.wouldHold[i], t.has(i)+min(0, w.room(r, t.at)))
		if output > t.wouldHold[i] {
			t.would[i] = ShadowCut
		}
	}
}

// shadows is what limits would have done that only watch.
func (w *twin) shadows(t *twinReservation, output int64) map[string]ShadowOutcome {
	all := make(map[string]ShadowOutcome)
	for i, r := range t.rows {
		if t.would[i] != 0 {
			all[r.limit.Name] = t.would[i]
		}
	}
	for _, s := range t.watched {
		if s.denied {
			all[s.name] = ShadowDenied
		} else if output > s.most {
			all[s.name] = ShadowCut
		}
	}
	return all
}

func (w *twin) settle(t *twinReservation, a Amount) {
	w.charge(t, func(int) Amount { return a })
}

// settleHold charges on each row what it holds, and at least what was granted.
func (w *twin) settleHold(t *twinReservation) {
	w.charge(t, func(i int) Amount { return Amount{t.input, max(t.granted, t.has(i))} })
}

func (w *twin) charge(t *twinReservation, cost func(i int) Amount) {
	for i, r := range t.rows {
		u := r.limit.Unit
		held := t.has(i)
		if !r.countsOutput() {
			held = 0
		}
		r.add(t.grants[i], 0, -holds(u, t.input, held))
		if a := cost(i); u != Streams {
			r.add(t.grants[i], holds(u, a.Input, a.Output), 0)
		}
		r.open--
	}
}

// store puts all rows into the store.
func (w *twin) store() {
	w.synced = w.synced[:0]
	for _, r := range w.rows {
		if r.limit.Unit != Streams {
			w.synced = append(w.synced, r.stored())
		}
	}
}

func (w *twin) sync(now time.Time) {
	w.endStreams()
	if w.stored {
		w.store()
		return
	}
	w.rows = slices.DeleteFunc(w.rows, func(r *twinRow) bool {
		if r.rolling() {
			return r.open == 0 && w.allLeft(r)
		}
		return r.open == 0 && !r.window.End.IsZero() && !r.window.End.After(now)
	})
}

// endStreams forgets where no request is under way: such counters say nothing.
func (w *twin) endStreams() {
	w.rows = slices.DeleteFunc(w.rows, func(r *twinRow) bool { return r.open == 0 && r.limit.Unit == Streams })
}

func (w *twin) crash() {
	w.rows = nil
	for _, r := range w.synced {
		r.spent, r.held, r.open = r.spent+r.held, 0, 0
		w.rows = append(w.rows, &r)
	}
}

func (w *twin) strictest(t *twinReservation) (best *twinRow) {
	left := func(r *twinRow) int64 { return max(0, w.amount(r)-w.used(r)) }
	for _, units := range [][]Unit{{Tokens, InputTokens, OutputTokens}, {Requests}, {Streams}} {
		for i, r := range t.rows {
			if slices.Contains(units, r.limit.Unit) && t.as[i].Action != ActionShadow &&
				(best == nil || left(r) < left(best) || left(r) == left(best) && endsAfter(w.windowOf(r, 0), w.windowOf(best, 0))) {
				best = r
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

// balances are lines that can be compared with those of the real ledger.
func (w *twin) balances(now time.Time) (lines []string) {
	for _, r := range w.rows {
		i := w.order(r)
		if i >= 0 && r.rolling() {
			if line, ok := w.rollingBalance(r, i); ok {
				lines = append(lines, line)
			}
			continue
		}
		if i >= 0 && (r.window.End.IsZero() || r.window.End.After(now)) {
			l := w.limits[i]
			lines = append(lines, fmt.Sprintf("%d %s %s %s %s %d spent %d held %d",
				i, l.Name, l.Unit, r.subject, utc(r.window), w.amount(r), r.spent, r.held))
		}
	}
	slices.Sort(lines)
	return lines
}

// machine drives both ledgers.
type machine struct {
	dir     string // of the file store; "" for none
	entries int64
	clock   *clock
	zones   []*time.Location
	real    *Ledger
	flaky   *flakyStore
	twin    *twin
	open    []pair
	done    []*Reservation
	gone    []Limit // that were taken out
}

type pair struct {
	real *Reservation
	twin *twinReservation
}

// flakyStore passes everything on to a file store, or fails.
type flakyStore struct {
	*FileStore
	failGet, failPut atomic.Bool // the ledger's writer reads them, too
}

func (s *flakyStore) Get(ctx context.Context, k Key) (Entry, bool, error) {
	if s.failGet.Load() {
		return Entry{}, false, errBroken
	}
	return s.FileStore.Get(ctx, k)
}

func (s *flakyStore) Put(ctx context.Context, e []Entry) error {
	if s.failPut.Load() {
		return errBroken
	}
	return s.FileStore.Put(ctx, e)
}

var (
	twinPer     = [][]string{nil, {"team"}, {"team", "user"}, {ByModel}, {"user", ByModel}}
	twinPeriods = append([]Period{Minute, Hour, Day, Week, Month, Total}, twinRolling...)

	teamIDs   = []string{"", "x", "y"}
	twinUnits = []Unit{Tokens, InputTokens, OutputTokens, Requests} // of what a store keeps
	twinMatch = []Condition{
		{Property: OfIdentity, Name: "team", Any: []string{"x"}},
		{Property: OfIdentity, Name: "team", Any: []string{None, "y"}},
		{Property: OfModel, Any: []string{"o*"}},
		{Property: OfPath, Any: []string{"/a/*", "/b"}},
		{Property: OfHeader, Name: "env", Any: []string{"*"}},
		{Property: OfHeader, Name: "env", Any: []string{"prod"}},
	}
)

func drawLimits(t *rapid.T, zones []*time.Location) (limits []Limit) {
	for i := range rapid.IntRange(1, 4).Draw(t, "limits") {
		l := Limit{
			Name:     string(rune('a' + i)),
			Unit:     rapid.SampledFrom(append(twinUnits, Streams)).Draw(t, "unit"),
			Amount:   rapid.OneOf(rapid.Int64Range(1, 60), rapid.Int64Range(100, 2500)).Draw(t, "amount"),
			Per:      rapid.SampledFrom(twinPer).Draw(t, "per"),
			Period:   rapid.SampledFrom(twinPeriods).Draw(t, "period"),
			Location: rapid.SampledFrom(zones).Draw(t, "zone"),
		}
		l.Match = rapid.SliceOfNDistinct(rapid.SampledFrom(twinMatch), 0, 2, func(c Condition) string { return fmt.Sprint(c) }).Draw(t, "match")
		if l.Unit < Requests && rapid.IntRange(0, 4).Draw(t, "per request") == 0 {
			l.PerRequest, l.Per = true, nil
		}
		if l.PerRequest || l.Unit == Streams {
			l.Period = 0
		}
		drawAction(t, &l)
		l.Overrides = drawOverrides(t, l)
		limits = append(limits, l)
	}
	return limits
}

// drawAction draws what a limit does when it is reached, and what it holds.
func drawAction(t *rapid.T, l *Limit) {
	l.MaxDelay, l.Admission = 0, AdmitPredict
	l.Action = rapid.SampledFrom([]Action{ActionCut, ActionCut, ActionRefuse, ActionThrottle, ActionShadow}).Draw(t, "action")
	switch {
	case l.PerRequest && l.Action != ActionShadow, l.Action == ActionThrottle && l.Period == Total:
		l.Action = ActionCut
	case l.Action == ActionThrottle:
		l.MaxDelay = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "delay")
	}
	if !l.PerRequest && (l.Unit == Tokens || l.Unit == OutputTokens) {
		l.Admission = rapid.SampledFrom([]Admission{AdmitPredict, AdmitPredict, AdmitFull, AdmitNone}).Draw(t, "admission")
	}
}

func drawOverrides(t *rapid.T, l Limit) []Override {
	if len(l.Per) == 0 || !rapid.Bool().Draw(t, "overridden") {
		return nil
	}
	o := Override{Amount: rapid.Int64Range(1, 1000).Draw(t, "own amount")}
	for _, name := range l.Per {
		value := map[string]string{"team": "x", "user": "ann", ByModel: "o1"}[name]
		o.Subject = append(o.Subject, Identity{name, value})
	}
	return []Override{o}
}

// utc is the window in a form that does not depend on the place.
func utc(w Window) string { return fmt.Sprint(w.Start.UTC(), w.End.UTC()) }

func (m *machine) start(t *rapid.T) {
	o := Options{Limits: m.twin.limits, Now: m.clock.now, CacheEntries: m.entries, GrowthStep: m.twin.step}
	if m.dir != "" {
		s, err := OpenFile(m.dir, WithClock(m.clock.now), WithRetention(100*365*24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		m.flaky = &flakyStore{FileStore: s}
		o.Store = m.flaky
	}
	var err error
	if m.real, err = New(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	m.forgetful()
}

// forgetful makes rolling limits forget early. It is read again, if there is a store. Else
// it stays forgotten, which the twin knows nothing of.
func (m *machine) forgetful() {
	for _, r := range m.real.rules.Load().rules {
		if r.rolling == nil {
			continue
		}
		r.rolling.spare = 0
		if m.dir == "" {
			r.rolling.spare = math.MaxInt32
		}
	}
}

func (m *machine) Reserve(t *rapid.T) {
	q := Request{
		Input:  rapid.Int64Range(0, 700).Draw(t, "input"),
		Output: rapid.Int64Range(1, 700).Draw(t, "output"),
	}
	q.MinOutput = rapid.Int64Range(1, q.Output).Draw(t, "least")
	q.FullOutput = rapid.Int64Range(0, 1000).Draw(t, "full")
	if rapid.Bool().Draw(t, "fixed") {
		q.Whole, q.LeastSize = rapid.Bool().Draw(t, "whole"), rapid.Int64Range(0, 1000).Draw(t, "least size")
	}
	if team := rapid.SampledFrom(teamIDs).Draw(t, "team"); team != "" {
		q.Identities = append(q.Identities, Identity{"team", team})
	}
	q.Identities = append(q.Identities, Identity{"user", rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "user")})
	q.Model = rapid.SampledFrom([]string{"o1", "o3", "gpt-4o"}).Draw(t, "model")
	q.Path = rapid.SampledFrom([]string{"/a/", "/b", "/b/c"}).Draw(t, "path")
	if env := rapid.SampledFrom([]string{"", "prod", "test"}).Draw(t, "env"); env != "" {
		q.Headers = []Identity{{"env", env}}
	}
	failed := m.real.Err() != nil
	r, d, err := m.real.Reserve(context.Background(), q)
	if err == nil && failed {
		t.Fatal("Reserve beside a failed store")
	}
	if err != nil {
		if m.flaky == nil || !failed && !m.flaky.failGet.Load() && !m.flaky.failPut.Load() || !errors.Is(err, errBroken) || r != nil || d.Allowed {
			t.Fatalf("Reserve = %v, %+v, %v", r, d, err)
		}
		if !failed && m.real.Err() != nil {
			// The hold could not be written and was undone. The counters exist since.
			w, refused := m.twin.reserve(q, m.clock.now())
			if refused != nil {
				t.Fatalf("Reserve = %v; the twin was refused by %+v", err, refused)
			}
			m.twin.settle(w, Amount{})
			for i, r := range w.rows {
				if r.limit.Unit == Requests {
					r.add(w.grants[i], -1, 0)
				}
			}
		}
		return
	}
	w, refused := m.twin.reserve(q, m.clock.now())
	if (r == nil) != (w == nil) || d.Allowed != (r != nil) {
		t.Fatalf("Reserve(%+v) = %+v; the twin was refused by %+v", q, d, refused)
	}
	if r == nil {
		m.compare(t, d, refused, d.Needed)
		l, delay := refused.limit, time.Duration(0) // but as it is now
		for _, now := range m.twin.limits {
			if now.Name == l.Name && now.Unit == l.Unit {
				l = now
			}
		}
		needed := holds(l.Unit, q.Input, q.MinOutput)
		capped := func(output int64) int64 {
			for _, l := range m.twin.limits {
				if l.PerRequest && l.Action == ActionCut && l.Unit != InputTokens && m.twin.matches(l, q) {
					output = min(output, l.Amount-holds(l.Unit, q.Input, 0))
				}
			}
			return output
		}
		switch {
		case refused.single:
			needed = holds(l.Unit, q.Input, max(q.MinOutput, q.LeastSize))
		case l.Admission == AdmitFull:
			needed = holds(l.Unit, q.Input, capped(max(q.Output, q.FullOutput)))
		case q.Whole && l.Admission == AdmitPredict && l.Action == ActionCut:
			needed = holds(l.Unit, q.Input, capped(q.Output))
		}
		if l.Action == ActionThrottle {
			delay = max(l.MaxDelay, map[bool]time.Duration{true: DefaultMaxDelay}[l.MaxDelay == 0])
		}
		if d.Needed != needed || d.MaxDelay != delay {
			t.Fatalf("needed %d, delay %v; the twin has %d and %v", d.Needed, d.MaxDelay, needed, delay)
		}
		return
	}
	m.open = append(m.open, pair{r, w})
	m.compare(t, d, m.twin.strictest(w), 0)
	m.written(t, r)
}

// written waits until the store has what r has done, unless it fails.
func (m *machine) written(t *rapid.T, r *Reservation) {
	err := r.Wait(context.Background())
	switch {
	case m.flaky == nil && err != nil:
		t.Fatalf("Wait = %v without a store", err)
	case err != nil && (!errors.Is(err, errBroken) || m.real.Err() == nil):
		t.Fatalf("Wait = %v", err)
	case m.real.Err() == nil:
		m.twin.store()
	}
}

// compare checks that a decision tells of the twin's row.
func (m *machine) compare(t *rapid.T, d Decision, r *twinRow, needs int64) {
	t.Helper()
	if r == nil {
		if d.Limit != "" || !d.Allowed {
			t.Fatalf("decision %+v; the twin has no row", d)
		}
		return
	}
	l, amount := r.limit, m.twin.amount(r)
	subject := ""
	for _, id := range d.Subject {
		subject += id.Name + "=" + id.Value + " "
	}
	window, remaining := r.window, amount
	if !r.single {
		window, remaining = m.twin.windowOf(r, needs), max(0, amount-m.twin.used(r))
	}
	length := window.length()
	if r.rolling() {
		length = time.Duration(l.Period)
	}
	if d.Limit != l.Name || d.Unit != l.Unit || subject != r.subject || d.Amount != amount || d.PerRequest != r.single ||
		d.Remaining != remaining || !d.ResetAt.Equal(window.End) || d.Window != length || d.Rolling != r.rolling() {
		t.Fatalf("decision %+v; the twin has %+v, %d remaining, reset at %s", d, *r, remaining, window.End)
	}
}

func (m *machine) draw(t *rapid.T) (pair, int) {
	if len(m.open) == 0 {
		t.Skip("nothing is open")
	}
	i := rapid.IntRange(0, len(m.open)-1).Draw(t, "reservation")
	return m.open[i], i
}

func (m *machine) Spend(t *rapid.T) {
	p, _ := m.draw(t)
	if !m.known(p.real) {
		t.Skip("a window that is not known")
	}
	output := rapid.Int64Range(0, max(p.twin.granted, p.twin.level)+150).Draw(t, "output")
	refused := m.twin.spend(p.twin, output)
	d, ok := p.real.Spend(output)
	if ok != (refused == nil) {
		t.Fatalf("Spend(%d) = %+v, %t", output, d, ok)
	}
	if !ok {
		m.compare(t, d, refused, output-p.twin.holds(refused))
	}
	m.written(t, p.real)
}

func (m *machine) Settle(t *rapid.T) {
	p, i := m.draw(t)
	a := p.real.Held()
	if rapid.Bool().Draw(t, "hold") {
		m.twin.settleHold(p.twin)
		if !p.real.SettleHold() {
			t.Fatal("SettleHold returned false")
		}
	} else {
		a.Input = rapid.Int64Range(0, 2*a.Input+1).Draw(t, "input")
		a.Output = rapid.Int64Range(0, 2*a.Output).Draw(t, "output")
		if !p.real.Settle(a) {
			t.Fatal("Settle returned false")
		}
		m.twin.settle(p.twin, a)
	}
	m.open = slices.Delete(m.open, i, i+1)
	m.done = append(m.done, p.real)
	m.written(t, p.real)
}

func (m *machine) SettleAgain(t *rapid.T) {
	if len(m.done) == 0 {
		t.Skip("nothing is settled")
	}
	r := rapid.SampledFrom(m.done).Draw(t, "reservation")
	if r.Settle(Amount{1, 1}) || r.SettleHold() {
		t.Fatal("a second settlement returned true")
	}
	if _, ok := r.Spend(1); ok || r.Held() != (Amount{}) {
		t.Fatal("a settled reservation still holds something")
	}
}

// Sync also evicts: with a store, all but the busy rows leave memory.
func (m *machine) Sync(t *rapid.T) {
	err := m.real.Sync(context.Background())
	if m.flaky != nil && m.flaky.failPut.Load() && errors.Is(err, errBroken) {
		m.twin.endStreams()
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.twin.sync(m.clock.now())
}

func (m *machine) Clock(t *rapid.T) {
	m.clock.add(rapid.SampledFrom([]time.Duration{
		time.Second, 20 * time.Second, time.Minute, time.Hour, 24 * time.Hour, 31 * 24 * time.Hour,
		-time.Second, -20 * time.Second, -time.Minute, -time.Hour, -24 * time.Hour, -31 * 24 * time.Hour,
	}).Draw(t, "step"))
}

// Reload changes the limits: some go, some come back, some are new, in any order.
func (m *machine) Reload(t *rapid.T) {
	all := append(slices.Clone(m.twin.limits), m.gone...)
	if len(all) < 7 && rapid.IntRange(0, 3).Draw(t, "new") == 0 {
		l := drawLimits(t, m.zones)[0]
		l.Name = string(rune('a' + len(all) + 10))
		all = append(all, l)
	}
	var limits, gone []Limit
	for _, l := range rapid.Permutation(all).Draw(t, "order") {
		switch rapid.IntRange(0, 10).Draw(t, l.Name+" is to") {
		case 0, 1:
			gone = append(gone, l)
			continue
		case 2, 3, 4:
			l.Amount = rapid.OneOf(rapid.Int64Range(1, 60), rapid.Int64Range(100, 2500)).Draw(t, "amount")
		case 5:
			if l.Period != 0 {
				l.Period = rapid.SampledFrom(twinPeriods).Draw(t, "period")
			}
		case 6:
			l.Location = rapid.SampledFrom(m.zones).Draw(t, "zone")
		case 7:
			l.Match = nil
			if !l.PerRequest {
				l.Per, l.Overrides = rapid.SampledFrom(twinPer).Draw(t, "per"), nil
			}
		case 8:
			l.Overrides = drawOverrides(t, l)
		case 9:
			drawAction(t, &l)
		}
		if l.Action == ActionThrottle && l.Period == Total {
			l.Action, l.MaxDelay = ActionCut, 0
		}
		limits = append(limits, l)
	}
	if err := m.real.SetLimits(context.Background(), limits); err != nil {
		t.Fatal(err)
	}
	m.forgetful()
	m.twin.change(limits)
	m.gone = gone
}

func (m *machine) Fail(t *rapid.T) {
	if m.flaky == nil {
		t.Skip("no store")
	}
	m.flaky.failGet.Store(rapid.Bool().Draw(t, "get"))
	m.flaky.failPut.Store(rapid.Bool().Draw(t, "put"))
}

// Crash forgets everything but the folder.
func (m *machine) Crash(t *rapid.T) {
	if m.dir == "" {
		t.Skip("no store")
	}
	if err := m.flaky.Close(); err != nil { // what the end of the process does to the lock
		t.Fatal(err)
	}
	m.flaky.failPut.Store(true) // the dead write nothing
	_ = m.real.Close(context.Background())
	m.open, m.done = nil, nil
	m.twin.crash()
	m.start(t)
}

// Restart closes the ledger in good order.
func (m *machine) Restart(t *rapid.T) {
	if m.dir == "" {
		t.Skip("no store")
	}
	m.flaky.failPut.Store(false)
	if err := m.real.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	m.twin.sync(m.clock.now())
	m.open, m.done = nil, nil
	m.twin.crash() // for open reservations that is a crash
	m.start(t)
}

// Check compares all balances.
func (m *machine) Check(t *rapid.T) {
	bs, err := m.real.Balances(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, b := range bs {
		if b.Spent < 0 || b.Held < 0 || b.Remaining() < 0 || b.Debt() < 0 {
			t.Fatalf("negative: %+v", b)
		}
		order := slices.IndexFunc(m.twin.limits, func(l Limit) bool { return l.Name == b.Limit })
		subject := ""
		for _, id := range b.Subject {
			subject += id.Name + "=" + id.Value + " "
		}
		if m.twin.limits[order].Period.Rolling() {
			subject += "rolling "
		}
		lines = append(lines, fmt.Sprintf("%d %s %s %s %s %d spent %d held %d",
			order, b.Limit, b.Unit, subject, utc(Window{b.WindowStart, b.WindowEnd}), b.Amount, b.Spent, b.Held))
	}
	slices.Sort(lines)
	if want := m.twin.balances(m.clock.now()); !slices.Equal(lines, want) {
		t.Fatalf("balances\n     %q\nwant %q", lines, want)
	}
	for _, p := range m.open {
		if got, want := p.real.Held(), (Amount{p.twin.input, max(p.twin.granted, p.twin.level)}); got != want || p.real.granted != p.twin.granted {
			t.Fatalf("held %+v, want %+v", got, want)
		}
		output := rapid.Int64Range(0, 700).Draw(t, "length")
		would := m.twin.shadows(p.twin, output)
		got := p.real.Shadows(output)
		for _, s := range got {
			if would[s.Limit] != s.Outcome {
				t.Fatalf("%s would have: %s; the twin says %s", s.Limit, s.Outcome, would[s.Limit])
			}
		}
		if len(got) != len(would) {
			t.Fatalf("watched %v, want %v", got, would)
		}
		if m.known(p.real) {
			m.compare(t, p.real.Strictest(), m.twin.strictest(p.twin), 0)
		}
	}
}

// finish settles everything: nothing may be held then.
func (m *machine) finish(t *rapid.T) {
	for _, p := range m.open {
		if !p.real.Settle(Amount{p.twin.input, 1}) {
			t.Fatal("Settle returned false")
		}
		m.twin.settle(p.twin, Amount{p.twin.input, 1})
	}
	if m.flaky != nil {
		m.flaky.failGet.Store(false)
		m.flaky.failPut.Store(false)
		m.Sync(t)
	}
	m.open = nil
	m.Check(t)
	m.real.table.each(func(w *row) {
		if w.held.Load() != 0 || w.pins.Load() != 0 || w.used.Load() < 0 {
			t.Fatalf("idle, but %+v is held", w.storeKey())
		}
	})
	if err := m.real.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestTwin: any actions in any order, with and without a store, with a cache that
// holds everything and with one that holds a single entry.
func TestTwin(t *testing.T) {
	zones := []*time.Location{nil, location(t, "Europe/Berlin"), location(t, "Asia/Kathmandu")}
	for _, c := range []struct {
		name    string
		store   bool
		entries int64
	}{
		{"memory", false, 0},
		{"store", true, 1000},
		{"store and a cache of one", true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, n := t.TempDir(), 0
			rapid.Check(t, func(t *rapid.T) {
				clock := newClock()
				m := &machine{entries: c.entries, clock: clock, zones: zones, twin: &twin{
					now:    clock.now,
					limits: drawLimits(t, zones),
					step:   rapid.Int64Range(1, 200).Draw(t, "step"),
					stored: c.store,
				}}
				if c.store {
					n++
					m.dir = filepath.Join(base, fmt.Sprint(n))
					defer os.RemoveAll(m.dir)
				}
				m.start(t)
				t.Repeat(map[string]func(*rapid.T){
					"reserve":      m.Reserve,
					"reserve more": m.Reserve, // twice as often as the rest
					"spend":        m.Spend,
					"settle":       m.Settle,
					"settle again": m.SettleAgain,
					"sync":         m.Sync,
					"clock":        m.Clock,
					"fail":         m.Fail,
					"crash":        m.Crash,
					"restart":      m.Restart,
					"reload":       m.Reload,
					"":             m.Check,
				})
				m.finish(t)
			})
		})
	}
}
