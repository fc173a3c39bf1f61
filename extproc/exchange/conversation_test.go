package exchange

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/apikeys"
)

// The files in testdata/conversations are conversations of ext_proc messages. They read like
// this:
//
//	limits            the ledger's limits, a line each: NAME UNIT=AMOUNT [per=ID,ID] [period=minute];
//	                  per=request, and then truncate, for on_input: truncate; action=NAME, admission=NAME, delay=
//	policy            settings of the policy, as arguments
//	request           request headers; path=, method=, eos, and any other argument is a header;
//	                  request-mode=, response-mode= and observe are Envoy's modes
//	body              the request's body; more if it is not the whole of it
//	request-trailers  the request's trailers
//	answer            response headers; status=, type=, eos, and any other argument is a header
//	say               stream events whose contents are the lines of the input; choice=N, eos
//	data              stream events whose data are the lines of the input; eos, and named for
//	                  events that are named as the data's type
//	raw               the bytes of a piece of the answer, Go escapes understood; eos
//	                  whole, for these three: the piece is never split, since the mode has one message only
//	                  coding=NAME, for these three and body: it is compressed, as the next part of what
//	                  was compressed before; short=N: the last N bytes are missing; last: its
//	                  compressed data ends, the answer does not
//	trailers          response trailers
//	stop limit=NAME   a deadline or a drain: the name without its brackets
//	end               the gRPC stream has ended
//	clock add=DURATION
//	retry             asks the ledger again for a request that waits
//	shed all          the next message of the request is turned away; without all, if it is metered
//	lean              little is kept of the answer from now on
//	busy              another request is under way from now on; idle ends those
//	expire            what goes on in the background is ended whose time is over; close ends all of it
//	next              another exchange begins, on the same ledger
//	ledger            the counters
//
// Every conversation is replayed with its answer split at every single byte, and
// byte by byte: the client must get the same bytes, and the ledger and the record
// must be the same. So they must when messages are deferred: all, or byte by byte and
// sent after every few.
func TestConversations(t *testing.T) {
	datadriven.Walk(t, "testdata/conversations", func(t *testing.T, path string) {
		var script []*datadriven.TestData
		c := newConversation()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			copied := *d
			script = append(script, &copied)
			return c.do(t, d, wholly)
		})
		c.check(t)
		want := c.transcript()
		flush := 0 // after so many messages what was deferred is sent; 0: nothing is deferred
		replay := func(name string, split func(n int, body []byte) [][]byte) {
			r := newConversation()
			r.flush = flush
			for _, d := range script {
				r.do(t, d, func(body []byte) [][]byte { return split(r.received, body) })
			}
			r.check(t)
			if got := r.transcript(); got != want {
				t.Fatalf("%s: the transcript differs\ngot:\n%s\nwant:\n%s", name, got, want)
			}
		}
		for at := 1; at < c.received; at++ {
			replay(fmt.Sprintf("split at byte %d", at), func(n int, body []byte) [][]byte {
				if n < at && at < n+len(body) {
					return [][]byte{body[:at-n], body[at-n:]}
				}
				return [][]byte{body}
			})
		}
		bytewise := func(_ int, body []byte) [][]byte { return slices.Collect(slices.Chunk(body, 1)) }
		replay("byte by byte", bytewise)
		flush = math.MaxInt
		replay("deferred", func(_ int, body []byte) [][]byte { return wholly(body) })
		for _, flush = range []int{2, 3, 64} {
			replay(fmt.Sprintf("byte by byte, sent after every %d", flush), bytewise)
		}
	})
}

func wholly(body []byte) [][]byte { return [][]byte{body} }

