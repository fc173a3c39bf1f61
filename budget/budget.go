// Package budget is the ledger: it decides whether a request may pass, holds
// what it may cost while it runs, and charges what it really cost.
//
// # Terms
//
// A [Limit] is a named budget: so many tokens or requests per [Period], one
// counter for each value of the identities it is counted per. It concerns the requests
// that fulfil its conditions ([Condition]), and may give some subjects another amount
// ([Override]). Two kinds have no window: limits in [Streams] count the requests
// under way, and limits per request bound each request by itself. Its [Action] says what
// a limit does once it is used up, its [Admission] how much of an answer it holds at
// first. A [Window] is one run of a calendar period; that of a rolling period is the
// time up to now. A [Reservation] is the hold which one request has on every limit that
// concerns it. The [Ledger] is the authority in this process; a [Store] keeps its
// balances over restarts.
//
// # Life of a charge
//
//	Reserve ──► (Spend ─► Wait)* ──► Settle ─► Wait
//	   │                               ▲
//	   └─► Decision{Allowed: false}
//
// [Ledger.Reserve] finds the limits that concern the request, and holds the counted
// prompt and a first piece of the output on every one of them, or on none. How large
// that piece is depends on each limit's [Admission]. [Reservation.Spend] is called before
// text is forwarded and grows the hold in steps; it never waits and does no I/O. What it
// has granted may be forwarded once [Reservation.Wait] has returned, which waits only
// after a growth. A stream within its hold is never cut because of somebody else; the one
// that asks for more and finds nothing is, by limits whose [Action] it is to cut.
// [Reservation.Settle] charges what was really used, exactly once, and gives the rest of
// the hold back to the window it was taken from. Wait then says that it is written.
//
// # Promises
//
//   - used = spent + held of a limit that cuts never exceeds the limit less its guard by
//     a reservation or a growth; only a settlement (what was really used turned out to be
//     more than what was held) can exceed it, and that excess is shown as debt. Of a
//     limit that refuses or throttles a growth can exceed it, too, but no reservation; of
//     one that only watches ([ActionShadow]), both.
//   - A stream across the end of a window is charged to the window that admitted
//     it, its growth included.
//   - In no stretch of time as long as a rolling period do reservations and growth take
//     more than the limit, by when the requests were admitted.
//   - Every request that is granted holds on all limits or on none, and is settled
//     at most once, however its settlements race.
//   - Reserve and Wait return when the store has spent + held. After a crash of the
//     process the restored usage is at least every settlement that Wait has
//     acknowledged and every text that it has let go, and at most that and the holds
//     that were open. Limits in streams begin at nothing, since nothing is under way.
//   - A balance that cannot be read is an error, never "nothing used".
//
// # Where a balance lives
//
//	table    rows with open reservations or unwritten changes: the authority
//	cache    balances of idle counters; losing one costs a read
//	store    all of them but those in streams, as of the last write
//
// One goroutine writes the rows that have changed, many in one write; see commits.
// [Ledger.Sync] lets the idle ones leave the table. A counter that is asked for and not in
// the table is read once, however many ask. Without a store the table keeps every counter
// until its window has ended.
//
// # Limits that change
//
// [Ledger.SetLimits] puts other limits in place while requests are under way. A counter
// stays as long as what its limit counts, for whom, and when stays; an amount counts at
// once. The limits of a moment are a set that does not change: a request takes it up with
// one load.
//
// # Caveats
//
//   - A counter belongs to a limit's name and unit, its subject, and start and end of its
//     window. If the database of time zones moves the end of a window that runs, the
//     limit begins anew.
//   - Values that a limit matches or counts by are compared byte by byte. What a client
//     may choose, such as a header that nobody verified, lets it choose its limits.
//   - A clock that is ahead by more than the store keeps ended windows (an hour for those
//     of a minute, see [DefaultRetention]; at least half the period for rolling ones) when
//     the process starts, or for an hour while it runs, and is set back, loses the counts
//     of windows that seemed to have ended long ago.
//   - A charge counts longer than a rolling period by up to a sixtieth of it, or a second,
//     and by twice that where the period has not that many whole seconds.
//   - Windows follow the clock. If it is set back, requests count in the earlier
//     window again; without a store, that window may have been forgotten.
//   - Identity values of more than 256 bytes are shown cut, with their SHA-256.
//   - Slices in a [Decision] or [Balance] are shared and must not be changed.
//   - One process per folder: see [FileStore]. Nothing is shared between processes.
package budget

