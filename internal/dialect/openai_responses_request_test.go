package dialect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func parseResponses(t testing.TB, body string) *Request {
	t.Helper()
	r, err := OpenAIResponses{}.ParseRequest([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestResponsesRequest(t *testing.T) {
	r := parseResponses(t, `{"model":"gpt-4o","input":[{"role":"user","content":"hi"},{"type":"reasoning"}],"stream":true,"max_output_tokens":77,"background":true}`)
	if r.Model != "gpt-4o" || !r.Stream || !r.Background || r.MaxOutput != 77 || r.Choices != 1 || r.Messages() != 2 || !r.WantsUsage || r.LeastCap != 16 {
		t.Errorf("%+v", r)
	}
	if body, changed := r.Body(0); changed {
		t.Errorf("the body is changed: %s", body)
	}
	r = parseResponses(t, `{"input":"hi","max_output_tokens":null,"stream":null}`)
	if r.Stream || r.MaxOutput != 0 || r.Messages() != 0 || r.Background {
		t.Errorf("%+v", r)
	}
}

func TestResponsesRequestEdits(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`{"input":"a"}`, `{"input":"a","max_output_tokens":50}`},
		{`{"input":"a","max_output_tokens":100, "x":1}`, `{"input":"a","max_output_tokens":50, "x":1}`},
		{`{"input":"a","max_output_tokens":null}`, `{"input":"a","max_output_tokens":50}`},
		{`{"input":"a","max_output_tokens":0}`, `{"input":"a","max_output_tokens":50}`},
		{`{"input":"a","max_output_tokens":20}`, `{"input":"a","max_output_tokens":20}`},
	} {
		if got, _ := parseResponses(t, tt.body).Body(50); string(got) != tt.want {
			t.Errorf("%s becomes %s", tt.body, got)
		}
	}
}

func TestResponsesRequestRefused(t *testing.T) {
	for _, tt := range []struct{ body, message string }{
		{`{"model":"gpt-4o"}`, `no "input"`},
		{`{"input":null}`, `no "input"`},
		{`{"input":7}`, `"input" must be a string or an array`},
		{`{"input":{"role":"user"}}`, `"input" must be a string or an array`},
		{`["input"]`, "must be a JSON object"},
		{`{"input":"a","input":"b"}`, "same key twice"},
		{`{"input":"a","Model":"b"}`, "another letter case"},
		{`{"input":"a","max_output_tokens":"7"}`, `"max_output_tokens" must be a number`},
		{`{"input":"a","\u006dodel":"b"}`, "escapes"},
		{`{"input":"a","stream":1}`, `"stream" must be true or false`},
		{`{"input":"a","background":"yes"}`, `"background" must be true or false`},
		{`{"input":"a","model":["x"]}`, `"model" must be a string`},
		{`{"input":"a","model":"` + strings.Repeat("x", 300) + `"}`, "longer than 256 bytes"},
		{`{"input":[{"role":"user","Content":"a"}]}`, "another letter case"},
		{`{"input":[{"role":"user","content":[{"type":"input_text","TEXT":"a"}]}]}`, "another letter case"},
		{`{"input":[{"type":"function_call_output","output":[{"type":"input_image","image\u005furl":"a"}]}]}`, "escapes"},
		{`{"input":[{"role":"user","role":"x"}]}`, "same key twice"},
		{`{"input":"secret"} x`, "data after its JSON value"},
	} {
		_, err := OpenAIResponses{}.ParseRequest([]byte(tt.body))
		if err == nil || !strings.Contains(err.Error(), tt.message) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.80s: %v, want %q", tt.body, err, tt.message)
		}
	}
}