// conversation is an exchange with the world around it.
type conversation struct {
	now         time.Time
	limits      []budget.Limit
	policy      Policy
	ledger      *budget.Ledger
	shared      *Policy // made of policy
	x           *Exchange
	reservation *budget.Reservation
	shut        bool                  // nothing is kept that goes on in the background
	granted     int                   // reservations, of all exchanges
	before      []string              // records of the exchanges before this one
	others      []*budget.Reservation // of other requests
	asked       *budget.Request       // by a request that waits
	since       time.Time             // when it was first refused

	flush    int                              // after so many messages what was deferred is sent; 0: nothing is deferred
	deferred int                              // messages, since it was
	received int                              // bytes of the answer that came
	client   strings.Builder                  // bytes of the answer that left
	closed   bool                             // the client's answer has ended
	config   *extprocv3.ProtocolConfiguration // of a first message that is not the headers'
	piece    []byte                           // of the answer that came last
	coder    coder                            // of bodies that are compressed
	settled  int
	ended    bool
	record   *Record
	faults   []string
	keys     [][]string // API keys that are known
}

func newConversation() *conversation {
	return &conversation{now: time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)}
}

func (c *conversation) start(t *testing.T) {
	if c.ledger != nil {
		return
	}
	ledger, err := budget.New(t.Context(), budget.Options{Limits: c.limits, Now: func() time.Time { return c.now }, GrowthStep: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ledger.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c.ledger = ledger
	if c.policy.Sizes, err = budget.NewSizes(c.limits); err != nil {
		t.Fatal(err)
	}
	c.policy.Now = func() time.Time { return c.now }
	c.shared = NewPolicy(c.policy)
	if !c.shut {
		c.shared.Background.Open()
	}
	c.x = New(c.shared)
}

// do runs one command. split takes the body of a piece of the answer apart.
func (c *conversation) do(t *testing.T, d *datadriven.TestData, split func([]byte) [][]byte) string {
	t.Helper()
	switch d.Cmd {
	case "limits":
		for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
			line, truncate := strings.CutSuffix(line, " truncate")
			c.limits = append(c.limits, parseLimit(t, line))
			if truncate {
				c.policy.Truncate = append(c.policy.Truncate, c.limits[len(c.limits)-1].Name)
			}
		}
		return ""
	case "policy":
		for _, a := range d.CmdArgs {
			switch v := a.Vals; a.Key {
			case "no-background":
				c.shut = true
			case "growth":
				c.policy.Growth = number(t, v[0])
			case "unary-hold":
				c.policy.UnaryHold = number(t, v[0])
			case "max-event":
				c.policy.MaxEvent = int(number(t, v[0]))
			case "max-answer":
				c.policy.MaxAnswer = int(number(t, v[0]))
			case "max-request":
				c.policy.MaxRequest = number(t, v[0])
			case "reset":
				c.policy.ResetCut = true
			case "refuse-degraded":
				c.policy.RefuseDegraded = true
			case "tool-grace":
				c.policy.ToolGrace = number(t, v[0])
			case "cut-completed":
				c.policy.CutCompleted = true
			case "silent":
				c.policy.SilentCut = true
			case "cap":
				c.policy.OutputCap = map[string]OutputCap{"unary": CapUnary, "always": CapAlways, "never": CapNever}[v[0]]
			case "pass":
				c.policy.Pass = v
			case "deny":
				c.policy.Deny = v
			case "match-header":
				c.policy.MatchHeaders = v
			case "watch-header":
				c.policy.WatchHeaders = v
			case "one-model":
				c.policy.OneModel = true
			case "plain-path":
				c.policy.PlainPath = true
			case "pass-unknown":
				c.policy.PassUnknown = true
			case "api-key": // NAME,KEY,VALUE: an identity that reads keys, then its header
				c.policy.KeyHeaders = []string{"authorization", "x-api-key"}
				c.keys = append(c.keys, v)
				subjects := make(map[apikeys.Hash]*apikeys.Subject)
				for _, k := range c.keys {
					subjects[apikeys.HashOf([]byte("secret"), []byte(k[1]))] = &apikeys.Subject{k[0]: k[2]}
				}
				c.policy.Keys = apikeys.New([]byte("secret"), subjects)
				if len(c.keys) == 1 {
					c.policy.Identities = append(c.policy.Identities, Identity{Name: v[0], Sources: []Source{{APIKey: v[0]}, {Header: "x-" + v[0]}}, Required: true})
				}
			case "identity":
				c.policy.Identities = append(c.policy.Identities, Identity{
					Name: v[0], Sources: []Source{{JWT: v[0]}, {Header: "x-" + v[0]}}, Required: len(v) > 1,
				})
			default:
				t.Fatalf("%s: unknown setting %s", d.Pos, a.Key)
			}
		}
		return ""
	case "clock":
		var add string
		d.ScanArgs(t, "add", &add)
		dur, err := time.ParseDuration(add)
		if err != nil {
			t.Fatal(err)
		}
		c.now = c.now.Add(dur)
		return ""
	}
	c.start(t)
	switch d.Cmd {
	case "request":
		m := &extprocv3.ProcessingRequest{
			Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: httpHeaders(d, map[string]string{":method": "POST", ":path": "/v1/chat/completions"})},
			ProtocolConfig: &extprocv3.ProtocolConfiguration{
				RequestBodyMode: extprocfilterv3.ProcessingMode_BUFFERED, ResponseBodyMode: extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED,
			},
		}
		for _, a := range d.CmdArgs {
			switch a.Key {
			case "jwt":
				m.MetadataContext = jwtMetadata(t, a.Vals)
			case "request-mode":
				m.ProtocolConfig.RequestBodyMode = bodyMode(t, a.Vals[0])
			case "response-mode":
				m.ProtocolConfig.ResponseBodyMode = bodyMode(t, a.Vals[0])
			case "observe":
				m.ObservabilityMode, m.ProtocolConfig = true, nil
			}
		}
		if d.HasArg("skipped") { // the headers are not sent; the first message is another
			c.config = m.ProtocolConfig
			return ""
		}
		defer spoil(m.GetRequestHeaders())
		return c.perform(c.x.Step(m))
	case "body":
		return c.perform(c.x.Step(&extprocv3.ProcessingRequest{ProtocolConfig: c.config, Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: c.coder.encode(t, d, []byte(d.Input), !d.HasArg("more")), EndOfStream: !d.HasArg("more")},
		}}))
	case "request-trailers":
		return c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestTrailers{RequestTrailers: &extprocv3.HttpTrailers{}}}))
	case "answer":
		h := httpHeaders(d, map[string]string{":status": "200", "content-type": "text/event-stream"})
		defer spoil(h)
		return c.perform(c.x.Step(&extprocv3.ProcessingRequest{ProtocolConfig: c.config, Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: h}}))
	case "say", "data", "raw":
		return c.answer(t, d, split)
	case "trailers":
		return c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}}}))
	case "stop":
		var limit string
		d.ScanArgs(t, "limit", &limit)
		return c.perform(c.x.Stop("(" + limit + ")"))
	case "end":
		return c.perform(c.x.End())
	case "shed":
		c.x.Shed(ShedMetered)
		if d.HasArg("all") {
			c.x.Shed(ShedAll)
		}
		return ""
	case "lean":
		c.x.Lean()
		return ""
	case "busy":
		r, decision, err := c.ledger.Reserve(t.Context(), budget.Request{Input: 1, Output: 1})
		if err != nil || r == nil {
			t.Fatalf("%s: %+v, %v", d.Pos, decision, err)
		}
		c.others = append(c.others, r)
		return ""
	case "idle":
		for _, r := range c.others {
			r.Settle(budget.Amount{})
		}
		c.others = nil
		return ""
	case "retry":
		if c.asked == nil {
			t.Fatalf("%s: nothing waits", d.Pos)
		}
		return c.perform(Ready{Reserve: c.asked})
	case "expire", "close":
		ended := c.shared.Background.Expired(c.now)
		if d.Cmd == "close" {
			ended = append(ended, c.shared.Background.Close(c.now)...)
		}
		var out strings.Builder
		for _, e := range ended {
			c.end(&out, e)
		}
		return out.String()
	case "next":
		if !c.ended || c.record == nil {
			t.Fatalf("%s: the exchange before has not ended", d.Pos)
		}
		c.before = append(c.before, describe(c.record))
		if c.reservation != nil {
			c.granted++
		}
		c.x, c.reservation, c.record, c.ended, c.closed = New(c.shared), nil, nil, false, false
		c.client.WriteString("\n---\n")
		return ""
	case "ledger":
		return c.balances(t)
	}
	t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	return ""
}

