package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const messagesStart = `{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":4,"cache_read_input_tokens":3,"output_tokens":1}}}`

func newMessages(t testing.TB, body string) *messagesStream {
	t.Helper()
	r, err := AnthropicMessages{}.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return AnthropicMessages{}.NewStream(r).(*messagesStream)
}

func TestMessagesTexts(t *testing.T) {
	s := newMessages(t, `{"messages":[],"stream":true}`)
	got, _ := texts(s, messagesStart,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm\u00e9"}}`,
		`{"delta":{"signature":"c2ln","type":"signature_delta"},"index":0,"type":"content_block_delta"}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"a"}}`,
		`{"delta":{"text":"b","type":"text_delta"},"index":1,"type":"content_block_delta"}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}`,
		`{"type":"ping"}`,
		`not JSON`,
	)
	want := map[int]string{0: "hmé", 1: "ab", 2: "f", 3: `{"a":1}`, MaxSlots - 1: "not JSON"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Text in a shape that is not known is not free, and what is no text of the model costs
// nothing.
func TestMessagesShapes(t *testing.T) {
	hidden := strings.Repeat("A", 1600)
	for _, tt := range []struct {
		name, event, text string
		extra             int64
	}{
		{"start of a message", messagesStart, "", 0},
		{"start with content", `{"type":"message_start","message":{"content":[{"type":"text","text":"a"}],"usage":{"output_tokens":1}}}`, "a", 0},
		{"ping", `{"type": "ping"}     `, "", 0},
		{"end", `{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":1}}`, "", 0},
		{"stop", `{"type":"content_block_stop","index":0  }`, "", 0},
		{"usage", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":"x","stop_details":{"a":"b"},"container":{"id":"c"}},"usage":{"output_tokens":3},"context_management":{"applied_edits":[{}]}}`, "", 0},
		{"citation", `{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"x"}}}`, "", 0},
		{"signature", `{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"` + hidden + `"}}`, "", 0},
		{"redacted thinking", `{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"` + hidden + `"}}`, "", 301},
		{"a search's result", `{"type":"content_block_start","index":0,"content_block":{"type":"web_search_tool_result","tool_use_id":"x","content":[{"encrypted_content":"` + hidden + `"}]}}`, "", 305},
		{"a search", `{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"x","name":"web_search","input":{}}}`, "web_search", 0},
		{"a call", `{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"x","name":"f","input":{}}}`, "f", tokensPerCall},
		{"a call with its input", `{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"x","name":"f","input":{"a":1}}}`, `f{"a":1}`, tokensPerCall},
		{"compaction", `{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta","content":"sum"}}`, "sum", 0},
		{"unknown event", `{"type":"message_aside","text":"t"}`, `{"type":"message_aside","text":"t"}`, 0},
		{"no type", `{"delta":{"text":"t"}}`, "t", 0},
		{"another API", `{"choices":[{"delta":{"content":"t"}}]}`, `{"choices":[{"delta":{"content":"t"}}]}`, 0},
		{"unknown delta", `{"type":"content_block_delta","index":0,"delta":{"type":"aside_delta","aside":"t"}}`, `"t"`, 0},
		{"unknown delta beside text", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"c","aside":"t"}}`, "c", 0},
		{"unknown block", `{"type":"content_block_start","index":0,"content_block":{"type":"aside","aside":"t"}}`, `"t"`, 0},
		{"text that is none", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":["t"]}}`, `["t"]`, 0},
		{"a block that is none", `{"type":"content_block_start","index":0,"content_block":"t"}`, "t", 0},
		{"more behind it", `{"type":"ping"} t`, `{"type":"ping"} t`, 0},
		{"an array", `["t"]`, `["t"]`, 0},
		{"an error", `{"type":"error","error":{"type":"overloaded_error","message":"m"}}`, "", 0},
		{"nothing", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}`, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMessages(t, `{"messages":[],"stream":true}`)
			var ev Event
			s.Event([]byte(tt.event), &ev)
			var all string
			for _, x := range ev.Texts {
				all += string(x.Bytes)
			}
			if all != tt.text || ev.Extra != tt.extra || ev.UsageOnly {
				t.Errorf("got %q and %d (usage only: %v), want %q and %d", all, ev.Extra, ev.UsageOnly, tt.text, tt.extra)
			}
		})
	}
}

func TestMessagesSlotsAreBounded(t *testing.T) {
	s := newMessages(t, `{"messages":[],"stream":true}`)
	for i := range 10 * MaxSlots {
		var ev Event
		s.Event(fmt.Appendf(nil, `{"type":"content_block_start","index":%d,"content_block":{"type":"text","text":"x"}}`, i), &ev)
		s.Forwarded()
		if len(ev.Texts) != 1 || ev.Texts[0].Slot >= MaxSlots || len(s.open) > maxOpen {
			t.Fatalf("block %d: %+v, %d open", i, ev.Texts, len(s.open))
		}
	}
}

func TestMessagesUsage(t *testing.T) {
	delta := func(usage string) string {
		return `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":` + usage + `}`
	}
	for _, tt := range []struct {
		name   string
		events []string
		want   Usage
	}{
		{"start", []string{messagesStart}, Usage{Known: true, UncachedInput: 10, CacheRead: 3, CacheWrite: 4, Output: 1}},
		{"output alone", []string{messagesStart, delta(`{"output_tokens":9}`)}, Usage{Known: true, UncachedInput: 10, CacheRead: 3, CacheWrite: 4, Output: 9}},
		{"all again", []string{messagesStart, delta(`{"output_tokens":9,"input_tokens":20,"cache_read_input_tokens":0,"cache_creation_input_tokens":null}`)},
			Usage{Known: true, UncachedInput: 20, CacheWrite: 4, Output: 9}},
		{"null", []string{messagesStart, delta(`null`)}, Usage{}},
		{"null figures", []string{delta(`{"output_tokens":null,"input_tokens":7}`)}, Usage{}},
		{"no input", []string{delta(`{"output_tokens":3}`)}, Usage{Known: true, Output: 3}},
		{"zero is known", []string{delta(`{"output_tokens":0,"input_tokens":0}`)}, Usage{Known: true}},
		{"negative and absurd", []string{delta(`{"output_tokens":-3,"input_tokens":1e300}`)}, Usage{Known: true, UncachedInput: maxTokensReported}},
		{"thinking", []string{delta(`{"output_tokens":9,"output_tokens_details":{"thinking_tokens":20}}`)}, Usage{Known: true, Output: 9, Reasoning: 9}},
		{"summary of thinking", []string{`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}`, delta(`{"output_tokens":9}`)},
			Usage{Known: true, Output: 9, Unseen: true}},
		{"summary of reported thinking", []string{`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}`, delta(`{"output_tokens":9,"output_tokens_details":{"thinking_tokens":2}}`)},
			Usage{Known: true, Output: 9, Reasoning: 2}},
		{"a compaction comes on top", []string{messagesStart, delta(`{"input_tokens":5,"output_tokens":9,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"iterations":[` +
			`{"type":"compaction","input_tokens":100,"output_tokens":83,"cache_read_input_tokens":1000,"cache_creation_input_tokens":2},` +
			`{"input_tokens":5,"output_tokens":9,"type":"message"},{"type":"fallback_message","output_tokens":1}]}`)},
			Usage{Known: true, UncachedInput: 105, CacheRead: 1000, CacheWrite: 2, Output: 92, Unseen: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, ev := texts(newMessages(t, `{"messages":[],"stream":true}`), tt.events...); ev.Usage != tt.want {
				t.Errorf("got %+v, want %+v", ev.Usage, tt.want)
			}
		})
	}
}

func TestMessagesMarks(t *testing.T) {
	s := newMessages(t, `{"messages":[],"stream":true}`)
	if _, ev := texts(s, `{"type":"message_stop"}`); !ev.Done {
		t.Error("the end is not seen")
	}
	if _, ev := texts(s, `[DONE]`); !ev.Done || len(ev.Texts) > 0 {
		t.Error("OpenAI's end is not seen")
	}
	if _, ev := texts(s, `{"type":"error","error":{"message":"x"}}`); !ev.Failed {
		t.Error("the error is not seen")
	}
	if _, ev := texts(s, `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}`); !ev.Reasoning {
		t.Error("reasoning is not seen")
	}
}

// closedBy is what closing events say, as the types of them and the stop_reason.
func closedBy(t *testing.T, s Stream, u Usage) string {
	t.Helper()
	var said []string
	for e := range strings.SplitSeq(strings.TrimSuffix(string(s.Close(nil, u)), "\n\n"), "\n\n") {
		if e == "" {
			continue
		}
		var ev struct {
			Type    string
			Index   *int
			Message *struct {
				Model   string
				Content []any
				Usage   map[string]int64
			}
			Delta struct {
				StopReason *string `json:"stop_reason"`
			}
			Usage map[string]int64
		}
		name, data, ok := strings.Cut(e, "\ndata: ")
		if err := json.Unmarshal([]byte(data), &ev); err != nil || !ok || name != "event: "+ev.Type {
			t.Fatalf("%q: %v", e, err)
		}
		word := ev.Type
		if ev.Index != nil {
			word += fmt.Sprint(*ev.Index)
		}
		if ev.Message != nil {
			word += fmt.Sprint(ev.Message.Model, ev.Message.Content, ev.Message.Usage)
		}
		if ev.Delta.StopReason != nil {
			word += fmt.Sprint(" ", *ev.Delta.StopReason, ev.Usage)
		}
		said = append(said, word)
	}
	return strings.Join(said, ", ")
}

func TestMessagesClose(t *testing.T) {
	const (
		begin    = `{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`
		tool     = `{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}`
		piece    = `{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}`
		stop     = `{"type":"content_block_stop","index":1}`
		toolStop = `{"type":"content_block_stop","index":2}`
		ends     = `{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}`
		usage    = `{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":9}}`
		end      = "message_delta max_tokensmap[output_tokens:6], message_stop"
	)
	for _, tt := range []struct {
		name   string
		events []string
		last   string // read, but not forwarded
		want   string
		inTool bool
		ended  bool
	}{
		{"nothing has come", nil, "", `message_startclaude-"x"[] map[input_tokens:4 output_tokens:0], ` + end, false, false},
		{"a ping has come", []string{`{"type":"ping"}`}, messagesStart, `message_startclaude-"x"[] map[input_tokens:4 output_tokens:0], ` + end, false, false},
		{"before a block", []string{messagesStart}, begin, end, false, false},
		{"in a block", []string{messagesStart, begin, piece}, piece, "content_block_stop1, " + end, false, false},
		{"its end was not forwarded", []string{messagesStart, begin, piece}, stop, "content_block_stop1, " + end, false, false},
		{"between blocks", []string{messagesStart, begin, piece, stop}, begin, end, false, false},
		{"before a tool", []string{messagesStart, begin, piece, stop}, tool, end, true, false},
		{"in a tool", []string{messagesStart, begin, stop, tool}, piece, "content_block_stop2, " + end, true, false},
		{"behind a tool", []string{messagesStart, tool, toolStop}, ends, end, false, false},
		{"two are open", []string{messagesStart, begin, tool, begin}, "", "content_block_stop1, content_block_stop2, " + end, true, false},
		{"usage on the way", []string{messagesStart, begin, usage}, "", "content_block_stop1, " + end, false, false},
		{"it has stopped", []string{messagesStart, begin, stop, ends}, "", "message_stop", false, true},
		{"it has ended", []string{messagesStart, begin, stop, ends, `{"type":"message_stop"}`}, begin, "", false, true},
		{"what is not understood", []string{messagesStart, begin, "?"}, "?", "content_block_stop1, " + end, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMessages(t, `{"model":"claude-\"x\"","messages":[],"stream":true}`)
			var ev Event
			for _, e := range tt.events {
				s.Event([]byte(e), &ev)
				s.Forwarded()
			}
			if tt.last != "" {
				s.Event([]byte(tt.last), &ev)
			}
			if got := closedBy(t, s, Usage{Known: true, UncachedInput: 4, Output: 6}); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if s.InTool() != tt.inTool || s.Ended() != tt.ended {
				t.Errorf("in a tool: %v, ended: %v", s.InTool(), s.Ended())
			}
		})
	}
}

func TestMessagesAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, body, texts string
		want              Usage
	}{
		{"text", `{"id":"x","content":[{"type":"text","text":"hi","citations":[{"cited_text":"no"}]}],"stop_reason":"end_turn","usage":{"input_tokens":15,"cache_creation_input_tokens":13,"cache_read_input_tokens":12,"output_tokens":21}}`,
			"[hi]", Usage{Known: true, UncachedInput: 15, CacheWrite: 13, CacheRead: 12, Output: 21}},
		{"a tool", `{"content":[{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"usage":{"input_tokens":1,"output_tokens":2}}`,
			`[f {"a":1}]`, Usage{Known: true, UncachedInput: 1, Output: 2, Unseen: true}},
		{"thinking", `{"content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"eA=="}],"usage":{"input_tokens":1,"output_tokens":2}}`,
			`[hm "eA=="]`, Usage{Known: true, UncachedInput: 1, Output: 2, Unseen: true}},
		{"no usage", `{"content":[{"type":"text","text":"hi"}]}`, "[hi]", Usage{}},
		{"no usage, and a block that is not known", `{"content":[{"type":"text","text":"hi","new":"no"},{"type":"new","said":"so"}]}`, `[hi "so"]`, Usage{}},
		{"usage, and one", `{"content":[{"type":"text","text":"hi"},{"type":"new","said":"so"}],"usage":{"input_tokens":1,"output_tokens":2}}`, "[hi]", Usage{Known: true, UncachedInput: 1, Output: 2}},
		{"nothing else", `{"content":[{"type":"new","said":"so"}]}`, "[]", Usage{}},
		{"null usage", `{"content":[],"usage":null}`, "[]", Usage{}},
		{"half a usage", `{"content":[],"usage":{"input_tokens":3}}`, "[]", Usage{}},
	} {
		var got []string
		u, err := AnthropicMessages{}.ParseAnswer([]byte(tt.body), func(b []byte) { got = append(got, string(b)) })
		if err != nil || u != tt.want || fmt.Sprint(got) != tt.texts {
			t.Errorf("%s: got %q, %+v, %v", tt.name, got, u, err)
		}
	}
	for body, failed := range map[string]bool{
		`{"type":"error","error":{"type":"overloaded_error","message":"m"}}`:     true,
		`{"type":"message","error":null,"content":[]}`:                           false,
		`{"error":{},"content":[{"type":"text","text":"t"}]}`:                    false,
		`{"error":{},"content":[],"usage":{"input_tokens":1,"output_tokens":2}}`: false,
	} {
		if _, err := (AnthropicMessages{}).ParseAnswer([]byte(body), func([]byte) {}); errors.Is(err, ErrFailed) != failed {
			t.Errorf("%s: error %v", body, err)
		}
	}
	if u, err := (AnthropicMessages{}).ParseAnswer([]byte(`{"usage":{"output_tokens":1}} {}`), func([]byte) {}); err == nil || u.Known {
		t.Errorf("two answers give %+v, %v", u, err)
	}
	for range 3 {
		if u, err := (AnthropicMessages{}).ParseAnswer([]byte(`{"usage":{"output_tokens":1},"content":[[[{"a":`), func([]byte) {}); err == nil || u.Known {
			t.Errorf("half an answer gives %+v, %v", u, err)
		}
	}
}

