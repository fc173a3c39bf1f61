package count

import (
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

func TestModel(t *testing.T) {
	p50k, err := tokens.Get("p50k_base")
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{Models: []Mapping{
		{Match: []string{"gpt-4o-eu", "eu-*"}, As: "gpt-4"},
		{Match: []string{"eu-house", "house*"}, Encoding: p50k},
		{Match: []string{"*"}, As: "gpt-4o"},
	}})
	for _, tt := range []struct {
		name, want, encoding string
	}{
		{"gpt-4o-eu", "gpt-4", "cl100k_base"}, // not what the name says
		{"EU-Chat", "gpt-4", "cl100k_base"},
		{"eu-house", "gpt-4", "cl100k_base"}, // the first wins
		{"House-7B", "House-7B", "p50k_base"},
		{"gpt-4", "gpt-4o", "o200k_base"},
		{"", "gpt-4o", "o200k_base"},
	} {
		m := c.Model(tt.name)
		if m.Name != tt.want || m.Encoding.Name() != tt.encoding || m.Estimated {
			t.Errorf("%q is %q with %s, estimated: %t; want %q with %s", tt.name, m.Name, m.Encoding.Name(), m.Estimated, tt.want, tt.encoding)
		}
	}
	for name, estimated := range map[string]bool{"gpt-4o": false, "house": true} {
		if m := New(Options{}).Model(name); m.Name != name || m.Encoding.Name() != "o200k_base" || m.Estimated != estimated {
			t.Errorf("without models, %q is %q with %s, estimated: %t", name, m.Name, m.Encoding.Name(), m.Estimated)
		}
	}
}