// spoil overwrites headers: the next message is read into the same memory.
func spoil(h *extprocv3.HttpHeaders) {
	for _, v := range h.GetHeaders().GetHeaders() {
		v.Key, v.Value, v.RawValue = "#", "#", nil
	}
}

// answer feeds a piece of the answer's body.
func (c *conversation) answer(t *testing.T, d *datadriven.TestData, split func([]byte) [][]byte) string {
	t.Helper()
	choice := "0"
	if d.HasArg("choice") {
		d.ScanArgs(t, "choice", &choice)
	}
	var body strings.Builder
	if d.Cmd == "raw" {
		s, err := strconv.Unquote(`"` + strings.ReplaceAll(d.Input, "\n", "") + `"`)
		if err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
		body.WriteString(s)
	} else if d.Input != "" {
		for line := range strings.SplitSeq(d.Input, "\n") {
			if d.Cmd == "say" {
				line = `{"choices":[{"index":` + choice + `,"delta":{"content":` + strconv.Quote(line) + `}}]}`
			}
			if d.HasArg("named") {
				_, kind, _ := strings.Cut(line, `"type":"`)
				kind, _, _ = strings.Cut(kind, `"`)
				body.WriteString("event: " + kind + "\n")
			}
			body.WriteString("data: " + line + "\n\n")
		}
	}
	var out strings.Builder
	if d.HasArg("whole") {
		split = wholly
	} else {
		defer func() { c.received += body.Len() }()
	}
	encoded := c.coder.encode(t, d, []byte(body.String()), d.HasArg("eos") || d.HasArg("last"))
	body.Reset()
	body.Write(encoded)
	parts := split(encoded)
	if body.Len() == 0 {
		parts = [][]byte{nil}
	}
	for i, part := range parts {
		part = slices.Clone(part)
		r := c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: part, EndOfStream: d.HasArg("eos") && i == len(parts)-1},
		}})
		if c.piece = part; !c.x.can.answer.ends && !c.x.observed && !c.ended && !c.closed && len(r.Send) == 0 {
			c.fault("a message that has no answer")
		}
		out.WriteString(c.perform(r))
		for i := range part {
			part[i] = '#' // the next message is read into the same bytes
		}
	}
	return out.String()
}

