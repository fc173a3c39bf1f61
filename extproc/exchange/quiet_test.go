package exchange

import (
	"strings"
	"testing"
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
