package standin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Exchange is one request and what became of its answer. Exactly one of these
// holds once Ended is set: Completed, or CancelledAt is set, or the stand-in
// itself broke off (x-standin-reset-after, MaxDuration, Close).
type Exchange struct {
	ID        string      // from x-standin-id, or generated
	Recording string      // what was replayed; empty if the request was refused
	Method    string      //
	Path      string      // escaped, without the query (which can carry keys)
	Protocol  string      // HTTP/1.1 or HTTP/2.0
	Header    http.Header // of the request, without the headers that carry keys
	Body      []byte      // of the request, at most Options.KeepBytes of it
	BodyBytes int64       // how long the request's body really was

	Started time.Time
	Ended   time.Time // zero while it runs

	EventsSent  int    // events whose last byte was sent; a JSON answer is one event
	EventsTotal int    //
	BytesSent   int64  //
	BytesTotal  int64  //
	Sent        []byte // the bytes sent, at most Options.KeepBytes of them

	Completed   bool      // the whole answer was sent, in the end
	CancelledAt time.Time // when the peer was seen to be gone before that
}

// Cancelled reports whether the peer stopped the answer before its end.
func (e Exchange) Cancelled() bool { return !e.CancelledAt.IsZero() }

// secretHeaders are not kept: a report of a test must not carry anybody's key.
var secretHeaders = []string{
	"Authorization", "Proxy-Authorization", "Cookie", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "X-Amz-Security-Token",
}

// journal remembers the last exchanges. One lock guards it and them all.
type journal struct {
	keep, keepBytes int

	mu      sync.Mutex
	entries []*Exchange   // oldest first, at most keep
	serial  uint64        // for generated ids
	ended   chan struct{} // closed and replaced when an exchange ends
}

func newJournal(keep, keepBytes int) *journal {
	return &journal{keep: keep, keepBytes: keepBytes, ended: make(chan struct{})}
}

// begin enters a request. The result may be changed through the journal only.
func (j *journal) begin(r *http.Request) *Exchange {
	ex := &Exchange{
		ID:       r.Header.Get(headerID),
		Method:   r.Method,
		Path:     r.URL.EscapedPath(),
		Protocol: r.Proto,
		Header:   r.Header.Clone(),
		Started:  time.Now(),
	}
	for _, name := range secretHeaders {
		ex.Header.Del(name)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if ex.ID == "" {
		j.serial++
		ex.ID = "standin-" + strconv.FormatUint(j.serial, 10)
	}
	if len(j.entries) == j.keep {
		j.entries = slices.Delete(j.entries, 0, 1)
	}
	j.entries = append(j.entries, ex)
	return ex
}

// received notes the request's body.
func (j *journal) received(ex *Exchange, body []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ex.Body, ex.BodyBytes = slices.Clone(body[:min(len(body), j.keepBytes)]), int64(len(body))
}

// planned notes what is going to be sent.
func (j *journal) planned(ex *Exchange, recording string, events int, bytes int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ex.Recording, ex.EventsTotal, ex.BytesTotal = recording, events, bytes
}

// sent notes a write, and how many events are complete after it. An exchange is
// completed here, not when its handler returns: a peer which cancels after it
// has been given everything has not stopped anything.
func (j *journal) sent(ex *Exchange, written []byte, events int, last bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ex.BytesSent += int64(len(written))
	ex.EventsSent = events
	room := j.keepBytes - len(ex.Sent)
	ex.Sent = append(ex.Sent, written[:min(len(written), room)]...)
	ex.Completed = last && ex.CancelledAt.IsZero()
}

// cancelled notes that the peer is gone, once, and only before the end.
func (j *journal) cancelled(ex *Exchange) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !ex.Completed && ex.CancelledAt.IsZero() && ex.Ended.IsZero() {
		ex.CancelledAt = now
	}
}

// end closes the entry and wakes those who wait.
func (j *journal) end(ex *Exchange) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ex.Ended = time.Now()
	close(j.ended)
	j.ended = make(chan struct{})
}

// snapshot copies an entry; j.mu must be held. What it points to is never
// changed afterwards, except that Sent grows beyond the clipped length.
func snapshot(ex *Exchange) Exchange {
	c := *ex
	c.Sent = slices.Clip(c.Sent)
	return c
}

func (j *journal) all() []Exchange {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Exchange, len(j.entries))
	for i, ex := range j.entries {
		out[i] = snapshot(ex)
	}
	return out
}

func (j *journal) latest(id string) (Exchange, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.latestLocked(id)
}

func (j *journal) latestLocked(id string) (Exchange, bool) {
	for _, ex := range slices.Backward(j.entries) {
		if ex.ID == id {
			return snapshot(ex), true
		}
	}
	return Exchange{}, false
}

func (j *journal) wait(ctx context.Context, id string) (Exchange, error) {
	for {
		j.mu.Lock()
		ex, found := j.latestLocked(id)
		ended := j.ended
		j.mu.Unlock()
		if found && !ex.Ended.IsZero() {
			return ex, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			state := "no such request has arrived"
			if found {
				state = fmt.Sprintf("it is running, %d of %d events sent", ex.EventsSent, ex.EventsTotal)
			}
			return ex, fmt.Errorf("standin: waiting for the end of exchange %q: %w (%s)", id, context.Cause(ctx), state)
		}
	}
}
