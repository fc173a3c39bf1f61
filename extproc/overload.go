package extproc

import (
	"cmp"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// Overload says when new exchanges are turned away, with 503, so that those under way are
// neither delayed nor endangered. The zero value is the defaults, which a healthy server
// does not meet.
type Overload struct {
	// MaxExchanges is how many exchanges may be open, those that pass unmetered included;
	// 0: one for each 128 KiB of memory, and at most DefaultMaxExchanges.
	MaxExchanges int64
	// MaxBuffered bounds the bytes of bodies that are kept, of all exchanges together:
	// requests until they are decided on, unfinished events of streams, copies of unary
	// answers. From three quarters on new exchanges are turned away; from all of it on,
	// those under way keep less, see [exchange.Exchange.Lean]. 0: a quarter of the memory, and 64 MiB
	// at least.
	MaxBuffered int64
	// MaxDelay is how long a request may wait until its prompt is counted. Requests are
	// also turned away while most work waits a quarter of it for a processor. 0:
	// DefaultMaxDelay.
	MaxDelay time.Duration
}

// The defaults of [Overload].
const (
	DefaultMaxExchanges = 100_000
	DefaultMaxDelay     = time.Second

	exchangeMemory = 128 << 10 // bytes of memory for each exchange
	leastBuffered  = 64 << 20  // bytes; a few requests of the largest size
)

func (o Overload) withDefaults() Overload {
	if o.MaxExchanges <= 0 || o.MaxBuffered <= 0 {
		memory := memoryLimit()
		o.MaxExchanges = cmp.Or(max(0, o.MaxExchanges), min(memory/exchangeMemory, DefaultMaxExchanges))
		o.MaxBuffered = cmp.Or(max(0, o.MaxBuffered), max(memory/4, leastBuffered))
	}
	o.MaxDelay = cmp.Or(max(0, o.MaxDelay), DefaultMaxDelay)
	return o
}

// shedAt is from how many buffered bytes on new exchanges are turned away.
func (o *Overload) shedAt() int64 { return o.MaxBuffered - o.MaxBuffered/4 }

// Why an exchange is turned away: the label of the metric.
const (
	byExchanges = "exchanges" // as many are open as may be
	byMemory    = "memory"    // as many bytes are kept as may be, or the heap is nearly full
	byDelay     = "delay"     // the processors do not keep up
	byCounting  = "counting"  // too many prompts wait to be counted
)

var overloadReasons = []string{byExchanges, byMemory, byDelay, byCounting}

// overload is what the admission of exchanges goes by. All of it is atomic or has a lock of
// its own: admission is no place to wait in.
type overload struct {
	open      atomic.Int64 // exchanges
	buffered  atomic.Int64 // bytes that are kept
	announced atomic.Int64 // bytes of large bodies that are on their way
	counting  counting
	strain    strain
	shed      atomic.Int64 // exchanges that were turned away since that was told
	told      rate         // of warnings
	lines     rate         // of lines about exchanges that were turned away
}

func newOverload() *overload {
	return &overload{
		counting: newCounting(countingTurns(runtime.GOMAXPROCS(0))),
		strain:   newStrain(),
		told:     rate{every: 10 * time.Second, most: 1},
		lines:    rate{every: time.Second, most: 10},
	}
}

const (
	// largeBody is from how many bytes on a body has its place from its headers on. Smaller
	// ones get it when they are here, so that who announces much and sends nothing keeps
	// only large ones out.
	largeBody = 1 << 20

	// smallKeep is what an exchange may keep without being accounted for, in bytes: it is
	// part of what an open exchange takes anyway.
	smallKeep = 64 << 10
)

// load is what one session takes of the server's room.
type load struct {
	// Of the receiver:
	announced int64         // bytes of its body, while it is on its way to be decided on
	body      int64         // bytes of its body, while it is counted or waits for that
	counts    bool          // it has a place among those that are counted
	shed      exchange.Shed // what becomes of the message that has come,
	reason    string        // and why
	// Guarded by the session's lock:
	kept int64 // bytes that the exchange keeps, as accounted for
}

// admit looks at a message before the exchange does, which may wait. Only requests are
// turned away: of an answer every message passes at once.
func (e *session) admit(m *extprocv3.ProcessingRequest) {
	switch r := m.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		e.admitNew(r.RequestHeaders)
	case *extprocv3.ProcessingRequest_RequestBody, *extprocv3.ProcessingRequest_RequestTrailers:
		e.admitBody(m)
	}
}

func (e *session) admitNew(h *extprocv3.HttpHeaders) {
	set, o := e.server.settings.Load(), e.server.overload
	s, size := &set.overload, contentLength(h)
	if size > set.policy.MaxRequest {
		size = 0 // it will be refused for that
	}
	o.strain.look(time.Now(), s.MaxDelay/4)
	switch {
	case o.open.Load() > s.MaxExchanges:
		e.turnAway(exchange.ShedAll, byExchanges)
	case o.buffered.Load() >= s.shedAt(), o.strain.heapFull():
		e.turnAway(exchange.ShedAll, byMemory)
	case o.buffered.Load()+size > s.shedAt(), size >= largeBody && !e.announce(size, s):
		e.turnAway(exchange.ShedMetered, byMemory)
	case o.strain.late():
		e.turnAway(exchange.ShedMetered, byDelay)
	case size >= heavyBody && o.counting.full():
		e.turnAway(exchange.ShedMetered, byCounting)
	}
}

// announce takes the place of a large body that is on its way, if there is one.
func (e *session) announce(size int64, s *Overload) bool {
	o := e.server.overload
	e.load.announced = size
	return o.announced.Add(size)+o.buffered.Load() <= s.shedAt()
}

