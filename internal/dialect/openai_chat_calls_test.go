package dialect

import (
	"fmt"
	"strings"
	"testing"
)

// TestChatCalls: calls begin with their first text, and where another one begins in their choice or
// the choice ends, they have ended. What comes whole is none under way.
func TestChatCalls(t *testing.T) {
	req := &Request{Stream: true, Choices: 3}
	call := func(choice, tool int, function string) string {
		return fmt.Sprintf(`{"index":%d,"delta":{"tool_calls":[{"index":%d,"function":{%s}}]}}`, choice, tool, function)
	}
	end := func(choice int) string {
		return fmt.Sprintf(`{"index":%d,"delta":{},"finish_reason":"tool_calls"}`, choice)
	}
	const whole = `"name":"f","arguments":"{\"a\":[1]}"`
	type step struct {
		choices string
		calls   int // as the event says
		inTool  bool
	}
	for name, steps := range map[string][]step{
		"one": {
			{`{"index":0,"delta":{"role":"assistant","content":"x"}}`, 0, false},
			{call(0, 0, `"name":"f","arguments":""`), 1, true},
			{call(0, 0, `"arguments":"{"`), 0, true},
			{call(0, 0, `"arguments":"}"`), 0, true},
			{end(0), 0, false},
		},
		"without name or text": {
			{call(0, 0, `"name":"","arguments":""`), 0, false},
			{call(0, 0, `"arguments":"{\""`), 1, true},
			{call(0, 0, `"arguments":"a"`), 0, true},
		},
		"one after the other": {
			{call(0, 0, `"name":"f"`), 1, true},
			{call(0, 0, `"arguments":"{}"`), 0, true},
			{call(0, 1, `"name":"f"`), 1, true},
			{call(0, 1, `"arguments":"{}"`), 0, true},
			{end(0), 0, false},
		},
		"of several choices": {
			{call(0, 0, `"name":"f"`), 1, true},
			{call(2, 0, `"name":"f"`), 2, true},
			{call(0, 0, `"arguments":"{}"`), 0, true},
			{call(1, 0, `"name":"f"`), 3, true},
			{end(0), 0, true},
			{call(2, 1, `"name":"f"`), 2, true},
			{end(2) + "," + end(1), 0, false},
		},
		"of several choices in one event": {
			{call(0, 0, `"name":"f"`) + "," + call(1, 0, `"name":"f"`), 2, true},
			{end(0), 0, true},
			{end(1), 0, false},
		},
		"whole": {
			{call(0, 0, whole), 0, false},
			{call(0, 1, whole), 0, false},
			{call(0, 2, `"name":"f","arguments":"{\"a\":["`), 1, true},
			{call(0, 3, whole), 0, false},
		},
		"whole ones and a part in one event": {
			{`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{` + whole + `}},{"index":1,"function":{"name":"g"}}]}}`, 1, true},
		},
		"whole, with the choice's end": {
			{`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{"}}]},"finish_reason":"tool_calls"}`, 0, false},
		},
		"a name that another one follows": {
			{call(0, 0, `"name":"f"`), 1, true},
			{call(0, 0, `"name":"g"`), 0, true},
		},
		"numbered alike": {
			{call(0, 0, `"name":"f","arguments":"{"`), 1, true},
			{call(0, 0, `"arguments":"}"`), 0, true},
			{call(0, 0, `"name":"f"`), 1, true},
			{call(0, 0, `"arguments":"{}"`), 0, true},
			{call(0, 0, whole), 0, false},
		},
		"whole, with its name last": {
			{call(0, 0, `"arguments":"{}","name":"f"`), 0, false},
		},
		"former": {
			{`{"index":0,"delta":{"function_call":{"name":"f","arguments":""}}}`, 1, true},
			{`{"index":0,"delta":{"function_call":{"arguments":"{"}}}`, 0, true},
			{`{"index":0,"delta":{},"finish_reason":"function_call"}`, 0, false},
		},
		"custom, whose index comes last": {
			{`{"delta":{"tool_calls":[{"type":"custom","custom":{"name":"f","input":"print"},"index":1}]},"index":1}`, 1, true},
			{`{"delta":{"tool_calls":[{"custom":{"input":"(1)"},"index":1}]},"index":1}`, 0, true},
			{`{"delta":{"tool_calls":[{"custom":{"input":"x"}}]},"index":1}`, 1, true},
			{end(1), 0, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, ok := OpenAIChat{}.NewStream(req).(ToolStream)
			if !ok {
				t.Fatal("the stream knows of no tools")
			}
			var ev Event
			for i, step := range steps {
				s.Event([]byte(`{"choices":[`+step.choices+`]}`), &ev)
				if ev.Calls != step.calls || s.InTool() != step.inTool {
					t.Errorf("step %d: %d calls, in a tool: %v; want %d, %v", i, ev.Calls, s.InTool(), step.calls, step.inTool)
				}
				s.Forwarded()
				if s.InTool() != step.inTool {
					t.Errorf("step %d: passing it on changes something", i)
				}
			}
			if out := string(s.Close(nil, Usage{Known: true})); strings.Contains(out, "_call") {
				t.Errorf("a cut looks finished: %s", out)
			}
		})
	}
}

// TestChatCallsAreBounded: no more calls are under way than choices can come, and a choice that no
// stream has is in none.
func TestChatCallsAreBounded(t *testing.T) {
	s := new(chatStream)
	s.init(&Request{Stream: true, Choices: 1})
	var ev Event
	for i := range 1000 {
		s.Event(fmt.Appendf(nil, `{"choices":[{"index":%d,"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}`, i), &ev)
		s.Forwarded()
	}
	if len(s.calls) != maxChoices {
		t.Errorf("%d calls are under way", len(s.calls))
	}
}

// TestChatCallDoesNotAllocate: what is noted of a call, from its first text to its choice's end. The
// decoder's pool is left out, since it drops what it has at will under the race detector.
func TestChatCallDoesNotAllocate(t *testing.T) {
	s := new(chatStream)
	s.init(&Request{Stream: true, Choices: 1})
	begin := []Text{{provisional(channelName, 0), []byte("f")}}
	more := []Text{{provisional(channelArguments, 0), []byte(`{"a":`)}}
	var ev Event
	run := func() {
		s.follow(&ev, 0, begin)
		s.follow(&ev, 0, more)
		s.follow(&ev, 0, more)
		s.leave(0)
	}
	run()
	if ev.Calls != 1 {
		t.Errorf("%d calls", ev.Calls)
	}
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("%v allocations for a call", n)
	}
}
