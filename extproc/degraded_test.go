package extproc

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

const (
	buffered = filterv3.ProcessingMode_BUFFERED
	streamed = filterv3.ProcessingMode_STREAMED
)

// inModes sends a chat request's headers as Envoy does in these body modes.
func (p *peer) inModes(user string, request, answer filterv3.ProcessingMode_BodySendMode) {
	p.t.Helper()
	m := requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", user)
	m.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: request, ResponseBodyMode: answer}
	p.send(m)
}

// beginStreamed has a stream admitted and its answer begun, with response_body_mode STREAMED.
func (p *peer) beginStreamed(user string) {
	p.t.Helper()
	p.inModes(user, buffered, streamed)
	p.next()
	p.send(requestBody(chatBody("Good morning", true)))
	p.next()
	p.answer(eventStream)
}

// TestDegraded: modes in which less can be done are told in the log once, with what mends
// them, counted for each exchange, and told by Notes for ten minutes.
func TestDegraded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		const mode = "response_body_mode=STREAMED"
		for i := range 3 {
			p := r.dial()
			p.beginStreamed("ann")
			p.send(responseBody("data: [DONE]\n\n", true))
			p.next()
			if err := p.end(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := r.metric("tokenbudget_degraded_exchanges_total", "mode", mode); n != float64(i+1) {
				t.Errorf("%v exchanges are counted after %d", n, i+1)
			}
		}
		for _, l := range r.log.lines("msg", "exchange") {
			if l["degraded"] != mode {
				t.Errorf("the exchange's line says %v", l["degraded"])
			}
		}
		warned := r.log.lines("level", "warn")
		if len(warned) != 1 || warned[0]["degraded"] != mode {
			t.Fatalf("the log warns %v", warned)
		}
		if set, ok := warned[0]["set"].([]any); !ok || !slices.Equal(set, []any{"response_body_mode: FULL_DUPLEX_STREAMED, response_trailer_mode: SEND"}) {
			t.Errorf("what mends it is %v", warned[0]["set"])
		}
		time.Sleep(noteFor)
		if notes := r.server.Notes(); len(notes) != 1 || !strings.Contains(notes[0], mode+" (3 exchanges") || !strings.Contains(notes[0], "set response_body_mode: FULL_DUPLEX_STREAMED") {
			t.Errorf("the notes are %q", notes)
		}
		time.Sleep(time.Second)
		if notes := r.server.Notes(); len(notes) != 0 {
			t.Errorf("the notes are %q", notes)
		}

		// Another mode is told, too; the usual ones are not.
		p := r.dial()
		p.inModes("ann", streamed, streamed)
		p.next()
		p.hangUp()
		p = r.dial()
		p.begin("ann")
		p.hangUp()
		synctest.Wait()
		if warned := r.log.lines("level", "warn"); len(warned) != 2 || warned[1]["degraded"] != "request_body_mode=STREAMED,"+mode {
			t.Errorf("the log warns %v", warned)
		}
		if notes := r.server.Notes(); len(notes) != 1 {
			t.Errorf("the notes are %q", notes)
		}
	})
}

// TestDegradedRefused: the switch for those who would rather have nothing than less.
func TestDegradedRefused(t *testing.T) {
	bubble(t, func(o *Options) { o.Policy.RefuseDegraded = true }, func(t *testing.T, r *rig) {
		p := r.dial()
		p.inModes("ann", streamed, streamed)
		if got := p.next().GetImmediateResponse(); got.GetStatus().GetCode() != 500 || !strings.Contains(string(got.GetBody()), "degraded: refuse") {
			t.Errorf("got %v", got)
		}
		if err := p.end(); err != nil {
			t.Error(err)
		}
		p = r.dial()
		p.begin("ann")
		p.hangUp()
	})
}

// TestSwallow: with response_body_mode STREAMED an upstream goes on after a cut, for
// longer than the server waits after other cuts; it is charged, and the deadline ends it.
func TestSwallow(t *testing.T) {
	cut := func(p *peer) {
		p.beginStreamed("ann")
		p.send(responseBody(strings.Repeat(event("word "), 300), false))
		if got := string(p.next().GetResponseBody().GetResponse().GetBodyMutation().GetBody()); !strings.HasSuffix(got, "data: [DONE]\n\n") {
			p.t.Fatalf("not a cut: %q", got)
		}
	}
	swallowed := func(p *peer) {
		time.Sleep(time.Minute)
		p.send(responseBody(event("more words"), false))
		if !p.next().GetResponseBody().GetResponse().GetBodyMutation().GetClearBody() {
			p.t.Fatal("a piece after the cut passes")
		}
	}
	bubble(t, func(o *Options) { o.ExchangeTimeout = 3 * time.Minute }, func(t *testing.T, r *rig) {
		p := r.dial()
		cut(p)
		swallowed(p)
		before := r.user("ann")
		p.send(responseBody(event(strings.Repeat("word ", 100)), true))
		p.next()
		if err := p.end(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if now := r.user("ann"); now.Held != 0 || now.Spent <= 300+100 || before.Held == 0 {
			t.Errorf("the ledger says %+v, before it %+v", now, before)
		}
	})
	bubble(t, func(o *Options) { o.ExchangeTimeout = 3 * time.Minute }, func(t *testing.T, r *rig) {
		p := r.dial()
		cut(p)
		swallowed(p)
		if err := p.end(); status.Code(err) != codes.Unavailable {
			t.Errorf("the deadline ends it with %v, which lets the rest pass", err)
		}
		if l := r.exchangeLine("ann"); l["outcome"] != string(exchange.CutOff) || l["limit"] != "user" || l["duration_ms"] != 180_000.0 {
			t.Errorf("the log says %v", l)
		}
	})
}

// TestPieces: nothing of a request whose body comes in pieces is forwarded before the decision.
func TestPieces(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial()
		p.inModes("ann", streamed, buffered)
		p.next()
		body := chatBody(strings.Repeat("word ", 1000), false)
		for piece := range slices.Chunk([]byte(body), 1000) {
			m := requestBody(string(piece))
			m.GetRequestBody().EndOfStream = false
			p.send(m)
			if !p.next().GetRequestBody().GetResponse().GetBodyMutation().GetClearBody() {
				t.Fatal("a piece of the prompt passes")
			}
		}
		p.send(requestBody(""))
		if got := p.next().GetImmediateResponse(); got.GetStatus().GetCode() != 429 {
			t.Errorf("got %v", got)
		}
	})
}
