package admin

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenbudget/tokenbudget/internal/overrides"
)

// fakeOverrides notes what it is asked for, and fails as it is told.
type fakeOverrides struct {
	calls []string
	err   error
}

func (f *fakeOverrides) List() []overrides.Shown { return []overrides.Shown{} }

func (f *fakeOverrides) Put(budget string, r overrides.Request, by Author) (overrides.Shown, error) {
	f.calls = append(f.calls, fmt.Sprintf("put %s %v %s %s by %s", budget, r.Subject, r.Limit, r.Reason, by.Who))
	return overrides.Shown{}, f.err
}

func (f *fakeOverrides) Delete(budget string, r overrides.Request, by Author) (overrides.Shown, error) {
	f.calls = append(f.calls, fmt.Sprintf("delete %s %v %s by %s", budget, r.Subject, r.Reason, by.Who))
	return overrides.Shown{}, f.err
}

// Who may write what, and what becomes of what he sends.
func TestOverrides(t *testing.T) {
	const (
		path  = "/v1/overrides/team-day"
		body  = `{"subject": {"team": "search"}, "limit": "3M tokens", "reason": "r"}`
		asked = `put team-day map[team:search] "3M tokens" r by `
		json  = "application/json"
	)
	token := Access{Token: "t"}
	certificate := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "ann"}}}}}
	for _, tt := range []struct {
		name                        string
		access                      Access
		method, path, kind, body    string
		authorization, site, origin string
		tls                         *tls.ConnectionState
		err                         error
		status                      int
		call                        string
	}{
		{"put", token, "PUT", path, json, body, "Bearer t", "", "", nil, nil, 200, asked + "token"},
		{"a charset", token, "PUT", path, json + "; charset=utf-8", body, "Bearer t", "", "", nil, nil, 200, asked + "token"},
		{"guarded", Access{Guarded: true, Token: "t"}, "PUT", path, json, body, "Bearer t", "", "", nil, nil, 200, asked + "token"},
		{"delete", token, "DELETE", path, json, `{"subject": {"team": "search"}}`, "Bearer t", "", "", nil, nil, 200, "delete team-day map[team:search]  by token"},
		{"delete the whole", token, "DELETE", path, json, "", "Bearer t", "", "", nil, nil, 200, "delete team-day map[]  by token"},
		{"certificate", Access{Certificates: true}, "PUT", path, json, body, "", "", "", certificate, nil, 200, asked + "certificate CN=ann"},
		{"certificate and token", Access{Token: "t", Certificates: true}, "PUT", path, json, body, "Bearer t", "", "", certificate, nil, 200, asked + "certificate CN=ann"},
		{"a page of ours", token, "PUT", path, json, body, "Bearer t", "same-origin", "", nil, nil, 200, asked + "token"},

		{"nothing is configured", Access{}, "PUT", path, json, body, "Bearer t", "", "", nil, nil, 403, ""},
		{"an empty token", Access{}, "PUT", path, json, body, "Bearer ", "", "", nil, nil, 403, ""},
		{"no token", token, "PUT", path, json, body, "", "", "", nil, nil, 401, ""},
		{"wrong token", token, "DELETE", path, json, body, "Bearer u", "", "", nil, nil, 401, ""},
		{"no certificate", Access{Certificates: true}, "PUT", path, json, body, "", "", "", new(tls.ConnectionState), nil, 401, ""},
		{"a page of another site", Access{Certificates: true}, "PUT", path, json, body, "", "cross-site", "", certificate, nil, 403, ""},
		{"a page of another origin", Access{Certificates: true}, "PUT", path, json, body, "", "", "http://evil.example", certificate, nil, 403, ""},
		{"a form", Access{Certificates: true}, "PUT", path, "text/plain", body, "", "", "", certificate, nil, 415, ""},
		{"no content type", token, "DELETE", path, "", "", "Bearer t", "", "", nil, nil, 415, ""},
		{"another method", token, "POST", path, json, body, "Bearer t", "", "", nil, nil, 405, ""},
		{"no budget", token, "PUT", "/v1/overrides", json, body, "Bearer t", "", "", nil, nil, 405, ""},

		{"not JSON", token, "PUT", path, json, "limit", "Bearer t", "", "", nil, nil, 400, ""},
		{"twice", token, "PUT", path, json, `{"limit": "1 token", "limit": "2 tokens"}`, "Bearer t", "", "", nil, nil, 400, ""},
		{"a limit for delete", token, "DELETE", path, json, body, "Bearer t", "", "", nil, nil, 400, ""},
		{"too long", token, "PUT", path, json, `{"limit": "` + strings.Repeat("1", overrides.MaxRequest) + `"}`, "Bearer t", "", "", nil, nil, 413, ""},

		{"unknown", token, "PUT", path, json, body, "Bearer t", "", "", nil, fmt.Errorf("x: %w", overrides.ErrUnknown), 404, asked + "token"},
		{"absent", token, "PUT", path, json, body, "Bearer t", "", "", nil, ErrAbsent, 404, asked + "token"},
		{"full", token, "PUT", path, json, body, "Bearer t", "", "", nil, overrides.ErrFull, 409, asked + "token"},
		{"not kept", token, "PUT", path, json, body, "Bearer t", "", "", nil, fmt.Errorf("%w: disk", ErrNotKept), 500, asked + "token"},
		{"does not fit", token, "PUT", path, json, body, "Bearer t", "", "", nil, errors.New("no"), 400, asked + "token"},
	} {
		f := &fakeOverrides{err: tt.err}
		h := Handler(Options{
			Access: func() Access { return tt.access }, Overrides: f,
			Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil },
		})
		r := httptest.NewRequest(tt.method, "http://x"+tt.path, strings.NewReader(tt.body))
		r.TLS = tt.tls
		for name, value := range map[string]string{"Authorization": tt.authorization, "Content-Type": tt.kind, "Sec-Fetch-Site": tt.site, "Origin": tt.origin} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := strings.Join(f.calls, "; "); w.Code != tt.status || got != tt.call {
			t.Errorf("%s: %d, asked %q; want %d and %q\n%s", tt.name, w.Code, got, tt.status, tt.call, w.Body)
		}
		if tt.status >= 400 && tt.status != 405 && !strings.Contains(w.Body.String(), `"error": "`) {
			t.Errorf("%s: %s", tt.name, w.Body)
		}
	}
}