// perform does what a driver does, and says what that was.
func (c *conversation) perform(r Ready) string {
	var out strings.Builder
	defer c.x.Sent()
	if c.flush > 0 && c.x.Defer(r) {
		if c.deferred++; c.deferred < c.flush {
			return ""
		}
		r, c.deferred = c.x.Flush(), 0
	}
	if r.Record != nil || r.End || !c.x.Waits() {
		c.asked = nil
	}
	if c.ended && (r.Settle != nil || len(r.Send) > 0 || r.Record != nil) {
		c.fault("something is to be done after the end")
	}
	if r.Reserve != nil {
		fmt.Fprintf(&out, "reserve: input=%d output=%d least=%d %v%s\n", r.Reserve.Input, r.Reserve.Output, r.Reserve.MinOutput, r.Reserve.Identities,
			map[bool]string{true: " whole"}[r.Reserve.Whole])
		res, d, err := c.ledger.Reserve(context.Background(), *r.Reserve)
		c.reservation = res
		if c.asked == nil {
			c.since = c.now
		}
		if until, ok := d.WaitUntil(c.since); ok && c.now.Before(until) {
			fmt.Fprintf(&out, "wait: for %s until %s\n", d.Limit, until.Format(time.TimeOnly))
			c.asked = r.Reserve
			r = c.x.Throttle(d, until.Sub(c.now))
		} else {
			c.asked = nil
			r = c.x.Reserved(res, d, err)
		}
	}
	if r.Settle != nil {
		if !r.Settle.Apply() {
			c.fault("settled twice")
		}
		c.settled++
		if r.Settle.Hold {
			fmt.Fprintf(&out, "settle: what was held\n")
		} else {
			fmt.Fprintf(&out, "settle: input=%d output=%d\n", r.Settle.Amount.Input, r.Settle.Amount.Output)
		}
	}
	if r.Kept {
		fmt.Fprintln(&out, "kept: the reservation")
		if r.Settle != nil {
			c.fault("kept and settled")
		}
	}
	if r.Ending != nil {
		c.end(&out, r.Ending)
	}
	for _, m := range r.Send {
		c.sent(&out, m)
	}
	if r.Record != nil {
		if c.record != nil {
			c.fault("recorded twice")
		}
		c.record = r.Record
		fmt.Fprintf(&out, "record: %s\n", describe(r.Record))
	}
	if r.Linger {
		fmt.Fprintln(&out, "linger")
	}
	if r.End {
		c.ended = true
		fmt.Fprintln(&out, "end", errorText(r.Err))
	}
	return strings.ReplaceAll(out.String(), " \n", "\n")
}

