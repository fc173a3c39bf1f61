package exchange

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// Background has the reservations of responses that go on at their provider after the
// exchange that began them ("background": true), by their ids. It is safe for concurrent use.
//
//	POST …/responses ──► keep ──┬─► take: an answer shows how it ended (watch.go), which settles
//	                            ├─► Expired: nobody asked for it in time; what was held is charged
//	                            ├─► keep: another needs its room, which holds more; what was held is charged
//	                            └─► Close: the server ends; what was held is charged
//
// Whoever takes one out settles it, and nobody else can. One that finds no room is charged
// what it holds at once. A Background is shut until it is opened, and has no room then: it is
// opened by who will call Expired and Close.
type Background struct {
	mu   sync.Mutex
	open bool
	kept map[string]*continued
}

// maxBackground bounds the responses that go on; each takes some 2 KiB.
const maxBackground = 4096

// DefaultBackgroundTimeout is for how long a response may go on in the background until it is
// charged what it holds. Providers keep such responses for at least as long as it takes to
// fetch them; the longest take some tens of minutes.
const DefaultBackgroundTimeout = time.Hour

// continued is a response that goes on.
type continued struct {
	key          storedKey
	reservation  *budget.Reservation
	record       Record // of the exchange that began it
	start, until time.Time
	model        count.Model
	input        int64        // tokens of the prompt, by our count
	conversation string       // that it is a part of, or ""
	doubted      bool         // another response has had its id, and what the upstream shows may be that one; guarded by Background.mu
	shown        atomic.Int64 // the most tokens of output that answers have shown which did not end it
}

// Ending is the end of a response that went on in the background.
type Ending struct {
	Settlement
	Record *Record // who asked for it, and what it cost
	By     EndedBy
}

// EndedBy is how the end of a response in the background was noticed.
type EndedBy string

// The ways in which the end of a response in the background is noticed.
const (
	EndedSeen     EndedBy = "seen"     // an answer to somebody who asked for it has shown it
	EndedDeadline EndedBy = "deadline" // nobody asked for it in time
	EndedShutdown EndedBy = "shutdown" // the server ended before it
	EndedCrowded  EndedBy = "crowded"  // too many went on, and it held the least
)

// NewBackground returns one that is shut.
func NewBackground() *Background {
	return &Background{kept: make(map[string]*continued)}
}

// Open makes room.
func (b *Background) Open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
}

// Close shuts b, and returns what is to be done for all that go on.
func (b *Background) Close(now time.Time) []*Ending {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
	return b.endAll(EndedShutdown, now, func(*continued) bool { return true })
}

// Expired takes out those whose time is over, and returns what is to be done for them.
func (b *Background) Expired(now time.Time) []*Ending {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.endAll(EndedDeadline, now, func(c *continued) bool { return !now.Before(c.until) })
}

func (b *Background) endAll(by EndedBy, now time.Time, ended func(*continued) bool) (all []*Ending) {
	for id, c := range b.kept {
		if ended(c) {
			delete(b.kept, id)
			all = append(all, c.unknown(by, now, 0))
		}
	}
	return all
}

// keep takes c in. kept is false if there is no room, or if another has its id, see doubt. Where all
// room is taken, the one that holds the least output makes room for one that holds more, and is charged
// that: else many short responses of one client would have all long ones charged without a look.
func (b *Background) keep(c *continued, now time.Time) (ended *Ending, kept bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open || b.kept[c.key.id] != nil {
		return nil, false
	}
	if len(b.kept) >= maxBackground {
		least, most := (*continued)(nil), c.reservation.Held().Output
		for _, other := range b.kept {
			if n := other.reservation.Held().Output; n < most {
				least, most = other, n
			}
		}
		if least == nil {
			return nil, false
		}
		delete(b.kept, least.key.id)
		ended = least.unknown(EndedCrowded, now, 0)
	}
	b.kept[c.key.id] = c
	return ended, true
}

// doubt notes that another exchange was answered with the id of a response that goes on, if it is
// one. There are servers where the client chooses ids (vLLM's "request_id"), and the last answer
// to end takes the place of others: a short one is not to say what a long one cost.
func (b *Background) doubt(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.kept[id]; c != nil {
		c.doubted = true
	}
}

// find returns what has the id, or nil.
func (b *Background) find(id string) *continued {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept[id]
}

// take takes c out. taken is false if somebody else has.
func (b *Background) take(c *continued) (doubted, taken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[c.key.id] != c {
		return false, false
	}
	delete(b.kept, c.key.id)
	return c.doubted, true
}

// MayBeKept says that the exchange's reservation may outlive it, in [Policy.Background].
func (x *Exchange) MayBeKept() bool {
	return x.request != nil && x.request.Background && x.policy.BackgroundTimeout > 0
}

