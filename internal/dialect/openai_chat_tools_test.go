package dialect

import (
	"strconv"
	"strings"
	"testing"
)

// rest returns what a request's rest hands out, joined, and its extra tokens.
func rest(t *testing.T, body, model string) (text string, extra int64) {
	t.Helper()
	r, err := OpenAIChat{}.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	extra = r.Rest(model, func(b []byte) { text += string(b) })
	return text, extra
}

func TestToolsText(t *testing.T) {
	for _, tt := range []struct{ name, schema, want string }{
		{"nothing", `{}`, "type f = () => any;"},
		{"null", `null`, "type f = () => any;"},
		{"no properties", `{"type":"object","properties":{}}`, "type f = () => any;"},
		{"kinds", `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"boolean"},"d":{"type":"null"},"e":{},"f":true},"required":["b"]}`,
			"type f = (_: {\na?: string,\nb: number,\nc?: boolean,\nd?: null,\ne?: any,\nf?: true,\n}) => any;"},
		{"values", `{"properties":{"a":{"enum":["x","y"],"type":"string"},"b":{"type":["string","null"]}}}`,
			"type f = (_: {\na?: \"x\" | \"y\",\nb?: string | null,\n}) => any;"},
		{"arrays", `{"properties":{"a":{"type":"array","items":{"type":"string"}},"b":{"type":"array"}}}`,
			"type f = (_: {\na?: string[],\nb?: any[],\n}) => any;"},
		{"inside", `{"properties":{"a":{"type":"object","description":"An a","properties":{"b":{"type":"number","description":"A b"}}}}}`,
			"type f = (_: {\n// An a\na?: {\n  // A b\n  b?: number,\n},\n}) => any;"},
		{"variants", `{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null}}}`,
			"type f = (_: {\na?: string | null, // default: null\n}) => any;"},
		{"escapes", `{"properties":{"\u0061":{"description":"one\ntwo","type":"string"}}}`,
			"type f = (_: {\n// one\n// two\na?: string,\n}) => any;"},
		{"what has no form", `{"properties":{"a":{"type":"string","minLength":3,"$ref":"#/x"}},"$defs":{"x":{}},"additionalProperties":false}`,
			"type f = (_: // $defs: {\"x\":{}}\n{\n// minLength: 3\n// $ref: \"#/x\"\na?: string,\n}) => any;"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := "namespace functions {\n\n// does it\n" + tt.want + "\n\n} // namespace functions"
			function := `{"name":"f","description":"does it","parameters":` + tt.schema + `,"strict":true}`
			got, extra := rest(t, `{"messages":[],"tools":[{"type":"function","function":`+function+`}]}`, "gpt-4o")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if want := int64(replyCookbook + toolsCookbook); extra != want {
				t.Errorf("extra is %d, want %d", extra, want)
			}
			if got, _ := rest(t, `{"messages":[],"functions":[`+function+`]}`, "gpt-4o"); got != want {
				t.Errorf("as a function it is\n%s", got)
			}
		})
	}
}

