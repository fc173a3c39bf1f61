package dialect

import (
	"runtime"
	"strings"
	"testing"
	"weak"
)

// TestStreamLetsGo: a stream refers to nothing of the event that it has read and passed on, once it
// is told so, for the next one may be long in coming.
func TestStreamLetsGo(t *testing.T) {
	for _, tt := range []struct {
		name string
		api  API
		data string
	}{
		{"chat", OpenAIChat{}, usualChunks[0]},
		{"chat, decoded", OpenAIChat{}, `{"id":"x","choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{"}}]}}]}`},
		{"chat, not known", OpenAIChat{}, `{"choices":[{"delta":{"monologue":"m"}}]}`},
		{"completions", OpenAICompletions{}, `{"choices":[{"text":"t"}]}`},
		{"messages", AnthropicMessages{}, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"t"}}`},
		{"messages, not known", AnthropicMessages{}, `{"type":"x","text":"t"}`},
		{"responses", OpenAIResponses{}, `{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"t"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.api.NewStream(&Request{})
			read := func() weak.Pointer[byte] {
				data := append(make([]byte, 0, 8<<10), tt.data...)
				var ev Event
				if s.Event(data, &ev); len(ev.Texts) == 0 {
					t.Fatal("no text")
				}
				s.Forwarded()
				clear(ev.Texts) // the caller's
				return weak.Make(&data[0])
			}
			data := read()
			if s, ok := s.(interface{ LetGo() }); ok {
				s.LetGo()
			}
			runtime.GC()
			if data.Value() != nil {
				t.Error("the event's data is in use")
			}
			runtime.KeepAlive(s)
		})
	}
}

// TestEventLetsGo: what an event of very many texts takes, several times its length, is not
// kept for the rest of the stream.
func TestEventLetsGo(t *testing.T) {
	for name, data := range map[string]string{
		"texts":       `{"type":"message_start","message":{"content":[` + strings.Repeat(`"a",`, 1<<20) + `"b"]}}`,
		"escapes":     `{"type":"message_start","message":{"content":[` + strings.Repeat(`"\n",`, 1<<19) + `"b"]}}`,
		"one text":    `{"type":"message_start","message":{"content":"` + strings.Repeat(`\n`, 1<<20) + `"}}`,
		"not known":   `{"type":"x"` + strings.Repeat(`,"a":"b"`, 1<<19) + `}`,
		"its members": `{"type":"content_block_delta","delta":{"type":"x"` + strings.Repeat(`,"a":"b"`, 1<<19) + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := AnthropicMessages{}.NewStream(&Request{}).(*messagesStream)
			var ev Event
			event := []byte(data)
			before := heap()
			if s.Event(event, &ev); len(ev.Texts) == 0 {
				t.Fatal("no text")
			}
			s.Forwarded()
			ev.LetGo()
			s.LetGo()
			if n := heap() - before; n > 256<<10 {
				t.Errorf("%d bytes are kept", n)
			}
			runtime.KeepAlive(s)
			runtime.KeepAlive(ev)
			runtime.KeepAlive(event)
		})
	}
}

// heap is what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
