package dialect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	stdjson "encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// templates are requests that the corpus is made of: whole, and with one hostile piece in
// place of each §.
var templates = []string{
	`{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":§,"stream":true,"n":2}`,
	`{"model":"gpt-4o","messages":[],"n":§,"max_completion_tokens":7}`,
	`{"model":§,"messages":[{"role":"user","content":"hi"}]}`,
	`{"messages":[],"stream":§,"model":"m"}`,
	`{"messages":[],"stream":true,"stream_options":§}`,
	`{"messages":[],"stream":true,"stream_options":{"include_usage":§}}`,
	`{"messages":[§],"model":"m"}`,
	`{"messages":§}`,
	`{"model":"a","messages":[],§}`,
	`{§,"model":"a","messages":[],"max_tokens":5}`,
	`{"messages":[{"role":"user",§,"content":"x"}],"max_tokens":5}`,
	`§{"messages":[],"model":"m","max_tokens":5}`,
	`{"messages":[],"model":"m","max_tokens":5}§`,
	`{"messages":[]§"model":"m"}`,
	`{"messages":[],"model"§"m"}`,
	`{"prompt":§,"best_of":3,"n":2,"max_tokens":4}`,
	`{"prompt":"a","messages":[],"best_of":§}`,
	`{"input":§,"model":"e"}`,
	`{"input":["a","b"],§,"model":"e"}`,
}

// pieces are hostile, or common.
var pieces = []string{
	``, ` `, `5`, `-5`, `0`, `-0`, `5.9`, `5e0`, `1e3`, `1E400`, `-1e400`, `1e-400`, `05`, `+5`, `.5`, `5.`, `0x10`, `1_000`, `5n`, `٥`, `99999999999999999999`, `9007199254740993`,
	`0.1e1`, `1e+2`, `1e`, `--5`, `Infinity`, `-Infinity`, `NaN`, `nan`, `true`, `false`, `null`, `True`, `None`, `TRUE`, `yes`, `tru`, `undefined`,
	`"5"`, `"gpt-4o"`, `'gpt-4o'`, `"a\u0062c"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, `"\uD83Dx"`, `"a` + "\n" + `b"`, `"a` + "\x00" + `b"`, `"a\x41"`, `"a\'b"`, `"\u12"`, `"` + "\xff" + `"`, `"` + "\xc0\x80" + `"`,
	`"` + "\xed\xa0\x80" + `"`, `"unended`, `"é"`, `"\u00e9"`, `"\/"`, `[]`, `[1]`, `[1,2,3]`, `["a","b"]`, `[[1],[2,3]]`, `["a",[1]]`, `[1,]`, `[,1]`, `{}`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{a:1}`, `{"a":1,}`,
	`{"include_usage":true}`, `{"include_usage":false}`, `{"include_usage":null}`, `{"Include_usage":true}`, `{"include\u005fusage":true}`, `{"include_usage":true,"include_usage":false}`, `{"include_usage":1}`,
	`"model":"b"`, `"Model":"b"`, `"MODEL":"b"`, `"mod\u0065l":"b"`, `"model ":"b"`, `" model":"b"`, `"model\u0000":"b"`, `"model\n":"b"`, `"stream":true`, `"STREAM":true`, `"\u017ftream":true`, `"ſtream":true`, `"ﬁ":1`, `"max_toKens":9`, `"max_to` + "\u212a" + `ens":9`,
	`"max_tokens":9`, `"max\u005ftokens":9`, `"Max_Tokens":9`, `"max-tokens":9`, `"maxTokens":9`, `"n":7`, `"N":7`, `"\u006e":7`, `"messages":[{}]`, `"Messages":[{}]`, `"prompt":"p"`, `"role":"system"`, `"Role":"system"`, `"content":"y"`,
	`"Content":"y"`, `"x":1`, `"x":{"y":1,"y":2}`, `"":1`, `"x":1,"x":2`, `"input":"z"`, `"INPUT":"z"`,
	`,`, `:`, `;`, `=`, `/* */`, `// x` + "\n", `# x` + "\n", "\t", "\n", "\r", "\f", "\v", "\u00a0", "\u2028", "\ufeff", "\x00", "\x1a", `{}`, `[]`, `"`, `}`, `]`, `null`,
	strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500), strings.Repeat(`{"a":`, 500) + `1` + strings.Repeat(`}`, 500),
}

// hostile is the corpus: every piece in every place, some with two, some with a byte
// changed, and some in another encoding.
func hostile() (bodies []string) {
	const odd = "\"\\{}[],: \x00\x80u0eE-.+_/"
	r := rand.New(rand.NewPCG(1, 2))
	for _, t := range templates {
		for _, p := range pieces {
			body := strings.ReplaceAll(t, "§", p)
			bodies = append(bodies, body)
			if at := r.IntN(max(1, len(body))); len(body) > 0 {
				b := []byte(body)
				b[at] = odd[r.IntN(len(odd))]
				bodies = append(bodies, string(b), body[:at])
				insert := pieces[r.IntN(len(pieces))]
				bodies = append(bodies, body[:at]+insert+body[at:])
			}
		}
		whole := strings.ReplaceAll(t, "§", "5")
		var utf16 []byte
		for _, c := range []byte(whole) {
			utf16 = append(utf16, c, 0)
		}
		bodies = append(bodies, string(utf16), "\xff\xfe"+string(utf16), "\xef\xbb\xbf"+whole)
	}
	return bodies
}

// second is what another parser reads in a body.
type second struct {
	Kind                string
	Model               any
	Stream              any
	N                   any
	BestOf              any `json:"best_of"`
	MaxTokens           any `json:"max_tokens"`
	MaxCompletionTokens any `json:"max_completion_tokens"`
	Items               map[string]int
	Usage               bool
}