import (
	"context"
	"fmt"
	"time"
)

// Unit is what a limit counts.
type Unit uint8

// The units, with the names they have in configuration, API and logs.
const (
	Tokens       Unit = iota // input and output tokens together
	InputTokens              // tokens of the prompt
	OutputTokens             // tokens of the answer, hidden reasoning included
	Requests                 // requests that were forwarded
	Streams                  // requests under way, whether they are streamed or not: held, never spent
)

// String returns the unit's name in the admin API: tokens, input_tokens,
// output_tokens, requests or streams.
func (u Unit) String() string {
	switch u {
	case Tokens:
		return "tokens"
	case InputTokens:
		return "input_tokens"
	case OutputTokens:
		return "output_tokens"
	case Requests:
		return "requests"
	case Streams:
		return "streams"
	}
	return fmt.Sprintf("Unit(%d)", uint8(u))
}

// Amount is what one request costs: tokens of prompt and answer. That it is one
// request goes without saying.
type Amount struct {
	Input  int64 // tokens of the prompt
	Output int64 // tokens of the answer, hidden reasoning included
}

// In returns the amount in the given unit. In Streams it is nothing: when a request
// is settled, it is no longer under way.
func (a Amount) In(u Unit) int64 {
	switch u {
	case Tokens:
		return a.Input + a.Output
	case InputTokens:
		return a.Input
	case OutputTokens:
		return a.Output
	case Requests:
		return 1
	}
	return 0
}

// Limit is one named budget.
type Limit struct {
	Name     string         // unique together with Unit
	Unit     Unit           // what is counted
	Amount   int64          // how much of it a window allows; > 0
	Per      []string       // identity names, [ByModel], [ByPath]; one counter for each combination of their values; empty: one counter for all
	Period   Period         // how long a window lasts; 0 in Streams, and for a limit per request
	Location *time.Location // where calendar windows begin; nil is UTC

	// Action is what the limit does once it is used up; MaxDelay is how long a request
	// waits at most for a limit that throttles, [DefaultMaxDelay] if it is 0. Admission is
	// how much of the answer it holds at first; it belongs to limits that count output.
	Action    Action
	MaxDelay  time.Duration
	Admission Admission

	// Match are conditions; the limit concerns requests for which all of them hold.
	Match []Condition
	// Overrides are other amounts for some subjects.
	Overrides []Override
	// MaxSubjects bounds the counters of one window; 0 is [DefaultMaxSubjects]. See
	// [Overflow] for what happens beyond.
	MaxSubjects int64
	// Parent is the name of the limit of which the amounts of this one are shares; "" if
	// there is none. It is only reported: whatever counts here counts in the parent because the
	// parent's conditions say so, which is for the caller to see to.
	Parent string
	// PerRequest makes it a bound on each single request, without a counter. The unit
	// must be one of tokens.
	PerRequest bool
}

// Identity is one named value of a request, such as team=search.
type Identity struct{ Name, Value string }

// None is the subject of requests that lack an identity.
const None = "(none)"

// Request asks for a reservation.
type Request struct {
	Identities []Identity // who asks; a name that a limit needs and that is absent counts as None
	Model      string     // which model is asked for; in one letter case, if upstreams do not tell them apart
	Path       string     // where, without the query
	Headers    []Identity // the headers that limits match, by their names in lower case
	Input      int64      // tokens of the prompt
	Output     int64      // tokens of output wanted in the first hold; 0 only if there will be none
	MinOutput  int64      // with less than this the request is denied; 1 ≤ MinOutput ≤ Output, or 0 with it
	FullOutput int64      // all the output that it may get, for limits with AdmitFull; at least Output
	Watch      bool       // nothing can be refused: every limit is taken for one with ActionShadow

	// Whole says that the first hold cannot be less than Output, because nobody would be told:
	// a limit that could only give a part, and thus bound the answer, refuses.
	Whole bool
	// LeastSize is the output that limits per request must have room for, MinOutput if that is
	// more: the cap of a request which cannot be lowered to theirs.
	LeastSize int64
}

