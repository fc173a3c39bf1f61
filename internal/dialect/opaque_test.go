package dialect

import (
	"strings"
	"testing"
)

func TestOpaque(t *testing.T) {
	for _, tt := range []struct {
		body string
		want bool
	}{
		{`{"messages":[]}`, false},
		{`{"messages":[{"role":"user","content":"image_url"}]}`, false},
		{`{"messages":[{"role":"user","content":"a","name":"b"}],"user":"c","metadata":{"d":"e"}}`, false},
		{`{"messages":[{"role":"assistant","content":null,"refusal":"a","tool_calls":[{}],"function_call":{"name":"f"}},{"tool_call_id":"1"}]}`, false},
		{`{"messages":[{"role":"assistant","content":"a","reasoning_content":"b"}]}`, true},
		{`{"messages":[{"role":"assistant","content":"a","reasoning_content":"","x":null,"y":false,"z":[]}]}`, false},
		{`{"messages":[{"content":[{"type":"text","text":"a","x":"b"}]}]}`, true},
		{`{"messages":[{"content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}`, false},
		{`{"messages":[],"documents":["a"]}`, true},
		{`{"messages":[],"prompt":"a"}`, true},
		{`{"messages":[],"chat_template_kwargs":{"a":true}}`, true},
		{`{"messages":[],"documents":null,"chat_template_kwargs":{}}`, false},
		{`{"messages":["image_url"],"image_url":1}`, false},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"tools":[{"type":"function"}]}`, false},
		{`{"messages":[{"content":[{"type":"text","text":"a"},{"image_url":{}}]},{"content":"b"}]}`, true},
		{`{"messages":[{"content":[{"input_audio":{}}]}]}`, true},
		{`{"messages":[{"content":[{"video_url":{}}]}]}`, true},
		{`{"messages":[{"content":[{"file":{}}]}]}`, true},
		{`{"messages":[{"role":"assistant","audio":{"id":"a"}}]}`, true},
		{`{"messages":[{"role":"assistant","audio":null,"content":"a"}]}`, false},
		{`{"messages":[],"web_search_options":{}}`, true},
		{`{"messages":[],"tools":[{"type":"custom"},{"function":{"name":"f"}},"x"]}`, false},
		{`{"messages":[],"tools":[{"type":"function"},{"type":"web_search"}]}`, true},
		{`{"messages":[],"data_sources":[{"type":"azure_search"}]}`, true},
		{`{"messages":[],"plugins":[{"id":"web"}]}`, true},
		{`{"messages":[],"search_parameters":{"mode":"on"}}`, true},
		{`{"messages":[],"data_sources":null}`, false},
		{`{"messages":[],"tools":null}`, false},
		{`{"messages":[],"web_search_options":null}`, false},
	} {
		r, err := OpenAIChat{}.ParseRequest([]byte(tt.body))
		if err != nil {
			t.Fatalf("%s: %v", tt.body, err)
		}
		if r.Opaque() != tt.want {
			t.Errorf("%s: opaque is %v", tt.body, r.Opaque())
		}
	}
}

// What providers look up by themselves is held for.
func TestSearches(t *testing.T) {
	for body, want := range map[string]int64{
		`{"messages":[]}`: 0,
		`{"messages":[],"tools":[{"type":"function"},{"type":"web_search"},{"type":"code_interpreter"}]}`: 2,
		`{"messages":[],"data_sources":[{"type":"azure_search"}],"plugins":[{"id":"web"}]}`:               2,
		`{"messages":[],"search_parameters":null}`:                                                        0,
		`{"messages":[],"web_search_options":{}}`:                                                         0,
		`{"messages":[],"tools":[` + strings.Repeat(`{"type":"x"},`, 99) + `{"type":"x"}]}`:               16,
	} {
		r, err := OpenAIChat{}.ParseRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if n := r.Rest("gpt-4o", func([]byte) {}) / tokensPerSearch; n != want {
			t.Errorf("%.60s: %d searches, want %d", body, n, want)
		}
	}
}

func TestEventReasoning(t *testing.T) {
	s := OpenAIChat{}.NewStream(&Request{})
	var ev Event
	for _, tt := range []struct {
		data string
		want bool
	}{
		{`{"choices":[{"delta":{"content":"a"}}]}`, false},
		{`{"choices":[{"delta":{"reasoning":"a"}}]}`, true},
		{`{"choices":[{"delta":{"content":"a"}}]}`, false},
		{`{"choices":[{"delta":{"reasoning":"a","reasoning_details":[{"text":"a"}],"content":"b"}}]}`, true},
		{`{"choices":[{"delta":{"reasoning":"","content":"b"}}]}`, false},
	} {
		if s.Event([]byte(tt.data), &ev); ev.Reasoning != tt.want {
			t.Errorf("%s: reasoning is %v", tt.data, ev.Reasoning)
		}
	}
}
