package exchange

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// TestRecordings: every recorded answer passes byte for byte, and means the same however it
// is split. Usage is the provider's own; the chunk that was asked for by us is left out.
func TestRecordings(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	tried := 0
	for _, name := range standin.Recordings() {
		rec, err := standin.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if dialect.ForPath(rec.Path).API == nil || rec.Status != 200 {
			continue
		}
		tried++
		var want string
		for i := range 20 {
			cuts := func(body []byte) [][]byte {
				var pieces [][]byte
				for longest := 1 + r.IntN(1+len(body)); len(body) > 0; {
					n := min(len(body), 1+r.IntN(longest))
					pieces, body = append(pieces, body[:n]), body[n:]
				}
				return pieces
			}
			if i == 0 {
				cuts = wholly
			}
			got := replay(t, rec, cuts)
			if i == 0 {
				want = got
				client, _, _ := strings.Cut(got, "\n\x00")
				if passed := withoutAsked(rec); client != string(passed) {
					t.Errorf("%s: got  %.200q\nwant %.200q", name, client, passed)
				}
			} else if got != want {
				t.Fatalf("%s: split in another way it is\n%.2000q\nnot\n%.2000q", name, got, want)
			}
		}
	}
	if tried < 22 {
		t.Errorf("only %d recordings", tried)
	}
}

// replay is what the client gets of a recording, and the record.
func replay(t *testing.T, rec standin.Recording, split func([]byte) [][]byte) string {
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
		{Cmd: "answer", CmdArgs: []datadriven.CmdArg{{Key: "type", Vals: []string{rec.Header.Get("Content-Type")}}}},
		{Cmd: "raw", Input: strings.Trim(strconv.Quote(string(rec.Body)), `"`), CmdArgs: []datadriven.CmdArg{{Key: "eos"}}},
	} {
		c.do(t, d, split)
	}
	c.check(t)
	return c.client.String() + "\n\x00" + describe(c.record)
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
