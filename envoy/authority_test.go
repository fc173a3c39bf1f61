package envoy

import (
	"crypto/tls"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

// authority signs the certificates of one test: one, for some names, that serves as
// server's and client's.
type authority struct {
	*certtest.Authority
	certtest.Pair
}

func newAuthority(t *testing.T, names ...string) authority {
	t.Helper()
	a := certtest.New(t)
	return authority{a, a.Issue(t, names...)}
}

// clientTLS is how Envoy reaches a server that has serverTLS.
func (a authority) clientTLS() *ClientTLS {
	return &ClientTLS{CAFile: a.File, CertFile: a.CertFile, KeyFile: a.KeyFile}
}

// serverTLS is a server's that insists on a certificate of the same authority.
func (a authority) serverTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.TLS}, ClientCAs: a.Pool, ClientAuth: tls.RequireAndVerifyClientCert}
}