// arrived gives back what a body had announced.
func (e *session) arrived() { e.came(e.load.announced) }

// came gives back n bytes of what a body had announced, or what there is of that, and
// returns how many these are.
func (e *session) came(n int64) int64 {
	n = min(n, e.load.announced)
	e.server.overload.announced.Add(-n)
	e.load.announced -= n
	return n
}

// admitBody takes room for a piece of a body, which mostly is the whole of it, and lets the
// whole wait for its turn to be counted.
func (e *session) admitBody(m *extprocv3.ProcessingRequest) {
	e.mu.Lock()
	wanted := e.x.Uploading()
	all, whole := e.x.Whole(m)
	e.mu.Unlock()
	if !wanted {
		return // it passes, or nobody reads it any more
	}
	s, o := &e.server.settings.Load().overload, e.server.overload
	size := int64(len(m.GetRequestBody().GetBody()))
	announced := e.came(size)
	e.load.body = size
	total := e.server.buffer(size)
	if size > announced && total > s.shedAt() {
		e.turnAway(exchange.ShedMetered, byMemory)
		return
	}
	if !whole || all < heavyBody {
		return
	}
	if e.load.counts = o.counting.enter(e.stream.Context(), s.MaxDelay); !e.load.counts && e.stream.Context().Err() == nil {
		e.turnAway(exchange.ShedMetered, byCounting)
	}
}

// begin has the exchange take the message that was admitted.
func (e *session) begin(m *extprocv3.ProcessingRequest) exchange.Ready {
	if e.load.shed != exchange.ShedNone {
		e.x.Shed(e.load.shed)
	}
	r := e.x.Step(m)
	e.counted()
	if !e.x.Uploading() {
		e.arrived() // or it never will, or passes, which takes no room here
	}
	if r.Record != nil && r.Record.TurnedAway() {
		e.server.tellOverload(e.load.reason)
	}
	return r
}

// counted ends the body's turn, if it has one.
func (e *session) counted() {
	if e.load.counts {
		e.server.overload.counting.leave()
		e.load.counts = false
	}
}

// account brings up to date what the exchange is accounted for. The caller holds the lock.
func (e *session) account() {
	n := int64(0)
	if !e.ended {
		if n = e.x.Buffered(); n <= smallKeep {
			n = 0
		}
	}
	if n == e.load.kept {
		return
	}
	grown := n - e.load.kept
	e.load.kept = n
	if total := e.server.buffer(grown); grown > 0 && total > e.server.settings.Load().overload.MaxBuffered {
		e.x.Lean()
		if rest := e.x.Buffered(); rest < n {
			e.server.buffer(rest - n)
			e.load.kept = rest
		}
	}
}

// letGo gives back what a body has taken until it was decided on. What is kept of it
// beyond that, because it waits, is accounted for by then.
func (e *session) letGo() {
	e.counted() // it is not, if the exchange had ended before
	if e.load.body > 0 {
		e.server.buffer(-e.load.body)
		e.load.body = 0
	}
}

// leave gives back all that is left, at the end of the receiver.
func (e *session) leave() {
	e.arrived()
	e.letGo()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.x.Close()
	e.server.buffer(-e.load.kept)
	e.load.kept = 0
}

// buffer accounts for more bytes that are kept, or fewer, and returns them all.
func (s *Server) buffer(n int64) int64 {
	if n == 0 {
		return s.overload.buffered.Load()
	}
	s.opts.Metrics.buffered.Add(float64(n))
	return s.overload.buffered.Add(n)
}

// turnAway has the request refused, if it is one that is concerned.
func (e *session) turnAway(what exchange.Shed, reason string) {
	e.load.shed, e.load.reason = what, reason
}

// tellOverload tells that a request was turned away: the metric each time, the log now and
// then.
func (s *Server) tellOverload(reason string) {
	s.opts.Metrics.shed.WithLabelValues(reason).Inc()
	o := s.overload
	o.shed.Add(1)
	if !o.told.allow(time.Now()) {
		return
	}
	s.opts.Log.Warn("overloaded: new requests are answered with 503",
		zap.String("reason", reason), zap.Int64("refused", o.shed.Swap(0)), zap.Int64("open_exchanges", o.open.Load()),
		zap.Int64("buffered_bytes", o.buffered.Load()), zap.Int64("announced_bytes", o.announced.Load()),
		zap.Int64("waiting_to_be_counted", o.counting.waiting.Load()), zap.Duration("delay", o.strain.delay()))
}

// tells says whether there is to be a line in the log about an exchange: of those that are
// turned away only some get one.
func (o *overload) tells(r *exchange.Record) bool {
	return !r.TurnedAway() || o.lines.allow(time.Now())
}

// contentLength is what a request says of the length of its body, in bytes; 0 if it says
// nothing. Envoy has checked that it is true.
func contentLength(h *extprocv3.HttpHeaders) int64 {
	for _, v := range h.GetHeaders().GetHeaders() {
		if v.GetKey() == "content-length" {
			text := string(v.GetRawValue())
			n, err := strconv.ParseInt(cmp.Or(text, v.GetValue()), 10, 64)
			if err != nil || n < 0 {
				return 0
			}
			return n
		}
	}
	return 0
}

// rate allows so much in each span of time.
type rate struct {
	every time.Duration
	most  int64
	since atomic.Int64 // Unix time of the span's begin, in nanoseconds
	n     atomic.Int64 // allowed in it
}

func (r *rate) allow(now time.Time) bool {
	since := r.since.Load()
	if now.UnixNano()-since >= int64(r.every) && r.since.CompareAndSwap(since, now.UnixNano()) {
		r.n.Store(0)
	}
	return r.n.Add(1) <= r.most
}