// end does what is to be done for a response that went on in the background.
func (c *conversation) end(out *strings.Builder, e *Ending) {
	if !e.Apply() {
		c.fault("settled twice")
	}
	c.settled++
	text := fmt.Sprintf("background, %s: %s\n", e.By, describe(e.Record))
	out.WriteString(text)
	c.before = append(c.before, text)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return "with error: " + err.Error()
}

func (c *conversation) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// sent describes a message to Envoy and keeps what reaches the client.
func (c *conversation) sent(out *strings.Builder, m *extprocv3.ProcessingResponse) {
	if c.closed {
		c.fault("a message after the end of the answer: %v", m)
	}
	switch r := m.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_RequestHeaders:
		fmt.Fprintf(out, "send: request headers%s\n", mutation(r.RequestHeaders.GetResponse().GetHeaderMutation()))
	case *extprocv3.ProcessingResponse_RequestBody:
		fmt.Fprintf(out, "send: request body%s\n", mutation(r.RequestBody.GetResponse().GetHeaderMutation()))
		b := r.RequestBody.GetResponse().GetBodyMutation()
		if b.GetClearBody() {
			fmt.Fprintln(out, "  nothing in its place")
		}
		if s := b.GetStreamedResponse(); s != nil {
			fmt.Fprintf(out, "  end of stream %v\n", s.GetEndOfStream())
			lines(out, s.GetBody())
		}
		lines(out, b.GetBody())
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		fmt.Fprintf(out, "send: response headers%s\n", mutation(r.ResponseHeaders.GetResponse().GetHeaderMutation()))
	case *extprocv3.ProcessingResponse_ResponseBody:
		s := r.ResponseBody.GetResponse().GetBodyMutation().GetStreamedResponse()
		if s == nil {
			c.sentInPlace(out, r.ResponseBody.GetResponse())
			break
		}
		fmt.Fprintf(out, "send: %d bytes", len(s.GetBody()))
		if s.GetEndOfStream() {
			fmt.Fprint(out, ", end of stream")
			c.closed = true
		}
		fmt.Fprintln(out)
		lines(out, s.GetBody())
		c.client.Write(s.GetBody())
	case *extprocv3.ProcessingResponse_RequestTrailers:
		fmt.Fprintln(out, "send: request trailers")
	case *extprocv3.ProcessingResponse_ResponseTrailers:
		fmt.Fprintln(out, "send: response trailers")
		c.closed = true
	case *extprocv3.ProcessingResponse_ImmediateResponse:
		i := r.ImmediateResponse
		fmt.Fprintf(out, "send: immediate %d%s\n", i.GetStatus().GetCode(), mutation(i.GetHeaders()))
		lines(out, i.GetBody())
		c.closed = true
	default:
		if m.GetOverrideMessageTimeout() == nil {
			c.fault("unknown message %v", m)
		}
		fmt.Fprintf(out, "send: have patience for %v\n", m.GetOverrideMessageTimeout().AsDuration())
	}
	if md := m.GetDynamicMetadata().GetFields()[Namespace].GetStructValue().GetFields(); md["outcome"] != nil { // what else there is comes with each forwarded request
		fmt.Fprintf(out, "metadata: outcome=%s limit=%s output_tokens=%v", md["outcome"].GetStringValue(), md["limit"].GetStringValue(), md["output_tokens"].GetNumberValue())
		if n, truncated := md["truncated_messages"]; truncated {
			fmt.Fprintf(out, " truncated_messages=%v", n.GetNumberValue())
		}
		if n, throttled := md["throttled_ms"]; throttled {
			fmt.Fprintf(out, " throttled_ms=%v", n.GetNumberValue())
		}
		if s, watched := md["shadow"]; watched {
			fmt.Fprintf(out, " shadow=%s", s.GetStringValue())
		}
		fmt.Fprintln(out)
	}
}

