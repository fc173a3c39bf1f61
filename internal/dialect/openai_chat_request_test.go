package dialect

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestRequestEdits(t *testing.T) {
	const usage = `"stream_options":{"include_usage":true}`
	for _, tt := range []struct {
		name, in, want string
		limit          int64
	}{
		{"unary is left alone", `{"model":"m","messages":[]}`, `{"model":"m","messages":[]}`, 0},
		{"usage is asked for", `{"messages":[],"stream":true}`, `{"messages":[],"stream":true,` + usage + `}`, 0},
		{"white space stays", "{ \"messages\" : [ ] ,\n\"stream\" : true\n}  ", "{ \"messages\" : [ ] ,\n\"stream\" : true\n," + usage + "}  ", 0},
		{"options are null", `{"stream":true,"stream_options":null,"messages":[]}`, `{"stream":true,` + usage + `,"messages":[]}`, 0},
		{"options are empty", `{"stream":true,"stream_options":{ },"messages":[]}`, `{"stream":true,"stream_options":{ "include_usage":true},"messages":[]}`, 0},
		{"options have others", `{"stream":true,"stream_options":{"a":{"include_usage":1}},"messages":[]}`, `{"stream":true,"stream_options":{"a":{"include_usage":1},"include_usage":true},"messages":[]}`, 0},
		{"usage is false", `{"stream_options":{"include_usage" : false , "x":1},"stream":true,"messages":[]}`, `{"stream_options":{"include_usage" : true , "x":1},"stream":true,"messages":[]}`, 0},
		{"usage is null", `{"stream_options":{"include_usage":null},"stream":true,"messages":[]}`, `{"stream_options":{"include_usage":true},"stream":true,"messages":[]}`, 0},
		{"usage is wanted", `{"stream_options":{"include_usage":true},"stream":true,"messages":[]}`, `{"stream_options":{"include_usage":true},"stream":true,"messages":[]}`, 0},
		{"options without a stream", `{"stream_options":{},"stream":false,"messages":[]}`, `{"stream_options":{},"stream":false,"messages":[]}`, 0},
		{"a cap is added", `{"messages":[]}`, `{"messages":[],"max_completion_tokens":7}`, 7},
		{"to a model of OpenAI's", `{"model":"openai/o3","messages":[]}`, `{"model":"openai/o3","messages":[],"max_completion_tokens":7}`, 7},
		{"to one of others", `{"messages":[],"model":"mistralai/Mistral-Large"}`, `{"messages":[],"model":"mistralai/Mistral-Large","max_tokens":7}`, 7},
		{"to one of others that has the newer cap", `{"model":"llama3.1:8b","max_completion_tokens":9,"messages":[]}`, `{"model":"llama3.1:8b","max_completion_tokens":7,"messages":[]}`, 7},
		{"to one of others that has none", `{"model":"deepseek-chat","max_completion_tokens":null,"messages":[]}`, `{"model":"deepseek-chat","max_completion_tokens":7,"messages":[]}`, 7},
		{"a cap is lowered", `{"messages":[],"max_tokens":100}`, `{"messages":[],"max_tokens":7}`, 7},
		{"a cap is low enough", `{"messages":[],"max_tokens":5}`, `{"messages":[],"max_tokens":5}`, 7},
		{"only what is above is lowered", `{"max_tokens":5,"messages":[],"max_completion_tokens":100}`, `{"max_tokens":5,"messages":[],"max_completion_tokens":7}`, 7},
		{"a cap that is none is set", `{"max_tokens":-1,"messages":[],"max_completion_tokens":5}`, `{"max_tokens":7,"messages":[],"max_completion_tokens":5}`, 7},
		{"a cap of null is set", `{"messages":[],"max_tokens":null}`, `{"messages":[],"max_tokens":7}`, 7},
		{"a cap of null beside another stays", `{"messages":[],"max_tokens":null,"max_completion_tokens":9}`, `{"messages":[],"max_tokens":null,"max_completion_tokens":7}`, 7},
		{"behind another, too", `{"messages":[],"max_tokens":9,"max_completion_tokens":null}`, `{"messages":[],"max_tokens":7,"max_completion_tokens":null}`, 7},
		{"beside one of nothing, too", `{"max_tokens":null,"max_completion_tokens":0,"messages":[]}`, `{"max_tokens":null,"max_completion_tokens":7,"messages":[]}`, 7},
		{"of two caps of null one is set", `{"max_tokens":null,"max_completion_tokens":null,"messages":[]}`, `{"max_tokens":null,"max_completion_tokens":7,"messages":[]}`, 7},
		{"the same one", `{"max_completion_tokens":null,"max_tokens":null,"messages":[]}`, `{"max_completion_tokens":7,"max_tokens":null,"messages":[]}`, 7},
		{"usage and cap", `{"messages":[],"stream":true}`, `{"messages":[],"stream":true,` + usage + `,"max_completion_tokens":7}`, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := OpenAIChat{}.ParseRequest([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			got, changed := r.Body(tt.limit)
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if changed != (tt.in != tt.want) {
				t.Errorf("changed is %v", changed)
			}
			// What is sent on must mean to the upstream what was decided on.
			again, err := OpenAIChat{}.ParseRequest(got)
			if err != nil {
				t.Fatal("what was made cannot be read:", err)
			}
			if r.Stream && !again.WantsUsage {
				t.Error("the stream would end without usage")
			}
			if tt.limit > 0 && (again.MaxOutput == 0 || again.MaxOutput > max(tt.limit, 0)) {
				t.Errorf("the cap is %d, above %d", again.MaxOutput, tt.limit)
			}
		})
	}
}

func TestRequestValues(t *testing.T) {
	for _, tt := range []struct {
		name, in  string
		model     string
		choices   int64
		maxOutput int64
		output    int64
	}{
		{"plain", `{"model":"gpt-4o","messages":[]}`, "gpt-4o", 1, 0, 0},
		{"escaped value", `{"model":"gpt\u002d4o","messages":[]}`, "gpt-4o", 1, 0, 0},
		{"larger cap counts", `{"max_tokens":5,"max_completion_tokens":9,"messages":[]}`, "", 1, 9, 9},
		{"choices multiply", `{"max_tokens":5,"n":3,"messages":[]}`, "", 3, 5, 15},
		{"best of more", `{"max_tokens":5,"n":2,"best_of":4,"messages":[]}`, "", 4, 5, 20},
		{"best of fewer", `{"max_tokens":5,"n":2,"best_of":1,"messages":[]}`, "", 2, 5, 10},
		{"most choices", `{"max_tokens":5,"n":128,"messages":[]}`, "", 128, 5, 640},
		{"one cap is none", `{"max_tokens":-1,"max_completion_tokens":9,"messages":[]}`, "", 1, 0, 0},
		{"negative", `{"max_tokens":-5,"n":-1,"messages":[]}`, "", 1, 0, 0},
		{"fraction", `{"max_tokens":5.9,"n":2.0,"messages":[]}`, "", 2, 5, 10},
		{"beyond int64", `{"max_tokens":99999999999999999999999,"n":2,"messages":[]}`, "", 2, 1<<63 - 1, 1<<63 - 1},
		{"null", `{"max_tokens":null,"n":null,"stream":null,"model":null,"messages":[]}`, "", 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := OpenAIChat{}.ParseRequest([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if r.Model != tt.model || r.Choices != tt.choices || r.MaxOutput != tt.maxOutput || r.Output() != tt.output {
				t.Errorf("got model %q, choices %d, max output %d, output %d", r.Model, r.Choices, r.MaxOutput, r.Output())
			}
		})
	}
}

func TestOtherModels(t *testing.T) {
	for members, want := range map[string]bool{
		`"model":"a"`:                           false,
		`"model":"a","models":["b"]`:            true,
		`"model":"a","fallbacks":[{"a":["b"]}]`: true,
		`"models":null`:                         false,
		`"models":[]`:                           false,
		`"models":"b"`:                          true,
	} {
		for _, api := range []API{OpenAIChat{}, OpenAICompletions{}, OpenAIEmbeddings{}, OpenAIResponses{}, AnthropicMessages{}} {
			r, err := api.ParseRequest([]byte(`{"messages":[],"prompt":"p","input":"i",` + members + `}`))
			if err != nil || r.OtherModels != want {
				t.Errorf("%s, %s: %v, %v", api.Name(), members, err, !want)
			}
		}
	}
	for _, api := range []API{OpenAIChat{}, OpenAIResponses{}, AnthropicMessages{}} {
		if _, err := api.ParseRequest([]byte(`{"messages":[],"input":"i","Models":["b"]}`)); err == nil {
			t.Errorf("%s: another letter case is accepted", api.Name())
		}
	}
	for tool, want := range map[string]bool{`{"type":"custom","name":"f"}`: false, `{"type":"advisor_20260301","name":"advisor","model":"b"}`: true} {
		r, err := AnthropicMessages{}.ParseRequest([]byte(`{"model":"a","messages":[],"tools":[` + tool + `]}`))
		if err != nil || r.OtherModels != want {
			t.Errorf("%s: %v, %v", tool, err, !want)
		}
	}
}

func TestRequestRefused(t *testing.T) {
	deep := strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000)
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", ``, "not valid JSON"},
		{"no JSON", `hello`, "not valid JSON"},
		{"cut short", `{"messages":[]`, "not valid JSON"},
		{"an array", `[]`, "must be a JSON object"},
		{"no messages", `{"model":"m"}`, `no "messages"`},
		{"messages of another kind", `{"messages":"hi"}`, `"messages" must be an array`},
		{"trailing data", `{"messages":[]}{}`, "data after"},
		{"trailing garbage", `{"messages":[]}x`, "data after"},
		{"duplicate key", `{"model":"a","messages":[],"model":"b"}`, "same key twice"},
		{"duplicate by escape", `{"x":1,"messages":[],"\u0078":2}`, "same key twice"},
		{"duplicate deep inside", `{"messages":[{"role":"user","content":"a","x":{"y":1,"y":2}}]}`, "same key twice"},
		{"escaped key", `{"messages":[],"m\u0061x_tokens":1}`, `"max_tokens" is written with escapes`},
		{"other case", `{"messages":[],"Stream":true}`, `"stream" is written in another letter case`},
		{"other case inside options", `{"messages":[],"stream":true,"stream_options":{"INCLUDE_USAGE":true}}`, `"include_usage" is written in another`},
		{"stream of another kind", `{"messages":[],"stream":"true"}`, `"stream" must be true or false`},
		{"cap of another kind", `{"messages":[],"max_tokens":"9"}`, `"max_tokens" must be a number`},
		{"absurd n", `{"messages":[],"n":1e30}`, `"n" is larger than 128`},
		{"n of another kind", `{"messages":[],"n":[]}`, `"n" must be a number`},
		{"model of another kind", `{"messages":[],"model":7}`, `"model" must be a string`},
		{"long model", `{"messages":[],"model":"` + strings.Repeat("m", 300) + `"}`, "longer than 256"},
		{"options of another kind", `{"messages":[],"stream_options":7}`, `"stream_options" must be an object`},
		{"invalid UTF-8", "{\"messages\":[],\"model\":\"\xff\"}", "not valid JSON"},
		{"too deep", `{"messages":[],"x":` + deep + `}`, "deeper than 10000 levels"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenAIChat{}.ParseRequest([]byte(tt.in))
			var bad *BadRequest
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a BadRequest with %q", err, tt.want)
			}
		})
	}
}

