package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// direct is the road without Envoy: gRPC streams over a few connections.
type direct struct {
	conns []*grpc.ClientConn
	next  atomic.Int64
}

func newDirect(address string, connections int) (*direct, error) {
	d := &direct{}
	for range connections {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.conns = append(d.conns, c)
	}
	return d, nil
}

func (d *direct) close() (err error) {
	for _, c := range d.conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

// directStream is Envoy's side of an exchange.
type directStream struct {
	stream extprocv3.ExternalProcessor_ProcessClient
	hangUp context.CancelFunc
	said   int64
}

func (d *direct) open(ctx context.Context, user string) (stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := d.conns[int(d.next.Add(1))%len(d.conns)]
	s, err := extprocv3.NewExternalProcessorClient(c).Process(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	x := &directStream{stream: s, hangUp: cancel}
	for _, m := range []*extprocv3.ProcessingRequest{
		{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: headers(
			":method", "POST", ":path", "/v1/chat/completions", ":authority", "upstream", "content-type", "application/json",
			"x-request-id", "5f7c1a52-0f0e-4a76-9d3e-1f6a2c1f0b77", "user-agent", "load", "x-user", user)}},
		{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(requestBody(true)), EndOfStream: true}}},
		{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: headers(":status", "200", "content-type", "text/event-stream")}},
	} {
		answer, err := x.turn(m)
		if i := answer.GetImmediateResponse(); err == nil && i != nil {
			err = errRefused{int(i.GetStatus().GetCode()), string(i.GetBody())}
		}
		if err != nil {
			cancel()
			return nil, err
		}
	}
	return x, nil
}

func headers(pairs ...string) *extprocv3.HttpHeaders {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return &extprocv3.HttpHeaders{Headers: m}
}

// turn sends a message and returns the answer to it.
func (s *directStream) turn(m *extprocv3.ProcessingRequest) (*extprocv3.ProcessingResponse, error) {
	if err := s.stream.Send(m); err != nil {
		return nil, err
	}
	return s.stream.Recv()
}

func (s *directStream) body(text string, eos bool) (*extprocv3.StreamedBodyResponse, error) {
	m, err := s.turn(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: []byte(text), EndOfStream: eos},
	}})
	return m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse(), err
}

func (s *directStream) say() (cut bool, err error) {
	b, err := s.body(event, false)
	if err != nil || !b.GetEndOfStream() && string(b.GetBody()) != event {
		return false, fmt.Errorf("an event comes back as %q: %w", b.GetBody(), cmpErr(err))
	}
	s.said++
	if b.GetEndOfStream() && !strings.HasSuffix(string(b.GetBody()), done) {
		return true, fmt.Errorf("a stream is cut without its closing events: %q", b.GetBody())
	}
	return b.GetEndOfStream(), nil
}

func (s *directStream) finish() error {
	defer s.hangUp()
	b, err := s.body(done, true)
	if err != nil || !b.GetEndOfStream() || string(b.GetBody()) != done {
		return fmt.Errorf("the end comes back as %q: %w", b.GetBody(), cmpErr(err))
	}
	return nil
}

func (s *directStream) reached() (least, most int64) { return s.said, s.said }

func (s *directStream) leave() { s.hangUp() }

var errContent = errors.New("it is another one")

func cmpErr(err error) error {
	if err == nil {
		return errContent
	}
	return err
}
