package dialect

import (
	"strings"
	"testing"
)

// TestMessageExtra: what the format adds to the texts of a message. The cookbook's
// figures are checked against published counts, in internal/count.
func TestMessageExtra(t *testing.T) {
	const call = `{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}`
	for _, tt := range []struct {
		name, message  string
		texts          string
		cookbook, gpt5 int64 // tokens besides the texts
	}{
		{"user", `{"role":"user","content":"hi"}`, "user hi", 3, 3},
		{"answer", `{"role":"assistant","content":"hi"}`, "assistant hi", 3, 5},
		{"call", `{"role":"assistant","content":null,"tool_calls":[` + call + `]}`, "assistant f {}", 3 + 3, 12 - 1},
		{"call and answer", `{"role":"assistant","content":"hi","tool_calls":[` + call + `]}`, "assistant hi f {}", 3 + 3, 5 + 12},
		{"calls", `{"role":"assistant","tool_calls":[` + call + `,` + call + `]}`, "assistant f {} f {}", 3 + 2*3 + 19 + 2*5, 2*12 - 1},
		{"result", `{"role":"tool","tool_call_id":"1","content":"r"}`, "tool r", 3 + 2, 3 + 2 + 6},
		{"result of a function", `{"role":"function","name":"f","content":"r"}`, "function f r", 3 + 1 - 2, 3 + 1 + 2 + 6},
		{"earlier sound", `{"role":"assistant","audio":{"id":"a"}}`, "assistant", 103, 105},
		{"a file", `{"role":"user","content":[{"type":"file","file":{"file_id":"x"}}]}`, "user", 6003, 6003},
		{"a longer file", `{"role":"user","content":[{"type":"file","file":{"file_data":"` + strings.Repeat("A", 120_000/3*4) + `"}}]}`, "user", 4503, 4503},
		{"low detail", `{"role":"user","content":[{"image_url":{"url":"https://example.com","detail":"low"}}]}`, "user", 88, 73},
		{"an image", `{"role":"user","content":[{"image_url":"https://example.com"}]}`, "user", 768, 633},
	} {
		for model, want := range map[string]int64{"gpt-4": tt.cookbook, "gpt-5": tt.gpt5} {
			r, err := OpenAIChat{}.ParseRequest([]byte(`{"messages":[` + tt.message + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			got := r.Message(0, model, func(b []byte) { texts = append(texts, string(b)) })
			if s := strings.Join(texts, " "); s != tt.texts || got != want {
				t.Errorf("%s, %s: %q and %d tokens, want %q and %d", tt.name, model, s, got, tt.texts, want)
			}
		}
	}
}

// TestPreface: the upstreams of gpt-oss put a system message of their own in front.
func TestPreface(t *testing.T) {
	const tool = `,"tools":[{"function":{"name":"f"}}]}`
	for _, tt := range []struct {
		name, body string
		want       []string
		extra      int64
	}{
		{"plain", `{"messages":[]}`, []string{harmonyPreface}, 2 + 4},
		{"instructions", `{"messages":[{"role":"system","content":"s"}]}`, []string{harmonyPreface, harmonyInstructions}, 2 + 4},
		{"tools", `{"messages":[]` + tool, []string{harmonyToolsPreface, harmonyTools}, 2 + 4 + 4},
		{"both", `{"messages":[{"role":"developer","content":"s"}]` + tool, []string{harmonyToolsPreface, harmonyTools, harmonyInstructions}, 2 + 4},
	} {
		text, extra := rest(t, tt.body, "openai/gpt-oss-120b")
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing", tt.name, want)
			}
		}
		if extra != tt.extra {
			t.Errorf("%s: %d tokens, want %d", tt.name, extra, tt.extra)
		}
	}
	if text, _ := rest(t, `{"messages":[]}`, "gpt-5"); text != "" {
		t.Errorf("gpt-5 has %q", text)
	}
}

// TestAllocs: a message costs no allocation, apart from the first of a request.
func TestAllocs(t *testing.T) {
	r, err := OpenAIChat{}.ParseRequest([]byte(`{"messages":[{"role":"user","content":"a\nb"},{"role":"user","content":"c\nd"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	add := func(b []byte) { n += len(b) }
	if got := testing.AllocsPerRun(100, func() { r.Message(0, "gpt-4o", add); r.Message(1, "gpt-4o", add) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}
