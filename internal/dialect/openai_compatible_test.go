package dialect

import (
	"strings"
	"testing"
)

// TestCompatibleServers: a short stream of each server with a compatible API, after its
// documentation. docs/apis.md has them as a table.
func TestCompatibleServers(t *testing.T) {
	for _, tt := range []struct {
		server, events string
		text           string // all of it, reasoning first
		reasoning      bool   // some of it is
		calls          int    // that need room
		usage          Usage
	}{
		{"vLLM", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0}}
{"id":"c","choices":[{"index":0,"delta":{"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}}
{"id":"c","choices":[{"index":0,"delta":{"content":"yes"},"logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null}],"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2}}
{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"id":"t","type":"function","index":0,"function":{"name":"f"}}]}}]}
{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3}}
{"id":"c","choices":[],"usage":{"prompt_tokens":9,"total_tokens":13,"completion_tokens":4}}`,
			"hmyesf{}", true, 1, Usage{Known: true, UncachedInput: 9, Output: 4}},
		{"Ollama", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"hm"},"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"yes"},"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"id":"t","index":0,"type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"tool_calls"}]}
{"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}`,
			`hmyesf{"a":1}`, true, 0, Usage{Known: true, UncachedInput: 9, Output: 4}},
		{"OpenRouter", `{"id":"c","provider":"p","model":"m","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm","format":"unknown","index":0}]},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}
{"id":"c","provider":"p","choices":[{"index":0,"delta":{"role":"assistant","content":"yes"},"finish_reason":"stop","native_finish_reason":"stop","logprobs":null}]}
{"id":"c","provider":"p","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null,"native_finish_reason":null,"logprobs":null}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"cost":0.1,"cost_details":{"upstream_inference_cost":null},"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}`,
			"hmyes", true, 0, Usage{Known: true, UncachedInput: 7, CacheRead: 2, Output: 4, Reasoning: 1}},
		{"Groq", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"x_groq":{"id":"r"}}
{"id":"c","choices":[{"index":0,"delta":{"reasoning":"hm"},"logprobs":null,"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"yes"},"logprobs":null,"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"queue_time":0.1,"prompt_tokens":9,"prompt_time":0.1,"completion_tokens":4,"completion_time":0.1,"total_tokens":13,"total_time":0.2}}}`,
			"hmyes", true, 0, Usage{Known: true, UncachedInput: 9, Output: 4}},
		{"Mistral", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]},"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"","tool_calls":[{"id":"t","function":{"name":"f","arguments":"{}"},"index":0}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"total_tokens":13,"completion_tokens":4}}`,
			"hmyesf{}", true, 0, Usage{Known: true, UncachedInput: 9, Output: 4}},
		{"DeepSeek", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":""},"logprobs":null,"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":null,"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"yes","reasoning_content":null},"logprobs":null,"finish_reason":null}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"","reasoning_content":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":1},"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":1}}`,
			"hmyes", true, 0, Usage{Known: true, UncachedInput: 1, CacheRead: 8, Output: 4, Reasoning: 1}},
	} {
		t.Run(tt.server, func(t *testing.T) {
			s := newStream(t, `{"messages":[],"stream":true}`)
			var ev Event
			var text strings.Builder
			var usage Usage
			reasoning, calls := false, 0
			for line := range strings.SplitSeq(tt.events, "\n") {
				s.Event([]byte(line), &ev)
				s.Forwarded()
				for _, x := range ev.Texts {
					if x.Slot == MaxSlots-1 {
						t.Errorf("%s: not understood", line)
					}
					text.Write(x.Bytes)
				}
				reasoning, calls = reasoning || ev.Reasoning, calls+ev.Calls
				if ev.Usage.Known {
					usage = ev.Usage
				}
			}
			if text.String() != tt.text || reasoning != tt.reasoning || calls != tt.calls || usage != tt.usage || !s.Ended() {
				t.Errorf("text %q, reasoning %v, %d calls, %+v, ended %v", text.String(), reasoning, calls, usage, s.Ended())
			}
		})
	}
}