// TestDifferential: of the bodies that are accepted, Python's json and Go's encoding/json
// read what is decided on, and go-json-experiment accepts them, too. The first is what most upstreams are written with; encoding/json
// does not mind the letter case, as upstreams in Go.
func TestDifferential(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is needed, for a second opinion")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	bodies := hostile()
	cmd := exec.CommandContext(ctx, python, "testdata/readjson.py")
	var in bytes.Buffer
	for _, b := range bodies {
		in.WriteString(base64.StdEncoding.EncodeToString([]byte(b)))
		in.WriteByte('\n')
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = &in, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	accepted, opinions := 0, 0
	for _, b := range bodies {
		if !lines.Scan() {
			t.Fatal("Python has answered less than it was asked")
		}
		for _, api := range []API{OpenAIChat{}, OpenAICompletions{}, OpenAIEmbeddings{}} {
			r, err := api.ParseRequest([]byte(b))
			if err != nil {
				continue
			}
			accepted++
			var py *second
			// Python prints Infinity, which is no JSON; nothing that is accepted may have it
			// in another place than a number's.
			text := strings.NewReplacer(": Infinity", ": 1e999", ": -Infinity", ": -1e999").Replace(lines.Text())
			d := stdjson.NewDecoder(strings.NewReader(text))
			d.UseNumber()
			if err := d.Decode(&py); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if py == nil {
				t.Errorf("%s accepts %q, and Python's json does not", api.Name(), b)
				continue
			}
			opinions++
			agree(t, "Python", api, r, b, *py)

			if !jsontext.Value(b).IsValid() {
				t.Errorf("%s accepts %q, and go-json-experiment does not", api.Name(), b)
			}
			var loose struct {
				second
				Messages, Prompt, Input stdjson.RawMessage
				StreamOptions           stdjson.RawMessage `json:"stream_options"`
			}
			d = stdjson.NewDecoder(strings.NewReader(b))
			d.UseNumber()
			if err := d.Decode(&loose); err != nil {
				t.Errorf("%s accepts %q, but encoding/json says: %v", api.Name(), b, err)
				continue
			}
			loose.Items = map[string]int{}
			for k, v := range map[string]stdjson.RawMessage{"messages": loose.Messages, "prompt": loose.Prompt, "input": loose.Input} {
				var list []any
				if stdjson.Unmarshal(v, &list) == nil && list != nil {
					loose.Items[k] = len(list)
				}
			}
			var options struct {
				IncludeUsage any `json:"include_usage"`
			}
			_ = stdjson.Unmarshal(loose.StreamOptions, &options)
			loose.Usage = options.IncludeUsage == true
			agree(t, "encoding/json", api, r, b, loose.second)
		}
	}
	t.Logf("%d bodies, accepted %d times; Python read each of them in the same way", len(bodies), accepted)
	if len(bodies) < 5000 || accepted < 1000 || opinions != accepted {
		t.Errorf("only %d bodies, %d accepted, %d compared", len(bodies), accepted, opinions)
	}
}

// agree compares what was decided on with a second opinion.
func agree(t *testing.T, whose string, api API, r *Request, body string, o second) {
	t.Helper()
	fail := func(what string, ours, theirs any) {
		t.Errorf("%s: in %q the %s is %v, and %v to %s", api.Name(), body, what, ours, theirs, whose)
	}
	if o.Kind != "" {
		t.Errorf("%s accepts %q, which is a %s to %s", api.Name(), body, o.Kind, whose)
		return
	}
	if model, _ := o.Model.(string); model != r.Model {
		fail("model", r.Model, model)
	}
	if r.NoOutput {
		list(t, fail, r, o, "input")
		return
	}
	stream, _ := o.Stream.(bool)
	if stream != r.Stream {
		fail("stream", r.Stream, stream)
	}
	if r.Stream && o.Usage != r.WantsUsage {
		fail("include_usage", r.WantsUsage, o.Usage)
	}
	most, uncapped, found := int64(0), false, false
	caps := []any{o.MaxTokens}
	choices := max(1, number(o.N), number(o.BestOf))
	if _, chat := api.(OpenAIChat); chat {
		caps = append(caps, o.MaxCompletionTokens)
		list(t, fail, r, o, "messages")
	} else {
		list(t, fail, r, o, "prompt")
		prompts := int64(max(1, r.Messages()))
		choices *= prompts
	}
	if choices != r.Choices {
		fail("number of choices", r.Choices, choices)
	}
	for _, c := range caps {
		if c == nil {
			continue
		}
		found = true
		n := number(c)
		most, uncapped = max(most, n), uncapped || n <= 0
	}
	if uncapped {
		most = 0
	}
	if _, plain := api.(OpenAICompletions); plain && !found {
		most = defaultMaxTokens
	}
	if most != r.MaxOutput {
		fail("cap", r.MaxOutput, most)
	}
}

// list compares how many prompts there are, unless it is a text, or ids of one.
func list(_ *testing.T, fail func(string, any, any), r *Request, o second, key string) {
	n, ok := o.Items[key]
	if ok && n != r.Messages() && (r.Messages() != 1 || r.RawMessage(0)[0] != '[') {
		fail(key, r.Messages(), n)
	}
}

// number is a number as an integer in [0, MaxInt64].
func number(v any) int64 {
	n, ok := v.(stdjson.Number)
	if !ok {
		return 0
	}
	if i, err := n.Int64(); err == nil {
		return max(0, i)
	}
	var f float64
	if _, err := fmt.Sscan(n.String(), &f); err != nil {
		f = math.Inf(1)
		if strings.HasPrefix(n.String(), "-") {
			f = 0
		}
	}
	switch {
	case f <= 0:
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	}
	return int64(f)
}
