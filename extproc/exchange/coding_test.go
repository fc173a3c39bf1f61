package exchange

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/cockroachdb/datadriven"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/klauspost/compress/zstd"

	"github.com/tokenbudget/tokenbudget/budget"
)

// coder compresses the parts of a body as a server does that streams it.
type coder struct {
	out    *bytes.Buffer
	layers []flusher // the first takes the text
}

type flusher interface {
	io.WriteCloser
	Flush() error
}

// encode compresses a part as the command's argument coding says, or leaves it as it is.
func (c *coder) encode(t *testing.T, d *datadriven.TestData, part []byte, last bool) []byte {
	t.Helper()
	if d.HasArg("coding") {
		var names []string
		for _, a := range d.CmdArgs {
			if a.Key == "coding" {
				names = a.Vals
			}
		}
		part = c.compress(t, names, part, last)
	}
	if d.HasArg("short") {
		var n int
		d.ScanArgs(t, "short", &n)
		part = part[:len(part)-n]
	}
	return part
}

func (c *coder) compress(t *testing.T, names []string, part []byte, last bool) []byte {
	t.Helper()
	if c.layers == nil {
		c.out = new(bytes.Buffer)
		c.layers = make([]flusher, len(names))
		var w io.Writer = c.out
		for i := len(names) - 1; i >= 0; i-- {
			c.layers[i] = newFlusher(t, names[i], w)
			w = c.layers[i]
		}
	}
	c.out.Reset()
	if _, err := c.layers[0].Write(part); err != nil {
		t.Fatal(err)
	}
	for _, l := range c.layers {
		end := l.Flush
		if last {
			end = l.Close
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if last {
		c.layers = nil
	}
	return bytes.Clone(c.out.Bytes())
}

func newFlusher(t *testing.T, name string, w io.Writer) flusher {
	t.Helper()
	switch name {
	case "gzip", "x-gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "raw":
		f, err := flate.NewWriter(w, -1)
		if err != nil {
			t.Fatal(err)
		}
		return f
	case "br":
		return brotli.NewWriter(w)
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	t.Fatalf("no coding %q", name)
	return nil
}

// TestDecodersEnd: however an exchange with a compressed answer ends, its decoder does, too.
func TestDecodersEnd(t *testing.T) {
	var c coder
	event := c.compress(t, []string{"gzip"}, []byte("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One\"}}]}\n\n"), false)
	for name, end := range map[string]func(x *Exchange){
		"the stream breaks off":  func(x *Exchange) { x.End() },
		"before the first bytes": func(x *Exchange) { x.End() },
		"a deadline":             func(x *Exchange) { x.Stop(LimitDeadline); x.End() },
		"corrupt":                func(x *Exchange) { x.Step(answerPiece([]byte("\xff\xff\xff\xff"), false)); x.End() },
		"truncated":              func(x *Exchange) { x.Step(answerPiece(nil, true)) },
		"trailers": func(x *Exchange) {
			x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}}})
		},
		"out of order": func(x *Exchange) {
			x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{}}})
		},
		"a message that cannot be sent": func(x *Exchange) { x.Unsent() },
		"a panic":                       func(x *Exchange) { x.Close() },
	} {
		for _, kind := range []string{"text/event-stream", "application/json"} {
			decoderEnds(t, name+", "+kind, kind, event, end)
		}
	}
}

// decoderEnds begins an answer of a kind with a piece that is compressed, and lets it end.
func decoderEnds(t *testing.T, name, kind string, event []byte, end func(*Exchange)) {
	t.Helper()
	conv := newConversation()
	conv.limits = []budget.Limit{{Name: "all", Unit: budget.Tokens, Amount: 1e15, Period: budget.Year}}
	conv.start(t)
	x := conv.x
	conv.perform(x.Step(message(0, 0, nil)))
	conv.perform(x.Step(message(1, 2, nil)))
	conv.perform(x.Step(responseHeaders("200", kind, [][2]string{{"content-encoding", "gzip"}}, false)))
	before := runtime.NumGoroutine()
	if x.decoder == nil {
		t.Fatal("nothing is decoded")
	}
	if !strings.HasPrefix(name, "before the first bytes") {
		x.Step(answerPiece(event, false))
		x.Sent()
	}
	if x.Buffered() == 0 {
		t.Errorf("%s: the decoder is not accounted for", name)
	}
	end(x)
	if n := runtime.NumGoroutine(); n >= before || x.decoder != nil {
		t.Errorf("%s: %d goroutines, %d while it was decoded", name, n, before)
	}
}

// answerPiece is a piece of an answer's body.
func answerPiece(b []byte, eos bool) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{Body: b, EndOfStream: eos}}}
}
