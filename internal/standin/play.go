package standin

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// errTooLong is why an exchange ends that exceeds Options.MaxDuration.
var errTooLong = errors.New("standin: exchange exceeds MaxDuration")

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.handlers.Done()
	ex := s.journal.begin(r)
	defer s.journal.end(ex)

	ctx, cancel := context.WithTimeoutCause(r.Context(), s.opts.MaxDuration, errTooLong)
	defer cancel()
	// The peer's leaving is noted by a function of its own, at once, whatever the
	// handler is doing: pausing, silent, or blocked in a write.
	gone := context.AfterFunc(ctx, func() { s.stopped(ctx, ex) })
	defer gone()
	// The deadlines free a handler that is blocked. They come after the context's,
	// since over HTTP/2 they look as if the peer had cancelled.
	rc := http.NewResponseController(w)
	deadline := time.Now().Add(s.opts.MaxDuration + time.Second)
	_ = rc.SetReadDeadline(deadline) // both protocols support it
	_ = rc.SetWriteDeadline(deadline)

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	s.journal.received(ex, body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
			s.abort(ctx, ex)
		}
		s.play(ctx, w, rc, ex, refusal(http.StatusRequestEntityTooLarge, "the request body is too large for the stand-in"))
		return
	}
	_ = rc.SetReadDeadline(time.Time{}) // the connection is watched for its end from here on

	if s.opts.Signing != (SigningKey{}) {
		if err := s.opts.Signing.verify(r, body); err != nil {
			s.play(ctx, w, rc, ex, refusal(http.StatusForbidden, "the stand-in refuses the signature: "+err.Error()))
			return
		}
	}
	sc, stored, err := s.background(r, body)
	if !stored {
		sc, err = s.opts.write(r, body)
	}
	if err != nil {
		sc = refusal(http.StatusBadRequest, err.Error())
	}
	s.play(ctx, w, rc, ex, sc)
}

// refusal is the answer to a request that cannot be played.
func refusal(status int, message string) script {
	body := errorBody(message)
	return script{
		status: status, header: http.Header{"Content-Type": {"application/json"}},
		events: [][]byte{body}, play: 1, burst: 1,
	}
}

// play sends a script. It returns only after a clean end; whatever stops it
// breaks the stream off, so that a half answer never looks like a whole one.
func (s *Server) play(ctx context.Context, w http.ResponseWriter, rc *http.ResponseController, ex *Exchange, sc script) {
	total := sc.bytesTotal()
	s.journal.planned(ex, sc.recording, len(sc.events), total)
	maps.Copy(w.Header(), sc.header)
	w.Header().Set(headerID, ex.ID)
	if sc.stream {
		w.Header().Set("Cache-Control", "no-cache")
	} else {
		w.Header().Set("Content-Length", strconv.FormatInt(total, 10))
	}
	w.WriteHeader(sc.status)
	if err := rc.Flush(); err != nil {
		s.abort(ctx, ex)
	}

	var (
		sent   int64
		ends   int64 // where the event after those sent ends
		events int
	)
	if len(sc.events) > 0 {
		ends = int64(len(sc.events[0]))
	}
	for piece := range sc.writes() {
		if sent > 0 && !pause(ctx, sc.interval) {
			s.abort(ctx, ex)
		}
		n, err := w.Write(piece)
		if err == nil {
			err = rc.Flush()
		}
		for sent += int64(n); events < len(sc.events) && sent >= ends; {
			if events++; events < len(sc.events) {
				ends += int64(len(sc.events[events]))
			}
		}
		s.journal.sent(ex, piece[:n], events, err == nil && sent == total && sc.ending == complete)
		if err != nil {
			s.abort(ctx, ex)
		}
	}
	switch sc.ending {
	case stall:
		<-ctx.Done()
		s.abort(ctx, ex)
	case reset:
		panic(http.ErrAbortHandler)
	}
}

// stopped notes why an exchange stops before its end: the peer's doing, unless
// the stand-in itself had a reason.
func (s *Server) stopped(ctx context.Context, ex *Exchange) {
	cause := context.Cause(ctx)
	if !errors.Is(cause, errClosed) && !errors.Is(cause, errTooLong) {
		s.journal.cancelled(ex)
	}
}

// abort breaks the stream off.
func (s *Server) abort(ctx context.Context, ex *Exchange) {
	s.stopped(ctx, ex)
	panic(http.ErrAbortHandler)
}

// pause waits and reports whether the exchange may go on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
