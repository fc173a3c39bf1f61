package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// talk makes messages of words: who speaks, and the ids of calls that are made or
// answered, as in "s u a(1,2) t(1) t(2) a u". Capitals stand for old functions.
func talk(words string) []string {
	var all []string
	for i, word := range strings.Fields(words) {
		who, ids, _ := strings.Cut(strings.TrimSuffix(word, ")"), "(")
		content := fmt.Sprintf(`"content":"%d"`, i)
		switch who {
		case "s":
			all = append(all, `{"role":"system",`+content+`}`)
		case "d":
			all = append(all, `{`+content+`,"role":"developer"}`)
		case "u":
			all = append(all, `{"role":"user",`+content+`}`)
		case "a":
			var calls []string
			for id := range strings.SplitSeq(ids, ",") {
				if ids != "" {
					calls = append(calls, `{"id":"`+id+`","type":"function","function":{"name":"f","arguments":"{\"id\":1}"}}`)
				}
			}
			all = append(all, `{"role":"assistant",`+content+`,"function_call":null,"tool_calls":[`+strings.Join(calls, ",")+`]}`)
		case "t":
			all = append(all, `{"role":"tool",`+content+`,"tool_call_id":"`+ids+`"}`)
		case "A":
			all = append(all, `{"role":"assistant",`+content+`,"function_call":{"name":"f","arguments":"{}"}}`)
		case "T":
			all = append(all, `{"role":"function",`+content+`,"name":"f"}`)
		case "x":
			all = append(all, `"no object"`)
		case "r":
			all = append(all, `{"role":"critic",`+content+`}`)
		default:
			panic(word)
		}
	}
	return all
}

func parseTalk(tb testing.TB, body string) *Request {
	tb.Helper()
	r, err := OpenAIChat{}.ParseRequest([]byte(body))
	if err != nil {
		tb.Fatalf("%v: %s", err, body)
	}
	return r
}

func TestTurns(t *testing.T) {
	for _, tt := range []struct{ talk, want string }{
		{"", ""},
		{"u", "-"},
		{"s u a u a u", "- 1 1 2 2 -"},
		{"d a u a u", "- 0 1 1 -"}, // a greeting
		{"u u a u", "1 2 2 -"},     // asked twice
		{"s u a s u a u", "- 1 1 - 2 2 -"},
		{"x u r u", "- 1 - -"},
		{"a a", "1 -"}, // nobody asks: the last message stays
		{"u a u a", "1 1 - -"},

		// Exchanges with tools.
		{"u a(1,2) t(1) t(2) a u", "1 1 1 1 1 -"},
		{"u a(1) t(1) a(2) t(2)", "- 2 2 - -"},
		{"u a(1) t(1) a(2) t(2) a(3) t(3)", "- 2 2 3 3 - -"},
		{"u a(1) t(1) a u", "1 1 1 1 -"},
		{"u a(1) u a t(1) u a u", "1 1 1 1 1 2 2 -"},         // answered after something else
		{"u a(1) u t(1) a u", "1 1 1 1 1 -"},                 // ... was asked
		{"u a(1) u t(1) a(2) t(2)", "1 1 - 1 - -"},           // ... and that is the last question
		{"u a(0) t(0) u a(0) t(0) u", "1 1 1 2 2 2 -"},       // ids that come again
		{"u a(1) a(2) t(1) t(2) a(3) t(3)", "- 2 2 2 2 - -"}, // two calls in a row
		{"u a(1) a(2) t(9) a", "- 2 3 3 -"},                  // of an unknown call: of the last one
		{"u a t(9) a u", "1 1 1 1 -"},                        // of no call
		{"t(9) u a u", "0 1 1 -"},
		{"u A T a u", "1 1 1 1 -"},
		{"u A T A T", "- 2 2 - -"},
		{"u A a(1) T t(1) a", "- 2 2 2 2 -"},
	} {
		r := parseTalk(t, `{"messages":[`+strings.Join(talk(tt.talk), ",")+`]}`)
		var got []string
		for _, n := range r.Turns() {
			got = append(got, strings.ReplaceAll(fmt.Sprint(n), "-1", "-"))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.talk, s, tt.want)
		}
	}
}

