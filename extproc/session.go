package extproc

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// Process serves one exchange, on any gRPC server. Only while Serve runs do responses go on in
// the background; else they are charged what is held for them at once.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	return s.process(foreign{stream})
}

// process serves one exchange, on a gRPC server with our codec.
func (s *Server) process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	now, set := time.Now(), s.settings.Load()
	e := &session{
		server:   s,
		stream:   stream,
		x:        exchange.New(set.policy),
		idle:     set.idle,
		last:     now,
		deadline: now.Add(set.exchange),
		alarm:    time.NewTimer(min(set.exchange, set.idle)),
		done:     make(chan struct{}),
		made:     make(chan bool, 1),
	}
	s.opts.Metrics.open.Inc()
	defer s.opts.Metrics.open.Dec()
	s.overload.open.Add(1)
	defer s.overload.open.Add(-1)
	defer e.alarm.Stop()
	// The receiver is done when this handler returns, since that ends the stream.
	s.receivers.do(job{e, taskReceive})
	draining, drain := s.draining, s.drain
	for {
		select {
		case <-e.done:
			return e.err
		case <-draining:
			draining = nil
			if !e.intervene(e.giveUp) {
				return errStuck
			}
		case <-drain:
			drain = nil
			if !e.intervene(func() exchange.Ready { return e.x.Stop(exchange.LimitDrain) }) {
				return errStuck
			}
		case <-e.alarm.C:
			if !e.intervene(e.overdue) {
				return errStuck
			}
		}
	}
}

// session drives one exchange.
type session struct {
	server *Server
	stream extprocv3.ExternalProcessor_ProcessServer
	alarm  *time.Timer   // wakes the handler at the next deadline
	idle   time.Duration // the longest silence of a stream
	done   chan struct{} // closed when the handler is to return err

	// The receiver's:
	in   received
	at   time.Time     // when it came
	took time.Duration // how long Recv had to wait for it
	made chan bool     // the step that another goroutine makes is done; whether the exchange has ended

	mu          sync.Mutex // the receiver and the handler both step; guards what follows
	x           *exchange.Exchange
	hold        budget.Reservation  // of the exchange's one request, unless it may outlive the exchange
	reservation *budget.Reservation // once it was granted; nil again if it has outlived the exchange
	last        time.Time           // of the last message from Envoy
	pause       pause               // for a limit that throttles
	size        int64               // bytes of the request's body
	deadline    time.Time           // of the exchange; once lingering, of the wait for Envoy
	lingering   bool
	flushing    bool // a goroutine is on its way that sends what is deferred
	ended       bool
	err         error // valid once done is closed
	load        load
}

// receive takes Envoy's messages until the stream ends.
func (e *session) receive() {
	defer e.leave()
	defer func() { // a panic of Recv, which reads the message; a step has a recover of its own
		if p := recover(); p != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.panicked(p)
		}
	}()
	for {
		e.in.release()
		asked := time.Now()
		err := e.stream.RecvMsg(&e.in)
		e.took = time.Since(asked)
		if err != nil {
			// Whatever the error says: the exchange knows how it stands.
			e.step(e.x.End)
			return
		}
		e.at = asked.Add(e.took)
		e.admit(&e.in.message)
		var ended bool
		if e.in.message.GetRequestBody() != nil {
			// To read a prompt takes a large stack, which this goroutine would keep for
			// the whole answer.
			e.server.receivers.do(job{e, taskMessage})
			ended = <-e.made
		} else {
			ended = e.message()
		}
		e.letGo()
		if ended {
			return
		}
	}
}

// message makes the step for the message that was received. It reports whether the
// exchange has ended.
func (e *session) message() (ended bool) {
	return e.step(func() exchange.Ready {
		e.last = e.at
		if b := e.in.message.GetRequestBody(); b != nil {
			e.size += int64(len(b.GetBody()))
		}
		r := e.begin(&e.in.message)
		if e.took < e.server.atHand && e.deferPiece(r) {
			return exchange.Ready{}
		}
		return r
	})
}

