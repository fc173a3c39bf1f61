package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// texts joins the pieces of a stream by slot.
func texts(s Stream, events ...string) (map[int]string, Event) {
	out := make(map[int]string)
	var ev Event
	for _, e := range events {
		s.Event([]byte(e), &ev)
		for _, t := range ev.Texts {
			out[t.Slot] += string(t.Bytes)
		}
	}
	return out, ev
}

func newStream(t *testing.T, body string) Stream {
	t.Helper()
	r, err := OpenAIChat{}.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return OpenAIChat{}.NewStream(r)
}

func TestStreamTexts(t *testing.T) {
	s := newStream(t, `{"messages":[],"stream":true,"n":2}`)
	got, _ := texts(s,
		`{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`,
		`{"choices":[{"delta":{"content":"a\u00e9"},"index":0}]}`,
		`{"choices":[{"delta":{"content":"x"},"index":1},{"index":0,"delta":{"content":"b"}}]}`,
		`{"choices":[{"index":0,"delta":{"reasoning_content":"r","reasoning":"r"}}]}`,
		`{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}},{"function":{"arguments":"{"},"index":1}]}}]}`,
		`{"choices":[{"index":1,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}}]}`,
		`not JSON`,
	)
	want := map[int]string{0: "aéb", 1: "x", 2: "r", 3: "f", 4: "{}", MaxSlots - 1: "not JSON"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Text in a shape that is not known is not free, and what is no text costs nothing.
func TestStreamShapes(t *testing.T) {
	for _, tt := range []struct {
		name, event, text string
		extra             int64
	}{
		{"parts", `{"choices":[{"delta":{"content":[{"type":"text","text":"a"},"b"]}}]}`, `ab`, 0},
		{"thinking in parts", `{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}],"closed":true}]}}]}`, `hm`, 0},
		{"parts of another kind", `{"choices":[{"delta":{"content":[{"type":"rhyme","rhyme":"a"}]}}]}`, `"a"`, 0},
		{"parts of another kind beside text", `{"choices":[{"delta":{"content":[{"type":"text","text":"t"},{"type":"rhyme","rhyme":"a"}]}}]}`, `t`, 0},
		{"reasoning after null", `{"choices":[{"delta":{"reasoning_content":null,"reasoning":"r"}}]}`, "r", 0},
		{"reasoning details alone", `{"choices":[{"delta":{"content":"","reasoning_details":[{"type":"reasoning.text","text":"r","signature":"abc","format":"x","index":0}]}}]}`, `r`, 0},
		{"a summary of reasoning", `{"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.summary","summary":"s"}]}}]}`, `s`, 0},
		{"reasoning that is encrypted", `{"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.encrypted","data":"0123456789a"}]}}]}`, ``, 3},
		{"reasoning and its details", `{"choices":[{"delta":{"reasoning":"r","reasoning_details":[{"type":"reasoning.text","text":"r"}]}}]}`, `r`, 0},
		{"text and delta", `{"choices":[{"text":"a","delta":{"content":"a"}}]}`, `a`, 0},
		{"delta and text", `{"choices":[{"delta":{"content":"a"},"text":"a"}]}`, `a`, 0},
		{"text and an empty delta", `{"choices":[{"delta":{"role":"assistant"},"text":"a"}]}`, `a`, 0},
		{"text, message and delta", `{"choices":[{"text":"a","message":{"content":"so far"},"delta":{"content":"b"}}]}`, `b`, 0},
		{"message and an empty delta", `{"choices":[{"message":{"content":"m"},"delta":{}}]}`, `m`, 0},
		{"message and no delta", `{"choices":[{"delta":null,"message":{"content":"m"}}]}`, `m`, 0},
		{"Azure's first chunk", `{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}]}`, ``, 0},
		{"message so far before its piece", `{"choices":[{"message":{"content":"so far"},"delta":{"content":" far"}}]}`, " far", 0},
		{"message so far after its piece", `{"choices":[{"delta":{"content":" far"},"message":{"content":"so far"}}]}`, " far", 0},
		{"nothing in several shapes", `{"choices":[{"delta":{"content":"","reasoning":null,"reasoning_details":[],"tool_calls":[],"audio":null,"images":[],"x":{}},"native_finish_reason":null}],"provider":"p"}`, "", 0},
		{"unknown member", `{"choices":[{"delta":{"monologue":"m"}}]}`, `"m"`, 0},
		{"unknown member beside text", `{"choices":[{"delta":{"content":"c","monologue":"m"}}]}`, "c", 0},
		{"old completions", `{"choices":[{"text":"t"}]}`, "t", 0},
		{"tool calls as an object", `{"choices":[{"delta":{"tool_calls":{"a":1}}}]}`, `{"a":1}`, 0},
		{"a call as a string", `{"choices":[{"delta":{"tool_calls":["t"]}}]}`, `"t"`, 0},
		{"a function as a string", `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":"t"}]}}]}`, `t`, 0},
		{"the former function as a string", `{"choices":[{"delta":{"function_call":"t"}}]}`, `t`, 0},
		{"sound as a string", `{"choices":[{"delta":{"audio":"t"}}]}`, `"t"`, 0},
		{"an unknown member of sound", `{"choices":[{"delta":{"audio":{"id":"x","text":"t"}}}]}`, `"t"`, 0},
		{"images as an object", `{"choices":[{"delta":{"images":{"a":"t"}}}]}`, `{"a":"t"}`, 0},
		{"a number", `{"choices":[{"delta":{"content":4711}}]}`, `4711`, 0},
		{"unknown member beside a running usage", `{"choices":[{"delta":{"monologue":"m"}}],"usage":{"prompt_tokens":1,"completion_tokens":0}}`, `"m"`, 0},
		{"arguments as an object", `{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{"a":1}}}]}}]}`, `{"a":1}`, 0},
		{"no choices", `{"output_text":"t"}`, `{"output_text":"t"}`, 0},
		{"choices as an object", `{"choices":{"0":{"delta":{"content":"t"}}}}`, `{"0":{"delta":{"content":"t"}}}`, 0},
		{"choices as a string", `{"choices":"t"}`, `"t"`, 0},
		{"choices as nothing", `{"choices":null}`, "", 0},
		{"a choice as a string", `{"choices":[null,7,"t"]}`, `"t"`, 0},
		{"a delta as a string", `{"choices":[{"delta":"t"}]}`, `"t"`, 0},
		{"text behind it", `{"choices":[]} t`, `{"choices":[]} t`, 0},
		{"another one behind it", `{"choices":[]}{"choices":[]}`, `{"choices":[]}{"choices":[]}`, 0},
		{"white space behind it", "{\"choices\":[]} \r\n\t", "", 0},
		{"an array", `["t"]`, `["t"]`, 0},
		{"a string", `"t"`, `"t"`, 0},
		{"sound", `{"choices":[{"delta":{"audio":{"id":"x","transcript":"t","data":"` + strings.Repeat("A", 6400) + `"}}}]}`, "t", 3},
		{"an image", `{"choices":[{"delta":{"images":[{"image_url":{"url":"data:,x"}}]}}]}`, "", tokensPerImage},
		{"first chunk", `{"id":"x","object":"o","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"obfuscation":"nX"}`, "", 0},
		{"last chunk", `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","content_filter_results":{"hate":{}}}],"usage":null}`, "", 0},
		{"filter results first", `{"choices":[],"prompt_filter_results":[{"x":{}}]}`, "", 0},
		{"an error", `{"error":{"message":"m"}}`, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ev := texts(newStream(t, `{"messages":[],"stream":true}`), tt.event)
			var all string
			for _, s := range got {
				all += s
			}
			if all != tt.text || ev.Extra != tt.extra {
				t.Errorf("got %q and %d, want %q and %d", all, ev.Extra, tt.text, tt.extra)
			}
		})
	}
}

// A message that repeats what the deltas before it said is paid for already.
func TestStreamMessageSoFar(t *testing.T) {
	for _, first := range []string{
		`{"choices":[{"index":0,"delta":{"content":"a"}}]}`,
		`{"choices":[{"index":0,"delta":{"content":"a","role":null,"x":1.5},"message":{"content":"a"}}]}`,
	} {
		got, _ := texts(newStream(t, `{"messages":[],"stream":true}`), first,
			`{"choices":[{"index":0,"delta":{},"message":{"content":"a"},"finish_reason":"stop"}]}`)
		if len(got) != 1 || got[0] != "a" {
			t.Errorf("%s: %v", first, got)
		}
	}
}

func TestStreamSlotsAreBounded(t *testing.T) {
	s := newStream(t, `{"messages":[],"stream":true}`)
	for i := range 10 * MaxSlots {
		var ev Event
		s.Event(fmt.Appendf(nil, `{"choices":[{"index":%d,"delta":{"content":"x"}}]}`, i), &ev)
		if len(ev.Texts) != 1 || ev.Texts[0].Slot >= MaxSlots {
			t.Fatalf("choice %d: %+v", i, ev.Texts)
		}
	}
}

func TestStreamUsage(t *testing.T) {
	for _, tt := range []struct {
		name, event string
		want        Usage
		only        bool
	}{
		{"last chunk", `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}`,
			Usage{Known: true, UncachedInput: 6, CacheRead: 4, Output: 7, Reasoning: 2}, true},
		{"running", `{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, Usage{Known: true, UncachedInput: 1, Output: 2}, false},
		{"null", `{"choices":[],"usage":null}`, Usage{}, false},
		{"Groq's", `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"queue_time":0.1,"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}}`, Usage{Known: true, UncachedInput: 3, Output: 4}, false},
		{"Groq's first chunk", `{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"x_groq":{"id":"r"}}`, Usage{}, false},
		{"Moonshot's", `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"cached_tokens":2}}]}`, Usage{Known: true, UncachedInput: 3, CacheRead: 2, Output: 4}, false},
		{"DeepSeek's", `{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2,"completion_tokens_details":{"reasoning_tokens":3}}}`,
			Usage{Known: true, UncachedInput: 2, CacheRead: 8, Output: 4, Reasoning: 3}, false},
		{"OpenRouter's", `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,"cost":0.1,"prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":2}}}`,
			Usage{Known: true, UncachedInput: 7, CacheRead: 1, CacheWrite: 2, Output: 4}, true},
		{"LiteLLM's", `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,"cache_creation_input_tokens":2,"cache_read_input_tokens":1,"prompt_tokens_details":{"cached_tokens":1}}}`,
			Usage{Known: true, UncachedInput: 7, CacheRead: 1, CacheWrite: 2, Output: 4}, true},
		{"xAI's", `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":44,"completion_tokens_details":{"reasoning_tokens":30}}}`,
			Usage{Known: true, UncachedInput: 10, Output: 34, Reasoning: 30}, true},
		{"a total that is less", `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":4}}`, Usage{Known: true, UncachedInput: 10, Output: 4}, true},
		{"a total beyond all", `{"choices":[],"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":9223372036854775807,"total_tokens":9223372036854775807}}`,
			Usage{Known: true, UncachedInput: 1<<63 - 1, Output: 1<<63 - 1}, true},
		{"null behind Groq's", `{"choices":[],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}},"usage":null}`, Usage{Known: true, UncachedInput: 3, Output: 4}, true},
		{"empty", `{"choices":[],"usage":{}}`, Usage{}, false},
		{"half", `{"choices":[],"usage":{"prompt_tokens":1}}`, Usage{}, false},
		{"zero is known", `{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, Usage{Known: true}, true},
		{"details beyond the whole", `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9},"completion_tokens_details":{"reasoning_tokens":9}}}`,
			Usage{Known: true, CacheRead: 3, Output: 1, Reasoning: 1}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, ev := texts(newStream(t, `{"messages":[],"stream":true}`), tt.event)
			if ev.Usage != tt.want || ev.UsageOnly != tt.only {
				t.Errorf("got %+v, only %v", ev.Usage, ev.UsageOnly)
			}
		})
	}
}

// The usage of one choice is not that of all.
func TestStreamUsageOfChoices(t *testing.T) {
	const event = `{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop","usage":{"prompt_tokens":1,"completion_tokens":2}}]}`
	for n, want := range map[string]bool{"1": true, "2": false} {
		if _, ev := texts(newStream(t, `{"messages":[],"stream":true,"n":`+n+`}`), event); ev.Usage.Known != want {
			t.Errorf("of %s choices: known is %v", n, ev.Usage.Known)
		}
	}
}

func TestStreamMarks(t *testing.T) {
	s := newStream(t, `{"messages":[],"stream":true}`)
	if _, ev := texts(s, "[DONE]"); !ev.Done {
		t.Error("the end marker is not seen")
	}
	if _, ev := texts(s, `{"error":{"message":"x"}}`); !ev.Failed {
		t.Error("the error is not seen")
	}
	if _, ev := texts(s, `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0},"error":{"message":"x"}}`); !ev.Failed || ev.UsageOnly {
		t.Error("the error beside usage is not for the client")
	}
	if _, ev := texts(s, `{"error":null,"choices":[]}`); ev.Failed {
		t.Error("null is no error")
	}
}

// closing parses closing events the way a client does. Before the reason comes the role that a
// choice begins with.
func closing(t *testing.T, s Stream, u Usage) (reasons map[int]string, usage map[string]int64) {
	t.Helper()
	out := string(s.Close(nil, u))
	events := strings.Split(strings.TrimSuffix(out, "\n\n"), "\n\n")
	if events[len(events)-1] != "data: [DONE]" {
		t.Fatalf("the end marker is not last in %q", out)
	}
	reasons = make(map[int]string)
	for _, e := range events[:len(events)-1] {
		var chunk struct {
			ID, Object, Model string
			Created           int64
			Choices           []struct {
				Index        int
				Delta        map[string]any
				FinishReason string `json:"finish_reason"`
			}
			Usage map[string]int64
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(e, "data: ")), &chunk); err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		if chunk.ID != "id1" || chunk.Model != "gpt-4o" || chunk.Created != 5 || chunk.Object != "chat.completion.chunk" {
			t.Errorf("the chunk's head is not the stream's: %+v", chunk)
		}
		for _, c := range chunk.Choices {
			if role, ok := c.Delta["role"].(string); ok && c.Delta["content"] == "" && len(c.Delta) == 2 {
				reasons[c.Index] += role + " "
			} else if len(c.Delta) != 0 {
				t.Errorf("delta is %v", c.Delta)
			}
			reasons[c.Index] += c.FinishReason
		}
		if chunk.Usage != nil {
			usage = chunk.Usage
		}
	}
	return reasons, usage
}

func TestClose(t *testing.T) {
	s := newStream(t, `{"messages":[],"stream":true,"n":4,"stream_options":{"include_usage":true}}`)
	texts(s, `{"id":"id1","created":5,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"x"}},{"index":1,"delta":{},"finish_reason":"stop"}]}`)
	s.Forwarded()
	texts(s, `{"choices":[{"index":3,"delta":{"content":"x"}}]}`) // a usual one
	s.Forwarded()
	texts(s, `{"choices":[{"index":2,"delta":{"content":"x"},"finish_reason":"stop"}]}`) // read, but not forwarded
	reasons, usage := closing(t, s, Usage{Known: true, UncachedInput: 4, Output: 6})
	if fmt.Sprint(reasons) != "map[0:length 2:assistant length 3:length]" {
		t.Errorf("finish reasons: %v", reasons)
	}
	if fmt.Sprint(usage) != "map[completion_tokens:6 prompt_tokens:4 total_tokens:10]" {
		t.Errorf("usage: %v", usage)
	}

	s = newStream(t, `{"messages":[],"stream":true,"best_of":3}`)
	texts(s, `{"id":"id1","created":5,"model":"gpt-4o","choices":[]}`)
	reasons, usage = closing(t, s, Usage{Known: true})
	if fmt.Sprint(reasons) != "map[0:assistant length]" || usage != nil {
		t.Errorf("finish reasons %v, usage %v", reasons, usage)
	}
}

func TestParseAnswer(t *testing.T) {
	var got []string
	u, err := OpenAIChat{}.ParseAnswer([]byte(`{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`),
		func(b []byte) { got = append(got, string(b)) })
	if err != nil || !u.Known || u.Output != 2 || fmt.Sprint(got) != "[hi f {}]" {
		t.Errorf("got %q, %+v, %v", got, u, err)
	}
	if u, err := (OpenAIChat{}).ParseAnswer([]byte(`{"choices":`), func([]byte) {}); err == nil || u.Known {
		t.Errorf("half an answer gives %+v, %v", u, err)
	}
	for _, tt := range []struct {
		in     string
		failed bool
	}{
		{`{"error":{"message":"m"}}`, true}, {`{"error":"m","choices":[]}`, true}, {`{"error":null}`, false}, {`{"choices":[]}`, false},
		{`{"error":{},"choices":[{"message":{"content":"t"}}]}`, false}, {`{"error":{},"usage":{"prompt_tokens":1,"completion_tokens":2}}`, false},
	} {
		if _, err := (OpenAIChat{}).ParseAnswer([]byte(tt.in), func([]byte) {}); errors.Is(err, ErrFailed) != tt.failed {
			t.Errorf("%s: error %v", tt.in, err)
		}
	}
	// What is no text is not free where nothing is reported.
	for in, extra := range map[string]int64{
		`{"choices":[{"message":{"content":"t","audio":{"data":"` + strings.Repeat("A", 3*bytesPerAudioToken) + `","transcript":"t"}}}]}`: 4,
		`{"choices":[{"message":{"content":"t","images":[{}]}}]}`:                                                                         tokensPerImage,
		`{"choices":[{"message":{"content":"t","reasoning_details":[{"type":"reasoning.encrypted","data":"0123456789"}]}}]}`:              2,
	} {
		if u, err := (OpenAIChat{}).ParseAnswer([]byte(in), func([]byte) {}); err != nil || u.Known || u.Extra != extra {
			t.Errorf("%.80s: %+v, %v", in, u, err)
		}
	}
	if u, err := (OpenAIChat{}).ParseAnswer([]byte(`{"usage":{"prompt_tokens":1,"completion_tokens":2}} {}`), func([]byte) {}); err == nil || u.Known {
		t.Errorf("two answers give %+v, %v", u, err)
	}
	// Nothing stays of an answer that broke off in a deep place.
	for range 3 {
		_, _ = OpenAIChat{}.ParseAnswer([]byte(`{"choices":[{"message":{"content":[[[{"a":`), func([]byte) {})
		if u, err := (OpenAIChat{}).ParseAnswer([]byte(`{"usage":{"prompt_tokens":3,"completion_tokens":4}}`), func([]byte) {}); err != nil || u.Output != 4 {
			t.Errorf("after half an answer: %+v, %v", u, err)
		}
	}
}

func TestRefuse(t *testing.T) {
	var body struct {
		Error struct {
			Message, Type string
			Param, Code   any
		}
	}
	if err := json.Unmarshal(OpenAIChat{}.Refuse(429, `a "quoted" message`), &body); err != nil {
		t.Fatal(err)
	}
	if e := body.Error; e.Message != `a "quoted" message` || e.Type != "insufficient_quota" || e.Code != "budget_exceeded" || e.Param != nil {
		t.Errorf("%+v", e)
	}
}

func TestEventDoesNotAllocate(t *testing.T) {
	s := newStream(t, `{"messages":[],"stream":true}`)
	data := []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1755137933,"model":"gpt-5-nano","choices":[{"index":0,"delta":{"content":"caf\u00e9 au lait"},"finish_reason":null}],"obfuscation":"nX"}`)
	var ev Event
	s.Event(data, &ev)
	if n := testing.AllocsPerRun(100, func() { s.Event(data, &ev) }); n != 0 {
		t.Errorf("%v allocations for an event", n)
	}
	if len(ev.Texts) != 1 || string(ev.Texts[0].Bytes) != "café au lait" {
		t.Errorf("%+v", ev.Texts)
	}
}

// FuzzEvent: whatever an upstream sends, reading it does not panic, and closing
// the stream then gives events which are JSON.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}]}`))
	f.Add([]byte(`{"id":{"a":[1,2]},"created":"x","choices":[{"index":1e9,"delta":{"tool_calls":[{"index":-1,"function":{}}]}}],"usage":{"prompt_tokens":-1,"completion_tokens":1e99}}`))
	f.Add([]byte(`[DONE]`))
	f.Add([]byte(`{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"text":"a"}]},[["b"]],{"data":"AAAA"}]},"text":"c","usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":9}}],"x_groq":{"usage":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		RejectsStreamOptions(data)
		for _, api := range []API{OpenAIChat{}, OpenAICompletions{}} {
			r, err := api.ParseRequest([]byte(`{"messages":[],"prompt":["a","b"],"stream":true}`))
			if err != nil {
				t.Fatal(err)
			}
			s := api.NewStream(r)
			var ev Event
			for range 2 {
				s.Event(data, &ev)
				for _, x := range ev.Texts {
					if x.Slot < 0 || x.Slot >= MaxSlots {
						t.Fatalf("slot %d", x.Slot)
					}
				}
				if u := ev.Usage; u.UncachedInput < 0 || u.CacheRead < 0 || u.CacheWrite < 0 || u.Output < 0 || u.Reasoning > u.Output || ev.Extra < 0 {
					t.Fatalf("%+v", u)
				}
				s.Forwarded()
			}
			for e := range strings.SplitSeq(strings.TrimSuffix(string(s.Close(nil, Usage{})), "\n\n"), "\n\n") {
				if data := strings.TrimPrefix(e, "data: "); data != "[DONE]" && !json.Valid([]byte(data)) {
					t.Fatalf("closing event %q", e)
				}
			}
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	r, err := OpenAIChat{}.ParseRequest([]byte(`{"messages":[],"stream":true}`))
	if err != nil {
		b.Fatal(err)
	}
	s := OpenAIChat{}.NewStream(r)
	data := []byte(`{"id":"chatcmpl-C4HqHBe4xca0k0EzsCnf1t6V3YFXp","object":"chat.completion.chunk","created":1755137933,"model":"gpt-5-nano-2025-08-07","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":null}],"obfuscation":"LcdzdJdMMgDHt6"}`)
	var ev Event
	b.ReportAllocs()
	for b.Loop() {
		s.Event(data, &ev)
	}
}
