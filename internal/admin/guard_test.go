package admin

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestGuard: who may read what.
func TestGuard(t *testing.T) {
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for _, tt := range []struct {
		name          string
		guarded       bool
		token         string
		path          string
		authorization string
		tls           *tls.ConnectionState
		want          int
	}{
		{"open", false, "t", "/metrics", "", nil, 200},
		{"health", true, "t", "/healthz", "", nil, 200},
		{"ready", true, "t", "/readyz", "", nil, 200},
		{"nothing", true, "t", "/metrics", "", nil, 401},
		{"the list", true, "t", "/", "", nil, 401},
		{"an unknown page", true, "t", "/x", "", nil, 401},
		{"almost health", true, "t", "/healthz/../metrics", "", nil, 401},
		{"almost health, doubled", true, "t", "//healthz", "", nil, 401},
		{"token", true, "t", "/metrics", "Bearer t", nil, 200},
		{"scheme in another case", true, "t", "/metrics", "bearer t", nil, 200},
		{"wrong token", true, "t", "/metrics", "Bearer u", nil, 401},
		{"longer token", true, "t", "/metrics", "Bearer tt", nil, 401},
		{"another scheme", true, "t", "/metrics", "Basic t", nil, 401},
		{"no scheme", true, "t", "/metrics", "t", nil, 401},
		{"no token is set", true, "", "/metrics", "Bearer ", nil, 401},
		{"TLS without certificate", true, "", "/metrics", "", new(tls.ConnectionState), 401},
		{"certificate not verified", true, "", "/metrics", "", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}, 401},
		{"certificate", true, "", "/metrics", "", verified, 200},
		{"certificate instead of token", true, "t", "/metrics", "Bearer u", verified, 200},
	} {
		h := Handler(Options{Access: func() Access { return Access{Guarded: tt.guarded, Token: tt.token} }, Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }})
		r := httptest.NewRequest(http.MethodGet, "http://x/", nil)
		r.URL.Path, r.TLS = tt.path, tt.tls
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.want)
		}
		if asks := w.Header().Get("WWW-Authenticate") != ""; asks != (w.Code == 401 && tt.token != "") {
			t.Errorf("%s: asks for a token: %v", tt.name, asks)
		}
	}
}
