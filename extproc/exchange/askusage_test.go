package exchange

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// rejected is how one upstream answers who asks for usage.
const rejected = `{"error":{"message":"Unrecognized request argument supplied: stream_options","param":null}}`

// asks sends a stream of one exchange and says whether the upstream was asked for its
// usage; then the upstream answers with 400 and the text, if it is not "".
func asks(t *testing.T, p *Policy, host, body, status, answer string) (asked bool, reason string) {
	t.Helper()
	c := newConversation()
	c.policy = *p
	do := func(cmd, input string, args ...string) string {
		d := &datadriven.TestData{Cmd: cmd, Input: input}
		for i := 0; i < len(args); i += 2 {
			d.CmdArgs = append(d.CmdArgs, datadriven.CmdArg{Key: args[i], Vals: args[i+1 : i+2]})
		}
		return c.do(t, d, wholly)
	}
	do("limits", "minute tokens=1000000")
	do("request", "", ":authority", host)
	sent := do("body", body)
	asked = strings.Contains(sent, `include_usage\":true`)
	if answer != "" {
		do("answer", "", "status", status, "type", "application/json")
		do("raw", strings.ReplaceAll(answer[:20], `"`, `\"`))
		d := &datadriven.TestData{Cmd: "raw", Input: strings.ReplaceAll(answer[20:], `"`, `\"`), CmdArgs: []datadriven.CmdArg{{Key: "eos"}}}
		c.do(t, d, wholly)
		if got := c.client.String(); got != answer {
			t.Errorf("the client got %q", got)
		}
		reason = c.record.Reason
	} else {
		do("end", "")
	}
	return asked, reason
}

func TestUsageRejected(t *testing.T) {
	const stream = `{"model":"m","stream":true,"messages":[]}`
	now := newConversation().now
	p := &Policy{Rejected: NewRejected()}
	never, always := *p, *p
	never.IncludeUsage, always.IncludeUsage = UsageNever, UsageAlways

	check := func(name string, p *Policy, host, body string, want bool) {
		t.Helper()
		if got, _ := asks(t, p, host, body, "", ""); got != want {
			t.Errorf("%s: asked is %v", name, got)
		}
	}
	check("at first", p, "a", stream, true)
	check("never", &never, "a", stream, false)

	// What teaches nothing.
	for _, tt := range []struct{ name, body, status, answer string }{
		{"another status", stream, "500", rejected},
		{"another complaint", stream, "400", `{"error":{"message":"the model does not exist","param":"model"}}`},
		{"what was asked for, repeated", stream, "422", `{"detail":[{"type":"value_error","loc":["body"],"msg":"no","input":{"stream_options":{"include_usage":true}}}]}`},
		{"a request repeated up to what was asked for", stream, "400", strings.Repeat("x", maxComplain-len("stream_options")) + `stream_options":{"include_usage":true}`},
		{"the client's own option", `{"model":"m","stream":true,"stream_options":{"x":1},"messages":[]}`, "400", rejected},
		{"the client's own word", `{"model":"m","stream":true,"messages":["stream_options"]}`, "400", rejected},
	} {
		if asked, reason := asks(t, p, "a", tt.body, tt.status, tt.answer); !asked || reason != "" {
			t.Errorf("%s: asked is %v, reason %q", tt.name, asked, reason)
		}
		check(tt.name, p, "a", stream, true)
	}

	if _, reason := asks(t, p, "a", stream, "400", rejected); !strings.Contains(reason, "rejects stream_options") {
		t.Errorf("the reason is %q", reason)
	}
	check("a rejection", p, "a", stream, false)
	check("always", &always, "a", stream, true)
	check("another host", p, "b", stream, true)
	check("another model", p, "a", strings.Replace(stream, `"m"`, `"n"`, 1), true)
	check("the same model", p, "a", strings.Replace(stream, `"m"`, `"M"`, 1), false)

	// 422 teaches as well, in time it is forgotten, and there are never more than so many.
	if _, reason := asks(t, p, "b", stream, "422", rejected); reason == "" {
		t.Error("422 teaches nothing")
	}
	check("422", p, "b", stream, false)
	for i := range maxRejected {
		p.Rejected.add(p.Rejected.key(fmt.Sprint(i)), now.Add(time.Second))
	}
	if n := len(p.Rejected.since); n != maxRejected {
		t.Errorf("%d upstreams are known", n)
	}
	check("others made room", p, "a", stream, true)
	if key := p.Rejected.key("7"); !p.Rejected.has(key, now) || p.Rejected.has(key, now.Add(rejectedFor+2*time.Second)) {
		t.Error("it is forgotten too early or too late")
	}
}

// commands are those of a conversation, each with its input; "eos" may stand behind one.
func commands(of ...string) (list []*datadriven.TestData) {
	for i := 0; i < len(of); i += 2 {
		cmd, eos := strings.CutSuffix(of[i], " eos")
		d := &datadriven.TestData{Cmd: cmd, Input: of[i+1]}
		if eos {
			d.CmdArgs = []datadriven.CmdArg{{Key: "eos"}}
		}
		list = append(list, d)
	}
	return list
}
