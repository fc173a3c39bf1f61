package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestMessagesRequest(t *testing.T) {
	r, err := AnthropicMessages{}.ParseRequest([]byte(`{"model":"claude-sonnet-4-5","max_tokens":1024,"messages":[{"role":"user","content":"a"},"b"],"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Model != "claude-sonnet-4-5" || !r.Stream || r.MaxOutput != 1024 || r.Choices != 1 || r.Messages() != 2 || r.Opaque() || r.LeastCap != 0 {
		t.Errorf("%+v", r)
	}
	if body, changed := r.Body(0); changed {
		t.Errorf("changed to %s", body)
	}
}

func TestMessagesRefusals(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", "not valid JSON"},
		{"array", `[]`, "must be a JSON object"},
		{"no messages", `{"model":"m"}`, `no "messages"`},
		{"messages of another kind", `{"messages":{}}`, `"messages" must be an array`},
		{"trailing data", `{"messages":[]}{}`, "data after"},
		{"duplicate key", `{"messages":[],"max_tokens":1,"max_tokens":2}`, "same key twice"},
		{"escaped key", `{"messages":[],"m\u0061x_tokens":1}`, `"max_tokens" is written with escapes`},
		{"other case", `{"messages":[],"System":"x"}`, `"system" is written in another letter case`},
		{"other case in a message", `{"messages":[{"Content":"x"}]}`, `"content" is written in another`},
		{"other case in a block", `{"messages":[{"content":[{"Type":"image"}]}]}`, `"type" is written in another`},
		{"escapes in a source", `{"messages":[{"content":[{"type":"image","source":{"d\u0061ta":"x"}}]}]}`, `"data" is written with escapes`},
		{"other case in a result", `{"messages":[{"content":[{"type":"tool_result","content":[{"TEXT":"x"}]}]}]}`, `"text" is written in another`},
		{"other case in a document", `{"messages":[{"content":[{"type":"document","source":{"type":"content","content":[{"Text":"x"}]}}]}]}`, `"text" is written in another`},
		{"other case in system", `{"messages":[],"system":[{"teXt":"x"}]}`, `"text" is written in another`},
		{"other case in a tool", `{"messages":[],"tools":[{"Type":"bash_20250124"}]}`, `"type" is written in another`},
		{"other case in thinking", `{"messages":[],"thinking":{"Budget_tokens":9}}`, `"budget_tokens" is written in another`},
		{"stream of another kind", `{"messages":[],"stream":"true"}`, `"stream" must be true or false`},
		{"cap of another kind", `{"messages":[],"max_tokens":"9"}`, `"max_tokens" must be a number`},
		{"thinking of another kind", `{"messages":[],"thinking":{"budget_tokens":"9"}}`, `"budget_tokens" must be a number`},
		{"model of another kind", `{"messages":[],"model":7}`, `"model" must be a string`},
		{"invalid UTF-8", "{\"messages\":[],\"model\":\"\xff\"}", "not valid JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := AnthropicMessages{}.ParseRequest([]byte(tt.in))
			var bad *BadRequest
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a BadRequest with %q", err, tt.want)
			}
		})
	}
}

func TestMessagesCap(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		limit    int64
		want     string // "" for unchanged
	}{
		{"lowered", `{"max_tokens":100,"messages":[]}`, 7, `{"max_tokens":7,"messages":[]}`},
		{"low enough", `{"max_tokens":7,"messages":[]}`, 7, ""},
		{"missing", `{"messages":[]}`, 7, `{"messages":[],"max_tokens":7}`},
		{"null", `{"max_tokens":null,"messages":[]}`, 7, `{"max_tokens":7,"messages":[]}`},
		{"negative", `{"max_tokens":-1,"messages":[]}`, 7, `{"max_tokens":7,"messages":[]}`},
		{"zero fills a cache", `{"max_tokens":0,"messages":[]}`, 7, ""},
		{"thinking fits", `{"max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[]}`, 4000,
			`{"max_tokens":4000,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[]}`},
		{"thinking is lowered, too", `{"max_tokens":10000,"thinking":{"type":"enabled","budget_tokens":8000},"messages":[]}`, 5000,
			`{"max_tokens":5000,"thinking":{"type":"enabled","budget_tokens":4000},"messages":[]}`},
		{"as far as it may be", `{"max_tokens":10000,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[]}`, 1500,
			`{"max_tokens":1500,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[]}`},
		{"and no further", `{"max_tokens":10000,"thinking":{"budget_tokens":2000},"messages":[]}`, 3,
			`{"max_tokens":1025,"thinking":{"budget_tokens":1024},"messages":[]}`},
		{"thinking above the cap", `{"max_tokens":4000,"thinking":{"budget_tokens":1e18},"messages":[]}`, 3000,
			`{"max_tokens":3000,"thinking":{"budget_tokens":1500},"messages":[]}`},
		{"thinking without a cap", `{"thinking":{"budget_tokens":9000},"messages":[]}`, 3000,
			`{"thinking":{"budget_tokens":1500},"messages":[],"max_tokens":3000}`},
		{"no thinking", `{"max_tokens":100,"thinking":{"type":"disabled"},"messages":[]}`, 7, `{"max_tokens":7,"thinking":{"type":"disabled"},"messages":[]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := AnthropicMessages{}.ParseRequest([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			got, changed := r.Body(tt.limit)
			if want := strings.TrimSpace(tt.want); want != "" && string(got) != want || changed != (want != "") {
				t.Errorf("%s, changed: %v", got, changed)
			}
		})
	}
}

// said is what a prompt hands out, joined by bars, and what comes on top.
func said(t *testing.T, r *Request, model string) (texts string, extra int64) {
	t.Helper()
	var all []string
	add := func(text []byte) { all = append(all, string(text)) }
	for i := range r.Messages() {
		extra += r.Message(i, model, add)
	}
	extra += r.Rest(model, add)
	return strings.Join(all, "|"), extra
}

func TestMessagesPrompt(t *testing.T) {
	const (
		reply, each = messagesReply, messagesPerMessage
		pixel       = `iVBORw0KGgoAAAANSUhEUgAAAlgAAAGQCAYAAAC` // 600 × 400
	)
	user := func(blocks string) string { return `{"messages":[{"role":"user","content":[` + blocks + `]}]}` }
	long := strings.Repeat("x", 100)
	for _, tt := range []struct {
		name, in, texts string
		extra           int64
		opaque          bool
	}{
		{"nothing", `{"messages":[]}`, "", reply, false},
		{"text", `{"messages":[{"role":"user","content":"a\u00e9"},{"role":"assistant","content":"b"}],"system":"s"}`, "aé|b|s", reply + 2*each, false},
		{"blocks", user(`{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},"b",{"type":"search_result","source":"u","title":"t","content":[{"type":"text","text":"c"}],"citations":{"enabled":true}}`),
			"a|b|u|t|c", reply + each, false},
		{"system blocks", `{"messages":[],"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}]}`, "s", reply, false},
		{"no object", `{"messages":["a",7]}`, "a|7", reply + 2*each, false},
		{"unknown members", `{"messages":[{"role":"user","content":[{"type":"text","text":"a","aside":"b"}],"more":"c"}]}`, "a|b|c", reply + each, true},
		{"a long role", `{"messages":[{"role":"` + long + `","content":""}]}`, long, reply + each, false},
		{"a long id", user(`{"type":"tool_result","tool_use_id":"` + long + `","content":"r"}`), long + "|r", reply + each + messagesPerResult, false},
		{"a call", user(`{"type":"tool_use","id":"t","name":"f","input":{"a":1}}`), `f|{"a":1}`, reply + each + messagesPerCall, false},
		{"its result", user(`{"type":"tool_result","tool_use_id":"t","is_error":true,"content":[{"type":"text","text":"r"}]}`), "r", reply + each + messagesPerResult, false},
		{"thinking", user(`{"type":"thinking","thinking":"hm","signature":"` + long + `"}`), "hm", reply + each, true},
		{"a signature of text", user(`{"type":"text","text":"a","signature":"` + long + `"}`), "a|" + long, reply + each, false},
		{"redacted thinking", user(`{"type":"redacted_thinking","data":"` + strings.Repeat("A", 158) + `"}`), "", reply + each + 30, true},
		{"data of text", user(`{"type":"text","text":"a","data":"d"}`), "a|d", reply + each, false},
		{"an image", user(`{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + pixel + `"}}`), "", reply + each + 22*15, true},
		{"an image elsewhere", user(`{"type":"image","source":{"type":"url","url":"https://example.com/` + long + `"}}`), "", reply + each + 1568, true},
		{"an image that is none", user(`{"type":"image","source":{"type":"base64","data":{"a":"b"}}}`), `{"a":"b"}`, reply + each + 1568, true},
		{"an image in a result", user(`{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}`),
			"", reply + each + messagesPerResult + 1568, true},
		{"a page", user(`{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0x"},"title":"t","context":"c"}`),
			"t|c", reply + each + messagesPerPage, true},
		{"text in base64", user(`{"type":"document","source":{"type":"base64","media_type":"text/plain","data":"` + strings.Repeat("A", 158) + `"}}`), "", reply + each + 30, true},
		{"a document of text", user(`{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}`), "d", reply + each + messagesPerText, true},
		{"a document of blocks", user(`{"type":"document","source":{"type":"content","content":[{"type":"text","text":"d"}]}}`), "d", reply + each + messagesPerText, true},
		{"a document elsewhere", user(`{"type":"document","source":{"type":"file","file_id":"f"}}`), "", reply + each + documentHold, true},
		{"a source of an unknown kind", user(`{"type":"document","source":{"type":"aside","data":"d"}}`), "d", reply + each + documentHold, true},
		{"a source of text", user(`{"type":"text","source":{"type":"base64","data":"d"}}`), `{"type":"base64","data":"d"}`, reply + each, false},
		{"a search's results", user(`{"type":"web_search_tool_result","tool_use_id":"t","content":[{"type":"web_search_result","url":"u","title":"t","encrypted_content":"` + strings.Repeat("A", 158) + `"}]}`),
			"u|t", reply + each + 30, true},
		{"deep blocks", user(strings.Repeat(`{"type":"tool_result","content":[`, 8) + `{"type":"text","text":"a"}` + strings.Repeat(`]}`, 8)),
			`{"type":"tool_result","content":[{"type":"text","text":"a"}]}`, reply + each + 7*messagesPerResult, true},
		{"a tool", `{"messages":[],"tools":[{"name":"f","description":"d\n","input_schema":{"type" : "object"},"cache_control":{"type":"ephemeral"},"strict":true}]}`,
			`"name":"f","description":"d\n","input_schema":{"type":"object"},`, reply + 496 + messagesPerTool, false},
		{"a tool that must be called", `{"messages":[],"tools":[{"type":"custom","name":"f"}],"tool_choice":{"type":"tool","name":"f"}}`,
			`"name":"f",`, reply + 588 + messagesPerTool, false},
		{"no tools", `{"messages":[],"tools":[],"tool_choice":{"type":"any"}}`, "", reply, false},
		{"bash", `{"messages":[],"tools":[{"type":"bash_20250124","name":"bash"}]}`, `"name":"bash",`, reply + 496 + messagesPerTool + toolBash, true},
		{"a search", `{"messages":[],"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, `"name":"web_search",`, reply + 496 + messagesPerTool + webHold, true},
		{"a tool put off", `{"messages":[],"tools":[{"name":"f","defer_loading":true}]}`, `"name":"f",`, reply + 496 + messagesPerTool, true},
		{"a tool of an unknown kind", `{"messages":[],"tools":[{"type":"aside","name":"f"}]}`, `"name":"f",`, reply + 496 + messagesPerTool + hostedHold, true},
		{"a tool of a long kind", `{"messages":[],"tools":[{"type":"` + long + `"}]}`, `"type":"` + long + `",`, reply + 496 + messagesPerTool + hostedHold, true},
		{"tools that are none", `{"messages":[],"tools":"t"}`, "t", reply, false},
		{"a tool that is none", `{"messages":[],"tools":["t"]}`, `"t"`, reply + 496 + messagesPerTool, false},
		{"MCP", `{"messages":[],"mcp_servers":[{"name":"m"},{}]}`, `[{"name":"m"},{}]`, reply + 2*hostedHold, true},
		{"skills", `{"messages":[],"container":{"skills":[]}}`, "", reply + hostedHold, true},
		{"a container", `{"messages":[],"container":"c"}`, "", reply, true},
		{"a thread", `{"messages":[],"thread":{"type":"continue","previous_message_id":"m"}}`, "", reply + documentHold, true},
		{"a new thread", `{"messages":[],"thread":{"type":"create"}}`, "", reply, true},
		{"thinking asked for", `{"messages":[],"max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024}}`, "", reply + thinkingEnabled, false},
		{"a format", `{"messages":[],"output_config":{"effort":"low","format":{"type":"json_schema","schema":{ }}}}`, `{"type":"json_schema","schema":{}}`, reply + messagesFormat, false},
		{"no format", `{"messages":[],"output_config":{"effort":"low"},"output_format":null}`, "", reply, false},
		{"what no model reads", `{"messages":[],"metadata":{"user_id":"` + long + `"},"stop_sequences":["` + long + `"],"temperature":1,"service_tier":"auto"}`, "", reply, false},
		{"what is not known", `{"messages":[],"aside":"` + long + `"}`, long, reply, true},
		{"nulls", `{"messages":[],"tools":null,"tool_choice":null,"system":null,"thread":null,"container":null,"mcp_servers":null,"context_management":null}`, "", reply, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := AnthropicMessages{}.ParseRequest([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			texts, extra := said(t, r, "claude-sonnet-4-5")
			if texts != tt.texts || extra != tt.extra || r.Opaque() != tt.opaque {
				t.Errorf("got  %q and %d, opaque %v\nwant %q and %d", texts, extra, r.Opaque(), tt.texts, tt.extra)
			}
		})
	}
}

func TestMessagesModels(t *testing.T) {
	for name, want := range map[string]int64{
		"claude-sonnet-4-5-20250929": 496, "us.anthropic.claude-sonnet-4-5-20250929-v1:0": 496, "anthropic/claude-opus-4.6": 497,
		"claude-opus-4-1": 313, "claude-opus-4@20250514": 313, "Claude-3-7-Sonnet-latest": 346, "claude-haiku-9": 500, "": 500,
	} {
		if m := messagesModelOf(name); m.tools != want {
			t.Errorf("%s: %d, want %d", name, m.tools, want)
		}
	}
}

// The examples of the documentation, "Vision", and some at the edges.
func TestMessagesImages(t *testing.T) {
	for _, tt := range []struct {
		tier          imageTier
		width, height uint32
		want          int64
	}{
		{standardTier, 1000, 1000, 1296}, {highTier, 1000, 1000, 1296},
		{standardTier, 1092, 1092, 1521}, {standardTier, 1920, 1080, 1560}, {highTier, 1920, 1080, 2691},
		{highTier, 3840, 2160, 4784}, {highTier, 4032, 3024, 4740}, {highTier, 3024, 1964, 4760}, {highTier, 1964, 3024, 4760},
		{standardTier, 1, 1, 1}, {standardTier, 28, 29, 2}, {standardTier, 0, 5, 1568}, {highTier, 0, 0, 4784},
		{standardTier, 1, 4294967295, 56}, {standardTier, 4294967295, 4294967295, 1521},
	} {
		if got := tt.tier.of(tt.width, tt.height); got != tt.want {
			t.Errorf("%d × %d: %d, want %d", tt.width, tt.height, got, tt.want)
		}
	}
}

// FuzzMessagesRequest: a body that is accepted is one which encoding/json accepts, too,
// and means the same to it before and after the edits. All that a client may write comes
// out as text or tokens, within bounds.
func FuzzMessagesRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"claude-opus-4-8","max_tokens":10,"system":"s","messages":[{"role":"user","content":"hi"}],"stream":true}`,
		`{"max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[]}`, `{"max_tokens":0,"messages":[]}`,
		`{"thinking":{"budget_tokens":1e30},"messages":[],"max_tokens":null} `, `{"Model":1}`, `{`, "",
		`{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"iVBORw0KGgoAAAANSUhEUgAAAlgAAAGQCAYAAAC"}},{"type":"document","source":{"type":"content","content":[{}]}}]}]}`,
		`{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"\u00e9"}]}]}]}`,
		`{"messages":[],"tools":[{"name":"f","input_schema":{ }},{"type":"web_fetch_1"},5],"mcp_servers":[1],"thread":{},"output_config":{"format":{}}}`,
	} {
		f.Add([]byte(s), int64(1030))
	}
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		r, err := AnthropicMessages{}.ParseRequest(body)
		if err != nil {
			if _, ok := errors.AsType[*BadRequest](err); !ok {
				t.Fatalf("not a BadRequest: %v", err)
			}
			return
		}
		for _, model := range []string{"claude-opus-4-8", "claude-3-haiku"} {
			texts, extra := 0, int64(0)
			add := func(text []byte) { texts += len(text) }
			for i := range r.Messages() {
				if !json.Valid(r.RawMessage(i)) {
					t.Fatalf("message %d is not JSON: %q", i, r.RawMessage(i))
				}
				extra += r.Message(i, model, add)
			}
			extra += r.Rest(model, add)
			if texts > 10*len(body)+1000 || extra < messagesReply || extra > int64(len(body)+1)*webHold {
				t.Fatalf("%s: a body of %d bytes hands out %d bytes and %d tokens", model, len(body), texts, extra)
			}
		}
		out, changed := r.Body(limit)
		if !changed && string(out) != string(body) {
			t.Fatal("changed, and does not say so")
		}
		var before, after map[string]any
		if err := decodeNumbers(body, &before); err != nil {
			t.Fatalf("accepted, but encoding/json says %v", err)
		}
		if err := decodeNumbers(out, &after); err != nil {
			t.Fatalf("the edited body %q: %v", out, err)
		}
		if stream, _ := before["stream"].(bool); stream != r.Stream {
			t.Fatalf("stream is %v, encoding/json says %v", r.Stream, stream)
		}
		if changed {
			allowed := max(limit, r.LeastCap)
			if n, err := after["max_tokens"].(json.Number).Int64(); err != nil || n > allowed {
				t.Fatalf("the cap of %q is above %d", out, allowed)
			}
		}
		for _, m := range []map[string]any{before, after} {
			delete(m, "max_tokens")
			if thinking, ok := m["thinking"].(map[string]any); ok {
				delete(thinking, "budget_tokens")
			}
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("the edits changed more than they may: %q became %q", body, out)
		}
	})
}

// FuzzMessagesTurns: whatever turns are dropped, no result of a tool is without its call,
// the user's last question stays, and what is left begins as the whole did or with the
// user.
func FuzzMessagesTurns(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x02\x03\x01\x00\x01"), byte(2))
	f.Add([]byte("\x00\x02\x03\x02\x03\x02\x03"), byte(2))
	f.Add([]byte("\x01\x00\x04\x05\x06\x00\x02\x03\x07\x00"), byte(3))
	f.Fuzz(func(t *testing.T, script []byte, cut byte) {
		if len(script) > 200 {
			return
		}
		var all, who []string
		call := 0
		for _, b := range script {
			kind := b % 8
			if kind == 3 && (len(who) == 0 || who[len(who)-1] != "call") {
				kind = 0 // the API takes a result only behind its call
			}
			if kind != 3 && len(who) > 0 && who[len(who)-1] == "call" {
				kind = 3
			}
			say := map[byte]string{
				0: `user|"q"`, 1: `assistant|"a"`,
				2: fmt.Sprintf(`call|[{"type":"text","text":"a"},{"type":"tool_use","id":"%d","name":"f","input":{}}]`, call),
				3: fmt.Sprintf(`result|[{"type":"tool_result","tool_use_id":"%d","content":"r"},{"type":"text","text":"and"}]`, call-1),
				4: `user|[{"type":"text","text":"q"}]`, 5: `assistant|[{"type":"server_tool_use","id":"s"},{"type":"web_search_tool_result","tool_use_id":"s"}]`,
				6: `system|"s"`, 7: `summary|[{"type":"compaction","content":"c"}]`,
			}[kind]
			name, content, _ := strings.Cut(say, "|")
			if name == "call" {
				call++
			}
			role := map[string]string{"call": "assistant", "result": "user", "summary": "assistant"}[name]
			if role == "" {
				role = name
			}
			who, all = append(who, name), append(all, `{"role":"`+role+`","content":`+content+`}`)
		}
		r, err := AnthropicMessages{}.ParseRequest([]byte(`{"messages":[` + strings.Join(all, ",") + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		turns := r.Turns()
		if len(turns) != len(all) {
			t.Fatalf("%d turns of %d messages", len(turns), len(all))
		}
		gone := func(i int) bool { return turns[i] != Kept && turns[i] < int32(cut) }
		first, question := -1, -1
		for i := range all {
			if who[i] == "user" {
				question = i
			}
			if first < 0 && !gone(i) && who[i] != "system" && who[i] != "summary" {
				first = i
			}
			if who[i] == "result" && gone(i) != gone(i-1) || gone(i) && (who[i] == "system" || who[i] == "summary" || i == len(all)-1) {
				t.Fatalf("message %d of %v: %v", i, who, turns)
			}
		}
		if question >= 0 && gone(question) {
			t.Fatalf("the question of %v is gone: %v", who, turns)
		}
		dropped := false
		for i := range max(first, 0) {
			dropped = dropped || gone(i)
		}
		if dropped && question >= 0 && who[first] != "user" {
			t.Fatalf("%v begins with message %d: %v", who, first, turns)
		}
	})
}

func TestMessagesTurns(t *testing.T) {
	const (
		q    = `{"role":"user","content":"q"}`
		a    = `{"role":"assistant","content":"a"}`
		call = `{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]}`
		res  = `{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}`
	)
	for _, tt := range []struct {
		name     string
		messages []string
		want     string
	}{
		{"a chat", []string{q, a, q, a, q}, "[1 1 2 2 -1]"},
		{"a greeting", []string{a, q, a, q}, "[0 1 1 -1]"},
		{"a summary", []string{`{"role":"assistant","content":[{"type":"compaction","content":"c"}]}`, q, a, q}, "[-1 1 1 -1]"},
		{"the system in between", []string{q, a, `{"role":"system","content":"s"}`, q}, "[1 1 -1 -1]"},
		{"a tool", []string{q, call, res, a, q}, "[1 1 1 1 -1]"},
		{"an agent", []string{q, call, res, call, res, call, res}, "[-1 2 2 3 3 -1 -1]"},
		{"prefilled", []string{q, a, q, a}, "[1 1 -1 -1]"},
		{"a result without a call", []string{q, a, res, a, q}, "[1 1 1 1 -1]"},
		{"the user calls", []string{q, strings.Replace(call, "assistant", "user", 1), q}, "[]"},
		{"the assistant answers", []string{q, call, strings.Replace(res, "user", "assistant", 1), q}, "[]"},
	} {
		r, err := AnthropicMessages{}.ParseRequest([]byte(`{"messages":[` + strings.Join(tt.messages, ",") + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r.Turns()); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