// TestNothingIsFree hides a text in every place of a request that may reach a
// model. It must come out, or be the cause of tokens.
func TestNothingIsFree(t *testing.T) {
	secret := strings.Repeat("tell me ", 40)
	q := `"` + secret + `"`
	wrap := func(schema string) string {
		return `{"messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":` + schema + `}}]}`
	}
	deep := `{"type":"string","description":` + q + `}`
	for range 2 * maxSchemaDepth {
		deep = `{"type":"object","properties":{"a":` + deep + `}}`
	}
	for name, body := range map[string]string{
		"unknown tool":           `{"messages":[],"tools":[{"type":"custom","custom":{"name":"c","description":` + q + `}}]}`,
		"tool without a name":    `{"messages":[],"tools":[{"type":"function","function":{"description":` + q + `}}]}`,
		"tool of another kind":   `{"messages":[],"tools":[` + q + `]}`,
		"tools of another kind":  `{"messages":[],"tools":` + q + `}`,
		"name":                   `{"messages":[],"functions":[{"name":` + q + `}]}`,
		"strict":                 `{"messages":[],"functions":[{"name":"f","strict":` + q + `}]}`,
		"unknown of a function":  `{"messages":[],"functions":[{"name":"f","x":` + q + `}]}`,
		"choice":                 `{"messages":[],"tool_choice":` + q + `}`,
		"choice of a name":       `{"messages":[],"tool_choice":{"type":"function","function":{"name":` + q + `}}}`,
		"choice unknown":         `{"messages":[],"tool_choice":{"type":"x","x":` + q + `}}`,
		"format":                 `{"messages":[],"response_format":{"type":"grammar","grammar":` + q + `}}`,
		"format's schema":        `{"messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"description":` + q + `}}}}`,
		"format's name":          `{"messages":[],"response_format":{"type":"json_schema","json_schema":{"name":` + q + `}}}`,
		"format's unknown":       `{"messages":[],"response_format":{"type":"json_schema","json_schema":` + q + `}}`,
		"format beside a schema": `{"messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"n"},"x":` + q + `}}`,
		"choice's unknown":       `{"messages":[],"tool_choice":{"type":"function","function":{"name":"f","x":` + q + `}}}`,
		"tool's unknown":         `{"messages":[],"tools":[{"type":"function","x":` + q + `,"function":{"name":"f"}}]}`,
		"tool's kind":            `{"messages":[],"tools":[{"type":` + q + `,"function":{"name":"f"}}]}`,
		"prediction's kind":      `{"messages":[],"prediction":{"type":` + q + `,"content":"a"}}`,
		"prediction":             `{"messages":[],"prediction":{"type":"content","content":[{"type":"text","text":` + q + `}]}}`,
		"parameters":             wrap(q),
		"description":            wrap(`{"description":` + q + `}`),
		"type":                   wrap(`{"type":` + q + `}`),
		"type beside values":     wrap(`{"type":` + q + `,"enum":[1]}`),
		"values":                 wrap(`{"enum":[` + q + `]}`),
		"values of another kind": wrap(`{"enum":` + q + `}`),
		"default":                wrap(`{"default":` + q + `}`),
		"default of items":       wrap(`{"properties":{"a":{"type":"array","items":{"type":"string","default":` + q + `}}}}`),
		"items beside a string":  wrap(`{"properties":{"a":{"type":"string","items":{"description":` + q + `}}}}`),
		"description of items":   wrap(`{"properties":{"a":{"type":"array","items":{"type":"string","description":` + q + `}}}}`),
		"properties of a string": wrap(`{"type":"string","properties":{"a":{"description":` + q + `}}}`),
		"properties and values":  wrap(`{"enum":[1],"properties":{"a":{"description":` + q + `}}}`),
		"properties and types":   wrap(`{"type":["string","null"],"properties":{"a":{"description":` + q + `}}}`),
		"properties unreadable":  wrap(`{"type":"object","properties":` + q + `}`),
		"property unreadable":    wrap(`{"properties":{"a":` + q + `}}`),
		"name of a property":     wrap(`{"properties":{` + q + `:{}}}`),
		"both variants":          wrap(`{"anyOf":[{"type":"null"}],"oneOf":[{"description":` + q + `}]}`),
		"variants unreadable":    wrap(`{"anyOf":` + q + `}`),
		"required":               wrap(`{"properties":{"a":{}},"required":[` + q + `]}`),
		"required, of no one":    wrap(`{"properties":{"` + strings.Repeat("a", 2000) + `":{}},"required":[` + q + `]}`),
		"required without":       wrap(`{"type":"object","required":[` + q + `]}`),
		"required unreadable":    wrap(`{"properties":{"a":{}},"required":` + q + `}`),
		"required, many":         wrap(`{"properties":{"` + strings.Repeat("a", 2000) + `":{}},"required":["` + strings.Join(strings.Split("bcdefghijklmnopqrstuvwxyzBCDEFGHIJKLMNOP", ""), `","`) + `",` + q + `]}`),
		"unknown keyword":        wrap(`{"properties":{"a":{"x":` + q + `}}}`),
		"long ignored keyword":   wrap(`{"properties":{"a":{"$schema":` + q + `}}}`),
		"deep":                   wrap(deep),
		"message":                `{"messages":[` + q + `]}`,
		"role":                   `{"messages":[{"role":` + q + `}]}`,
		"content":                `{"messages":[{"content":` + q + `}]}`,
		"name of a message":      `{"messages":[{"name":` + q + `}]}`,
		"unknown of a message":   `{"messages":[{"thinking":` + q + `}]}`,
		"part":                   `{"messages":[{"content":[` + q + `]}]}`,
		"part's text":            `{"messages":[{"content":[{"type":"text","text":` + q + `}]}]}`,
		"part unknown":           `{"messages":[{"content":[{"type":"x","x":{"y":` + q + `}}]}]}`,
		"image's unknown":        `{"messages":[{"content":[{"image_url":{"url":"http://x","x":` + q + `}}]}]}`,
		"audio's unknown":        `{"messages":[{"content":[{"input_audio":{"data":"","x":` + q + `}}]}]}`,
		"file's name":            `{"messages":[{"content":[{"file":{"filename":` + q + `}}]}]}`,
		"part's kind":            `{"messages":[{"content":[{"type":{"x":` + q + `},"text":"a"}]}]}`,
		"part's cache":           `{"messages":[{"content":[{"text":"a","cache_control":{"x":` + q + `}}]}]}`,
		"image's detail":         `{"messages":[{"content":[{"image_url":{"url":"http://x","detail":` + q + `}}]}]}`,
		"image of another kind":  `{"messages":[{"content":[{"image_url":{"url":[` + q + `]}}]}]}`,
		"audio's format":         `{"messages":[{"content":[{"input_audio":{"data":"","format":` + q + `}}]}]}`,
		"audio of another kind":  `{"messages":[{"content":[{"input_audio":[` + q + `]}]}]}`,
		"audio's data":           `{"messages":[{"content":[{"input_audio":{"data":[` + q + `]}}]}]}`,
		"file's id":              `{"messages":[{"content":[{"file":{"file_id":` + q + `}}]}]}`,
		"file's data":            `{"messages":[{"content":[{"file":{"file_data":[` + q + `]}}]}]}`,
		"video's unknown":        `{"messages":[{"content":[{"video_url":{"url":"http://x","x":` + q + `}}]}]}`,
		"earlier sound":          `{"messages":[{"audio":{"id":` + q + `}}]}`,
		"earlier sound's text":   `{"messages":[{"audio":` + q + `}]}`,
		"id of a call":           `{"messages":[{"role":"tool","tool_call_id":` + q + `}]}`,
		"call's id":              `{"messages":[{"tool_calls":[{"id":` + q + `,"function":{}}]}]}`,
		"call":                   `{"messages":[{"tool_calls":[{"function":{"name":"f","arguments":` + q + `}}]}]}`,
		"call in an object":      `{"messages":[{"tool_calls":[{"function":{"name":"f","arguments":{"a":` + q + `}}}]}]}`,
		"call of another kind":   `{"messages":[{"tool_calls":[{"type":"custom","custom":{"input":` + q + `}}]}]}`,
		"call's unknown":         `{"messages":[{"tool_calls":[{"function":{},"x":` + q + `}]}]}`,
		"calls unreadable":       `{"messages":[{"tool_calls":` + q + `}]}`,
		"function call":          `{"messages":[{"function_call":{"name":"f","arguments":` + q + `}}]}`,
		"function call's text":   `{"messages":[{"function_call":` + q + `}]}`,
	} {
		for _, model := range []string{"gpt-4o", "gpt-5", "gpt-oss-20b"} {
			r, err := OpenAIChat{}.ParseRequest([]byte(body))
			if err != nil {
				t.Fatal(name, err)
			}
			var text strings.Builder
			add := func(b []byte) { text.Write(b) }
			for i := range r.Messages() {
				r.Message(i, model, add)
			}
			r.Rest(model, add)
			if !strings.Contains(text.String(), secret) {
				t.Errorf("%s, %s: free, of %s", name, model, body)
			}
		}
	}
}