// sentInPlace describes what leaves in place of the piece of the answer that came last.
func (c *conversation) sentInPlace(out *strings.Builder, r *extprocv3.CommonResponse) {
	if c.x.can.answer.ends {
		c.fault("a message in full duplex that is of another mode")
	}
	body := c.piece
	switch m := r.GetBodyMutation(); {
	case m == nil:
		fmt.Fprintln(out, "send: response body unchanged")
	case m.GetClearBody():
		body = nil
		fmt.Fprintln(out, "send: nothing in its place")
	default:
		body = m.GetBody()
		fmt.Fprintf(out, "send: %d bytes in its place%s\n", len(body), mutation(r.GetHeaderMutation()))
		lines(out, body)
	}
	c.client.Write(body)
}

func bodyMode(t *testing.T, name string) mode {
	t.Helper()
	m, ok := extprocfilterv3.ProcessingMode_BodySendMode_value[name]
	if !ok {
		t.Fatalf("unknown body mode %s", name)
	}
	return mode(m)
}

// lines prints bytes as a client sees them, line by line.
func lines(out *strings.Builder, b []byte) {
	switch {
	case len(b) == 0:
		return
	case len(b) > 64<<10:
		fmt.Fprintf(out, "  | %d bytes\n", len(b))
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
		fmt.Fprintf(out, "  | %s\n", strings.Trim(strconv.Quote(line), `"`))
	}
}

func mutation(m *extprocv3.HeaderMutation) string {
	var parts []string
	for _, h := range m.GetSetHeaders() {
		parts = append(parts, h.GetHeader().GetKey()+": "+string(h.GetHeader().GetRawValue()))
	}
	if n := len(m.GetRemoveHeaders()); n > 0 {
		parts = append(parts, fmt.Sprintf("without %s", strings.Join(m.GetRemoveHeaders(), ", ")))
	}
	if len(parts) == 0 {
		return ""
	}
	return "\n  " + strings.Join(parts, "\n  ")
}

func describe(r *Record) string {
	s := fmt.Sprintf("outcome=%s", r.Outcome)
	if r.Limit != "" {
		s += " limit=" + r.Limit
	}
	s += fmt.Sprintf(" status=%d input=%d(%s) output=%d(%s)", r.Status, r.Input, r.InputSource, r.Output, r.OutputSource)
	if r.Cached+r.Reasoning > 0 {
		s += fmt.Sprintf(" cached=%d reasoning=%d", r.Cached, r.Reasoning)
	}
	if r.Truncated > 0 {
		s += fmt.Sprintf(" truncated=%d", r.Truncated)
	}
	if r.Throttled > 0 {
		s += fmt.Sprintf(" throttled=%v by %s", r.Throttled, r.ThrottledBy)
	}
	if len(r.Shadow) > 0 {
		s += " shadow=" + r.ShadowText()
	}
	if r.Background {
		s += " background"
	}
	if r.Degraded != "" {
		s += " degraded=" + r.Degraded
	}
	if r.Reason != "" {
		s += " reason=" + strconv.Quote(r.Reason)
	}
	return s
}

func (c *conversation) balances(t *testing.T) string {
	balances, err := c.ledger.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, b := range balances {
		fmt.Fprintf(&out, "%s %s %v: spent=%d held=%d debt=%d of %d\n", b.Limit, b.Unit, b.Subject, b.Spent, b.Held, b.Debt(), b.Amount)
	}
	return out.String()
}

