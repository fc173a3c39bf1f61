package extproc

import (
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// midway is a stream that falls silent in the middle of its answer.
type midway struct {
	encoded
	silent func()
	end    <-chan struct{}
}

func (s *midway) RecvMsg(m any) error {
	if len(s.in) > 0 {
		defer func(next *mem.BufferSlice) { *next = nil }(&s.in[0])
		return s.encoded.RecvMsg(m)
	}
	s.silent()
	<-s.end
	return io.EOF
}

// maxMemoryPerStream is the ceiling for what an open stream that is silent keeps, in bytes,
// with the stacks of its goroutines and without what gRPC has for it. What it had before,
// however large, is no part of it. It takes 12 to 22 KB.
const maxMemoryPerStream = 32 << 10

func TestMemoryPerStream(t *testing.T) {
	const n = 500
	s := newPlainServer(t)
	defer s.receivers.wait()
	defer s.receivers.close()
	// However slow the machine is, nobody is turned away.
	s.overload.counting = newCounting(n)
	s.overload.strain.asked.Store(math.MaxInt64 / 2)
	prompt := strings.Repeat("Good morning to all of you. ", 1000)
	var all []mem.BufferSlice
	for _, m := range []*extprocv3.ProcessingRequest{
		requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann", "x-long", strings.Repeat("long", 1000)),
		requestBody(chatBody(prompt, true)),
		responseHeaders(":status", "200", "content-type", eventStream, "x-long", strings.Repeat("long", 1000)),
		responseBody(event("Good")+event(" morning")+strings.Repeat(": a long comment that costs little\n\n", 1000), false),
		responseBody(event(" to")[:20], false),
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, mem.BufferSlice{mem.SliceBuffer(data)})
	}
	open := func(n int) (done func()) {
		var silent, ended sync.WaitGroup
		end := make(chan struct{})
		silent.Add(n)
		for range n {
			ended.Go(func() {
				// The messages are copies, as they are of a connection.
				stream := &midway{encoded: encoded{codec: newCodec()}, silent: silent.Done, end: end}
				for _, m := range all {
					stream.in = append(stream.in, mem.BufferSlice{mem.SliceBuffer(m.Materialize())})
				}
				if err := s.process(stream); err != nil {
					t.Error(err)
				}
				if len(stream.in) > 0 {
					t.Error("a stream has ended before its answer")
					silent.Done()
				}
			})
		}
		silent.Wait()
		return func() { close(end); ended.Wait() }
	}
	used := func() int64 {
		var m runtime.MemStats
		for range 3 { // what pools keep is let go in two turns
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	open(50)() // what is there once for all
	before := used()
	end := open(n)
	each := (used() - before) / n
	end()
	t.Logf("%d bytes for each stream", each)
	if each > maxMemoryPerStream {
		t.Errorf("%d bytes for each stream, more than %d", each, maxMemoryPerStream)
	}
}
