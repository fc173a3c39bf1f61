package budget

import (
	"context"
	"errors"
	"fmt"
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
	rows   []*twinRow
	synced []twinRow // what the store has
}

type twinRow struct {
	limit       int
	single      bool // no counter: a limit per request
	subject     string
	window      Window
	spent, held int64
	open        int
}

type twinReservation struct {
	rows    []*twinRow
	first   []int64 // output held on each row at admission
	would   []ShadowOutcome
	grants  []int64 // output that the row would hold, if its limit did more than watch
	input   int64
	granted int64    // output, at admission
	level   int64    // output that all rows hold
	cap     int64    // of the output
	capped  *twinRow // by whom
	watched []twinWatched
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

// amount is what a row may use.
func (w *twin) amount(r *twinRow) int64 {
	l := w.limits[r.limit]
	for _, o := range l.Overrides {
		subject := ""
		for _, name := range l.Per {
			for _, id := range o.Subject {
				if id.Name == name {
					subject += name + "=" + id.Value + " "
				}
			}
		}
		if subject == r.subject {
			return o.Amount
		}
	}
	return l.Amount
}

func (w *twin) row(limit int, q Request, now time.Time) *twinRow {
	l := w.limits[limit]
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
	window := Total.Window(now, l.Location)
	if l.Period != 0 {
		window = l.Period.Window(now, l.Location)
	}
	for _, r := range w.rows {
		if r.limit == limit && r.subject == subject && r.window == window {
			return r
		}
	}
	r := &twinRow{limit: limit, subject: subject, window: window}
	return r // joins rows when something is granted
}

func (w *twin) room(r *twinRow) int64 {
	ceiling := w.amount(r)
	if u := w.limits[r.limit].Unit; u != Requests && u != Streams {
		ceiling -= min(32, ceiling*2/100)
	}
	return ceiling - r.spent - r.held
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
func (w *twin) countsOutput(r *twinRow) bool {
	return holds(w.limits[r.limit].Unit, 0, 1) > holds(w.limits[r.limit].Unit, 0, 0)
}

// needs is what there must be room for on a row at admission.
func (w *twin) needs(r *twinRow, q Request, output, full int64) int64 {
	l := w.limits[r.limit]
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
func (w *twin) grant(rows []*twinRow, q Request, want, full int64) (output int64, refused *twinRow) {
	fits := func(r *twinRow, output int64) bool {
		n := w.needs(r, q, output, full)
		return n == 0 || n <= w.room(r)
	}
	for output = want; output >= q.MinOutput; output-- {
		if !slices.ContainsFunc(rows, func(r *twinRow) bool { return !fits(r, output) }) {
			return output, nil
		}
	}
	throttles := func(r *twinRow) bool { return w.limits[r.limit].Action == ActionThrottle }
	never := func(r *twinRow) bool { return w.needs(r, q, q.MinOutput, full) > w.room(r)+r.spent+r.held }
	for _, r := range rows {
		switch {
		case fits(r, q.MinOutput), refused != nil && never(refused) && !never(r):
		case refused == nil, never(r) && !never(refused), throttles(refused) && !throttles(r), throttles(refused) == throttles(r) && w.outlasts(r, refused):
			refused = r
		}
	}
	return 0, refused
}

// outlasts: streams end soonest.
func (w *twin) outlasts(a, b *twinRow) bool {
	if w.limits[a.limit].Unit == Streams {
		return false
	}
	return w.limits[b.limit].Unit == Streams || endsAfter(a.window, b.window)
}

func endsAfter(a, b Window) bool {
	if a.End.IsZero() || b.End.IsZero() {
		return a.End.IsZero() && !b.End.IsZero()
	}
	return a.End.After(b.End)
}

func (w *twin) reserve(q Request, now time.Time) (*twinReservation, *twinRow) {
	t := &twinReservation{input: q.Input, cap: maxTokens}
	for i, l := range w.limits {
		if !w.matches(l, q) {
			continue
		}
		if !l.PerRequest {
			t.rows = append(t.rows, w.row(i, q, now))
			continue
		}
		left := l.Amount
		if l.Unit != OutputTokens {
			left -= q.Input
		}
		denied := left < 0 || l.Unit != InputTokens && left < q.MinOutput
		if l.Action == ActionShadow {
			most := left
			if l.Unit == InputTokens {
				most = maxTokens
			}
			t.watched = append(t.watched, twinWatched{l.Name, most, denied})
			continue
		}
		if denied {
			return nil, &twinRow{limit: i, single: true}
		}
		if l.Unit != InputTokens && left < t.cap {
			t.cap, t.capped = left, &twinRow{limit: i, single: true}
		}
	}
	var refused *twinRow
	full := min(max(q.Output, q.FullOutput), t.cap)
	if t.granted, refused = w.grant(t.rows, q, min(q.Output, t.cap), full); refused != nil {
		return nil, refused
	}
	t.level = t.granted
	some := false
	for _, r := range t.rows {
		if !slices.Contains(w.rows, r) {
			w.rows = append(w.rows, r)
		}
		l := w.limits[r.limit]
		need := map[Admission]int64{AdmitPredict: q.MinOutput, AdmitFull: full, AdmitNone: q.MinOutput}[l.Admission]
		first := map[Admission]int64{AdmitPredict: t.granted, AdmitFull: full}[l.Admission]
		if !w.countsOutput(r) {
			need, first = 0, 0
		}
		left := w.room(r) - holds(l.Unit, q.Input, 0)
		would := ShadowOutcome(0)
		if n := holds(l.Unit, q.Input, need); l.Action == ActionShadow && n > 0 && n > w.room(r) {
			would = ShadowDenied
		}
		if l.Action != ActionCut {
			first = max(0, min(first, left))
		}
		r.held += holds(l.Unit, t.input, first)
		r.open++
		t.first, t.would, t.grants = append(t.first, first), append(t.would, would), append(t.grants, first)
		if w.countsOutput(r) && (!some || first < t.level) {
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
		return w.limits[r.limit].Action != ActionCut || !w.countsOutput(r) || level <= t.has(i) || level-t.has(i) <= w.room(r)
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
		for i, r := range t.rows {
			if !fits(i, output) && (refused == nil || w.outlasts(r, refused)) {
				refused = r
			}
		}
		return refused
	}
	for i, r := range t.rows {
		if !w.countsOutput(r) {
			continue
		}
		has := t.has(i)
		r.held += max(has, level) - has
	}
	t.level = level
	w.watch(t, output)
	return nil
}

// watch notes what limits would have cut that only watch. What one would hold is less than
// what it holds by what that exceeds the limit.
func (w *twin) watch(t *twinReservation, output int64) {
	for i, r := range t.rows {
		if w.limits[r.limit].Action != ActionShadow || !w.countsOutput(r) || t.would[i] != 0 || output <= t.grants[i] {
			continue
		}
		t.grants[i] = max(t.grants[i], t.has(i)+min(0, w.room(r)))
		if output > t.grants[i] {
			t.would[i] = ShadowCut
		}
	}
}

// shadows is what limits would have done that only watch.
func (w *twin) shadows(t *twinReservation, output int64) map[string]ShadowOutcome {
	all := make(map[string]ShadowOutcome)
	for i, r := range t.rows {
		if t.would[i] != 0 {
			all[w.limits[r.limit].Name] = t.would[i]
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
		u := w.limits[r.limit].Unit
		held := t.has(i)
		if !w.countsOutput(r) {
			held = 0
		}
		r.held -= holds(u, t.input, held)
		if a := cost(i); u != Streams {
			r.spent += holds(u, a.Input, a.Output)
		}
		r.open--
	}
}

// store puts all rows into the store.
func (w *twin) store() {
	w.synced = w.synced[:0]
	for _, r := range w.rows {
		if w.limits[r.limit].Unit != Streams {
			w.synced = append(w.synced, *r)
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
		return r.open == 0 && !r.window.End.IsZero() && !r.window.End.After(now)
	})
}

// endStreams forgets where no request is under way: such counters say nothing.
func (w *twin) endStreams() {
	w.rows = slices.DeleteFunc(w.rows, func(r *twinRow) bool { return r.open == 0 && w.limits[r.limit].Unit == Streams })
}

func (w *twin) crash() {
	w.rows = nil
	for _, r := range w.synced {
		r.spent, r.held, r.open = r.spent+r.held, 0, 0
		w.rows = append(w.rows, &r)
	}
}

func (w *twin) strictest(t *twinReservation) (best *twinRow) {
	left := func(r *twinRow) int64 { return max(0, w.amount(r)-r.spent-r.held) }
	for _, units := range [][]Unit{{Tokens, InputTokens, OutputTokens}, {Requests}, {Streams}} {
		for _, r := range t.rows {
			if slices.Contains(units, w.limits[r.limit].Unit) && w.limits[r.limit].Action != ActionShadow &&
				(best == nil || left(r) < left(best) || left(r) == left(best) && endsAfter(r.window, best.window)) {
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
		if r.window.End.IsZero() || r.window.End.After(now) {
			l := w.limits[r.limit]
			lines = append(lines, fmt.Sprintf("%d %s %s %s %s %d spent %d held %d",
				r.limit, l.Name, l.Unit, r.subject, r.window, w.amount(r), r.spent, r.held))
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
	real    *Ledger
	flaky   *flakyStore
	twin    *twin
	open    []pair
	done    []*Reservation
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
			Per:      rapid.SampledFrom([][]string{nil, {"team"}, {"team", "user"}, {ByModel}, {"user", ByModel}}).Draw(t, "per"),
			Period:   rapid.SampledFrom([]Period{Minute, Hour, Day, Week, Month, Total}).Draw(t, "period"),
			Location: rapid.SampledFrom(zones).Draw(t, "zone"),
		}
		l.Match = rapid.SliceOfNDistinct(rapid.SampledFrom(twinMatch), 0, 2, func(c Condition) string { return fmt.Sprint(c) }).Draw(t, "match")
		if l.Unit < Requests && rapid.IntRange(0, 4).Draw(t, "per request") == 0 {
			l.PerRequest, l.Per = true, nil
		}
		if l.PerRequest || l.Unit == Streams {
			l.Period = 0
		}
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
		if len(l.Per) > 0 && rapid.Bool().Draw(t, "overridden") {
			o := Override{Amount: rapid.Int64Range(1, 1000).Draw(t, "own amount")}
			for _, name := range l.Per {
				value := map[string]string{"team": "x", "user": "ann", ByModel: "o1"}[name]
				o.Subject = append(o.Subject, Identity{name, value})
			}
			l.Overrides = []Override{o}
		}
		limits = append(limits, l)
	}
	return limits
}

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
}

func (m *machine) Reserve(t *rapid.T) {
	q := Request{
		Input:  rapid.Int64Range(0, 700).Draw(t, "input"),
		Output: rapid.Int64Range(1, 700).Draw(t, "output"),
	}
	q.MinOutput = rapid.Int64Range(1, q.Output).Draw(t, "least")
	q.FullOutput = rapid.Int64Range(0, 1000).Draw(t, "full")
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
			for _, r := range w.rows {
				if m.twin.limits[r.limit].Unit == Requests {
					r.spent--
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
		m.compare(t, d, refused)
		l, delay := m.twin.limits[refused.limit], time.Duration(0)
		needed := holds(l.Unit, q.Input, q.MinOutput)
		if l.Admission == AdmitFull {
			full := max(q.Output, q.FullOutput)
			for _, l := range m.twin.limits {
				if l.PerRequest && l.Action == ActionCut && l.Unit != InputTokens && m.twin.matches(l, q) {
					full = min(full, l.Amount-holds(l.Unit, q.Input, 0))
				}
			}
			needed = holds(l.Unit, q.Input, full)
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
	m.compare(t, d, m.twin.strictest(w))
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
func (m *machine) compare(t *rapid.T, d Decision, r *twinRow) {
	t.Helper()
	if r == nil {
		if d.Limit != "" || !d.Allowed {
			t.Fatalf("decision %+v; the twin has no row", d)
		}
		return
	}
	l, amount := m.twin.limits[r.limit], m.twin.amount(r)
	subject := ""
	for _, id := range d.Subject {
		subject += id.Name + "=" + id.Value + " "
	}
	if d.Limit != l.Name || d.Unit != l.Unit || subject != r.subject || d.Amount != amount || d.PerRequest != r.single ||
		d.Remaining != max(0, amount-r.spent-r.held) || !d.ResetAt.Equal(r.window.End) || d.Window != r.window.length() {
		t.Fatalf("decision %+v; the twin has %+v", d, *r)
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
	output := rapid.Int64Range(0, max(p.twin.granted, p.twin.level)+150).Draw(t, "output")
	refused := m.twin.spend(p.twin, output)
	d, ok := p.real.Spend(output)
	if ok != (refused == nil) {
		t.Fatalf("Spend(%d) = %+v, %t", output, d, ok)
	}
	if !ok {
		m.compare(t, d, refused)
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
		-time.Second, -time.Minute, -time.Hour, -24 * time.Hour,
	}).Draw(t, "step"))
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
		lines = append(lines, fmt.Sprintf("%d %s %s %s %s %d spent %d held %d",
			order, b.Limit, b.Unit, subject, Window{b.WindowStart, b.WindowEnd}, b.Amount, b.Spent, b.Held))
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
		m.compare(t, p.real.Strictest(), m.twin.strictest(p.twin))
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
				m := &machine{entries: c.entries, clock: newClock(), twin: &twin{
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
					"":             m.Check,
				})
				m.finish(t)
			})
		})
	}
}