func TestMessagesRefuse(t *testing.T) {
	for status, want := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
		415: "invalid_request_error", 429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error",
	} {
		var body struct {
			Type  string
			Error struct{ Type, Message string }
		}
		if err := json.Unmarshal(AnthropicMessages{}.Refuse(status, `a "quoted" message`), &body); err != nil {
			t.Fatal(err)
		}
		if body.Type != "error" || body.Error.Type != want || body.Error.Message != `a "quoted" message` {
			t.Errorf("%d: %+v", status, body)
		}
	}
}

func TestMessagesEventDoesNotAllocate(t *testing.T) {
	s := newMessages(t, `{"messages":[],"stream":true}`)
	var ev Event
	for _, data := range []string{
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"caf\u00e9 au lait"}    }`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}`,
	} {
		s.Event([]byte(data), &ev)
		event := []byte(data)
		if n := testing.AllocsPerRun(100, func() { s.Event(event, &ev); s.Forwarded() }); n != 0 {
			t.Errorf("%v allocations for %s", n, data)
		}
	}
}

// FuzzMessagesEvent: whatever an upstream sends, reading it does not panic, what is not
// understood is not free, and closing the stream then gives events which are JSON.
func FuzzMessagesEvent(f *testing.F) {
	f.Add([]byte(messagesStart), []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`))
	f.Add([]byte(`{"type":"content_block_start","index":1e99,"content_block":{"type":"tool_use","name":"f","input":{"a":[]}}}`), []byte(`{"type":"content_block_stop","index":-1}`))
	f.Add([]byte(`{"type":"message_delta","delta":{"stop_reason":"x"},"usage":{"output_tokens":1e99,"iterations":[{"type":"compaction","output_tokens":1e99},{"output_tokens":1e99}]}}`), []byte(`{"type":"message_stop"}`))
	f.Add([]byte(`[DONE]`), []byte(`{"error":{}}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := newMessages(t, `{"messages":[],"stream":true}`)
		var ev Event
		for _, data := range [][]byte{first, second, first} {
			s.Event(data, &ev)
			for _, x := range ev.Texts {
				if x.Slot < 0 || x.Slot >= MaxSlots {
					t.Fatalf("slot %d", x.Slot)
				}
			}
			u := ev.Usage
			if u.UncachedInput < 0 || u.CacheRead < 0 || u.CacheWrite < 0 || u.Input() < 0 || u.Output < 0 || u.Reasoning > u.Output || ev.Extra < 0 {
				t.Fatalf("%+v", u)
			}
			if !json.Valid(data) && len(data) > 0 && string(data) != "[DONE]" && len(ev.Texts) == 0 {
				t.Fatalf("%q is free", data)
			}
			s.Forwarded()
		}
		closedBy(t, s, Usage{Output: 1})
	})
}