// Decision says what a limit answered, and is enough to explain it to a client.
type Decision struct {
	Allowed   bool
	Limit     string        // name of the limit that decided; of the strictest one if Allowed; "" if none matched
	Subject   []Identity    // whose counter it was; empty for a limit that is counted for all
	Unit      Unit          // what it counts
	Amount    int64         // the whole budget of the window
	Remaining int64         // amount - spent - held, never negative
	Window    time.Duration // length of the window; 0 for a period that never ends
	ResetAt   time.Time     // when the window ends; zero for a period that never ends; see Rolling

	// Rolling says that the period is a rolling one. ResetAt is then when there is room for
	// what was refused, if nobody takes it; else, when the first of what counts leaves
	// the window, which is not in the future if nothing does.
	Rolling bool

	// Needed is what a request that is refused at admission needs at least, in Unit.
	Needed int64
	// MaxDelay is how long the request may wait, if the limit that refuses throttles; 0
	// otherwise. See WaitUntil.
	MaxDelay time.Duration
	// PerRequest says that it is a limit per request: the request is too large by
	// itself, and waiting does not help.
	PerRequest bool
}

// Ceiling is how much of the budget reservations can take: the amount less the
// guard, which is kept for what arrives after a cut.
func (d Decision) Ceiling() int64 { return d.Amount - guardOf(d.Unit, d.Amount) }

// Available is what a reservation can still take.
func (d Decision) Available() int64 { return max(0, d.Remaining-guardOf(d.Unit, d.Amount)) }

// Balance is one counter as reports show it.
type Balance struct {
	Limit       string
	Unit        Unit
	Subject     []Identity
	WindowStart time.Time // of a rolling period: now less the period
	WindowEnd   time.Time // zero for a period that never ends; of a rolling one when the first of what counts leaves, or now
	Amount      int64     // the limit
	Spent       int64     // settled
	Held        int64     // reserved by requests that are under way
	Parent      string    // as in Limit
}

// Debt is how far the settled usage exceeds the limit.
func (b Balance) Debt() int64 { return max(0, b.Spent-b.Amount) }

// Remaining is what a new request could still reserve, guard not deducted.
func (b Balance) Remaining() int64 { return max(0, b.Amount-b.Spent-b.Held) }

// Key names one counter in a store: limit, unit, subject and window.
type Key struct {
	Limit   string
	Unit    Unit
	Subject string // encoded; "" for a limit that is counted for all
	Start   int64  // Unix seconds of the window's start; see Entry for rolling periods
	End     int64  // Unix seconds of the window's end; 0 for a period that never ends
}

// Entry is what a store keeps of one counter. A rolling limit has several: one for each
// sixtieth of the period, or second, in which something was granted. From Start to End
// its charges become older than the period; it counts until End.
type Entry struct {
	Key  Key
	Used int64 // spent + held when it was written
}

// Store keeps balances over restarts. Its methods may do I/O, except for Err.
type Store interface {
	// Get returns the entry of key, and false if the store has none. An error is
	// never to be read as "nothing used". Of a key that it has not, a store without
	// room for more returns [ErrFull].
	Get(ctx context.Context, key Key) (Entry, bool, error)
	// Put writes all entries; when it returns nil they survive a crash of the process.
	// They are of different keys. After an error it may have written some of them.
	Put(ctx context.Context, entries []Entry) error
	// Err is why the store has failed for good: it will not write any more. It is nil
	// while it works.
	Err() error
	// Range calls f for every entry, in no order, until f returns false.
	Range(ctx context.Context, f func(Entry) bool) error
	// Close releases the store. It is not used afterwards.
	Close() error
}
