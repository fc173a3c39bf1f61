package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// TestRecordings: every recorded answer passes byte for byte, errors too, and means the same however
// it is split: byte by byte, which is at all places, at single bytes, and at random. Usage is the
// provider's own, as another reader finds it; the chunk that was asked for by us is left out.
func TestRecordings(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	apis := make(map[string]int)
	for _, name := range standin.Recordings() {
		rec, err := standin.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		api := dialect.ForPath(rec.Path).API
		if api == nil {
			t.Fatalf("%s: nothing reads the answers of %s", name, rec.Path)
		}
		apis[api.Name()]++
		client, want := replay(t, rec, wholly)
		if passed := withoutAsked(rec); client != string(passed) {
			t.Errorf("%s: got  %.200q\nwant %.200q", name, client, passed)
		}
		if said := provided(t, rec); want != said {
			t.Errorf("%s: the record is\n%s, want\n%s", name, want, said)
		}
		again := func(how string, cuts func([]byte) [][]byte) {
			if c, record := replay(t, rec, cuts); c != client || record != want {
				t.Fatalf("%s: split %s it is\n%.2000q, %s\nnot\n%.2000q, %s", name, how, c, record, client, want)
			}
		}
		again("byte by byte", func(body []byte) [][]byte { return slices.Collect(slices.Chunk(body, 1)) })
		size := len(rec.Body)
		step := 1 + size/20
		for at := 1 + r.IntN(step); at < size; at += step {
			again(fmt.Sprint("at byte ", at), func(body []byte) [][]byte { return [][]byte{body[:at], body[at:]} })
		}
		for range 5 {
			longest := 1 + r.IntN(1+size)
			again("at random", func(body []byte) (pieces [][]byte) {
				for len(body) > 0 {
					n := min(len(body), 1+r.IntN(longest))
					pieces, body = append(pieces, body[:n]), body[n:]
				}
				return pieces
			})
		}
	}
	t.Log(apis)
	for _, name := range []string{"openai.chat", "openai.completions", "openai.embeddings", "openai.responses", "anthropic.messages"} {
		if apis[name] < 5 {
			t.Errorf("only %d recordings of %s", apis[name], name)
		}
	}
}

// provided is the record that an answer is to have by what its provider says: read as JSON of any
// shape, later figures replacing earlier ones. Of an answer that does not tell its usage the figures
// are left to others, as they are of an error.
func provided(t *testing.T, rec standin.Recording) string {
	t.Helper()
	usage := make(map[string]any)
	for data := range bytes.Lines(rec.Body) {
		if !rec.Stream() {
			data = rec.Body
		} else if data = bytes.TrimPrefix(data, []byte("data: ")); data[0] != '{' {
			continue
		}
		var said struct {
			Usage             map[string]any
			Response, Message struct{ Usage map[string]any }
		}
		if err := json.Unmarshal(data, &said); err != nil {
			t.Fatalf("%s: %v", rec.Name, err)
		}
		for _, u := range []map[string]any{said.Usage, said.Response.Usage, said.Message.Usage} {
			maps.Copy(usage, u)
		}
		if !rec.Stream() {
			break
		}
	}
	figure := func(u map[string]any, name string) int64 {
		n, _ := u[name].(float64)
		return int64(n)
	}
	input := figure(usage, "prompt_tokens") + figure(usage, "input_tokens")
	output := figure(usage, "completion_tokens") + figure(usage, "output_tokens")
	if strings.HasPrefix(rec.Name, "openai-compatible/") { // Gemini's thoughts are in the total only
		output = max(output, figure(usage, "total_tokens")-input)
	}
	if strings.HasPrefix(rec.Name, "anthropic/") {
		caches := func(u map[string]any) int64 {
			return figure(u, "cache_read_input_tokens") + figure(u, "cache_creation_input_tokens")
		}
		input += caches(usage)
		iterations, _ := usage["iterations"].([]any)
		for _, i := range iterations {
			if u, ok := i.(map[string]any); ok && u["type"] != "message" {
				input, output = input+figure(u, "input_tokens")+caches(u), output+figure(u, "output_tokens")
			}
		}
	}
	switch {
	case rec.Status != http.StatusOK:
		return "upstream_error, 0 + 0 tokens"
	case len(usage) == 0:
		return "completed, counted here"
	}
	return fmt.Sprintf("completed, %d + %d tokens reported", input, output)
}

// replay is what the client gets of a recording, and what the record says of it.
func replay(t *testing.T, rec standin.Recording, split func([]byte) [][]byte) (client, record string) {
	t.Helper()
	request := string(rec.Request)
	if request == "" {
		request = fmt.Sprintf(`{"model":"gpt-4o","stream":%v,"messages":[],"input":"hi"}`, rec.Stream())
	}
	c := newConversation()
	for _, d := range []*datadriven.TestData{
		{Cmd: "limits", Input: "minute tokens=100000000"},
		{Cmd: "request", CmdArgs: []datadriven.CmdArg{{Key: "path", Vals: []string{rec.Path}}}},
		{Cmd: "body", Input: request},
		{Cmd: "answer", CmdArgs: []datadriven.CmdArg{
			{Key: "type", Vals: []string{rec.Header.Get("Content-Type")}}, {Key: "status", Vals: []string{strconv.Itoa(rec.Status)}},
		}},
		{Cmd: "raw", Input: strings.Trim(strconv.Quote(string(rec.Body)), `"`), CmdArgs: []datadriven.CmdArg{{Key: "eos"}}},
	} {
		c.do(t, d, split)
	}
	c.check(t)
	r := c.record
	switch {
	case r.InputSource == Reported && r.OutputSource == Reported:
		record = fmt.Sprintf("%s, %d + %d tokens reported", r.Outcome, r.Input, r.Output)
	case r.Outcome == UpstreamError:
		record = fmt.Sprintf("%s, %d + %d tokens", r.Outcome, r.Input, r.Output)
	case r.Output > 0:
		record = fmt.Sprintf("%s, counted here", r.Outcome)
	default:
		record = describe(r)
	}
	return c.client.String(), record
}

// withoutAsked is a recorded answer without what its client did not ask for.
func withoutAsked(rec standin.Recording) []byte {
	if !rec.Stream() || bytes.Contains(rec.Request, []byte(`"include_usage": true`)) {
		return rec.Body
	}
	var out []byte
	for _, e := range rec.Events {
		if !bytes.Contains(e, []byte(`"choices":[],"usage":{`)) {
			out = append(out, e...)
		}
	}
	return out
}
