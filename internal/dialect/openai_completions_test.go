package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// counted is the prompt of a request: its texts, and what is added to them.
func counted(r *Request) (texts []string, extra int64) {
	add := func(text []byte) { texts = append(texts, string(text)) }
	for i := range r.Messages() {
		extra += r.Message(i, r.Model, add)
	}
	return texts, extra + r.Rest(r.Model, add)
}

func TestCompletionsRequest(t *testing.T) {
	for _, tt := range []struct {
		name, in   string
		texts      string
		ids        int64
		choices    int64
		max        int64
		wantsUsage bool
	}{
		{"text", `{"model":"m","prompt":"a\nb"}`, `["a\nb"]`, 0, 1, 16, false},
		{"texts", `{"prompt":["a","b"],"n":3}`, `["a" "b"]`, 0, 6, 16, false},
		{"ids", `{"prompt":[1,2,30000]}`, `[]`, 3, 1, 16, false},
		{"lists of ids", `{"prompt":[[1,2],[3]],"max_tokens":5}`, `[]`, 3, 2, 5, false},
		{"mixed", `{"prompt":["a",[1,2]]}`, `["a"]`, 2, 2, 16, false},
		{"nothing", `{"prompt":[]}`, `[]`, 0, 1, 16, false},
		{"null", `{"prompt":null}`, `[]`, 0, 1, 16, false},
		{"best of", `{"prompt":"a","n":2,"best_of":5,"max_tokens":7}`, `["a"]`, 0, 5, 7, false},
		{"best of fewer", `{"prompt":["a","b"],"n":4,"best_of":2}`, `["a" "b"]`, 0, 8, 16, false},
		{"suffix", `{"prompt":"a","suffix":"z"}`, `["a" "z"]`, 0, 1, 16, false},
		{"no suffix", `{"prompt":"a","suffix":null}`, `["a"]`, 0, 1, 16, false},
		{"no tokens", `{"prompt":"a","max_tokens":0}`, `["a"]`, 0, 1, 0, false},
		{"a null cap", `{"prompt":"a","max_tokens":null}`, `["a"]`, 0, 1, 16, false},
		{"usage", `{"prompt":"a","stream":true,"stream_options":{"include_usage":true}}`, `["a"]`, 0, 1, 16, true},
		{"deeper", `{"prompt":[[[1,2]],{"a":1}]}`, `["[1,2]" "{\"a\":1}"]`, 0, 2, 16, false},
		{"an id that is none", `{"prompt":[12345678901]}`, `["12345678901"]`, 0, 1, 16, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := OpenAICompletions{}.ParseRequest([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			texts, ids := counted(r)
			if got := fmt.Sprintf("%q", texts); got != tt.texts || ids != tt.ids {
				t.Errorf("prompt %s and %d, want %s and %d", got, ids, tt.texts, tt.ids)
			}
			if r.Choices != tt.choices || r.MaxOutput != tt.max || r.WantsUsage != tt.wantsUsage {
				t.Errorf("choices %d, cap %d, usage %v", r.Choices, r.MaxOutput, r.WantsUsage)
			}
		})
	}
}

func TestCompletionsRefused(t *testing.T) {
	many := `["a"` + strings.Repeat(`,"a"`, 40) + `]`
	for body, want := range map[string]string{
		`{"messages":[]}`:                               `no "prompt"`,
		`{"prompt":"a","Prompt":"b"}`:                   `another letter case`,
		`{"prompt":"a","prompt":"b"}`:                   `same key twice`,
		`{"prompt":"a","best\u005fof":2}`:               `written with escapes`,
		`{"prompt":"a","best_of":200}`:                  `"best_of" is larger than 128`,
		`{"prompt":"a","suffix":"a"`:                    `not valid JSON`,
		`{"prompt":"a","stream":1}`:                     `"stream" must be true or false`,
		`{"prompt":` + many + `,"n":128,"stream":true}`: `more than 4096 choices`,
		`[]`: `must be a JSON object`,
	} {
		if _, err := (OpenAICompletions{}).ParseRequest([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", body, err, want)
		}
	}
	if _, err := (OpenAICompletions{}).ParseRequest([]byte(`{"prompt":` + many + `,"n":128}`)); err != nil {
		t.Error("unary:", err)
	}
}

func TestCompletionsEdits(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		limit          int64
	}{
		{"left alone", `{"prompt":"a"}`, `{"prompt":"a"}`, 0},
		{"the API's own cap is told", `{"prompt":"a" }`, `{"prompt":"a" ,"max_tokens":16}`, 100},
		{"or less", `{"prompt":"a"}`, `{"prompt":"a","max_tokens":7}`, 7},
		{"lowered", `{"max_tokens":50,"prompt":"a"}`, `{"max_tokens":7,"prompt":"a"}`, 7},
		{"low enough", `{"max_tokens":5,"prompt":"a"}`, `{"max_tokens":5,"prompt":"a"}`, 7},
		{"null is told", `{"max_tokens":null,"prompt":"a"}`, `{"max_tokens":16,"prompt":"a"}`, 100},
		{"usage", `{"prompt":"a","stream":true}`, `{"prompt":"a","stream":true,"stream_options":{"include_usage":true}}`, 0},
	} {
		r, err := OpenAICompletions{}.ParseRequest([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		if got, changed := r.Body(tt.limit); string(got) != tt.want || changed != (tt.in != tt.want) {
			t.Errorf("%s: got %s, changed %v, want %s", tt.name, got, changed, tt.want)
		}
	}
}

func completionsStream(t *testing.T, body string) Stream {
	t.Helper()
	r, err := OpenAICompletions{}.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return OpenAICompletions{}.NewStream(r)
}

func TestCompletionsStream(t *testing.T) {
	s := completionsStream(t, `{"prompt":["a","b"],"stream":true,"stream_options":{"include_usage":true}}`)
	got, ev := texts(s,
		`{"id":"c","object":"text_completion","created":5,"model":"m","choices":[{"text":"x","index":0,"logprobs":{"tokens":["x"]},"finish_reason":null}]}`,
		`{"choices":[{"text":"y","index":1}]}`,
		`{"choices":[{"text":"z","index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":3}}`,
	)
	if fmt.Sprint(got) != "map[0:xz 1:y]" || ev.Usage.Output != 3 || ev.UsageOnly {
		t.Errorf("got %v, %+v", got, ev)
	}
	if s.Ended() {
		t.Error("the second choice has not ended")
	}
	s.Forwarded()
	out := string(s.Close(nil, Usage{Known: true, UncachedInput: 2, Output: 4}))
	want := `data: {"id":"c","object":"text_completion","created":5,"model":"m","choices":[{"index":1,"text":"","logprobs":null,"finish_reason":"length"}],"usage":null}

data: {"id":"c","object":"text_completion","created":5,"model":"m","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":4,"total_tokens":6}}

data: [DONE]

`
	if out != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	// Those that are written but do not come back are not ended.
	s = completionsStream(t, `{"prompt":"a","n":2,"best_of":9,"stream":true}`)
	if n := strings.Count(string(s.Close(nil, Usage{})), `"length"`); n != 2 {
		t.Errorf("%d choices are ended, of 2", n)
	}
}

func TestCompletionsAnswer(t *testing.T) {
	var got []string
	u, err := OpenAICompletions{}.ParseAnswer([]byte(`{"choices":[{"text":"a","index":0},{"text":"b","index":1}],"usage":{"prompt_tokens":3,"completion_tokens":4}}`), func(b []byte) { got = append(got, string(b)) })
	if err != nil || fmt.Sprint(got) != "[a b]" || u.Input() != 3 || u.Output != 4 {
		t.Errorf("%v, %+v, %v", got, u, err)
	}
}

func TestEmbeddings(t *testing.T) {
	for _, tt := range []struct {
		name, in, texts string
		ids             int64
		opaque          bool
	}{
		{"text", `{"model":"m","input":"a"}`, `["a"]`, 0, false},
		{"texts", `{"input":["a","b"]}`, `["a" "b"]`, 0, false},
		{"ids", `{"input":[1,2,3]}`, `[]`, 3, false},
		{"lists of ids", `{"input":[[1,2],[3]]}`, `[]`, 3, false},
		{"objects", `{"input":[{"text":"a"}]}`, `["{\"text\":\"a\"}"]`, 0, true},
		{"messages", `{"messages":[{"content":"a"}]}`, `["[{\"content\":\"a\"}]"]`, 0, true},
		{"both", `{"input":"b","messages":["a"]}`, `["b" "[\"a\"]"]`, 0, true},
	} {
		r, err := OpenAIEmbeddings{}.ParseRequest([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		texts, ids := counted(r)
		if got := fmt.Sprintf("%q", texts); got != tt.texts || ids != tt.ids || r.Opaque() != tt.opaque {
			t.Errorf("%s: %s and %d, opaque %v", tt.name, got, ids, r.Opaque())
		}
		if body, changed := r.Body(7); changed || string(body) != tt.in || !r.NoOutput {
			t.Errorf("%s: the body became %s", tt.name, body)
		}
	}
	if _, err := (OpenAIEmbeddings{}).ParseRequest([]byte(`{"model":"m"}`)); err == nil || !strings.Contains(err.Error(), `no "input"`) {
		t.Error(err)
	}
	u, err := OpenAIEmbeddings{}.ParseAnswer([]byte(`{"data":[{"embedding":"AAAA","index":0}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}`), nil)
	if err != nil || u != (Usage{Known: true, UncachedInput: 5}) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, body := range []string{`{"data":[]}`, `{"usage":null}`, `{"usage":{"total_tokens":5}}`, `{"usage":{"prompt_tokens":"5"}}`} {
		if u, err := (OpenAIEmbeddings{}).ParseAnswer([]byte(body), nil); u.Known || err != nil {
			t.Errorf("%s: %+v, %v", body, u, err)
		}
	}
	for body, failed := range map[string]bool{
		`{"error":{"message":"m"}}`: true, `{"error":"m","data":[]}`: true, `{"error":null}`: false,
		`{"error":{},"data":[{}]}`: false, `{"error":{},"usage":{"prompt_tokens":5}}`: false,
	} {
		if _, err := (OpenAIEmbeddings{}).ParseAnswer([]byte(body), nil); errors.Is(err, ErrFailed) != failed {
			t.Errorf("%s: error %v", body, err)
		}
	}
	if u, err := (OpenAIEmbeddings{}).ParseAnswer([]byte(`{"usage":{"prompt_tokens":5}} {}`), nil); u.Known || err == nil {
		t.Errorf("two answers: %+v, %v", u, err)
	}
	if u, err := (OpenAIEmbeddings{}).ParseAnswer([]byte(`{"usage":{"prompt_tokens":5`), nil); u.Known || err == nil {
		t.Errorf("half an answer: %+v, %v", u, err)
	}
}

// FuzzPrompts: what is accepted is JSON before and after, has a bounded prompt, and
// changes by the edits in what they are for only.
func FuzzPrompts(f *testing.F) {
	for _, s := range []string{
		`{"model":"gpt-3.5-turbo-instruct","prompt":"a","suffix":"b","stream":true,"n":2,"best_of":3}`,
		`{"prompt":[1,2,3],"max_tokens":null}`, `{"prompt":[[1],["a",{}],null]}`, `{"input":["a",[1]],"messages":[]}`,
		`{"input":"","stream_options":{"include_usage":false},"stream":true,"prompt":[]}`, `{`, ``,
	} {
		f.Add([]byte(s), int64(7))
	}
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		for _, api := range []API{OpenAICompletions{}, OpenAIEmbeddings{}} {
			r, err := api.ParseRequest(body)
			if err != nil {
				continue
			}
			texts, extra := counted(r)
			if n := len(strings.Join(texts, "")); n > 2*len(body) || extra < 0 || extra > int64(len(body)) || r.Choices < 1 {
				t.Fatalf("a body of %d bytes hands out %d bytes and %d tokens, with %d choices", len(body), n, extra, r.Choices)
			}
			out, _ := r.Body(limit)
			var before, after map[string]any
			if err := decodeNumbers(body, &before); err != nil {
				t.Fatalf("accepted, but encoding/json says %v", err)
			}
			if err := decodeNumbers(out, &after); err != nil {
				t.Fatalf("the edited body %q: %v", out, err)
			}
			if r.NoOutput && string(out) != string(body) {
				t.Fatalf("%q became %q", body, out)
			}
			for _, m := range []map[string]any{before, after} {
				delete(m, "stream_options")
				delete(m, "max_tokens")
			}
			if fmt.Sprint(before) != fmt.Sprint(after) {
				t.Fatalf("the edits changed more than they may: %q became %q", body, out)
			}
		}
	})
}
