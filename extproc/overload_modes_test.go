package extproc

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// Overload in other modes of Envoy's filter than the usual ones.

const duplex = filterv3.ProcessingMode_FULL_DUPLEX_STREAMED

// inMode is a chat request's headers in a mode for its body.
func inMode(mode filterv3.ProcessingMode_BodySendMode, more ...string) *extprocv3.ProcessingRequest {
	m := requestHeaders(append([]string{":method", "POST", ":path", "/v1/chat/completions"}, more...)...)
	m.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: mode, ResponseBodyMode: duplex}
	return m
}

// bodyPiece is a piece of a request's body that is not the last.
func bodyPiece(body string) *extprocv3.ProcessingRequest {
	m := requestBody(body)
	m.GetRequestBody().EndOfStream = false
	return m
}

func requestTrailers() *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestTrailers{RequestTrailers: &extprocv3.HttpTrailers{}}}
}

// What comes of bodies in pieces is bounded for all together, before they are whole.
func TestShedPieces(t *testing.T) {
	for _, mode := range []filterv3.ProcessingMode_BodySendMode{streamed, duplex} {
		bubble(t, func(o *Options) { o.Overload.MaxBuffered = 4 << 20 }, func(t *testing.T, r *rig) {
			var peers []*peer
			for i := range 8 {
				p := r.dial()
				defer p.hangUp()
				p.send(inMode(mode, "x-user", fmt.Sprint("user", i)))
				peers = append(peers, p)
			}
			for range 4 {
				for _, p := range peers {
					_ = p.stream.Send(bodyPiece(padded(256 << 10))) // fails once it was turned away
					synctest.Wait()
				}
			}
			if n := r.server.overload.buffered.Load(); n > 4<<20 {
				t.Errorf("%v: %d bytes are kept", mode, n)
			}
			if n := r.metric("tokenbudget_overload_total", "reason", "memory"); n < 4 {
				t.Errorf("%v: %v were turned away", mode, n)
			}
		})
	}
}

// A large body keeps its place while its pieces come.
func TestPiecesAnnounced(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxBuffered = 8 << 20 }, func(t *testing.T, r *rig) {
		o := r.server.overload
		p := r.dial()
		defer p.hangUp()
		p.send(inMode(duplex, "x-user", "ann", "content-length", fmt.Sprint(2<<20)))
		p.send(bodyPiece(padded(1 << 20)[:1<<20-1] + " "))
		synctest.Wait()
		if n := o.announced.Load(); n != 1<<20 {
			t.Errorf("%d bytes are announced when half of it is here", n)
		}
		o.buffered.Add(6 << 20) // others come meanwhile
		p.send(bodyPiece(padded(1 << 19)))
		synctest.Wait()
		o.buffered.Add(-6 << 20)
		if n := o.announced.Load(); n != 1<<19 {
			t.Errorf("%d bytes are announced when three quarters of it are here", n)
		}
	})
}

// A prompt that comes in pieces waits for its turn once, when it is whole, however small its last
// piece is.
func TestCountingTurnOfPieces(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		c := &r.server.overload.counting
		for range cap(c.turns) {
			c.turns <- struct{}{}
		}
		last := []*extprocv3.ProcessingRequest{requestBody(""), requestTrailers()}
		for _, end := range last {
			p := r.dial()
			defer p.hangUp()
			p.send(inMode(duplex, "x-user", "ann"))
			p.send(bodyPiece(padded(2 * heavyBody)))
			synctest.Wait()
			if n := c.waiting.Load(); n != 0 {
				t.Errorf("%d wait before the end of the body", n)
			}
			begin := time.Now()
			p.send(end)
			synctest.Wait()
			if n := c.waiting.Load(); n != 1 {
				t.Errorf("%d wait at the end of the body", n)
			}
			if !refused(t, p.next()) || time.Since(begin) != DefaultMaxDelay {
				t.Errorf("turned away after %v", time.Since(begin))
			}
		}
		for range cap(c.turns) {
			c.leave()
		}
	})
}

// In observability mode nobody can be turned away; what is not counted for overload is told
// like that.
func TestShedObserved(t *testing.T) {
	bubble(t, func(o *Options) { o.Overload.MaxExchanges = 1 }, func(t *testing.T, r *rig) {
		ann := r.dial()
		defer ann.hangUp()
		ann.begin("ann")
		for range 20 {
			p := r.dial()
			m := requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "bob")
			m.ObservabilityMode = true
			p.send(m)
			if err := p.end(); err != nil {
				t.Fatal(err)
			}
		}
		if n := r.metric("tokenbudget_overload_total", "reason", "exchanges"); n != 20 {
			t.Errorf("%v were counted", n)
		}
		if l := r.log.lines("limit", "(overload)"); len(l) != 10 || l[0]["outcome"] != "bypassed" {
			t.Errorf("%d lines, want 10: %v", len(l), l)
		}
	})
}
