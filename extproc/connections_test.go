package extproc

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// During the drain's delay health is down, and yet everybody is served; then nobody new is.
func TestDrainDelay(t *testing.T) {
	configure := func(o *Options) { o.DrainTimeout, o.DrainDelay = time.Minute, 5*time.Second }
	bubble(t, configure, func(t *testing.T, r *rig) {
		p := r.dial()
		defer p.hangUp()
		p.begin("ann")
		r.stop()
		synctest.Wait()
		if m, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); m.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health in the delay: %v, %v", m.GetStatus(), err)
		}
		time.Sleep(4 * time.Second)
		late := r.dial() // as from an Envoy that has not noticed yet
		defer late.hangUp()
		late.begin("bob")
		if conn, err := r.lis.Dial(); err != nil {
			t.Errorf("a new connection in the delay: %v", err)
		} else if err := conn.Close(); err != nil { // gRPC does not drain before its handshakes are over
			t.Error(err)
		}

		time.Sleep(2 * time.Second)
		synctest.Wait()
		if stream, err := r.client.Process(t.Context()); err == nil {
			if _, err = stream.Recv(); status.Code(err) != codes.Unavailable {
				t.Errorf("a new stream after the delay ends with %v, want Unavailable", err)
			}
		}
		for _, q := range []*peer{p, late} {
			q.say("Good")
			q.send(responseBody("data: [DONE]\n\n", true))
			if !bodyOf(q.next()).GetEndOfStream() {
				t.Error("the end did not come back")
			}
		}
	})
}

// The delay is part of the drain, and nobody waits for it who has no connection.
func TestDrainDelayBounds(t *testing.T) {
	bubble(t, func(o *Options) { o.DrainTimeout, o.DrainDelay = 10*time.Second, time.Minute }, func(t *testing.T, r *rig) {
		p := r.dial()
		p.begin("ann")
		p.say("Good")
		at := time.Now()
		r.stop()
		p.wantCut("(drain)")
		if d := time.Since(at); d != 10*time.Second {
			t.Errorf("cut after %v, want 10s", d)
		}
		p.hangUp()
	})
	bubble(t, func(o *Options) { o.DrainDelay = time.Minute }, func(t *testing.T, r *rig) {
		synctest.Wait()
		at := time.Now()
		r.stop()
		<-r.ended
		if d := time.Since(at); d > time.Second {
			t.Errorf("Serve returned after %v, though nobody was connected", d)
		}
	})
}

// An old connection is replaced by the next exchange, and a stream that is open on it goes
// on to its end, many ages later.
func TestConnectionAge(t *testing.T) {
	bubble(t, func(o *Options) { o.ConnectionAge = time.Minute }, func(t *testing.T, r *rig) {
		p := r.dial()
		p.begin("ann")
		if n := r.metric("tokenbudget_connections"); n != 1 {
			t.Errorf("%v connections, want 1", n)
		}
		time.Sleep(10 * time.Minute)
		q := r.dial()
		q.begin("bob")
		if n := r.metric("tokenbudget_connections"); n != 2 {
			t.Errorf("%v connections after ten ages, want the old one and a new one", n)
		}
		time.Sleep(4 * time.Minute)
		for _, p := range []*peer{p, q} {
			p.say("Good")
			p.send(responseBody("data: [DONE]\n\n", true))
			if !bodyOf(p.next()).GetEndOfStream() {
				t.Error("the end did not come back")
			}
			if err := p.end(); err != nil {
				t.Errorf("the stream ends with %v", err)
			}
			p.hangUp()
		}
		synctest.Wait()
		if n := r.metric("tokenbudget_connections"); n > 1 {
			t.Errorf("%v connections, want the old one to be gone", n)
		}
		for _, user := range []string{"ann", "bob"} {
			if l := r.exchangeLine(user); l["outcome"] != "completed" {
				t.Errorf("%s: logged %v", user, l)
			}
		}
	})
}

// A request that waits for a limit that throttles waits on during the delay, and is refused after it.
func TestDrainDelayThrottled(t *testing.T) {
	configure := func(o *Options) {
		o.DrainTimeout, o.DrainDelay = time.Minute, 5*time.Second
		throttling(t, parallel)(o)
	}
	bubble(t, configure, func(t *testing.T, r *rig) {
		first, second := r.dial(), r.dial()
		defer first.hangUp()
		defer second.hangUp()
		first.begin("ann")
		second.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "bob"))
		second.next()
		at := time.Now()
		r.stop()
		synctest.Wait()
		second.send(requestBody(chatBody("Good morning", true)))
		if m := second.next(); m.GetOverrideMessageTimeout() == nil {
			t.Errorf("in the delay: %v, want patience", m)
		}
		second.wantDenied(second.next(), "parallel")
		if d := time.Since(at); d != 5*time.Second {
			t.Errorf("refused after %v, want 5s", d)
		}
	})
}
