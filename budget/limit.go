package budget

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxName is the greatest length of a limit's or an identity's name in bytes. With
// maxValue it bounds the length of a key.
const maxName = 256

// rule is a [Limit] made ready for use. It does not change, except for the windows
// it remembers.
type rule struct {
	Limit
	order   int              // place in the configuration
	match   []condition      // all must hold
	per     []keyPart        // what Per stands for
	amounts map[string]int64 // of overridden subjects, encoded
	*windows
}

// windows are those of a limit, with what is remembered about each. They stay when the
// limit changes in other ways than these, see ruleset.adopt.
type windows struct {
	current atomic.Pointer[span] // the window last asked for
	mu      sync.Mutex           // for who changes current
	recent  [4]*span             // the windows asked for last, the current one among them
	told    atomic.Int64         // Unix seconds of when OnOverflow was last told that it is the first time

	rolling *rolling // of a limit with a rolling period, which has a single span; else nil
}

// span is a window with what is derived from it, made once per window and shared
// by all its rows.
type span struct {
	Window
	start, end int64         // as in Key and Entry
	lasts      time.Duration // as in Decision
	prefix     string        // of the keys of its rows, see keyPrefix
	prefixHash uint64        // a part of the hashes of its rows
	crowd      crowd         // the rows that exist
}

func newSpan(w Window) *span {
	s := &span{Window: w, start: w.Start.Unix(), lasts: w.length()}
	if !w.End.IsZero() {
		s.end = w.End.Unix()
	}
	return s
}

// at returns the window of time t. Nearly every call asks for the same window as
// the one before, and is answered without looking at a calendar.
func (r *rule) at(t time.Time) *span {
	if s := r.current.Load(); s != nil && s.has(t.Unix()) {
		return s
	}
	return r.turn(t)
}

// turn goes to the window of time t. A clock that goes back and forth meets the same
// spans again, so that their rows are not counted anew.
func (r *rule) turn(t time.Time) *span {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.recent[:], func(s *span) bool { return s != nil && s.has(t.Unix()) }); i >= 0 {
		r.current.Store(r.recent[i])
		return r.recent[i]
	}
	s := r.newSpan(t)
	s.prefix = r.keyPrefix(s)
	s.prefixHash = maphash.String(keySeed, s.prefix)
	copy(r.recent[1:], r.recent[:])
	r.recent[0] = s
	r.current.Store(s)
	return s
}

// newSpan returns the span of the window of time t.
func (r *rule) newSpan(t time.Time) *span {
	if r.rolling == nil {
		return newSpan(r.Period.Window(t, r.Location))
	}
	s := newSpan(Total.Window(t, r.Location))
	s.lasts = time.Duration(r.Period)
	return s
}

// keySeed makes the hashes of rows unpredictable.
var keySeed = maphash.MakeSeed()

// hash is that of the row of an encoded subject, which each request reckons without a look
// at the prefix.
func (s *span) hash(subject []byte) uint64 {
	if len(subject) == 0 {
		return s.prefixHash
	}
	return s.prefixHash ^ maphash.Bytes(keySeed, subject)
}

// has is Contains for the Unix seconds of a time: windows have whole seconds.
func (s *span) has(sec int64) bool { return sec >= s.start && (s.end == 0 || sec < s.end) }

// spanOf returns the window in which the limit counts under key, if it is one of its
// windows that has not ended at time now; else nil. Those of a store are mostly ended,
// which is seen without looking at a calendar.
func (r *rule) spanOf(key Key, now time.Time) *span {
	s := r.at(now)
	switch {
	case key.Start < s.start:
		return nil
	case key.Start > s.start:
		s = newSpan(r.Period.Window(time.Unix(key.Start, 0), r.Location))
	}
	if s.start != key.Start || s.end != key.End {
		return nil // of another period, or of another zone
	}
	return s
}

// countsPer reports whether ids name what the limit is counted per.
func (r *rule) countsPer(ids []Identity) bool {
	return slices.EqualFunc(ids, r.Per, func(id Identity, name string) bool { return id.Name == name })
}

// ended reports whether the window is over at time t.
func (s *span) ended(t time.Time) bool { return s.end != 0 && !t.Before(s.End) }