// check holds for every conversation that has ended.
func (c *conversation) check(t *testing.T) {
	t.Helper()
	for _, f := range c.faults {
		t.Error(f)
	}
	if !c.ended {
		t.Error("the conversation has no end")
		return
	}
	if want := c.granted + map[bool]int{true: 1}[c.reservation != nil]; c.settled != want {
		t.Errorf("settled %d times, want %d", c.settled, want)
	}
	if c.record == nil {
		t.Error("no record")
	}
	balances, err := c.ledger.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range balances {
		if b.Held != 0 {
			t.Errorf("%s holds %d after the end", b.Limit, b.Held)
		}
	}
}

// transcript is what must not depend on how the answer was split.
func (c *conversation) transcript() string {
	return fmt.Sprintf("client: %q\nrecords: %s\nsettled: %d\n", c.client.String(), strings.Join(append(c.before, describe(c.record)), "; "), c.settled)
}

func parseLimit(t *testing.T, line string) budget.Limit {
	t.Helper()
	fields := strings.Fields(line)
	l := budget.Limit{Name: fields[0], Period: budget.Minute}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "tokens", "input_tokens", "output_tokens", "requests", "streams":
			l.Unit = map[string]budget.Unit{"tokens": budget.Tokens, "input_tokens": budget.InputTokens, "output_tokens": budget.OutputTokens, "requests": budget.Requests, "streams": budget.Streams}[key]
			l.Amount = number(t, value)
			if key == "streams" {
				l.Period = 0
			}
		case "action":
			l.Action = map[string]budget.Action{"refuse": budget.ActionRefuse, "throttle": budget.ActionThrottle, "shadow": budget.ActionShadow}[value]
		case "admission":
			l.Admission = map[string]budget.Admission{"full": budget.AdmitFull, "none": budget.AdmitNone}[value]
		case "delay":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			l.MaxDelay = d
		case "per":
			if value == "request" {
				l.PerRequest, l.Period = true, 0
				break
			}
			l.Per = strings.Split(value, ",")
		case "model", "path":
			p := map[string]budget.Property{"model": budget.OfModel, "path": budget.OfPath}[key]
			l.Match = append(l.Match, budget.Condition{Property: p, Any: strings.Split(value, ",")})
		case "header":
			name, globs, _ := strings.Cut(value, ":")
			l.Match = append(l.Match, budget.Condition{Property: budget.OfHeader, Name: name, Any: strings.Split(globs, ",")})
		case "period":
			p, err := budget.ParsePeriod(value)
			if err != nil {
				t.Fatal(err)
			}
			l.Period = p
		default:
			t.Fatalf("limits: %q", f)
		}
	}
	return l
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// httpHeaders makes headers of a command's arguments.
func httpHeaders(d *datadriven.TestData, h map[string]string) *extprocv3.HttpHeaders {
	names := map[string]string{"method": ":method", "path": ":path", "status": ":status", "type": "content-type", "encoding": "content-encoding", "length": "content-length"}
	for _, a := range d.CmdArgs {
		if a.Key == "jwt" || a.Key == "request-mode" || a.Key == "response-mode" || len(a.Vals) == 0 {
			continue
		}
		key := a.Key
		if n, ok := names[key]; ok {
			key = n
		}
		h[key] = strings.Join(a.Vals, ",")
	}
	out := &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{}, EndOfStream: d.HasArg("eos")}
	for k, v := range h {
		out.Headers.Headers = append(out.Headers.Headers, &corev3.HeaderValue{Key: k, RawValue: []byte(v)})
	}
	return out
}

// jwtMetadata makes the metadata which Envoy's JWT filter leaves, from JSON.
func jwtMetadata(t *testing.T, vals []string) *corev3.Metadata {
	t.Helper()
	s := new(structpb.Struct)
	if err := protojson.Unmarshal([]byte(strings.Join(vals, ",")), s); err != nil {
		t.Fatal(err)
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"envoy.filters.http.jwt_authn": {Fields: map[string]*structpb.Value{"payload": structpb.NewStructValue(s)}},
	}}
}