// overdue ends what has lasted too long, and sets the alarm for the next time.
func (e *session) overdue() exchange.Ready {
	now := time.Now()
	idle := e.last.Add(e.idle)
	if e.waits() && !now.Before(e.pause.next) {
		e.alarm.Reset(max(0, min(e.deadline.Sub(now), e.idle))) // waiting on sets it anew
		return exchange.Ready{Reserve: e.pause.request}
	}
	switch {
	case !now.Before(e.deadline) && e.lingering:
		return e.x.End()
	case !now.Before(e.deadline):
		return e.x.Stop(exchange.LimitDeadline)
	case !now.Before(idle) && (e.x.Cuttable() || e.x.Uploading()):
		return e.x.Stop(exchange.LimitIdle)
	}
	next := e.deadline.Sub(now)
	if !e.lingering {
		// While no stream is under way, silence is no fault; look again later.
		if wait := idle.Sub(now); wait > 0 {
			next = min(next, wait)
		} else {
			next = min(next, e.idle)
		}
	}
	if e.waits() { // it may have begun while the alarm rang
		next = min(next, e.pause.next.Sub(now))
	}
	e.alarm.Reset(next)
	return exchange.Ready{}
}

// errStuck ends the gRPC stream of a peer that does not read. The receiver's Send
// fails then, and it settles.
var errStuck = status.Error(codes.DeadlineExceeded, "the peer does not read")

// intervene is a step from outside of the receiver. It is false if the receiver is
// in a step that does not end, because the peer does not read what is sent.
func (e *session) intervene(f func() exchange.Ready) bool {
	const tries = 100
	for range tries {
		if e.mu.TryLock() {
			e.locked(f)
			return true
		}
		time.Sleep(e.server.grace / tries)
	}
	return false
}

// step lets the exchange make one step and does what it asks for. It reports
// whether the exchange has ended.
func (e *session) step(f func() exchange.Ready) (ended bool) {
	e.mu.Lock()
	return e.locked(f)
}

// locked is step with the lock held; it unlocks.
func (e *session) locked(f func() exchange.Ready) (ended bool) {
	defer e.mu.Unlock()
	if e.ended {
		return true
	}
	defer func() {
		if p := recover(); p != nil {
			e.panicked(p)
			ended = true
		}
	}()
	e.perform(f())
	e.account()
	return e.ended
}

// perform does what the exchange wants done, in the order which Ready states.
func (e *session) perform(r exchange.Ready) {
	for r.Reserve != nil {
		if e.stream.Context().Err() != nil {
			// Envoy has given up while the prompt was counted: nothing will be forwarded.
			r = e.x.End()
			break
		}
		hold := &e.hold
		if e.x.MayBeKept() {
			hold = new(budget.Reservation) // which is not to keep all of the session with it
		}
		d, err := e.server.opts.Ledger.ReserveIn(e.stream.Context(), hold, *r.Reserve)
		if err != nil {
			if e.stream.Context().Err() != nil {
				r = e.x.End() // it did so meanwhile, which is no fault of the ledger's
				break
			}
			e.server.opts.Log.Error("the ledger cannot be used", zap.Error(err))
		} else if d.Allowed {
			e.reservation = hold
		} else if throttled, ok := e.throttle(r.Reserve, d); ok {
			r = throttled
			break
		}
		r = e.x.Reserved(e.reservation, d, err)
	}
	if !e.x.Waits() { // admitted, or answered by somebody else
		e.endWait()
	}
	e.settle(r)
	err := e.written(r)
	e.letKept(r)
	if err != nil {
		e.server.opts.Log.Error("the ledger cannot be written; an answer is broken off", zap.Error(err))
		r = e.unsent(r, err)
	}
	// Before the last message leaves, so that it and the end of the gRPC stream follow
	// each other closely, and go out in one write.
	e.record(&r)
	for _, m := range r.Send {
		if err := e.stream.Send(m); err != nil {
			// The stream is gone, or the message cannot be sent: no other can follow.
			if e.stream.Context().Err() == nil {
				e.server.opts.Log.Warn("a message for Envoy could not be sent", zap.Error(err))
			}
			r = e.unsent(r, err)
			e.record(&r)
			break
		}
	}
	e.x.Sent()
	clear(r.Send) // the exchange has the list; a large body is not to stay in it
	if r.Linger {
		e.lingering, e.deadline = true, time.Now().Add(e.server.grace)
		e.alarm.Reset(e.server.grace)
	}
	if r.End {
		e.end(r.Err)
	}
}