// What is not in the body makes a request opaque, and has a stated hold.
func TestResponsesHeld(t *testing.T) {
	rest := func(r *Request) int64 { return r.Rest("gpt-4o", func([]byte) {}) }
	plain := rest(parseResponses(t, `{"input":[]}`))
	for _, tt := range []struct {
		members string
		opaque  bool
		held    int64
	}{
		{`"input":[{"role":"user","content":"a","id":"b","status":"completed","type":"message"}],"user":"c","metadata":{"d":"e"},"store":true,"truncation":"auto"`, false, 0},
		{`"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"role":"assistant","content":[{"type":"output_text","text":"a","annotations":[{"a":"b"}]}],"phase":"final_answer"}]`, false, 0},
		{`"input":[{"type":"function_call","call_id":"a","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"a","output":"b"}]`, false, 0},
		{`"input":[{"role":"user","content":"a","x":"b"}]`, true, 0},
		{`"input":[{"role":"user","content":[{"type":"input_text","text":"a","x":"b"}]}]`, true, 0},
		{`"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://example.com/a.png"}]}]`, true, 0},
		{`"input":[{"role":"user","content":[{"type":"input_file","file_id":"a"}]}]`, true, 0},
		{`"input":[{"type":"function_call_output","call_id":"a","output":[{"type":"input_image","file_id":"a"}]}]`, true, 0},
		{`"input":[{"type":"reasoning","id":"a","summary":[]}]`, true, heldItem},
		{`"input":[{"type":"item_reference","id":"a"}]`, true, 0},
		{`"input":[{"type":"web_search_call","id":"a"}]`, true, 0},
		{`"input":[],"previous_response_id":"a"`, true, heldConversation},
		{`"input":[],"conversation":{"id":"a"}`, true, heldConversation},
		{`"previous_response_id":"a"`, true, heldConversation},
		{`"input":[],"previous_response_id":null,"conversation":null,"prompt":null,"tools":null`, false, 0},
		{`"prompt":{"id":"a"}`, true, heldTemplate},
		{`"input":[],"previous_input_messages":[{"role":"user","content":"a"}]`, true, 0},
		{`"input":[],"previous_input_messages":[],"chat_template_kwargs":{}`, false, 0},
		{`"input":[],"tools":[{"type":"web_search"}]`, true, heldSearch},
		{`"input":[],"tools":[{"type":"file_search"},{"type":"mcp"}]`, true, heldFiles + heldTool},
		{`"input":[],"tools":[{"type":"of_a_later_day"}]`, true, heldTool},
		{`"input":[],"tools":[` + strings.Repeat(`{"type":"x"},`, 99) + `{"type":"x"}]`, true, maxSearches * heldTool},
	} {
		r := parseResponses(t, `{`+tt.members+`}`)
		if r.Opaque() != tt.opaque {
			t.Errorf("%s: opaque is %v", tt.members, r.Opaque())
		}
		if held := rest(r) - plain; held != tt.held {
			t.Errorf("%s: %d are held, want %d", tt.members, held, tt.held)
		}
	}
}

// Members of vLLM's are read by its models, so their text is not free.
func TestResponsesOtherMembers(t *testing.T) {
	for _, key := range []string{"previous_input_messages", "chat_template_kwargs"} {
		r := parseResponses(t, `{"input":"a","`+key+`":{"b":"words"}}`)
		var got []string
		r.Rest("gpt-4o", func(text []byte) { got = append(got, string(text)) })
		if !slices.Contains(got, `{"b":"words"}`) {
			t.Errorf("%s: %q", key, got)
		}
	}
}

