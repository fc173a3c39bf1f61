package exchange

import (
	"sync"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// maxMerged bounds what of an answer is kept to be sent together, in bytes. A message has
// no more than that and what came last.
const maxMerged = 64 << 10

// merged are pieces of an answer that may leave and were kept back, so that one message
// carries several. Whatever message is made next for the answer's body begins with them,
// so that nothing can pass them by.
type merged struct {
	bytes  []byte
	taken  bool    // the last message began with bytes, and is in the buffer
	buffer *[]byte // that bytes are in; there only while it is needed, since most streams wait
}

// mergeBuffers are the buffers that no exchange needs at the moment.
var mergeBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, maxMerged+16<<10) // a longer last message takes one of its own
	return &b
}}

// take returns the bytes of a message: what was kept, and body behind it.
func (m *merged) take(body []byte) []byte {
	if m.taken = len(m.bytes) > 0; m.taken {
		body = append(m.bytes, body...)
		m.bytes = nil
	}
	return body
}

// keep takes the bytes of the last message back.
func (m *merged) keep(body []byte) {
	if m.taken {
		m.bytes = body
		return
	}
	if m.buffer == nil {
		m.buffer = mergeBuffers.Get().(*[]byte)
	}
	m.bytes = (*m.buffer)[:0]
	m.bytes = append(m.bytes, body...)
}

// release gives the buffer back, if nothing is kept.
func (m *merged) release() {
	if m.buffer != nil && len(m.bytes) == 0 {
		mergeBuffers.Put(m.buffer)
		m.buffer = nil
	}
}

// Defer takes back what r, the last Ready, wants sent. It leaves with the next piece of the
// answer, whatever that is, or by [Exchange.Flush], which the driver must call before it
// waits for anything. It is false if r is no piece of a stream, or if enough was deferred:
// then r is to be done.
//
// Envoy takes any number of messages for any number of pieces, in order, but only with
// response_body_mode FULL_DUPLEX_STREAMED.
func (x *Exchange) Defer(r Ready) bool {
	p := &x.out
	if x.state != stateStreaming || len(r.Send) != 1 || r.Send[0] != &p.message || p.message.Response != &p.duplex ||
		len(p.streamed.Body) > maxMerged {
		return false
	}
	p.merged.keep(p.streamed.Body)
	return true
}

// Flush sends what was deferred.
func (x *Exchange) Flush() Ready { return Ready{Send: x.out.flush(x)} }

// Sent says that all of a Ready was sent or deferred, and need not stay valid. Nor is the
// message that was given to Step, but for the body of a request.
func (x *Exchange) Sent() {
	x.out.streamed.Body, x.out.piece = nil, nil
	x.out.merged.release()
	x.letGoPlain()
	if x.stream == nil {
		return
	}
	x.parser.Feed(nil) // copies what is withheld
	if x.large {
		// What was read last refers to the whole message, and may be the last for long.
		x.large = false
		letGo(x.stream, &x.event)
	}
}

// letGo drops what an event, and the stream that has read it, refer to of the data.
func letGo(s dialect.Stream, ev *dialect.Event) {
	ev.LetGo()
	if s, ok := s.(interface{ LetGo() }); ok {
		s.LetGo()
	}
}

// largeMessage is from which length on a message is let go of at once, in bytes. For
// smaller ones it is not worth the time.
const largeMessage = 4 << 10

// flush is the message with what was kept, if there is something.
func (p *passMessage) flush(x *Exchange) []*extprocv3.ProcessingResponse {
	if len(p.merged.bytes) == 0 {
		return nil
	}
	return p.list(p.responseBody(x.mode.response, nil, false))
}
