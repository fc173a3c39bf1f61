package exchange

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/hostile"
)

// TestHostile: every row of the corpus of hostile input gets what it says, however the answer is
// split: small ones at every byte. Each is settled exactly once if anything was reserved,
// nothing stays held, and neither the refusal nor the log quotes the prompt, whose word is
// hostile.Secret.
func TestHostile(t *testing.T) {
	datadriven.Walk(t, "testdata/hostile", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			c, err := hostile.Parse(d)
			if err != nil {
				t.Fatal(err)
			}
			if c.Kind == "see" {
				return elsewhere(t, c)
			}
			want := attack(t, c, unsplit)
			if c.Kind == "answer" {
				for name, split := range splits(c) {
					if got := attack(t, c, split); got != want {
						t.Fatalf("%s: %s: %s\ngot:\n%s\nwant:\n%s", d.Pos, c.Title, name, got, want)
					}
				}
			}
			return want
		})
	})
	hostileDoc(t)
}

// smallAnswer is the size in bytes up to which an answer is split at every byte.
const smallAnswer = 300

// splitter takes a piece of an answer apart, of which there were from bytes before.
type splitter func(from int, body []byte) [][]byte

func unsplit(_ int, body []byte) [][]byte { return [][]byte{body} }

// splits are ways to take the pieces of an answer apart.
func splits(c *hostile.Case) map[string]splitter {
	all := make(map[string]splitter)
	size := 0
	for _, s := range c.Steps {
		b, _ := s.Bytes()
		size += len(b)
	}
	every := 1 + size/smallAnswer*size/8
	for at := 1; at < size; at += every {
		all[fmt.Sprintf("split at byte %d", at)] = func(from int, body []byte) [][]byte {
			if from < at && at < from+len(body) {
				return [][]byte{body[:at-from], body[at-from:]}
			}
			return [][]byte{body}
		}
	}
	for _, n := range []int{1, 7, 4096, 64 << 10} {
		if size/n < 1000 {
			all[fmt.Sprintf("in chunks of %d bytes", n)] = func(_ int, body []byte) [][]byte {
				return slices.Collect(slices.Chunk(body, n))
			}
		}
	}
	return all
}

// attack plays a row and says what it gets.
func attack(t *testing.T, row *hostile.Case, split splitter) string {
	t.Helper()
	c := newConversation()
	now := c.now
	c.limits = []budget.Limit{{Name: "minute", Unit: budget.Tokens, Amount: hostile.Limit, Period: budget.Minute}}
	if row.Policy != "" {
		name, args, err := datadriven.ParseLine("policy " + row.Policy)
		if err != nil {
			t.Fatal(err)
		}
		c.do(t, &datadriven.TestData{Cmd: name, CmdArgs: args}, wholly)
	}
	a := &attacked{conversation: c, t: t, row: row}
	// A ledger that is closed here: those of thousands of rows would be too many.
	ledger, err := budget.New(t.Context(), budget.Options{Limits: c.limits, Now: func() time.Time { return now }, GrowthStep: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ledger.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c.ledger, c.policy.Now = ledger, func() time.Time { return now }
	c.x = New(NewPolicy(c.policy))
	a.play(split)
	c.perform(c.x.End())
	c.check(t)
	out := a.result()
	shown := out + describe(c.record)
	if a.refusal != nil {
		shown += string(a.refusal)
	}
	if strings.Contains(shown, hostile.Secret) {
		t.Errorf("%s: the prompt is quoted in %s", row.Title, shown)
	}
	return out
}

// attacked is a conversation with what else is seen of it.
type attacked struct {
	*conversation
	t         *testing.T
	row       *hostile.Case
	forwarded bool
	body      []byte       // that the upstream got
	refusal   []byte       // of an immediate answer
	message   string       // in it
	sent      bytes.Buffer // by the upstream
	trouble   error        // with which the gRPC stream ended
}

func (a *attacked) step(m *extprocv3.ProcessingRequest) { a.note(a.x.Step(m)) }

// note does what r asks for, and keeps what is of interest.
func (a *attacked) note(r Ready) {
	watch := func(sends []*extprocv3.ProcessingResponse) {
		for _, m := range sends {
			if i := m.GetImmediateResponse(); i != nil {
				a.refusal = i.GetBody()
				api := a.x.api
				if api == nil {
					api = dialect.OpenAIChat{}
				}
				a.message = hostile.Message(a.refusal)
				if want := api.Refuse(int(i.GetStatus().GetCode()), a.message); !bytes.Equal(want, a.refusal) {
					a.t.Errorf("%s: the refusal is not in the API's shape: %s", a.row.Title, a.refusal)
				}
			}
			if b := m.GetRequestBody(); b != nil && a.x.reservation != nil {
				a.forwarded, a.body = true, b.GetResponse().GetBodyMutation().GetBody()
			}
		}
	}
	watch(r.Send)
	if r.Reserve == nil {
		a.perform(r)
	} else {
		res, d, err := a.ledger.Reserve(a.t.Context(), *r.Reserve)
		a.reservation = res
		r = a.x.Reserved(res, d, err)
		watch(r.Send)
		a.perform(r)
	}
	if r.Err != nil {
		a.trouble = r.Err
	}
}

// play plays the row's messages.
func (a *attacked) play(split splitter) {
	switch a.row.Kind {
	case "messages":
		for _, s := range a.row.Steps {
			a.one(s)
		}
		return
	case "request":
		has := slices.ContainsFunc(a.row.Steps, func(s hostile.Step) bool { return s.Op == "body" })
		a.step(a.requestHeaders(!has))
		if !a.ended && has {
			a.step(requestBody(a.row.Body()))
		}
		if !a.ended { // forwarded, or passed
			a.step(responseHeaders("400", "application/json", nil, false))
			a.step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{Body: []byte("{}"), EndOfStream: true}}})
		}
		return
	}
	a.step(a.requestHeaders(false))
	a.step(requestBody(a.row.Body()))
	status, kind, headers, bodyless := a.row.Answer()
	a.step(responseHeaders(status, kind, headers, bodyless))
	for i, s := range a.row.Steps {
		switch b, ok := s.Bytes(); {
		case ok:
			last := i+1 < len(a.row.Steps) && a.row.Steps[i+1].Op == "end"
			parts := split(a.sent.Len(), b)
			if len(b) == 0 {
				parts = [][]byte{nil}
			}
			a.sent.Write(b)
			for j, part := range parts {
				a.step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
					ResponseBody: &extprocv3.HttpBody{Body: part, EndOfStream: last && j == len(parts)-1},
				}})
			}
		case s.Op == "trailers", s.Op == "stop":
			a.one(s)
		}
	}
}

