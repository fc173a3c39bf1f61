package envoy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs the certificates of one test. Its files hold its own
// certificate and one, for some names, that serves as server's and client's.
type authority struct {
	ca, cert, key string
	pair          tls.Certificate
	pool          *x509.CertPool
}

func newAuthority(t *testing.T, names ...string) authority {
	t.Helper()
	dir := t.TempDir()
	a := authority{
		ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"),
		pool: x509.NewCertPool(),
	}
	signer, _ := newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER := sign(t, ca, ca, &signer.PublicKey, signer)
	leaf, leafKey := newKey(t)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, name)
		}
	}
	certDER := sign(t, cert, ca, &leaf.PublicKey, signer)
	for file, block := range map[string]*pem.Block{
		a.ca:   {Type: "CERTIFICATE", Bytes: caDER},
		a.cert: {Type: "CERTIFICATE", Bytes: certDER},
		a.key:  {Type: "PRIVATE KEY", Bytes: leafKey},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(parsed)
	a.pair = tls.Certificate{Certificate: [][]byte{certDER}, PrivateKey: leaf}
	return a
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func sign(t *testing.T, cert, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// clientTLS is how Envoy reaches a server that has serverTLS.
func (a authority) clientTLS() *ClientTLS {
	return &ClientTLS{CAFile: a.ca, CertFile: a.cert, KeyFile: a.key}
}

// serverTLS is a server's that insists on a certificate of the same authority.
func (a authority) serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.pair}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert}
}