// A prompt is what the same prompt of chat is, text by text, and costs the same.
func TestResponsesLikeChat(t *testing.T) {
	const (
		function = `"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`
		schema   = `"name":"n","strict":true,"schema":{"type":"object","properties":{"a":{"type":"string"}}}`
	)
	for _, tt := range []struct{ name, responses, chat string }{
		{"a text", `"input":"hi"`, `"messages":[{"role":"user","content":"hi"}]`},
		{"instructions", `"instructions":"be kind","input":"hi"`, `"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]`},
		{"messages", `"input":[{"role":"developer","content":"be kind"},{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]},{"role":"assistant","content":[{"type":"output_text","text":"yo","annotations":[]}],"id":"msg_1","status":"completed","type":"message"}]`,
			`"messages":[{"role":"developer","content":"be kind"},{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]`},
		{"tools", `"instructions":"be kind","input":"hi","tools":[{"type":"function",` + function + `,"strict":true}],"tool_choice":{"type":"function","name":"f"}`,
			`"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{` + function + `}}],"tool_choice":{"type":"function","function":{"name":"f"}}`},
		{"a format", `"input":"hi","text":{"format":{"type":"json_schema",` + schema + `},"verbosity":"low"}`,
			`"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{` + schema + `}}`},
		{"an image", `"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AAAA","detail":"low"}]}]`,
			`"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}]}]`},
		{"a call", `"input":[{"role":"user","content":"hi"},{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{}","status":"completed"},{"type":"function_call_output","call_id":"c","output":"sun"}]`,
			`"messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"sun"}]`},
	} {
		for _, model := range []string{"gpt-4o", "gpt-5", "gpt-oss-120b"} {
			cost := func(r *Request) (texts []string, total int64) {
				count := func(b []byte) {
					for word := range strings.FieldsSeq(string(b)) {
						texts = append(texts, word)
					}
				}
				for i := range r.Messages() {
					total += r.Message(i, model, count)
				}
				total += r.Rest(model, count)
				slices.Sort(texts)
				// Roles cost a token each, and are texts or not.
				texts = slices.DeleteFunc(texts, func(s string) bool {
					role := s == "user" || s == "system" || s == "assistant" || s == "tool" || s == "developer"
					if role {
						total++
					}
					return role
				})
				return texts, total
			}
			chat, err := OpenAIChat{}.ParseRequest([]byte(`{` + tt.chat + `}`))
			if err != nil {
				t.Fatal(err)
			}
			got, n := cost(parseResponses(t, `{`+tt.responses+`}`))
			want, m := cost(chat)
			switch { // tools cost otherwise, which recordings show
			case tt.name != "tools" || model == "gpt-oss-120b":
			case model == "gpt-5":
				m += toolsResponsesHarmony - toolsHarmony
			default:
				m += toolsResponses - toolsCookbook + joinedSystem - 1
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || n != m {
				t.Errorf("%s, %s: %q and %d, chat has %q and %d", tt.name, model, got, n, want, m)
			}
		}
	}
}

// Nothing of a body that may reach the model is free, however long it is.
func TestResponsesPromptNothingIsFree(t *testing.T) {
	const mark = "MARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARKMARK"
	for _, body := range []string{
		`{"input":"%s"}`,
		`{"input":["%s"]}`,
		`{"input":[{"content":"%s"}]}`,
		`{"input":[{"role":"%s"}]}`,
		`{"input":[{"id":"%s"}]}`,
		`{"input":[{"type":"%s"}]}`,
		`{"input":[{"x":{"y":"%s"}}]}`,
		`{"input":[{"content":["%s"]}]}`,
		`{"input":[{"content":[{"type":"input_text","text":"%s"}]}]}`,
		`{"input":[{"content":[{"type":"%s"}]}]}`,
		`{"input":[{"content":[{"x":"%s"}]}]}`,
		`{"input":[{"content":[{"image_url":{"x":"%s"}}]}]}`,
		`{"input":[{"content":[{"file_data":["%s"]}]}]}`,
		`{"input":[{"content":[{"filename":"%s","file_data":"AAAA"}]}]}`,
		`{"input":[{"type":"function_call","name":"%s"}]}`,
		`{"input":[{"type":"function_call","arguments":"%s"}]}`,
		`{"input":[{"type":"function_call","call_id":"%s"}]}`,
		`{"input":[{"type":"custom_tool_call","input":"%s"}]}`,
		`{"input":[{"type":"function_call_output","output":"%s"}]}`,
		`{"input":[{"type":"function_call_output","output":[{"type":"input_text","text":"%s"}]}]}`,
		`{"input":[{"type":"function_call_output","output":{"x":"%s"}}]}`,
		`{"input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"%s"}]}]}`,
		`{"input":[{"type":"reasoning","encrypted_content":"AAAA","summary":[{"type":"summary_text","text":"%s"}]}]}`,
		`{"input":[{"type":"reasoning","encrypted_content":{"x":"%s"}}]}`,
		`{"input":[{"type":"item_reference","id":"%s"}]}`,
		`{"input":[{"type":"computer_call_output","output":{"type":"computer_screenshot","image_url":"data:,","x":"%s"}}]}`,
		`{"input":[{"type":"code_interpreter_call","code":"%s"}]}`,
		`{"input":[{"type":"of_a_later_day","x":"%s"}]}`,
		`{"input":[{"type":"image_generation_call","result":{"x":"%s"}}]}`,
		`{"input":[],"instructions":"%s"}`,
		`{"input":[],"instructions":[{"content":"%s"}]}`,
		`{"input":[],"tools":"%s"}`,
		`{"input":[],"tools":[{"type":"function","name":"f","description":"%s"}]}`,
		`{"input":[],"tools":[{"type":"%s","name":"f"}]}`,
		`{"input":[],"tools":[{"type":"mcp","server_label":"%s"}]}`,
		`{"input":[],"tools":[{"type":"custom","name":"f","format":{"definition":"%s"}}]}`,
		`{"input":[],"tool_choice":{"type":"function","name":"%s"}}`,
		`{"input":[],"text":"%s"}`,
		`{"input":[],"text":{"verbosity":"%s"}}`,
		`{"input":[],"text":{"format":{"type":"json_schema","schema":{"description":"%s"}}}}`,
		`{"input":[],"text":{"format":{"type":"%s"}}}`,
		`{"prompt":{"id":"p","variables":{"a":"%s"}}}`,
	} {
		r := parseResponses(t, fmt.Sprintf(body, mark))
		var all strings.Builder
		count := func(b []byte) { all.Write(b) }
		for i := range r.Messages() {
			r.Message(i, "gpt-4o", count)
		}
		r.Rest("gpt-4o", count)
		if !strings.Contains(all.String(), mark) {
			t.Errorf("%s: free", body)
		}
	}
}

func TestResponsesReasoningIsHeld(t *testing.T) {
	const (
		user  = `{"role":"user","content":"u"}`
		named = `{"type":"reasoning","id":"rs_1","summary":[]}`
	)
	encrypted := `{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"` + strings.Repeat("A", 4000) + `"}`
	one := int64(tokensPerMessage + (3000-700)*5/18)
	held := func(model, more string, items ...string) int64 {
		total := int64(0)
		r := parseResponses(t, `{`+more+`"input":[`+strings.Join(items, ",")+`]}`)
		for i := range r.Messages() {
			if strings.Contains(string(r.RawMessage(i)), `"type"`) {
				total += r.Message(i, model, func([]byte) {})
			}
		}
		return total + r.Rest(model, func([]byte) {}) - parseResponses(t, `{"input":[]}`).Rest(model, func([]byte) {})
	}
	for _, tt := range []struct {
		model, more string
		items       []string
		want        int64
	}{
		{"gpt-5", "", []string{user, named}, heldItem},
		{"gpt-5", "", []string{user, encrypted}, one},
		{"gpt-5", "", []string{user, encrypted, named}, one + heldItem},
		{"gpt-5", "", []string{user, encrypted, user, named}, heldItem}, // that of earlier turns is not read again
		{"azure/gpt-5.5", "", []string{user, encrypted, user}, 0},
		{"gpt-5.6-sol", "", []string{user, encrypted, user, named}, one + heldItem},
		{"of-a-later-day", "", []string{user, encrypted, user}, one},
		{"gpt-5", `"reasoning":{"context":"all_turns"},`, []string{user, encrypted, user}, one},
		{"gpt-5", `"reasoning":{"context":"auto"},`, []string{user, encrypted, user}, 0},
		{"gpt-5.6", `"reasoning":{"context":"current_turn"},`, []string{user, encrypted, user}, 0},
		{"gpt-5", `"reasoning":{"context":"of_a_later_day"},`, []string{user, encrypted, user}, one},
		{"gpt-5", "", []string{`{"type":"item_reference","id":"msg_1"}`}, heldItem},
		{"gpt-5", "", []string{`{"type":"message","content":[{"type":"input_file","file_id":"f"}]}`}, tokensPerMessage + pagesPerFileID*tokensPerPage},
		{"gpt-5", "", []string{`{"type":"message","content":[{"type":"input_file","file_url":"https://example.com/a.pdf"}]}`}, tokensPerMessage + pagesPerFileID*tokensPerPage},
		{"gpt-5", "", []string{`{"type":"message","content":[{"type":"input_file","file_data":"AAAA"}]}`}, tokensPerMessage + tokensPerPage},
		{"gpt-5", "", []string{`{"type":"message","content":[{"type":"input_image","file_id":"f"}]}`}, tokensPerMessage + 70 + 4*140},
		{"gpt-5", "", []string{user, `{"type":"reasoning","encrypted_content":"` + strings.Repeat("A", 400) + `"}`}, tokensPerMessage},
	} {
		if n := held(tt.model, tt.more, tt.items...); n != tt.want {
			t.Errorf("%s %s%v: %d, want %d", tt.model, tt.more, tt.items, n, tt.want)
		}
	}
}

func TestResponsesTurns(t *testing.T) {
	const (
		user   = `{"role":"user","content":"u"}`
		system = `{"role":"system","content":"s"}`
		says   = `{"role":"assistant","content":"a"}`
		thinks = `{"type":"reasoning","id":"r","summary":[]}`
	)
	call := func(id string) string {
		return `{"type":"function_call","call_id":"` + id + `","name":"f","arguments":"{}"}`
	}
	result := func(id string) string {
		return `{"type":"function_call_output","call_id":"` + id + `","output":"o"}`
	}
	for _, tt := range []struct {
		name  string
		items []string
		want  string
		more  string
	}{
		{"questions", []string{system, user, says, user, says, user}, "[-1 1 1 2 2 -1]", ""},
		{"one", []string{user}, "[-1]", ""},
		{"the model alone", []string{says, says}, "[-1 -1]", ""},
		{"tools of earlier turns", []string{user, thinks, call("1"), result("1"), says, user}, "[1 1 1 1 1 -1]", ""},
		{"tools behind the last question", []string{user, thinks, call("1"), call("2"), result("2"), result("1"), thinks, call("3"), result("3")}, "[-1 2 2 2 2 2 -1 -1 -1]", ""},
		{"an answer that comes late", []string{user, call("1"), call("2"), result("2"), says, result("1"), says}, "[-1 2 2 2 2 2 -1]", ""},
		{"an answer across a question", []string{user, call("1"), user, result("1"), user}, "[1 1 1 1 -1]", ""},
		{"custom tools", []string{user, `{"type":"custom_tool_call","call_id":"1"}`, user, `{"type":"custom_tool_call_output","call_id":"1"}`, user, says}, "[1 1 1 1 -1 -1]", ""},
		{"MCP", []string{user, `{"type":"mcp_approval_request","id":"q"}`, user, `{"type":"mcp_approval_response","approval_request_id":"q"}`, user}, "[1 1 1 1 -1]", ""},
		{"a reference", []string{user, `{"type":"item_reference","id":"x"}`, user}, "[]", ""},
		{"of a later day", []string{user, `{"type":"x"}`, user}, "[]", ""},
		{"an earlier response", []string{user, says, user}, "[]", `"previous_response_id":"r",`},
		{"a conversation", []string{user, says, user}, "[]", `"conversation":"c",`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := parseResponses(t, `{`+tt.more+`"input":[`+strings.Join(tt.items, ",")+`]}`)
			if got := fmt.Sprint(r.Turns()); got != tt.want {
				t.Errorf("turns %s, want %s", got, tt.want)
			}
		})
	}
	if parseResponses(t, `{"input":"a"}`).Turns() == nil {
		t.Error("a text has no turns, but is not unknown")
	}
}