// TestMessageStandsAlone: what a message costs depends on nothing but its bytes and
// the model, so that it can be remembered.
func TestMessageStandsAlone(t *testing.T) {
	const m = `{"role":"assistant","name":"n","content":"a\"b","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}`
	cost := func(body string, i int, model string) (text string, extra int64) {
		r, err := OpenAIChat{}.ParseRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.RawMessage(i)); got != m {
			t.Fatalf("message %d is %s", i, got)
		}
		r.Rest("o1", func([]byte) {}) // what was asked before must not matter
		extra = r.Message(i, model, func(b []byte) { text += "|" + string(b) })
		return text, extra
	}
	for _, model := range []string{"gpt-4o", "gpt-5"} {
		text, extra := cost(`{"messages":[`+m+`]}`, 0, model)
		for _, around := range []string{`{"tools":[{"function":{"name":"f"}}],"messages":[ {"role":"system","content":"s"} , ` + m + ` ]}`, `{"messages":[{"content":[1]},` + m + `],"stream":true}`} {
			if gotText, got := cost(around, 1, model); gotText != text || got != extra {
				t.Errorf("%s: in %s it costs %q and %d, alone %q and %d", model, around, gotText, got, text, extra)
			}
		}
	}
}

func TestReleased(t *testing.T) {
	r, err := OpenAIChat{}.ParseRequest([]byte(`{"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Release()
	if n := r.Rest("gpt-4o", func([]byte) { t.Error("a text") }); n != 0 || r.Messages() != 0 {
		t.Errorf("%d tokens and %d messages after Release", n, r.Messages())
	}
}

// TestHugeRequests: bodies of millions of small things take time and hand out text
// in proportion to their size. What is quadratic would not come back.
func TestHugeRequests(t *testing.T) {
	const size = 4 << 20
	fill := func(before, element, after string) string {
		return before + strings.TrimSuffix(strings.Repeat(element, size/len(element)), ",") + after
	}
	var properties, required strings.Builder
	for i := range size / 24 {
		name := `"` + strconv.Itoa(i) + `"`
		properties.WriteString(name + `:{},`)
		required.WriteString(name + `,`)
	}
	tool := func(parameters string) string {
		return `{"messages":[],"functions":[{"name":"f","parameters":` + parameters + `}]}`
	}
	line := `{"properties":{"a":{"description":"` + strings.Repeat(`\n`, size/2) + `"}}}`
	for range maxSchemaDepth - 1 {
		line = `{"properties":{"a":` + line + `}}`
	}
	for name, body := range map[string]string{
		"messages":      fill(`{"messages":[`, `{},`, `]}`),
		"parts":         fill(`{"messages":[{"content":[`, `{},`, `]}]}`),
		"images":        fill(`{"messages":[{"content":[`, `{"image_url":"data:image/jpeg;base64,/9j/"},`, `]}]}`),
		"calls":         fill(`{"messages":[{"role":"assistant","tool_calls":[`, `{"function":{}},`, `]}]}`),
		"tools":         fill(`{"messages":[],"tools":[`, `{},`, `]}`),
		"functions":     fill(`{"messages":[],"functions":[`, `{"name":"f"},`, `]}`),
		"properties":    tool(`{"properties":{` + strings.TrimSuffix(properties.String(), ",") + `},"required":[` + strings.TrimSuffix(required.String(), ",") + `]}`),
		"variants":      tool(fill(`{"anyOf":[`, `{},`, `]}`)),
		"depth":         tool(strings.Repeat(`{"properties":{"a":`, 4000) + fill(`[`, `0,`, `]`) + strings.Repeat(`}}`, 4000)),
		"line feeds":    tool(line),
		"quotes":        fill(`{"messages":[{"content":"`, `\"`, `"}]}`),
		"backslashes":   fill(`{"messages":[{"content":"`, `\\`, `"}]}`),
		"an image":      fill(`{"messages":[{"content":[{"image_url":{"url":"data:image/jpeg;base64,/9j/4AAC`, `/+AC`, `"}}]}]}`),
		"JSON's spaces": fill(`{"messages":[`, " ", `]}`),
	} {
		r, err := OpenAIChat{}.ParseRequest([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		texts, longest := 0, 0
		add := func(text []byte) { texts, longest = texts+len(text), max(longest, len(text)) }
		extra := int64(0)
		for i := range r.Messages() {
			extra += r.Message(i, "gpt-4o", add)
		}
		extra += r.Rest("gpt-4o", add)
		t.Logf("%-13s %d MB in %d messages: %d MB of text, the longest %d MB, and %d tokens", name, len(body)>>20, r.Messages(), texts>>20, longest>>20, extra)
		if texts > 6*len(body) || longest > 3*len(body) {
			t.Errorf("%s: a body of %d bytes hands out %d bytes of text, the longest of %d", name, len(body), texts, longest)
		}
	}
}
