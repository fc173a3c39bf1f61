package extproc

import (
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// A drain lets an open stream finish, and is over as soon as it has.
func TestDrainLetsStreamsFinish(t *testing.T) {
	bubble(t, func(o *Options) { o.DrainTimeout = time.Minute }, func(t *testing.T, r *rig) {
		p := r.dial()
		defer p.hangUp()
		p.begin("ann")
		p.say("Good")
		r.stop()
		synctest.Wait()

		// New exchanges go elsewhere.
		if stream, err := r.client.Process(t.Context()); err == nil {
			_, err = stream.Recv()
			if status.Code(err) != codes.Unavailable {
				t.Errorf("a new stream ends with %v, want Unavailable", err)
			}
		}

		time.Sleep(30 * time.Second)
		p.say(" morning")
		p.send(responseBody("data: [DONE]\n\n", true))
		if !bodyOf(p.next()).GetEndOfStream() {
			t.Error("the end did not come back")
		}
		if err := p.end(); err != nil {
			t.Errorf("the stream ends with %v", err)
		}
		at := time.Now()
		<-r.ended
		if d := time.Since(at); d > time.Second {
			t.Errorf("Serve returned %v after the last stream", d)
		}
		if l := r.exchangeLine("ann"); l["outcome"] != "completed" || l["limit"] != "" {
			t.Errorf("logged %v", l)
		}
	})
}

// Whoever watches the service's health is told, and does not hold up the drain.
func TestDrainTellsHealth(t *testing.T) {
	for _, service := range []string{"", extprocv3.ExternalProcessor_ServiceDesc.ServiceName, "unknown"} {
		t.Run("service="+service, func(t *testing.T) {
			bubble(t, func(o *Options) { o.DrainTimeout = time.Minute }, func(t *testing.T, r *rig) {
				watch, err := healthv1.NewHealthClient(r.conn).Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service})
				if err != nil {
					t.Fatal(err)
				}
				first, err := watch.Recv()
				if err != nil {
					t.Fatal(err)
				}
				want := healthv1.HealthCheckResponse_SERVING
				if service == "unknown" {
					want = healthv1.HealthCheckResponse_SERVICE_UNKNOWN
				}
				if first.GetStatus() != want {
					t.Errorf("serving: %v, want %v", first.GetStatus(), want)
				}
				at := time.Now()
				r.stop()
				if service != "unknown" {
					m, err := watch.Recv()
					if err != nil || m.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
						t.Errorf("draining: %v, %v", m.GetStatus(), err)
					}
				}
				if m, err := watch.Recv(); err == nil {
					t.Errorf("the watch goes on: %v", m)
				}
				<-r.ended
				if d := time.Since(at); d > 5*time.Second {
					t.Errorf("Serve returned after %v, though no exchange was open", d)
				}
			})
		})
	}
}

// At the drain timeout a stream is cut if that is possible, and broken off if not.
func TestDrainTimeout(t *testing.T) {
	for _, drain := range []time.Duration{10 * time.Second, -1} {
		t.Run(drain.String(), func(t *testing.T) {
			bubble(t, func(o *Options) { o.DrainTimeout = drain }, func(t *testing.T, r *rig) {
				begun, awaiting, silent, unary, lingering := r.dial(), r.dial(), r.dial(), r.dial(), r.dial()
				begun.begin("begun")
				begun.say("Good")
				awaiting.request("awaiting", true)
				silent.begin("silent") // headers only: Envoy takes no end yet
				unary.request("unary", false)
				unary.answer("application/json")
				lingering.begin("lingering")
				lingering.say("Good")

				at := time.Now()
				r.stop()
				begun.wantCut("(drain)")
				if d, want := time.Since(at), max(drain, 0); d != want {
					t.Errorf("cut after %v, want %v", d, want)
				}
				begun.hangUp() // as Envoy does
				for _, p := range []*peer{awaiting, silent, unary} {
					if err := p.end(); status.Code(err) != codes.Unavailable {
						t.Errorf("a stream that cannot be cut ends with %v, want Unavailable", err)
					}
					p.hangUp()
				}
				lingering.wantCut("(drain)")
				if err := lingering.end(); err != nil {
					t.Errorf("a cut stream ends with %v", err)
				}
				<-r.ended
				if d, most := time.Since(at), max(drain, 0)+2*cutGrace; d > most {
					t.Errorf("Serve returned after %v, want at most %v", d, most)
				}
				lingering.hangUp()

				for user, want := range map[string]string{"begun": "cut", "lingering": "cut", "awaiting": "aborted", "silent": "aborted", "unary": "aborted"} {
					if l := r.exchangeLine(user); l["outcome"] != want || l["limit"] != "(drain)" {
						t.Errorf("%s: logged %v", user, l)
					}
				}
				if b := r.user("begun"); b.Spent == 0 {
					t.Error("what had arrived of a cut stream is not charged")
				}
			})
		})
	}
}

// Where the listener fails, what is under way goes on as in a drain, and Serve returns
// with nothing left: whoever called it closes the ledger then.
func TestListenerFails(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.wantErrors = true
		p := r.dial()
		defer p.hangUp()
		p.begin("ann")
		if err := r.lis.Close(); err != nil {
			t.Fatal(err)
		}
		_, r.wantErr = r.lis.Accept() // as the server is told
		synctest.Wait()
		select {
		case <-r.ended:
			t.Error("Serve has returned while a stream is open")
		default:
		}
		p.say("Good")
		p.send(responseBody("data: [DONE]\n\n", true))
		p.next()
		if err := p.end(); err != nil {
			t.Errorf("the stream ends with %v", err)
		}
		<-r.ended
	})
}