// FuzzResponsesRequest: whatever is accepted can be counted and edited, and is read by
// the upstream as it was read here.
func FuzzResponsesRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"gpt-4o","input":"hi","stream":true,"max_output_tokens":5}`,
		`{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"},{"type":"input_file","file_data":"AAAA"}]}],"instructions":"a"}`,
		`{"input":[{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"x"},{"type":"reasoning","encrypted_content":"AAAA","summary":[]},{"type":"item_reference","id":"x"}]}`,
		`{"previous_response_id":"r","tools":[{"type":"web_search"},{"type":"function","name":"f","parameters":{"type":"object"}}],"text":{"format":{"type":"json_schema","schema":{}}},"background":true}`,
		`{"input":[0,[],{},"",null,{"type":{},"role":[]},{"type":"mcp_approval_response"}],"tools":{},"text":1,"prompt":"x"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := OpenAIResponses{}.ParseRequest(body)
		if err != nil {
			return
		}
		total := int64(0)
		for i := range r.Messages() {
			total += r.Message(i, r.Model, func(b []byte) { total += int64(len(b)) })
		}
		if total += r.Rest(r.Model, func(b []byte) { total += int64(len(b)) }); total < 0 {
			t.Fatalf("%d tokens", total)
		}
		turns := r.Turns()
		if turns != nil && len(turns) != r.Messages() {
			t.Fatalf("%d turns of %d items", len(turns), r.Messages())
		}
		first := int32(0)
		for _, turn := range turns {
			if turn > 0 && first == 0 {
				first = turn
			}
		}
		r.Drop(func(i int) bool { return turns != nil && first > 0 && turns[i] == first })
		edited, _ := r.Body(40)
		again, err := OpenAIResponses{}.ParseRequest(edited)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", body, edited, err)
		}
		if again.MaxOutput > 40 || again.MaxOutput == 0 || again.Messages() != r.Messages() || again.Stream != r.Stream || again.Background != r.Background {
			t.Fatalf("%q becomes %q", body, edited)
		}
	})
}
