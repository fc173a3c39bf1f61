package extproc

import (
	"context"
	"io"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// unaryAnswer is an answer as OpenAI gives it.
const unaryAnswer = `{"id":"chatcmpl-9xT2kq7Lr0","object":"chat.completion","created":1764000000,"model":"gpt-4o-2024-08-06",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"Good morning! What can I do for you?","refusal":null,"annotations":[]},` +
	`"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18,` +
	`"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`

// unaryExchange is what Envoy sends of an exchange with a short prompt and a short answer.
func unaryExchange() []*extprocv3.ProcessingRequest {
	return []*extprocv3.ProcessingRequest{
		requestHeaders(":method", "POST", ":scheme", "http", ":authority", "api.openai.com", ":path", "/v1/chat/completions",
			"content-type", "application/json", "accept", "application/json", "user-agent", "OpenAI/Python 1.109.1",
			"x-team", "search", "x-user", "ann", "x-request-id", "0e9a2d1c-6a43-4c1e-a4c5-6e8f0d6f2a11", "content-length", "120"),
		requestBody(chatBody("Good morning", false)),
		responseHeaders(":status", "200", "content-type", "application/json", "content-length", "500"),
		responseBody(unaryAnswer, false),
		responseBody("", true),
	}
}

// newPlainServer is a server as the serve command sets it up, with a log that goes nowhere.
func newPlainServer(tb testing.TB) *Server {
	tb.Helper()
	ledger, err := budget.New(tb.Context(), budget.Options{Limits: []budget.Limit{
		{Name: "org-month", Amount: 1 << 50, Period: budget.Month},
		{Name: "team-day", Per: []string{"team"}, Amount: 1 << 50, Period: budget.Day},
		{Name: "user-minute", Per: []string{"user"}, Amount: 1 << 50, Period: budget.Minute},
		{Name: "user-requests", Per: []string{"user"}, Unit: budget.Requests, Amount: 1 << 50, Period: budget.Minute},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ledger.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return New(Options{
		Ledger:  ledger,
		Log:     zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(io.Discard)), zap.InfoLevel)),
		Metrics: NewMetrics(prometheus.NewRegistry()),
		Policy: exchange.Policy{Identities: []exchange.Identity{
			{Name: "team", Sources: []exchange.Source{{Header: "x-team"}}},
			{Name: "user", Sources: []exchange.Source{{Header: "x-user"}}},
		}},
	})
}

// encoded is a stream whose messages are read and written as gRPC does it. The rest of
// gRPC is not measured.
type encoded struct {
	canned
	codec codec
	in    []mem.BufferSlice
}

func (s *encoded) RecvMsg(m any) error {
	if len(s.in) == 0 {
		return io.EOF
	}
	err := s.codec.Unmarshal(s.in[0], m)
	s.in = s.in[1:]
	return err
}

func (s *encoded) Send(m *extprocv3.ProcessingResponse) error {
	out, err := s.codec.Marshal(m)
	out.Free()
	s.sent++
	return err
}

// encodedExchange is unaryExchange as it comes.
func encodedExchange(tb testing.TB) (all []mem.BufferSlice) {
	tb.Helper()
	for _, m := range unaryExchange() {
		data, err := proto.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, mem.BufferSlice{mem.SliceBuffer(data)})
	}
	return all
}

// BenchmarkExchange is a whole unary exchange without gRPC's transport.
func BenchmarkExchange(b *testing.B) {
	s := newPlainServer(b)
	messages := encodedExchange(b)
	stream := encoded{codec: newCodec()}
	b.ReportAllocs()
	for b.Loop() {
		stream.in = messages
		if err := s.process(&stream); err != nil {
			b.Fatal(err)
		}
	}
}
