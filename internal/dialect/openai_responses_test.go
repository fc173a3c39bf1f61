package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recordedResponses are the streams of the stand-in's recordings, by name, as the data of
// their events.
func recordedResponses(t testing.TB) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../standin/recordings/openai-responses/*/response.sse")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	all := make(map[string][]string)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var events []string
		for line := range strings.Lines(string(raw)) {
			if data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: "); ok {
				events = append(events, data)
			}
		}
		all[filepath.Base(filepath.Dir(f))] = events
	}
	return all
}

// made is the answer that a last event has, for comparison.
type made struct {
	ID, Status, Model string
	IncompleteDetails *struct{ Reason string } `json:"incomplete_details"`
	Output            []madeItem
	Usage             map[string]any
}

type madeItem struct {
	ID, Type, Status, Name, Arguments, Input string
	Content, Summary                         []madePart
	Action                                   any // an object, of a search
}

type madePart struct {
	Type, Text, Refusal string
	Annotations         []any
}

// text is all that a model wrote of an item.
func (m madeItem) text() string {
	s := m.Name + m.Arguments + m.Input
	if action, ok := m.Action.(map[string]any); ok {
		query, _ := action["query"].(string)
		s += query
	}
	for _, p := range m.Content {
		s += p.Text + p.Refusal
	}
	for _, p := range m.Summary {
		s += p.Text
	}
	return s
}

type responsesEvent struct {
	Type           string
	SequenceNumber int64  `json:"sequence_number"`
	OutputIndex    int    `json:"output_index"`
	ContentIndex   int    `json:"content_index"`
	SummaryIndex   int    `json:"summary_index"`
	ItemID         string `json:"item_id"`
	Text, Refusal  string
	Delta          any
	Item           madeItem
	Part           madePart
	Response       made
}

func TestResponsesAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		usage      Usage
	}{
		{"basic", "[Hello! How can I assist you today?]", Usage{Known: true, UncachedInput: 10, Output: 10}},
		{"tool", `[I will check that. get_weather {"location":"San Francisco"}]`, Usage{Known: true, UncachedInput: 20, CacheRead: 4, CacheWrite: 6, Output: 5}},
	} {
		body, err := os.ReadFile("../standin/recordings/openai-responses/" + tt.name + "/response.json")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		u, err := OpenAIResponses{}.ParseAnswer(body, func(b []byte) { got = append(got, string(b)) })
		if err != nil || u != tt.usage || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %q, %+v, %v", tt.name, got, u, err)
		}
		if u, err := (OpenAIResponses{}).ParseAnswer(body[:len(body)-3], func([]byte) {}); err == nil || u.Known {
			t.Errorf("%s: half of it gives %+v, %v", tt.name, u, err)
		}
	}
	// The answer to a request in the background has neither.
	u, err := OpenAIResponses{}.ParseAnswer([]byte(`{"id":"r","status":"queued","output":[],"usage":null}`), func([]byte) { t.Error("a text") })
	if err != nil || u.Known {
		t.Errorf("%+v, %v", u, err)
	}
	u, err = OpenAIResponses{}.ParseAnswer([]byte(`{"output":[{"type":"message","content":[{"type":"output_text","text":"a"}]},{"type":"image_generation_call","result":"AAAA"}]}`), func([]byte) {})
	if err != nil || u != (Usage{Extra: tokensPerImage}) {
		t.Errorf("a picture: %+v, %v", u, err)
	}
	for body, failed := range map[string]bool{
		`{"error":{"message":"m"}}`:                                 true,
		`{"error":"m","output":null,"status":500}`:                  true,
		`{"object":"response","status":"failed","error":{}}`:        false, // it can have been billed
		`{"status":"failed","error":{"code":"c"},"output":[]}`:      false,
		`{"error":{},"usage":{"input_tokens":1,"output_tokens":2}}`: false,
		`{"error":null}`: false,
	} {
		if _, err := (OpenAIResponses{}).ParseAnswer([]byte(body), func([]byte) {}); errors.Is(err, ErrFailed) != failed {
			t.Errorf("%s: error %v", body, err)
		}
	}
}

// Every text of a stream is handed out once, and what is handed out is what the last
// event has; the usage is the provider's.
func TestResponsesRecordings(t *testing.T) {
	for name, events := range recordedResponses(t) {
		s := OpenAIResponses{}.NewStream(nil)
		var ev Event
		var got strings.Builder
		var usage Usage
		var want made
		items := make(map[int]madeItem)
		ended := false
		for _, e := range events {
			s.Event([]byte(e), &ev)
			s.Forwarded()
			for _, x := range ev.Texts {
				got.Write(x.Bytes)
				if x.Slot == MaxSlots-1 {
					t.Errorf("%s: not understood: %s", name, x.Bytes)
				}
			}
			if ev.Usage.Known {
				usage = ev.Usage
			}
			if e == "[DONE]" {
				continue
			}
			var parsed responsesEvent
			if err := json.Unmarshal([]byte(e), &parsed); err != nil {
				t.Fatal(err)
			}
			switch parsed.Type {
			case "response.output_item.done":
				items[parsed.OutputIndex] = parsed.Item
			case "response.completed", "response.incomplete":
				want, ended = parsed.Response, true
			}
			if ev.Done != ended || ended && !s.Ended() || ev.Failed {
				t.Errorf("%s: at %s done is %v, ended %v, failed %v", name, parsed.Type, ev.Done, s.Ended(), ev.Failed)
			}
		}
		length := 0
		for _, item := range items {
			length += len(item.text())
		}
		if got.Len() != length {
			t.Errorf("%s: %d bytes of text, want %d: %q", name, got.Len(), length, got.String())
		}
		if float64(usage.Output) != want.Usage["output_tokens"] || float64(usage.Input()) != want.Usage["input_tokens"] {
			t.Errorf("%s: usage %+v, want %v", name, usage, want.Usage)
		}
		if out := s.Close(nil, Usage{}); len(out) > 0 {
			t.Errorf("%s: an answer that has ended is ended again: %s", name, out)
		}
	}
}

// newResponses is a stream that has begun.
func newResponses() *responsesStream {
	s := OpenAIResponses{}.NewStream(nil).(*responsesStream)
	var ev Event
	s.Event([]byte(`{"type":"response.created","sequence_number":0,"response":{"id":"r1","object":"response","created_at":5,"model":"gpt-4o","status":"in_progress","output":[],"usage":null}}`), &ev)
	s.Forwarded()
	return s
}

func TestResponsesNothingIsFree(t *testing.T) {
	const (
		delta = `{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"caf\u00e9 \ud83d\ude00","obfuscation":"xyz","logprobs":[{"token":"x"}]}`
		whole = `café 😀`
	)
	message := func(text string) string {
		return `{"id":"m","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[{"title":"t"}],"text":"` + text + `"}]}`
	}
	for _, tt := range []struct {
		name   string
		events []string
		text   string
		extra  int64
	}{
		{"a piece", []string{delta}, whole, 0},
		{"and all its ends", []string{delta,
			`{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"café \ud83d\ude00"}`,
			`{"type":"response.content_part.done","output_index":0,"content_index":0,"part":{"type":"output_text","text":"café 😀"}}`,
			`{"type":"response.output_item.done","output_index":0,"item":` + message("café 😀") + `}`,
			`{"type":"response.completed","response":{"output":[` + message("café 😀") + `],"usage":{"input_tokens":1,"output_tokens":2}}}`}, whole, 0},
		{"its text alone", []string{`{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"café"}`}, "café", 0},
		{"its part alone", []string{`{"type":"response.content_part.done","output_index":0,"content_index":0,"part":{"type":"output_text","text":"café"}}`}, "café", 0},
		{"its item alone", []string{`{"type":"response.output_item.done","output_index":0,"item":` + message("café") + `}`}, "café", 0},
		{"the answer alone", []string{`{"type":"response.completed","response":{"output":[` + message("café") + `]}}`}, "café", 0},
		{"half in pieces", []string{delta, `{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"café \ud83d\ude00 au lait"}`}, whole + " au lait", 0},
		{"another item in the last event", []string{delta, `{"type":"response.completed","response":{"output":[` + message("café 😀") + `,` + message("more") + `]}}`}, whole + "more", 0},
		{"at another place in the last event", []string{strings.Replace(delta, `"output_index":0`, `"output_index":3`, 1), `{"type":"response.completed","response":{"output":[` + message("café 😀") + `]}}`}, whole, 0},
		{"a text of an item that began", []string{`{"type":"response.output_item.added","output_index":0,"item":` + message("begun") + `}`}, "begun", 0},
		{"arguments at once", []string{`{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"f","arguments":"{}","call_id":"c"}}`}, "f{}", 0},
		{"a name, then arguments", []string{`{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"f","arguments":""}}`,
			`{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{}","name":"f"}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"f","arguments":"{}"}}`}, "f{}", 0},
		{"code", []string{`{"type":"response.code_interpreter_call_code.delta","output_index":0,"delta":"1+"}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"code_interpreter_call","code":"1+1","outputs":[{"type":"logs","logs":"2"}]}}`}, "1+1", 0},
		{"a shell", []string{`{"type":"response.shell_call_command.delta","output_index":0,"command_index":1,"delta":"ls"}`,
			`{"type":"response.shell_call_output_content.delta","output_index":1,"command_index":0,"delta":{"stdout":"a b"}}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"shell_call","action":{"commands":["cd","ls"]}}}`,
			`{"type":"response.output_item.done","output_index":1,"item":{"type":"shell_call_output","output":[{"stdout":"a b"}]}}`}, "lscd", 0},
		{"a local shell", []string{`{"type":"response.output_item.done","output_index":0,"item":{"type":"local_shell_call","action":{"type":"exec","command":["ls","-l"]}}}`}, "ls-l", 0},
		{"a patch", []string{`{"type":"response.output_item.done","output_index":0,"item":{"type":"apply_patch_call","operation":{"type":"update_file","diff":"+a"}}}`}, "+a", 0},
		{"a search", []string{`{"type":"response.output_item.done","output_index":0,"item":{"type":"web_search_call","action":{"type":"search","query":"q","sources":[{"url":"u"}]}}}`}, "q", 0},
		{"what a tool found", []string{`{"type":"response.output_item.done","output_index":0,"item":{"type":"file_search_call","queries":["q"],"results":[{"text":"long"}]}}`}, `["q"]`, 0},
		{"a summary", []string{`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":1,"delta":"s"}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","encrypted_content":"gAAA","summary":[{"type":"summary_text","text":""},{"type":"summary_text","text":"s"}]}}`}, "s", 0},
		{"reasoning", []string{`{"type":"response.content_part.added","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}`,
			`{"type":"response.reasoning_text.delta","output_index":0,"content_index":0,"delta":"r"}`,
			`{"type":"response.content_part.done","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"r"}}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"r"}]}}`}, "r", 0},
		{"a refusal", []string{`{"type":"response.refusal.delta","output_index":0,"content_index":0,"delta":"no"}`,
			`{"type":"response.content_part.done","output_index":0,"content_index":0,"part":{"type":"refusal","refusal":"no"}}`}, "no", 0},
		{"an event of a later day", []string{`{"type":"response.monologue.delta","output_index":0,"delta":"m"}`}, "m", 0},
		{"a member of a later day", []string{`{"type":"response.monologue","words":"m"}`}, `"m"`, 0},
		{"a part of a later day", []string{`{"type":"response.content_part.done","output_index":0,"content_index":0,"part":{"type":"x","words":"m"}}`}, `{"type":"x","words":"m"}`, 0},
		{"an item of a later day", []string{`{"type":"response.output_item.done","output_index":0,"item":{"type":"x","words":"m"}}`}, `{"type":"x","words":"m"}`, 0},
		{"a piece that is an object", []string{`{"type":"response.x.delta","delta":{"text":"m"}}`}, `{"text":"m"}`, 0},
		{"an item as a string", []string{`{"type":"response.output_item.done","item":"m"}`}, "m", 0},
		{"a content as an object", []string{`{"type":"response.output_item.done","item":{"type":"message","content":{"text":"m"}}}`}, `{"text":"m"}`, 0},
		{"an answer as a string", []string{`{"type":"response.completed","response":"m"}`}, "m", 0},
		{"an output as a string", []string{`{"type":"response.completed","response":{"output":"m"}}`}, "m", 0},
		{"a piece beside an error", []string{`{"type":"response.output_text.delta","delta":"m","error":{"code":"x"}}`}, "m", 0},
		{"a text beside an empty one", []string{`{"type":"response.output_text.done","text":"m","code":""}`}, "m", 0},
		{"no event", []string{`{"choices":[{"delta":{"content":"m"}}]}`}, `{"choices":[{"delta":{"content":"m"}}]}`, 0},
		{"not JSON", []string{`{"type":"response.output_text.delta","delta":"m"`}, `{"type":"response.output_text.delta","delta":"m"`, 0},
		{"an array", []string{`["m"]`}, `["m"]`, 0},
		{"a picture", []string{`{"type":"response.image_generation_call.partial_image","output_index":0,"partial_image_b64":"AAAA"}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"image_generation_call","result":"AAAA"}}`,
			`{"type":"response.completed","response":{"output":[{"type":"image_generation_call","result":"AAAA"}]}}`}, "", tokensPerPartialImage + tokensPerImage},
		{"sound", []string{`{"type":"response.audio.delta","delta":"` + strings.Repeat("A", 6000) + `"}`, `{"type":"response.audio.transcript.delta","delta":"t"}`}, "t", 2},
		{"nothing", []string{`{"type":"keepalive","sequence_number":7}`, `{"type":"response.web_search_call.searching","output_index":0,"item_id":"w","sequence_number":8}`,
			`{"type":"response.output_text.annotation.added","output_index":0,"content_index":0,"annotation":{"title":"t"},"annotation_index":0}`,
			`{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[],"role":"assistant"}}`,
			`{"type":"response.output_item.added","output_index":1,"item":null}`}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newResponses()
			var ev Event
			var got strings.Builder
			extra := int64(0)
			for _, e := range tt.events {
				s.Event([]byte(e), &ev)
				s.Forwarded()
				for _, x := range ev.Texts {
					got.Write(x.Bytes)
				}
				extra += ev.Extra
			}
			if got.String() != tt.text || extra != tt.extra {
				t.Errorf("got %q and %d, want %q and %d", got.String(), extra, tt.text, tt.extra)
			}
		})
	}
}

// Pieces of one text are one text to the tokenizer, and others are not; their number is
// bounded.
func TestResponsesSlots(t *testing.T) {
	s := newResponses()
	got, _ := texts(s,
		`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"a"}`,
		`{"type":"response.output_text.delta","output_index":1,"content_index":1,"delta":"x"}`,
		`{"type":"response.refusal.delta","output_index":1,"content_index":0,"delta":"r"}`,
		`{"type":"response.output_text.delta","output_index":2,"content_index":0,"delta":"y"}`,
		`{"type":"response.output_text.done","output_index":1,"content_index":0,"text":"ab"}`)
	if want := map[int]string{0: "ab", 1: "x", 2: "r", 3: "y"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for i := range 2 * maxTexts {
		var ev Event
		s.Event(fmt.Appendf(nil, `{"type":"response.output_text.delta","output_index":%d,"delta":"x"}`, i), &ev)
		if len(ev.Texts) != 1 || ev.Texts[0].Slot >= MaxSlots {
			t.Fatalf("item %d: %+v", i, ev.Texts)
		}
	}
	if len(s.texts) > maxTexts {
		t.Errorf("%d texts are remembered", len(s.texts))
	}
}

func TestResponsesMarks(t *testing.T) {
	for _, tt := range []struct {
		event        string
		done, failed bool
		usage        Usage
	}{
		{`{"type":"response.completed","response":{"error":null,"usage":{"input_tokens":9,"output_tokens":7,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":9},"output_tokens_details":{"reasoning_tokens":2}}}}`, true, false,
			Usage{Known: true, CacheRead: 4, CacheWrite: 5, Output: 7, Reasoning: 2}},
		{`{"type":"response.incomplete","response":{"usage":null}}`, true, false, Usage{}},
		{`{"type":"response.incomplete","response":{"usage":{"input_tokens":9}}}`, true, false, Usage{}},
		{`{"type":"response.failed","response":{"error":{"code":"server_error"},"usage":null}}`, true, true, Usage{}},
		{`{"type":"error","code":"x","message":"m","param":null}`, true, true, Usage{}},
		{`{"error":{"message":"m"}}`, false, true, Usage{}},
		{`{"type":"response.in_progress","response":{"id":"r1","error":{"code":"x"}}}`, false, true, Usage{}},
		{`[DONE]`, true, false, Usage{}},
	} {
		_, ev := texts(newResponses(), tt.event)
		if ev.Done != tt.done || ev.Failed != tt.failed || ev.Usage != tt.usage || len(ev.Texts) != 0 {
			t.Errorf("%s: %+v", tt.event, ev)
		}
	}
}

// A cut behind every event of every stream: the closing events are those of the API, in
// its order, and what they repeat is what was forwarded.
func TestResponsesCutEverywhere(t *testing.T) {
	for name, events := range recordedResponses(t) {
		for _, completed := range []bool{false, true} {
			for cut := 0; cut <= len(events); cut++ {
				t.Run(fmt.Sprintf("%s/%d/%v", name, cut, completed), func(t *testing.T) { cutResponses(t, events, cut, completed) })
			}
		}
	}
}

func cutResponses(t *testing.T, events []string, cut int, completed bool) {
	s := OpenAIResponses{}.NewStream(nil).(*responsesStream)
	if completed {
		s.CloseCompleted()
	}
	var ev Event
	c := client{t: t, sequence: -1}
	for i, e := range events {
		s.Event([]byte(e), &ev)
		if i < cut {
			s.Forwarded()
			if e != "[DONE]" {
				c.take(e)
			}
		} else {
			break // read, but not forwarded
		}
	}
	tools := c.openTools()
	before := c.texts()
	if got := s.transcript.openTools(); got != tools {
		t.Fatalf("%d calls of tools are open, want %d", got, tools)
	}
	out := s.Close(nil, Usage{Known: true, UncachedInput: 3, CacheRead: 1, Output: 5})
	if c.ended {
		if len(out) > 0 {
			t.Fatalf("closed again: %s", out)
		}
		return
	}
	for e := range strings.SplitSeq(strings.TrimSuffix(string(out), "\n\n"), "\n\n") {
		kind, data, ok := strings.Cut(strings.TrimPrefix(e, "event: "), "\ndata: ")
		if !ok || strings.Contains(data, "\n") {
			t.Fatalf("no event: %q", e)
		}
		if last := c.take(data); last.Type != kind {
			t.Fatalf("event %s has the type %s", kind, last.Type)
		}
	}
	want := "response.incomplete"
	if completed && tools == 0 {
		want = "response.completed"
	}
	switch {
	case !c.ended || c.last.Type != want:
		t.Fatalf("the last event is %s, want %s", c.last.Type, want)
	case c.last.Response.Status != "incomplete" || c.last.Response.IncompleteDetails == nil || c.last.Response.IncompleteDetails.Reason != "max_output_tokens":
		t.Fatalf("the last event does not say so: %+v", c.last.Response)
	case fmt.Sprint(c.last.Response.Usage["total_tokens"]) != "9":
		t.Fatalf("usage is %v", c.last.Response.Usage)
	case cut > 0 && c.last.Response.ID != c.id:
		t.Fatalf("the id is %q, want %q", c.last.Response.ID, c.id)
	case c.openTools() != tools:
		t.Fatal("a call of a tool was ended")
	}
	at := 0
	for i, item := range c.items {
		if isTool(item.Type) && !c.done[i] {
			continue
		}
		if !c.done[i] {
			t.Errorf("item %d is not ended", i)
		}
		if at >= len(c.last.Response.Output) {
			t.Fatalf("the last event has %d items, and lacks item %d", at, i)
		}
		got := c.last.Response.Output[at]
		at++
		if got.ID != item.ID || got.Type != item.Type || got.text() != item.text() {
			t.Errorf("item %d of the last event is %+v, want %+v", i, got, item)
		}
		if item.text() != before[i] {
			t.Errorf("the closing events make %q of %q", item.text(), before[i])
		}
	}
	if at != len(c.last.Response.Output) {
		t.Errorf("the last event has %d items, want %d", len(c.last.Response.Output), at)
	}
}

func isTool(kind string) bool { return kind != "message" && kind != "reasoning" }

// client puts an answer together from its events, as strictly as it can.
type client struct {
	t        *testing.T
	id       string
	sequence int64
	items    []madeItem
	done     []bool
	begun    map[[2]int]bool // parts that an event began, by item and part
	last     responsesEvent
	ended    bool
}

func (c *client) openTools() (n int) {
	for i, item := range c.items {
		if isTool(item.Type) && !c.done[i] {
			n++
		}
	}
	return n
}

func (c *client) texts() (all []string) {
	for _, item := range c.items {
		all = append(all, item.text())
	}
	return all
}

func (c *client) take(data string) responsesEvent {
	c.t.Helper()
	var e responsesEvent
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		c.t.Fatalf("%v: %s", err, data)
	}
	if c.ended {
		c.t.Fatalf("%s behind the end", e.Type)
	}
	if c.sequence >= 0 && e.SequenceNumber != c.sequence+1 {
		c.t.Fatalf("%s has the number %d behind %d", e.Type, e.SequenceNumber, c.sequence)
	}
	c.sequence, c.last = e.SequenceNumber, e
	item := func() *madeItem {
		if e.OutputIndex >= len(c.items) || c.done[e.OutputIndex] {
			c.t.Fatalf("%s for an item that is not open", e.Type)
		}
		return &c.items[e.OutputIndex]
	}
	part := func(parts *[]madePart, at int, kind string) *madePart {
		if at == len(*parts) { // some servers leave out the event that begins it
			*parts = append(*parts, madePart{Type: kind})
		}
		if p := &(*parts)[at]; p.Type != kind {
			c.t.Fatalf("%s for a part of type %s", e.Type, p.Type)
		}
		return &(*parts)[at]
	}
	delta, _ := e.Delta.(string)
	same := func(what *string, got string) {
		if *what != got && *what != "" {
			c.t.Fatalf("%s says %q, and the pieces were %q", e.Type, got, *what)
		}
		*what = got
	}
	switch e.Type {
	case "response.created":
		c.id = e.Response.ID
	case "response.output_item.added":
		if e.OutputIndex != len(c.items) {
			c.t.Fatalf("item %d begins behind %d", e.OutputIndex, len(c.items))
		}
		c.items, c.done = append(c.items, e.Item), append(c.done, false)
	case "response.output_item.done":
		i := item()
		if i.ID != e.Item.ID || i.Type != e.Item.Type {
			c.t.Fatalf("item %s %s is ended as %s %s", i.ID, i.Type, e.Item.ID, e.Item.Type)
		}
		*i, c.done[e.OutputIndex] = e.Item, true
	case "response.content_part.added":
		if c.begun == nil {
			c.begun = make(map[[2]int]bool)
		}
		c.begun[[2]int{e.OutputIndex, e.ContentIndex}] = true
		i := item()
		i.Content = append(i.Content, e.Part)
	case "response.content_part.done":
		if !c.begun[[2]int{e.OutputIndex, e.ContentIndex}] {
			c.t.Fatal("a part is ended that did not begin")
		}
		p := part(&item().Content, e.ContentIndex, e.Part.Type)
		if len(e.Part.Annotations) != 0 && len(p.Annotations) > len(e.Part.Annotations) {
			c.t.Fatal("an annotation is missing")
		}
		same(&p.Text, e.Part.Text)
		same(&p.Refusal, e.Part.Refusal)
	case "response.output_text.annotation.added":
		p := part(&item().Content, e.ContentIndex, "output_text")
		p.Annotations = append(p.Annotations, 1)
	case "response.output_text.delta":
		part(&item().Content, e.ContentIndex, "output_text").Text += delta
	case "response.output_text.done":
		same(&part(&item().Content, e.ContentIndex, "output_text").Text, e.Text)
	case "response.reasoning_text.delta":
		part(&item().Content, e.ContentIndex, "reasoning_text").Text += delta
	case "response.reasoning_text.done":
		same(&part(&item().Content, e.ContentIndex, "reasoning_text").Text, e.Text)
	case "response.refusal.delta":
		part(&item().Content, e.ContentIndex, "refusal").Refusal += delta
	case "response.refusal.done":
		same(&part(&item().Content, e.ContentIndex, "refusal").Refusal, e.Refusal)
	case "response.reasoning_summary_part.added":
		i := item()
		i.Summary = append(i.Summary, e.Part)
	case "response.reasoning_summary_part.done":
		same(&part(&item().Summary, e.SummaryIndex, "summary_text").Text, e.Part.Text)
	case "response.reasoning_summary_text.delta":
		part(&item().Summary, e.SummaryIndex, "summary_text").Text += delta
	case "response.reasoning_summary_text.done":
		same(&part(&item().Summary, e.SummaryIndex, "summary_text").Text, e.Text)
	case "response.function_call_arguments.delta":
		item().Arguments += delta
	case "response.custom_tool_call_input.delta":
		item().Input += delta
	case "response.completed", "response.incomplete":
		c.ended = true
	}
	return e
}

// Beyond the bounds nothing is kept, and the closing events say nothing that is not so.
func TestResponsesLongAnswer(t *testing.T) {
	s := newResponses()
	var ev Event
	send := func(data string) {
		s.Event([]byte(data), &ev)
		s.Forwarded()
	}
	send(`{"type":"response.output_item.added","output_index":0,"item":{"id":"m","type":"message","role":"assistant","content":[]}}`)
	piece := `{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"` + strings.Repeat("x", 64<<10) + `"}`
	for range 64 {
		send(piece)
	}
	if s.transcript.kept > maxKept || len(s.transcript.items[0].parts) > 0 {
		t.Errorf("%d bytes are kept", s.transcript.kept)
	}
	out := string(s.Close(nil, Usage{Known: true, Output: 7}))
	if strings.Count(out, "event: ") != 1 || !strings.Contains(out, `"output":[]`) || !strings.Contains(out, "response.incomplete") {
		t.Errorf("%s", out)
	}

	s = newResponses()
	for i := range 2 * maxItems {
		send(fmt.Sprintf(`{"type":"response.output_item.added","output_index":%d,"item":{"id":"m","type":"message"}}`, i))
	}
	if len(s.transcript.items) > maxItems || !s.transcript.lost {
		t.Errorf("%d items are kept", len(s.transcript.items))
	}

	// What the response repeats of the request is bounded, too.
	s = OpenAIResponses{}.NewStream(nil).(*responsesStream)
	send(`{"type":"response.created","response":{"id":"r1","instructions":"` + strings.Repeat("x", 1<<20) + `","tools":[` + strings.Repeat(" ", 1<<20) + `],"text":{"x":"` + strings.Repeat("x", 1<<20) + `"},"model":"m"}}`)
	if got := string(s.transcript.head); got != `"id":"r1","instructions":null,"tools":[],"text":{},"model":"m",` {
		t.Errorf("%d bytes: %.200s", len(got), got)
	}
}

// The closing events repeat an item without what is between its members: a line feed there
// would end the event.
func TestResponsesPretty(t *testing.T) {
	s := newResponses()
	var ev Event
	s.Event([]byte("{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\n \"id\" : \"m\",\n \"type\": \"message\", \"content\": []\n}}"), &ev)
	s.Forwarded()
	s.Event([]byte("{\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\n \"id\" : \"m\\n2\",\n \"type\": \"message\", \"content\": []\n}}"), &ev)
	s.Forwarded()
	out := s.Close(nil, Usage{})
	if n := bytes.Count(out, []byte("\n")); n != 3*2 {
		t.Errorf("%d lines: %s", n, out)
	}
}

// The answer may be at its end while no item is open, but for reasoning, which something
// follows.
func TestResponsesEnded(t *testing.T) {
	s := newResponses()
	var ev Event
	for _, tt := range []struct {
		event string
		ended bool
	}{
		{`{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning"}}`, false},
		{`{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning"}}`, false},
		{`{"type":"response.output_item.added","output_index":1,"item":{"type":"message"}}`, false},
		{`{"type":"response.output_text.done","output_index":1,"content_index":0,"text":"x"}`, false},
		{`{"type":"response.output_item.done","output_index":1,"item":{"type":"message"}}`, true},
		{`{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call"}}`, false},
		{`{"type":"response.completed","response":{}}`, true},
	} {
		s.Event([]byte(tt.event), &ev)
		if s.Forwarded(); s.Ended() != tt.ended {
			t.Errorf("%s: ended is %v", tt.event, s.Ended())
		}
	}
}

func TestResponsesInTool(t *testing.T) {
	s := newResponses()
	var ev Event
	for _, tt := range []struct {
		event        string
		read, passed bool
	}{
		{`{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}`, false, false},
		{`{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","name":"f"}}`, true, true},
		{`{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{"}`, true, true},
		{`{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","name":"f","arguments":"{}"}}`, true, false},
		{`{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"x"}`, false, false},
		{`{"type":"response.output_item.added","output_index":2,"item":{"type":"custom_tool_call","name":"f"}}`, true, true},
	} {
		s.Event([]byte(tt.event), &ev)
		read := s.InTool()
		s.Forwarded()
		if passed := s.InTool(); read != tt.read || passed != tt.passed {
			t.Errorf("%s: %v, then %v", tt.event, read, passed)
		}
	}
}

func TestResponsesEventDoesNotAllocate(t *testing.T) {
	s := newResponses()
	var ev Event
	s.Event([]byte(`{"type":"response.output_item.added","output_index":0,"item":{"id":"m","type":"message"}}`), &ev)
	s.Forwarded()
	for _, data := range []string{
		`{"type":"response.output_text.delta","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"caf\u00e9 au lait","logprobs":[],"obfuscation":"nX"}`,
		`{"type":"response.function_call_arguments.delta","sequence_number":6,"item_id":"fc_1","output_index":1,"delta":"{\"a\":","obfuscation":"nX"}`,
	} {
		raw := []byte(data)
		s.Event(raw, &ev)
		s.Forwarded()
		// What is kept of the text grows, which allocates now and then.
		if n := testing.AllocsPerRun(1000, func() { s.Event(raw, &ev); s.Forwarded() }); n != 0 {
			t.Errorf("%v allocations for an event", n)
		}
	}
}

// FuzzResponsesEvent: whatever an upstream sends, reading it does not panic, and closing
// the stream then gives events which are JSON, of one line each.
func FuzzResponsesEvent(f *testing.F) {
	for _, events := range recordedResponses(f) {
		for i := range events {
			f.Add([]byte(events[i]), []byte(events[max(0, i-1)]))
		}
	}
	f.Add([]byte(`{"type":"response.created","response":{"id":{"a":[1,2]}}}`), []byte(`{"type":"response.output_item.added","output_index":-1,"item":{"type":"message","id":"\n"}}`))
	f.Add([]byte("{\"type\":\"response.output_text.delta\",\"output_index\":1e99,\"delta\":\"\xff\\ud800\"}"), []byte(`{"type":"response.output_text.annotation.added","annotation": 1}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := OpenAIResponses{}.NewStream(nil)
		var ev Event
		for _, data := range [][]byte{first, second, first} {
			s.Event(data, &ev)
			for _, x := range ev.Texts {
				if x.Slot < 0 || x.Slot >= MaxSlots {
					t.Fatalf("slot %d", x.Slot)
				}
			}
			if u := ev.Usage; u.UncachedInput < 0 || u.CacheRead < 0 || u.Output < 0 || u.Reasoning > u.Output {
				t.Fatalf("%+v", u)
			}
			s.Forwarded()
		}
		out := string(s.Close(nil, Usage{Known: true}))
		if out == "" {
			return
		}
		for e := range strings.SplitSeq(strings.TrimSuffix(out, "\n\n"), "\n\n") {
			_, data, ok := strings.Cut(e, "\ndata: ")
			if !ok || !json.Valid([]byte(data)) || strings.ContainsAny(data, "\r\n") {
				t.Fatalf("closing event %q", e)
			}
		}
	})
}

// FuzzPlainLength: the length of a text is that of the text.
func FuzzPlainLength(f *testing.F) {
	for _, s := range []string{`""`, `"a\n\u00e9\ud83d\ude00\ud83d\ud800x\\\""`, `{"a":1}`, "\"\xff\\udc00\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 || wellFormed(raw) != nil || raw[0] != '"' || raw[len(raw)-1] != '"' {
			return
		}
		var scratch []byte
		if got, want := plainLength(raw), len(plainText(raw, &scratch)); got != want {
			t.Errorf("%q: %d, want %d", raw, got, want)
		}
	})
}

// BenchmarkResponsesEvent: a piece of a text, and last events whose answers have so many
// bytes.
func BenchmarkResponsesEvent(b *testing.B) {
	b.Run("piece", func(b *testing.B) {
		s := newResponses()
		data := []byte(`{"type":"response.output_text.delta","sequence_number":6,"item_id":"msg_68f0b2b2a3f48190a1f5c6ad2f2f3a050c4e5a3d6e7f8091","output_index":0,"content_index":0,"delta":" there","logprobs":[],"obfuscation":"LcdzdJdMMgDHt6"}`)
		var ev Event
		b.ReportAllocs()
		for b.Loop() {
			s.Event(data, &ev)
			s.Forwarded()
		}
	})
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("last=%d", n), func(b *testing.B) {
			text := strings.Repeat(`a word\n`, n/len(`a word\n`))
			s := newResponses()
			var ev Event
			s.Event([]byte(`{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"`+text+`"}`), &ev)
			last := []byte(`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"` + text + `"}]}],"usage":{"input_tokens":1,"output_tokens":2}}}`)
			b.SetBytes(int64(len(last)))
			b.ReportAllocs()
			for b.Loop() {
				s.Event(last, &ev)
			}
			if len(ev.Texts) > 0 || !ev.Usage.Known {
				b.Fatal("it was counted again")
			}
		})
	}
}
