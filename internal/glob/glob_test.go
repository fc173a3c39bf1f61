package glob

import "testing"

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
	}
}
