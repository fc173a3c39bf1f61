package extproc

import (
	"context"
	"io"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tokenbudget/tokenbudget/budget"
)

// canned is a stream whose messages are there beforehand and whose answers are
// dropped, so that nothing of gRPC's own is measured.
type canned struct {
	grpc.ServerStream
	messages []*extprocv3.ProcessingRequest
	sent     int
	bytes    int // of the answer's body
}

func (*canned) Context() context.Context { return context.Background() }

func (s *canned) Recv() (*extprocv3.ProcessingRequest, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}

func (s *canned) Send(m *extprocv3.ProcessingResponse) error {
	s.sent++
	s.bytes += len(bodyOf(m).GetBody())
	return nil
}

// maxAllocsPerChunk is the ceiling for what one message of a stream that passes may
// allocate on its way from Recv to Send: nothing. What a whole exchange allocates is
// not part of it.
const maxAllocsPerChunk = 0.02 // buffers that grow now and then

func TestAllocationsPerChunk(t *testing.T) {
	ledger, err := budget.New(t.Context(), budget.Options{Limits: []budget.Limit{{Name: "all", Amount: 1 << 40, Period: budget.Total}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ledger.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	s := New(Options{Ledger: ledger, Log: zap.NewNop()})
	const last = "data: [DONE]\n\n"
	exchange := func(chunks int) []*extprocv3.ProcessingRequest {
		m := []*extprocv3.ProcessingRequest{
			requestHeaders(":method", "POST", ":path", "/v1/chat/completions"),
			requestBody(chatBody("Good morning", true)),
			responseHeaders(":status", "200", "content-type", eventStream),
		}
		chunk := responseBody(event(" morning"), false)
		for range chunks {
			m = append(m, chunk)
		}
		return append(m, responseBody(last, true))
	}
	for _, deferred := range []bool{false, true} {
		s.atHand = 0
		if deferred {
			s.atHand = time.Hour
		}
		measure := func(chunks int) float64 {
			messages := exchange(chunks)
			return testing.AllocsPerRun(20, func() {
				stream := &canned{messages: messages}
				if err := s.Process(stream); err != nil {
					t.Fatal(err)
				}
				if want := chunks*len(event(" morning")) + len(last); stream.bytes != want {
					t.Fatalf("%d bytes were sent, want %d", stream.bytes, want)
				}
				if (stream.sent == len(messages)) == deferred {
					t.Fatalf("%d messages were answered by %d", len(messages), stream.sent)
				}
			})
		}
		const few, many = 500, 2500
		base, more := measure(few), measure(many)
		perChunk := (more - base) / (many - few)
		t.Logf("%.3f allocations for each chunk; %.0f for an exchange of %d chunks; deferred: %v", perChunk, base, few, deferred)
		if perChunk > maxAllocsPerChunk {
			t.Errorf("%.3f allocations for each chunk, more than %v; deferred: %v", perChunk, maxAllocsPerChunk, deferred)
		}
	}
}

// maxAllocsPerExchange is the ceiling for a whole unary exchange with a short prompt:
// its messages are read, answered and written. What gRPC's transport allocates is apart.
const maxAllocsPerExchange = 104

func TestAllocationsPerExchange(t *testing.T) {
	s := newPlainServer(t)
	messages := encodedExchange(t)
	codec := newCodec()
	n := testing.AllocsPerRun(200, func() {
		stream := &encoded{codec: codec, in: messages}
		if err := s.process(stream); err != nil {
			t.Fatal(err)
		}
		if stream.sent != len(messages) {
			t.Fatalf("%d messages were answered by %d", len(messages), stream.sent)
		}
	})
	t.Logf("%.0f allocations", n)
	if n > maxAllocsPerExchange {
		t.Errorf("%.0f allocations, more than %d", n, maxAllocsPerExchange)
	}
}