// keepOpen has the reservation outlive the exchange, whose answer goes on at the provider, and
// the record say so. kept is false if the hold has to be charged now. ended is what it took the place of.
func (x *Exchange) keepOpen() (ended *Ending, kept bool) {
	id := x.storedID()
	if !x.MayBeKept() || id == "" || x.stored.Status.Ended() || x.done {
		return nil, false
	}
	rec := x.record
	rec.Reason, rec.Limit, rec.Shadow = "", "", nil // told with the exchange
	now := x.policy.Now()
	x.reservation.LeaveStreams() // before somebody else may settle it
	ended, kept = x.policy.Background.keep(&continued{
		key: x.storedKey(id), reservation: x.reservation, record: rec, start: x.start, until: now.Add(x.policy.BackgroundTimeout),
		model: x.model, input: x.input, conversation: x.request.Earlier.Conversation,
		doubted: x.policy.Contexts.has(id), // another answer had this id
	}, now)
	if kept {
		x.record.Background = true
		x.record.InputSource, x.record.OutputSource = "", ""
	}
	return ended, kept
}

// end takes c out if s, which an upstream says of its id, is its end. Where another host or path was asked,
// it may be another upstream, which the client has chosen: so it ends nothing, and its word counts
// only if the response costs more by it than by any other. By other upstreams a client could have a
// long answer, and pay the hold.
func (b *Background) end(c *continued, by storedKey, s dialect.Stored, now time.Time) (e *Ending, usage dialect.Usage) {
	e, usage = c.seen(s, now)
	if by != c.key {
		c.show(e.Amount.Output)
		return nil, usage
	}
	doubted, taken := b.take(c)
	switch {
	case !taken:
		return nil, usage
	case doubted:
		e, usage = c.unknown(EndedSeen, now, e.Amount.Output), dialect.Usage{}
		e.Record.Reason = "another response had the same id"
	}
	return e, usage
}

// show notes that an answer which did not end c has shown so many tokens of it. Who has read all but the
// end is not to pay the hold alone, which without a cap may be much less.
func (c *continued) show(tokens int64) {
	for old := c.shown.Load(); tokens > old && !c.shown.CompareAndSwap(old, tokens); {
		old = c.shown.Load()
	}
}

// seen is the end of c, as an answer shows it.
func (c *continued) seen(s dialect.Stored, now time.Time) (*Ending, dialect.Usage) {
	usage, amount, known := c.amount(s)
	e := c.unknown(EndedSeen, now, amount.Output)
	rec := e.Record
	rec.Reason = ""
	switch s.Status {
	case dialect.StoredFailed:
		rec.Outcome = UpstreamError
	case dialect.StoredCancelled:
		rec.Outcome = Aborted
	default:
		rec.Outcome = Completed
	}
	if !known {
		return e, dialect.Usage{}
	}
	e.Hold, e.Amount = false, amount
	rec.Input, rec.Output = amount.Input, amount.Output
	rec.InputSource, rec.OutputSource = c.source(), c.source()
	if usage.Input() > 0 {
		rec.InputSource = Reported
	}
	if usage.Known && usage.Output == amount.Output {
		rec.OutputSource = Reported
	}
	rec.Cached, rec.Reasoning = usage.CacheRead, usage.Reasoning
	return e, usage
}

// amount is what a response cost that has ended: as reported, else as counted, as any whole
// answer. known is false if neither is: a response that failed or was cancelled without a report
// may show less than was billed.
func (c *continued) amount(s dialect.Stored) (usage dialect.Usage, a budget.Amount, known bool) {
	usage, err := dialect.OpenAIResponses{}.ParseAnswer(s.Body, func([]byte) {})
	if errors.Is(err, dialect.ErrFailed) {
		return dialect.Usage{}, a, false
	}
	if !usage.Known || !plausible(usage) || usage.Input()+usage.Output == 0 {
		usage = dialect.Usage{Extra: usage.Extra}
	}
	a = budget.Amount{Input: usage.Input(), Output: usage.Output}
	if a.Input == 0 {
		a.Input = c.input
	}
	if usage.Known && usage.Output > 0 {
		return usage, a, true
	}
	texts := int64(0)
	_, _ = dialect.OpenAIResponses{}.ParseAnswer(s.Body, func(text []byte) { texts += int64(c.model.Encoding.Count(text)) })
	a.Output = c.model.Output.Of(texts) + usage.Extra
	broken := s.Status == dialect.StoredFailed || s.Status == dialect.StoredCancelled
	return usage, a, usage.Known || a.Output > 0 && !broken
}

func (c *continued) source() string {
	if c.model.Estimated {
		return Estimated
	}
	return Counted
}

// unknown is the end of c if what it cost is not known: it is charged what it holds, or what was shown
// of its output, now or before, if that is more.
func (c *continued) unknown(by EndedBy, now time.Time, shown int64) *Ending {
	held := c.reservation.Held()
	cost := budget.Amount{Input: held.Input, Output: max(held.Output, shown, c.shown.Load())}
	rec := c.record
	rec.Held, rec.Input, rec.Output = held, cost.Input, cost.Output
	rec.InputSource, rec.OutputSource = c.source(), Estimated
	rec.Duration = now.Sub(c.start)
	switch by {
	case EndedShutdown:
		rec.Reason = "the server ended before the response was fetched"
	case EndedCrowded:
		rec.Reason = "too many responses went on"
	default:
		rec.Reason = "the response was not fetched in time"
	}
	return &Ending{Settlement: Settlement{Reservation: c.reservation, Amount: cost, Hold: cost == held}, Record: &rec, By: by}
}