// What servers may read in several ways is not shortened; what they read alike is.
func TestTurnsOfStrangeMessages(t *testing.T) {
	for _, tt := range []struct {
		name, message string
		ok            bool
	}{
		{"plain", `{"role":"assistant","tool_calls":[{"id":"1"}]}`, true},
		{"roles in another letter case", `{"role":"Assistant","tool_calls":[{"id":"1"}]}`, true},
		{"escapes in a role", `{"role":"assist\u0061nt","tool_calls":[{"id":"1"}]}`, true},
		{"nulls", `{"role":"user","tool_calls":null,"tool_call_id":null,"function_call":null}`, true},
		{"an id that is no text", `{"role":"assistant","tool_calls":[{"id":1},2,{}]}`, true},
		{"calls in another letter case", `{"role":"assistant","Tool_Calls":[{"id":"1"}]}`, false},
		{"calls with escapes", `{"role":"assistant","tool_c\u0061lls":[{"id":"1"}]}`, false},
		{"an id in another letter case", `{"role":"assistant","tool_calls":[{"ID":"1"}]}`, false},
		{"a function call in another letter case", `{"role":"assistant","function_Call":{}}`, false},
		{"the user calls", `{"role":"user","tool_calls":[{"id":"1"}]}`, false},
		{"the user answers", `{"role":"user","tool_call_id":"1"}`, false},
		{"an unknown role answers", `{"role":"ipython","tool_call_id":"1"}`, false},
		{"calls that are no list", `{"role":"assistant","tool_calls":{"id":"1"}}`, false},
		{"nobody calls", `{"function_call":{"name":"f"}}`, false},
	} {
		r := parseTalk(t, `{"messages":[`+tt.message+`]}`)
		if got := r.Turns() != nil; got != tt.ok {
			t.Errorf("%s: can be shortened: %v", tt.name, got)
		}
	}
	for _, answer := range []string{`"role":"tool","tool_call_id":"1"`, `"role":"function","tool_call_id":"1"`, `"role":"function","name":"f"`, `"role":"tool"`} {
		r := parseTalk(t, `{"messages":[{"role":"user"},{"role":"assistant","tool_calls":[{"id":"\u0031"}]},{"role":"user"},{"role":"assistant"},{`+answer+`},{"role":"user"}]}`)
		if got := r.Turns(); !slices.Equal(got, []int32{1, 1, 1, 1, 1, Kept}) {
			t.Errorf("%s: %v", answer, got)
		}
	}
}

func TestDrop(t *testing.T) {
	const spaced = "{\"model\" : \"m\",\"messages\" : [ 1 ,\n 2,3 , 4 ]\n, \"x\":[1,2] }"
	for _, tt := range []struct {
		name, in string
		gone     []int
		want     string
	}{
		{"nothing", spaced, nil, spaced},
		{"the first", spaced, []int{0}, "{\"model\" : \"m\",\"messages\" : [ 2,3 , 4 ]\n, \"x\":[1,2] }"},
		{"the middle", spaced, []int{1, 2}, "{\"model\" : \"m\",\"messages\" : [ 1 ,\n 4 ]\n, \"x\":[1,2] }"},
		{"the last", spaced, []int{3}, "{\"model\" : \"m\",\"messages\" : [ 1 ,\n 2,3 ]\n, \"x\":[1,2] }"},
		{"here and there", spaced, []int{0, 2}, "{\"model\" : \"m\",\"messages\" : [ 2,4 ]\n, \"x\":[1,2] }"},
		{"both ends", spaced, []int{0, 3}, "{\"model\" : \"m\",\"messages\" : [ 2,3 ]\n, \"x\":[1,2] }"},
		{"all", spaced, []int{0, 1, 2, 3}, "{\"model\" : \"m\",\"messages\" : [  ]\n, \"x\":[1,2] }"},
		{"a stream, and a cap", `{"max_tokens":9,"messages":[{"a":"]"},{"b":"["}],"stream":true}`, []int{0},
			`{"max_tokens":7,"messages":[{"b":"["}],"stream":true,"stream_options":{"include_usage":true}}`},
	} {
		r := parseTalk(t, tt.in)
		before := r.Messages()
		n := r.Drop(func(i int) bool { return slices.Contains(tt.gone, i) })
		got, changed := r.Body(7)
		if r.MaxOutput == 0 { // a cap was added
			got, _ = bytes.CutSuffix(got, []byte(`}`))
			got = append(bytes.TrimSuffix(got, []byte(`,"max_completion_tokens":7`)), '}')
		}
		if string(got) != tt.want || !changed || n != len(tt.gone) || r.Messages() != before-n {
			t.Errorf("%s: %d dropped, %d left\ngot  %s\nwant %s", tt.name, n, r.Messages(), got, tt.want)
		}
	}
}