func (a *attacked) requestHeaders(eos bool) *extprocv3.ProcessingRequest {
	method := a.row.Method
	if method == "" {
		method = "POST"
	}
	h := []*corev3.HeaderValue{{Key: ":method", RawValue: []byte(method)}, {Key: ":path", RawValue: []byte(a.row.Path)}}
	for _, s := range a.row.Steps {
		if s.Op == "header" && a.row.Kind != "answer" { // whose headers are the upstream's
			name, value := s.Header()
			h = append(h, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
		}
	}
	return &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: h}, EndOfStream: eos}},
		ProtocolConfig: &extprocv3.ProtocolConfiguration{
			RequestBodyMode: extprocfilterv3.ProcessingMode_BUFFERED, ResponseBodyMode: extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED,
		},
	}
}

func requestBody(b []byte) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: b, EndOfStream: true}}}
}

func responseHeaders(status, kind string, more [][2]string, eos bool) *extprocv3.ProcessingRequest {
	h := []*corev3.HeaderValue{{Key: ":status", RawValue: []byte(status)}, {Key: "content-type", RawValue: []byte(kind)}}
	for _, m := range more {
		h = append(h, &corev3.HeaderValue{Key: m[0], RawValue: []byte(m[1])})
	}
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: h}, EndOfStream: eos},
	}}
}

// one plays one message of ext_proc, or what comes from elsewhere.
func (a *attacked) one(s hostile.Step) {
	eos := string(s.Text) == "eos"
	switch s.Op {
	case "request-headers":
		a.step(a.requestHeaders(eos))
	case "request-body":
		a.step(requestBody(a.row.Body()))
	case "request-trailers":
		a.step(message(2, 0, nil))
	case "response-headers":
		a.step(responseHeaders("200", a.row.AnswerType(), nil, eos))
	case "response-body":
		piece := `data: {"choices":[{"index":0,"delta":{"content":"words"}}]}` + "\n\n"
		if a.row.Unary {
			piece = `{"choices":[{"message":{"content":"words"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`
		}
		a.sent.WriteString(piece)
		m := body(piece)
		m.GetResponseBody().EndOfStream = eos
		a.step(m)
	case "response-trailers", "trailers":
		a.step(message(7, 0, nil))
	case "empty":
		a.step(&extprocv3.ProcessingRequest{})
	case "reset":
		a.note(a.x.End())
	case "stop":
		a.note(a.x.Stop("(" + string(s.Text) + ")"))
	}
}

// result says what the row got.
func (a *attacked) result() string {
	o := hostile.Outcome{
		Row: a.row, Outcome: string(a.record.Outcome), Limit: a.record.Limit, Status: a.record.Status, Reason: a.record.Reason,
		Input: a.record.Input, Output: a.record.Output, InputSource: a.record.InputSource, OutputSource: a.record.OutputSource,
		Held:    a.record.Held.Input + a.record.Held.Output,
		Refused: a.refusal != nil, Message: a.message, Forwarded: a.forwarded, Body: a.body, Sent: a.sent.Bytes(), Client: []byte(a.client.String()),
	}
	if a.trouble != nil {
		o.Trouble = a.trouble.Error()
	}
	balances, err := a.ledger.Balances(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, b := range balances {
		o.Spent += b.Spent
	}
	return o.String()
}

// elsewhere checks that the tests which a row names exist.
func elsewhere(t *testing.T, c *hostile.Case) string {
	for _, s := range c.Steps {
		file, name, conversation := strings.Cut(string(s.Text), " ")
		if !conversation {
			if files, err := filepath.Glob(filepath.Join("testdata", "conversations", file)); err != nil || len(files) == 0 {
				t.Errorf("%s: there is no conversation %s", c.Title, file)
			}
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
		if err != nil || !strings.Contains(string(text), "\nfunc "+name+"(") {
			t.Errorf("%s: %s has no %s: %v", c.Title, file, name, err)
		}
	}
	return ""
}
