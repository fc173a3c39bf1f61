package exchange

import (
	"strings"
	"testing"
)

// sentBody is the body of a message with a piece of the answer.
func sentBody(tb testing.TB, r Ready) string {
	tb.Helper()
	if len(r.Send) != 1 {
		tb.Fatalf("%d messages", len(r.Send))
	}
	s := r.Send[0].GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
	if s == nil || s.GetEndOfStream() {
		tb.Fatalf("no piece of an answer: %v", r.Send[0])
	}
	return string(s.GetBody())
}

// What was deferred leaves at the next message, before it, or when it is flushed; once.
func TestDefer(t *testing.T) {
	x := streaming(t)
	for range 3 { // the buffer goes from one to the next
		if r := x.Flush(); len(r.Send) != 0 {
			t.Fatalf("nothing was deferred, and sent is %v", r.Send)
		}
		var want string
		for _, text := range []string{"one", "two", "three"} {
			event := `data: {"choices":[{"index":0,"delta":{"content":"` + text + "\"}}]}\n\n"
			want += event
			if !x.Defer(x.Step(body(event))) {
				t.Fatal("not deferred")
			}
		}
		if got := sentBody(t, x.Flush()); got != want {
			t.Errorf("flushed %q, want %q", got, want)
		}
		x.Sent()
		if x.out.merged.buffer != nil || x.out.streamed.Body != nil {
			t.Error("the buffer stays")
		}
		if !x.Defer(x.Step(body(chunk))) {
			t.Fatal("not deferred")
		}
		if got, want := sentBody(t, x.Step(body(chunk+": ping\n\n"))), chunk+chunk+": ping\n\n"; got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
		x.Sent()
	}
}

// A driver that does not say that a message was sent only keeps the buffer.
func TestDeferUnsent(t *testing.T) {
	x := streaming(t)
	for i := range 4 {
		first, second := chunk, strings.Repeat(chunk, i+1)
		if !x.Defer(x.Step(body(first))) {
			t.Fatal("not deferred")
		}
		if got := sentBody(t, x.Step(body(second))); got != first+second {
			t.Errorf("sent %q", got)
		}
		if !x.Defer(x.Step(body(second))) {
			t.Fatal("not deferred")
		}
		if got := sentBody(t, x.Flush()); got != second {
			t.Errorf("flushed %q", got)
		}
	}
}

// No more is kept than maxMerged.
func TestDeferBound(t *testing.T) {
	x := streaming(t)
	var kept, messages int
	for range 1000 {
		r := x.Step(body(chunk))
		if n := len(sentBody(t, r)); n > maxMerged+len(chunk) {
			t.Fatalf("a message of %d bytes", n)
		}
		if x.Defer(r) {
			kept = len(x.out.merged.bytes)
			if kept > maxMerged {
				t.Fatalf("%d bytes are kept", kept)
			}
			continue
		}
		x.Sent()
		messages++
	}
	if want := 1000 * len(chunk) / (maxMerged + len(chunk)); messages != want {
		t.Errorf("%d messages, want %d", messages, want)
	}
	if x.Defer(x.Step(body(strings.Repeat(chunk, 1+maxMerged/len(chunk))))) {
		t.Error("a message that is long enough was deferred")
	}
}

// What is no piece of a stream is never deferred.
func TestDeferOthers(t *testing.T) {
	x := New(NewPolicy(Policy{}))
	if x.Defer(x.Step(message(0, 0, nil))) {
		t.Error("the answer to the request's headers was deferred")
	}
	if x.Defer(x.Step(message(1, 0, []byte("{")))) {
		t.Error("a refusal was deferred")
	}
	x = streaming(t)
	if x.Defer(Ready{}) || x.Defer(x.Step(body("data: "))) {
		t.Error("nothing was deferred")
	}
	if x.Defer(x.Stop(LimitIdle)) {
		t.Error("a cut was deferred")
	}
	x = streaming(t)
	if x.Defer(x.Step(message(4, 1, nil))) {
		t.Error("the end was deferred")
	}
	x = streaming(t)
	if x.Defer(x.Step(message(7, 0, nil))) {
		t.Error("trailers were deferred")
	}
}

// What is deferred and flushed allocates nothing, either.
func TestDeferAllocations(t *testing.T) {
	x := streaming(t)
	m := body(chunk)
	pass := func() {
		for range 20 {
			if !x.Defer(x.Step(m)) {
				t.Fatal("not deferred")
			}
		}
		x.Flush()
	}
	for range 100 {
		pass()
	}
	// Not given back to a pool, which a garbage collection empties.
	if n := testing.AllocsPerRun(200, pass); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
