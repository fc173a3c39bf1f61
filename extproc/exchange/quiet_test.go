package exchange

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func TestQuiet(t *testing.T) {
	for in, want := range map[string]bool{
		"":                               true,
		"\n\r\n\r":                       true,
		": ping\n\n":                     true,
		":\n\n":                          true,
		"event: x\r\nid: 7\rretry:1\n\n": true,
		"id\nevent\n\n":                  true,
		"\ufeff: ping\n\n":               true,
		"<html>\n\n":                     false,
		": ping\n{\"choices\":[]}\n\n":   false,
		"Data: x\n\n":                    false,
		" data: x\n\n":                   false,
		"data : x\n\n":                   false,
		"\x00":                           false,
		strings.Repeat(": a\n", 9) + "b": false,
	} {
		if got := quiet([]byte(in)); got != want {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

// Long lines beside an event's data are not free; neither short ones nor many lines of data cost.
func TestBesideData(t *testing.T) {
	long := strings.Repeat("x", 4*freeBlock)
	for in, want := range map[string]int64{
		"data: {\"type\":\"ping\"}\n\n":                                         0,
		": ping\nevent: ping\ndata: {\"type\":\"ping\"}\n\n":                    0,
		strings.Repeat("data: \n", freeBlock) + "data: {\"type\":\"ping\"}\n\n": 0,
		": " + long + "\ndata: {\"type\":\"ping\"}\n\n":                         (4*freeBlock + 4) / bytesPerToken,
		"event: " + long + "\r\ndata: {\"type\":\"ping\"}\r\n\r\n":              (4*freeBlock + 12) / bytesPerToken,
	} {
		c := newConversation()
		for _, d := range commands("limits", "minute tokens=100000", "request", "", "body", `{"model":"claude-opus-4-8","stream":true,"max_tokens":9000,"messages":[]}`) {
			if d.Cmd == "request" {
				d.CmdArgs = []datadriven.CmdArg{{Key: "path", Vals: []string{"/v1/messages"}}}
			}
			c.do(t, d, wholly)
		}
		for _, d := range commands("answer", "") {
			c.do(t, d, wholly)
		}
		c.x.streamed([]byte(in), false)
		if got := c.x.counted; got != want {
			t.Errorf("%.40q: %d tokens, want %d", in, got, want)
		}
	}
}
