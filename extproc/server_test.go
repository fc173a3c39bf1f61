package extproc

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

var extProcService = extprocv3.ExternalProcessor_ServiceDesc.ServiceName

func TestHealth(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		client := healthv1.NewHealthClient(r.conn)
		for _, service := range []string{"", extProcService} {
			m, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil || m.GetStatus() != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("service %q: %v, %v", service, m.GetStatus(), err)
			}
		}
		if _, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
			t.Errorf("an unknown service: %v, want NotFound", err)
		}
	})
}

func TestReflection(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
		}); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range m.GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		for _, want := range []string{extProcService, "grpc.health.v1.Health"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s is not among %v", want, names)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
	})
}

// gRPC refuses messages above 4 MiB by default, which Envoy would turn into a 500. A
// body that is allowed must pass, and one that is not must reach who answers 413.
func TestLargeBodies(t *testing.T) {
	const most = 6 << 20
	// Blanks between tokens of JSON are no tokens of the model.
	padded := func(size int) string {
		body := chatBody("Good morning", true)
		return body[:len(body)-1] + strings.Repeat(" ", size-len(body)) + "}"
	}
	bubble(t, func(o *Options) { o.Policy.MaxRequest = most }, func(t *testing.T, r *rig) {
		for size, want := range map[int]int{5 << 20: 0, most: 0, most + 1: 413, 2 * most: 413} {
			p := r.dial()
			p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", fmt.Sprint("user", size)))
			p.next()
			p.send(requestBody(padded(size)))
			m := p.next()
			if want == 0 {
				if m.GetRequestBody() == nil {
					t.Errorf("a body of %d bytes: %v", size, m)
				}
			} else if i := m.GetImmediateResponse(); int(i.GetStatus().GetCode()) != want || !strings.Contains(string(i.GetBody()), `"error"`) {
				t.Errorf("a body of %d bytes: %v", size, m)
			}
			p.hangUp()
		}
	})
}

// Options that are not set have defaults, and a negative drain timeout has none.
func TestDefaults(t *testing.T) {
	s := New(Options{})
	if o := s.settings.Load(); o.exchange != DefaultExchangeTimeout || o.idle != DefaultIdleTimeout || o.drain != DefaultDrainTimeout || s.opts.Metrics == nil {
		t.Errorf("defaults: %+v", o)
	}
	if o := New(Options{DrainTimeout: -1}).settings.Load(); o.drain >= 0 {
		t.Errorf("DrainTimeout: %v", o.drain)
	}
	if p := s.settings.Load().policy; p.MaxRequest != exchange.DefaultMaxRequest {
		t.Errorf("MaxRequest: %d", p.MaxRequest)
	}
}

// An exchange has two goroutines, and they end with it, while the server runs on.
func TestGoroutinesEnd(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ours := func() int {
			stacks := make([]byte, 4<<20)
			return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "extproc.(*session).receive(")
		}
		peers := make([]*peer, 20)
		for i := range peers {
			peers[i] = r.dial()
			peers[i].begin(fmt.Sprint("user", i))
		}
		if n := ours(); n != len(peers) {
			t.Fatalf("%d receivers for %d open streams", n, len(peers))
		}
		for i, p := range peers {
			switch i % 3 {
			case 0:
				p.hangUp()
			case 1:
				p.send(responseBody("data: [DONE]\n\n", true))
				p.next()
			case 2:
				p.say("Good") // for the idle timeout to cut it
			}
		}
		time.Sleep(DefaultIdleTimeout + cutGrace + time.Second)
		if n := ours(); n != 0 {
			t.Errorf("%d receivers are left", n)
		}
		for _, p := range peers {
			p.hangUp()
		}
	})
}