func TestErrorsQuoteNothing(t *testing.T) {
	const secret = "s3cret"
	for _, in := range []string{`{"messages":[],"` + secret + `":1,"` + secret + `":2}`, `{"messages":[` + secret + `]}`, `{"messages":[]} ` + secret} {
		if _, err := (OpenAIChat{}).ParseRequest([]byte(in)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestPrompt(t *testing.T) {
	r, err := OpenAIChat{}.ParseRequest([]byte(`{"messages":[
		{"role":"system","content":"a\nb"},
		{"role":"user","name":"bob","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:,x"}}]},
		{"role":"assistant","content":null,"tool_calls":[{"id":"1"}],"reasoning":"why"},"stray"],
		"tools":[{"type":"function"}],"prediction":{"content":"p"},"user":"u"}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	extra := int64(0)
	for i := range r.Messages() {
		extra += r.Message(i, r.Model, func(text []byte) { got = append(got, string(text)) })
	}
	extra += r.Rest(r.Model, func(text []byte) { got = append(got, string(text)) })
	want := []string{"system", "a\nb", "user", "bob", "hi", "assistant", "why", `{"id":"1"}`, "stray", `{"type":"function"}`, "p"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if want := int64(replyCookbook + 4*tokensPerMessage + tokensPerName + 765); extra != want {
		t.Errorf("overhead %d, want %d", extra, want)
	}
}

// FuzzRequest: a body that is accepted is one which encoding/json accepts, too,
// and means the same to it before and after the edits.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}`,
		`{"stream_options":{"include_usage":false},"messages":[],"stream":true,"n":2,"max_tokens":5}`,
		`{"messages":[],"stream":true,"stream_options":null,"max_completion_tokens":1e3}`,
		`{"messages":[],"max_tokens":null} `, `{"Model":1}`, `{`, "",
		`{"messages":[{"role":"system","content":"a"},{"role":"user","name":"n","content":[{"type":"text","text":"\u00e9\n"},{"image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAf","detail":"low"}},{"input_audio":{"data":"UklGRg=="}},{"file":{"file_data":""}}]}]}`,
		`{"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}},{}],"function_call":null},{"role":"tool","content":"x"}],"tool_choice":{"function":{"name":"f"}}}`,
		`{"messages":[],"tools":[{"function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":["array","null"],"items":{"anyOf":[{"enum":[1]},{}]},"default":1,"description":"d\n"}},"required":["a"]}}}],"functions":[{"name":"g"}],"response_format":{"json_schema":{"schema":{ }}}}`,
	} {
		f.Add([]byte(s), int64(7))
	}
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		r, err := OpenAIChat{}.ParseRequest(body)
		if err != nil {
			if _, ok := errors.AsType[*BadRequest](err); !ok {
				t.Fatalf("not a BadRequest: %v", err)
			}
			return
		}
		for _, model := range []string{"gpt-4o", "gpt-5-nano", "gpt-oss-20b"} {
			texts, extra := 0, int64(0)
			add := func(text []byte) { texts += len(text) }
			for i := range r.Messages() {
				if !json.Valid(r.RawMessage(i)) {
					t.Fatalf("message %d is not JSON: %q", i, r.RawMessage(i))
				}
				extra += r.Message(i, model, add)
			}
			extra += r.Rest(model, add)
			if texts > 10*len(body)+1000 || extra < replyHarmony-4 || extra > int64(10*len(body)+1)*10_000 {
				t.Fatalf("%s: a body of %d bytes hands out %d bytes and %d tokens", model, len(body), texts, extra)
			}
		}
		out, changed := r.Body(limit)
		if changed == (string(out) == string(body)) && string(out) != string(body) {
			t.Fatalf("changed is %v", changed)
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
		if r.Stream {
			options, _ := after["stream_options"].(map[string]any)
			if usage, _ := options["include_usage"].(bool); !usage {
				t.Fatalf("usage is not asked for in %q", out)
			}
		}
		for _, m := range []map[string]any{before, after} {
			delete(m, "stream_options")
			delete(m, "max_tokens")
			delete(m, "max_completion_tokens")
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("the edits changed more than they may: %q became %q", body, out)
		}
	})
}

// What gateways read of a request beside OpenAI's members.
func TestGatewayMembers(t *testing.T) {
	for members, want := range map[string]string{
		`"reasoning":{"effort":"high"}`:                             "high",
		`"reasoning":{"max_tokens":200}`:                            "low",
		`"reasoning":{"max_tokens":1000}`:                           "medium",
		`"reasoning":{"max_tokens":8000}`:                           "high",
		`"reasoning":{"max_tokens":8000,"effort":"low"}`:            "low",
		`"reasoning":{"effort":"low"},"reasoning_effort":"high"`:    "high",
		`"reasoning_effort":"high","reasoning":{"effort":"low"}`:    "high",
		`"reasoning_effort":null,"reasoning":{"effort":"low"}`:      "low",
		`"reasoning":{"effort":["x"],"max_tokens":"8","exclude":1}`: "",
		`"reasoning":null`:                                          "", `"reasoning":"high"`: "",
	} {
		r, err := OpenAIChat{}.ParseRequest([]byte(`{"model":"o3",` + members + `,"messages":[]}`))
		if err != nil || r.Effort != want {
			t.Errorf("%s: %+v, %v", members, r, err)
		}
	}
	for _, key := range []string{"model", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "messages", "tools", "extra_body"} {
		_, err := OpenAIChat{}.ParseRequest([]byte(`{"messages":[],"extra_body":{"top_k":1,"` + key + `":null}}`))
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "at the top") {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, value := range []string{`{"top_k":1}`, `"text"`} {
		body := []byte(`{"messages":[],"extra_body":` + value + `}`)
		r, err := OpenAIChat{}.ParseRequest(body)
		if err != nil || !r.Opaque() {
			t.Errorf("%s: %+v, %v", value, r, err)
		}
	}
}