// FuzzTurns: whatever turns are dropped, the rest is what a dumb look at the whole
// says that it must be.
func FuzzTurns(f *testing.F) {
	words := []string{"s", "d", "u", "u", "a", "a(1)", "a(1,2)", "a(3)", "t(1)", "t(2)", "t(3)", "t(4)", "A", "T", "x", "r"}
	f.Add([]byte("\x00\x02\x04\x02\x05\x08\x04\x02\x07\x0a"), byte(2), "")
	f.Add([]byte("\x02\x06\x09\x02\x08\x0c\x02\x0d\x04\x02"), byte(1), " ")
	f.Add([]byte("\x0e\x02\x05\x05\x08\x09\x0f\x04\x00\x01"), byte(9), "\n\t ")
	f.Fuzz(func(t *testing.T, script []byte, cut byte, space string) {
		if len(script) > 200 || strings.Trim(space, " \t\r\n") != "" {
			return
		}
		var said []string
		for _, b := range script {
			said = append(said, words[int(b)%len(words)])
		}
		all := talk(strings.Join(said, " "))
		body := `{"model":"gpt-4o","messages":` + space + `[` + space + strings.Join(all, space+","+space) + `],"n":1,"stream":true,"seed":[5]}`
		r := parseTalk(t, body)
		turns := r.Turns()
		if len(turns) != len(all) {
			t.Fatalf("%d turns of %d messages", len(turns), len(all))
		}
		gone := make([]bool, len(all))
		var want []string
		for i := range all {
			gone[i] = turns[i] != Kept && turns[i] < int32(cut)
			if !gone[i] {
				want = append(want, all[i])
			}
		}
		n := r.Drop(func(i int) bool { return gone[i] })
		out, _ := r.Body(0)

		var got struct {
			Messages []json.RawMessage
		}
		var before, after map[string]any
		for _, v := range []struct {
			from []byte
			to   any
		}{{out, &got}, {[]byte(body), &before}, {out, &after}} {
			if err := json.Unmarshal(v.from, v.to); err != nil {
				t.Fatalf("%v: %s", err, v.from)
			}
		}
		// Nothing else has changed, and what is left is what stands in the request.
		for _, m := range []map[string]any{before, after} {
			delete(m, "messages")
			delete(m, "stream_options")
		}
		if !reflect.DeepEqual(before, after) || len(got.Messages) != len(want) || n != len(all)-len(want) || r.Messages() != len(want) {
			t.Fatalf("got %s\nof  %s", out, body)
		}
		for i, m := range got.Messages {
			if string(m) != want[i] || string(r.RawMessage(i)) != want[i] {
				t.Fatalf("message %d is %s, want %s", i, m, want[i])
			}
		}
		// Who must stay, and what belongs together.
		last := len(said) - 1
		for last >= 0 && said[last] != "u" {
			last--
		}
		for i, who := range said {
			if gone[i] && (slices.Contains([]string{"s", "d", "x", "r"}, who) || i == last || i == len(said)-1) {
				t.Fatalf("message %d of %q is gone", i, said)
			}
			if call := callOf(said, i); call >= 0 && gone[call] != gone[i] {
				t.Fatalf("of call %d and answer %d of %q one is gone", call, i, said)
			}
		}
	})
}

// callOf is the message which makes the call that message i answers, -1 if there is
// none.
func callOf(said []string, i int) int {
	name, id, _ := strings.Cut(strings.Trim(said[i], ")"), "(")
	for j := i - 1; j >= 0; j-- {
		who, ids, _ := strings.Cut(strings.Trim(said[j], ")"), "(")
		if name == "T" && who == "A" || name == "t" && who == "a" && slices.Contains(strings.Split(ids, ","), id) {
			return j
		}
	}
	return -1
}
