package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Access says what a request has to prove.
type Access struct {
	Local        bool   // the address is a port on loopback, without TLS: who reads must ask for it as such, or prove himself
	Guarded      bool   // reading needs a client certificate that the listener has verified, or Token
	Token        string // as "Authorization: Bearer TOKEN"; "": a certificate is the only way
	Certificates bool   // the listener verifies those of clients that have one
}

func (o Options) access() Access {
	if o.Access == nil {
		return Access{}
	}
	return o.Access()
}

// guard lets only those read who prove themselves, if o says so. Health is free: probes
// have no certificates, and it tells nothing about anybody.
func (o Options) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := o.access()
		// Compared as it came, not cleaned: what is almost a free path is not free.
		switch {
		case r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || a.proven(r):
			h.ServeHTTP(w, r)
		case a.Guarded:
			a.refuse(w, "reading")
		case a.Local && !local(r.Host):
			reply(w, http.StatusMisdirectedRequest, failure("this address is asked for by its number or as localhost, not by another name; or show the admin token"))
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// local reports whether a host, with or without a port, is this machine by its number or
// as localhost. A page in a browser can have its own name resolved to a loopback address, and
// then read what is there as if it came from itself; but its name is in the request.
// Numbers are nobody's names.
func local(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// guardWriting lets only those on who prove themselves, whatever the address. Browsers
// are told to keep the pages of others out, and no form of theirs can send JSON.
func (o Options) guardWriting(h http.HandlerFunc) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := o.access()
		switch {
		case a.Token == "" && !a.Certificates:
			reply(w, http.StatusForbidden, failure("writing needs a proof, and none is configured: set admin_token, such as admin_token: "+
				"${TOKENBUDGET_ADMIN_TOKEN}, or listen.tls with client_ca, in the configuration"))
		case !a.proven(r):
			a.refuse(w, "writing")
		case origins.Check(r) != nil:
			reply(w, http.StatusForbidden, failure("a page of another origin may not write here"))
		case !isJSON(r):
			reply(w, http.StatusUnsupportedMediaType, failure("send JSON, with the header content-type: application/json"))
		default:
			h(w, r)
		}
	})
}

// isJSON says whether a request says that its body is JSON.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// refuse answers who has not proven himself.
func (a Access) refuse(w http.ResponseWriter, what string) {
	message := what + " needs a client certificate signed by listen.tls.client_ca"
	if a.Token != "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tokenbudget"`) // RFC 6750, section 3
		message = what + " needs the admin token (Authorization: Bearer …), or a client certificate if listen.tls has client_ca"
	}
	reply(w, http.StatusUnauthorized, failure(message))
}

// proven says whether a request comes with a verified certificate or the token.
func (a Access) proven(r *http.Request) bool {
	if certified(r) {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if a.Token == "" || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	// Hashes have the same length, so that the time tells nothing of the token's either.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func certified(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

// who names the one who has proven himself.
func who(r *http.Request) string {
	if certified(r) {
		return "certificate " + r.TLS.VerifiedChains[0][0].Subject.String()
	}
	return "token"
}
