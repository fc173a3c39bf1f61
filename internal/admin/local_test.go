package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestRebinding: a page whose name resolves to a loopback address reads nothing there.
func TestRebinding(t *testing.T) {
	get := func(a Access, host, path, authorization string) int {
		h := Handler(Options{Access: func() Access { return a }, Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }})
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = host
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for host, want := range map[string]int{
		"127.0.0.1:9003": 200, "127.0.0.1": 200, "[::1]:9003": 200, "[::1]": 200, "10.1.2.3:80": 200,
		"localhost:9003": 200, "LocalHost": 200, "localhost.": 200, "a.localhost:1": 200, "": 200,
		"evil.example:9003": 421, "evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.nip.io:9003": 421,
		"notlocalhost": 421, "evil.example:x:y": 421, "2130706433": 421, "127.1": 421,
	} {
		if got := get(Access{Local: true}, host, "/metrics", ""); got != want {
			t.Errorf("%q: %d, want %d", host, got, want)
		}
	}
	const name = "budget.example"
	for _, c := range []struct {
		what          string
		access        Access
		path          string
		authorization string
		want          int
	}{
		{"health", Access{Local: true}, "/healthz", "", 200},
		{"ready", Access{Local: true}, "/readyz", "", 200},
		{"the token", Access{Local: true, Token: "t"}, "/metrics", "Bearer t", 200},
		{"another token", Access{Local: true, Token: "t"}, "/metrics", "Bearer u", 421},
		{"a guarded address", Access{Local: true, Guarded: true, Token: "t"}, "/metrics", "", 401},
		{"not on loopback, or a socket", Access{}, "/metrics", "", 200},
	} {
		if got := get(c.access, name, c.path, c.authorization); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
