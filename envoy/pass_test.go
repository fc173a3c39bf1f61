package envoy

import (
	"regexp"
	"testing"
)

// A path that servers read differently is none that a pattern sets free. Envoy
// matches with RE2, as Go does, and the whole path without its query.
func TestMatchPass(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"/health", "/health", true}, {"/health", "/health/", false},
		{"/static/*", "/static/", true}, {"/static/*", "/static/a", true}, {"/static/*", "/static/a/b.css", true},
		{"/static/*", "/static", false}, {"/static/*", "/statica", false},
		{"/static*", "/static", true}, {"/static*", "/static/a", true}, {"/static*", "/static-a", true},
		{"/*/models", "/v1/models", true}, {"/*/models", "/a/b/models", true}, {"/*/models", "//models", false},
		{"/v1/*.json", "/v1/a.json", true}, {"/v1/*.json", "/v1/a/b.json", true},
		{"/*", "/", true}, {"/*", "/v1/chat/completions", true},
		{"/a+b/*", "/a+b/c", true}, {"/a+b/*", "/aab/c", false},

		{"/static/*", "/static/../v1/chat/completions", false},
		{"/static/*", "/static/./a", false},
		{"/static/*", "/static/a/../../v1", false},
		{"/static/*", "/static/..;/v1/chat/completions", false},
		{"/static/*", "/static/.%2e;/v1", false},
		{"/static/*", "/static/%252e%252e/v1", false},
		{"/static/*", "/static/a;b/c", false},
		{"/static/*", `/static/a\..\b`, false},
		{"/static/*", "/static//a", false},
		{"/static/*", "/static/a//b", false},
		{"/static*", "/static/../v1", false},
		{"/static*", "/static/..;/v1", false},
		{"/*/x/*", "/a/x/../v1", false},
	} {
		m := matchPass(tt.pattern)
		got := m.GetPath() == tt.path
		if re := m.GetSafeRegex().GetRegex(); re != "" {
			got = regexp.MustCompile(`^(?:` + re + `)$`).MatchString(tt.path)
		}
		if got != tt.want {
			t.Errorf("%s takes %s: %v, want %v (%v)", tt.pattern, tt.path, got, tt.want, m)
		}
	}
}