// appendShared appends the encoded subject of the bucket which subjects share whose first
// keep values are those of q.
func (r *rule) appendShared(b []byte, q *Request, keep int) []byte {
	b = appendSubject(b, r.per[:keep], q)
	for i := keep; i < len(r.per); i++ {
		b = append(b, r.per[i].prefix...)
		b = append(b, Overflow...)
	}
	return b
}

// keyPrefix is what the keys of all rows of a window begin with: unit, length of the
// limit's name, name, start and length. The encoded subject follows. So a row's key in the
// ledger's table says the same as its [Key], and two rows never write to one entry of the
// store, whatever becomes of the limits.
func (r *rule) keyPrefix(s *span) string {
	b := binary.AppendUvarint([]byte{byte(r.Unit)}, uint64(len(r.Name)))
	b = binary.AppendVarint(append(b, r.Name...), s.start)
	switch {
	case r.rolling != nil:
		b = binary.AppendVarint(b, -int64(s.lasts/time.Second))
	case s.end == 0:
		b = append(b, 0)
	default:
		b = binary.AppendVarint(b, s.end-s.start) // above 0
	}
	return string(b)
}

// guardOf is what reservations and growth leave unspent, for what still arrives
// after a cut: min(32, 2 % of the amount) tokens, and no requests or streams.
func guardOf(u Unit, amount int64) int64 {
	if u >= Requests {
		return 0
	}
	return min(32, amount/50)
}

// ruleName is what a limit is found by.
type ruleName struct {
	name string
	unit Unit
}

// newRules checks limits and makes them ready. The error names every mistake.
func newRules(limits []Limit) ([]*rule, error) {
	seen := make(map[ruleName]bool, len(limits))
	rules := make([]*rule, 0, len(limits))
	var errs []error
	for i, l := range limits {
		amounts, mistakes := newOverrides(l)
		if err := errors.Join(l.check(), errors.Join(mistakes...)); err != nil {
			errs = append(errs, fmt.Errorf("limit %d (%q): %w", i+1, l.Name, err))
			continue
		}
		if seen[ruleName{l.Name, l.Unit}] {
			errs = append(errs, fmt.Errorf("limit %d (%q): a limit of this name in %s exists already; rename one", i+1, l.Name, l.Unit))
			continue
		}
		seen[ruleName{l.Name, l.Unit}] = true
		l.Per = slices.Clone(l.Per)
		setDefault(&l.MaxSubjects, DefaultMaxSubjects)
		if l.Action == ActionThrottle {
			setDefault(&l.MaxDelay, DefaultMaxDelay)
		}
		if l.Location == nil {
			l.Location = time.UTC
		}
		if l.Unit == Streams {
			l.Period = Total // its one window
		}
		rules = append(rules, &rule{
			Limit: l, order: i, match: newConditions(l.Match), per: partsOf(l.Per), amounts: amounts,
			windows: &windows{rolling: newRolling(l.Period)},
		})
	}
	return rules, errors.Join(errs...)
}

// check returns an error that names every mistake in the limit itself.
func (l Limit) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l.Name == "" || len(l.Name) > maxName {
		bad("the name must have 1 to %d bytes", maxName)
	}
	if l.Unit > Streams {
		bad("unknown unit %s: use Tokens, InputTokens, OutputTokens, Requests or Streams", l.Unit)
	}
	if l.Amount <= 0 {
		bad("the amount is %d: it must be above 0", l.Amount)
	}
	switch {
	case l.Unit == Streams || l.PerRequest:
		if l.Period != 0 {
			bad("a limit in streams, or per request, has no period")
		}
	case !l.Period.valid():
		bad("unknown period %s: use the result of ParsePeriod", l.Period)
	}
	if l.PerRequest && (l.Unit >= Requests || len(l.Per) > 0) {
		bad("a limit per request counts tokens, and is counted per nothing else")
	}
	if l.MaxSubjects < 0 {
		bad("MaxSubjects is %d: it must not be below 0", l.MaxSubjects)
	}
	l.checkAction(bad)
	for i, c := range l.Match {
		if err := c.check(); err != nil {
			bad("condition %d: %w", i+1, err)
		}
	}
	for i, name := range l.Per {
		if name == "" || len(name) > maxName {
			bad("identity %d: the name must have 1 to %d bytes", i+1, maxName)
		} else if slices.Contains(l.Per[:i], name) {
			bad("identity %q is named twice", name)
		}
	}
	return errors.Join(errs...)
}
