package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// guard lets only those read who prove themselves, if o says so. Health is free: probes
// have no certificates, and it tells nothing about anybody.
func (o Options) guard(h http.Handler) http.Handler {
	if !o.Guarded {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Compared as it came, not cleaned: what is almost a free path is not free.
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || o.proven(r) {
			h.ServeHTTP(w, r)
			return
		}
		message := "reading needs a client certificate signed by listen.tls.client_ca"
		if o.Token != "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="tokenbudget"`) // RFC 6750, section 3
			message = "reading needs the admin token (Authorization: Bearer …), or a client certificate if listen.tls has client_ca"
		}
		reply(w, http.StatusUnauthorized, failure(message))
	})
}

// proven says whether a request comes with a verified certificate or the token.
func (o Options) proven(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if o.Token == "" || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	// Hashes have the same length, so that the time tells nothing of the token's either.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(o.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