// settle settles what r wants settled.
func (e *session) settle(r exchange.Ready) {
	if r.Settle != nil && !r.Settle.Apply() {
		e.server.opts.Log.Error("an exchange was settled twice")
	}
	if r.Kept {
		e.server.opts.Metrics.background.Inc()
	}
	if r.Ending != nil {
		e.server.endBackground(r.Ending)
	}
}

// letKept lets go of a reservation that outlives the exchange: another may settle it by now.
func (e *session) letKept(r exchange.Ready) {
	if r.Kept {
		e.reservation = nil
	}
}

// record records what r has to record, and takes it out. A panic of the log is no
// reason to keep the rest of an answer back: it leaves, and then the stream ends with
// an error.
func (e *session) record(r *exchange.Ready) {
	if r.Record == nil {
		return
	}
	e.endWait()
	defer func() {
		r.Record = nil
		if p := recover(); p != nil {
			e.server.report(p)
			r.End, r.Err = true, errInternal
		}
	}()
	e.server.record(r.Record)
}

// written waits until the store has what r's messages tell of: the hold behind their
// text, and the settlement before the answer's end. Within a hold it does not wait.
func (e *session) written(r exchange.Ready) error {
	if e.reservation == nil || len(r.Send) == 0 {
		return nil
	}
	err := e.reservation.Wait(e.stream.Context())
	if e.stream.Context().Err() != nil {
		err = nil // there is nobody to tell
	}
	return err
}

// unsent is what remains of r after a message of it could not be sent. It settles
// what r has not. The stream ends with an error: should it still live, Envoy must
// not take its end for leave to pass the rest.
func (e *session) unsent(r exchange.Ready, err error) exchange.Ready {
	last := e.x.Unsent()
	e.settle(last)
	e.letKept(last)
	last.Record = cmp.Or(r.Record, last.Record)
	last.Err = cmp.Or(r.Err, err)
	return last
}

// end lets the handler return.
func (e *session) end(err error) {
	switch {
	case err == nil, errors.Is(err, errInternal):
	case errors.Is(err, exchange.ErrProtocol):
		e.server.opts.Log.Warn("ext_proc protocol", zap.Error(err))
		err = status.Error(codes.InvalidArgument, err.Error())
	default:
		err = status.Error(codes.Unavailable, err.Error())
	}
	if e.reservation != nil && e.reservation.SettleHold() {
		e.server.opts.Log.Error("an exchange ended without a settlement; its hold is charged")
	}
	e.ended, e.err = true, err
	close(e.done)
}

// panicked ends an exchange after a panic: its hold is charged, since nobody
// knows what it used, and the others go on.
func (e *session) panicked(p any) {
	e.server.report(p)
	e.endWait()
	e.flushAfter()
	if e.reservation != nil {
		e.reservation.SettleHold()
	}
	if !e.ended {
		e.ended, e.err = true, errInternal
		close(e.done)
	}
}

// errInternal ends the gRPC stream of an exchange that panicked.
var errInternal = status.Error(codes.Internal, "internal error")

// report tells of a panic, as far as it can: it may have been the log's, and come again.
func (s *Server) report(p any) {
	s.opts.Metrics.panics.Inc()
	defer func() { _ = recover() }()
	s.opts.Log.Error("panic in an exchange", zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
}
