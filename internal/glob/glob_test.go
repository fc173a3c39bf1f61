package glob

import "testing"

// matched keeps a result, so that the call is not left out.
var matched bool

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"/a", "/a", true}, {"/a", "/ab", false}, {"/a", "", false}, {"", "", true},
		{"/a*", "/a", true}, {"/a*", "/a/b/c", true}, {"/a*", "/b", false},
		{"*", "", true}, {"*", "/x", true}, {"**", "/x", true},
		{"/*/models", "/v1/models", true}, {"/*/models", "/v1/models/x", false}, {"/*/models", "/models", false},
		{"/a*b*c", "/aXbYbZc", true}, {"/a*b*c", "/aXbYbZ", false}, {"*ab", "aab", true}, {"*aab", "aaab", true},
		{"/A", "/a", false},
	} {
		if got := Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q) is %v", tt.pattern, tt.s, got)
		}
		p := Compile(tt.pattern)
		if got := p.Match(tt.s); got != tt.want {
			t.Errorf("Compile(%q).Match(%q) is %v", tt.pattern, tt.s, got)
		}
		if n := testing.AllocsPerRun(10, func() { matched = p.Match(tt.s) }); n != 0 {
			t.Errorf("Compile(%q).Match(%q) makes %v allocations", tt.pattern, tt.s, n)
		}
	}
}
