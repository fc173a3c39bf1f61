package certs

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

func pairFiles(t testing.TB, ca *certtest.Authority) Files {
	p := ca.Issue(t, "localhost")
	return Files{Cert: p.CertFile, Key: p.KeyFile, ClientCA: ca.File}
}

// TestTornReading: files that are swapped while they are read, so that the certificate is
// the old one and the key the new one, are read again rather than reported.
func TestTornReading(t *testing.T) {
	ca := certtest.New(t)
	f, g := pairFiles(t, ca), pairFiles(t, ca)
	before, after := read(f), read(g)
	torn := before
	torn[Key] = after[Key]
	readings := []content{torn, after /* the second look */, after, after}
	var told []error
	s, err := NewSource(f, Options{OnChange: func(_ *Set, err error) { told = append(told, err) }})
	if err != nil {
		t.Fatal(err)
	}
	s.read = func(Files) content {
		c := readings[0]
		readings = readings[1:]
		return c
	}
	s.look()
	if len(told) != 0 {
		t.Errorf("half a change was told: %v", told)
	}
	s.look()
	if len(told) != 1 || told[0] != nil || len(readings) != 0 {
		t.Errorf("told %v, %d readings left", told, len(readings))
	}
	if want, err := ReadLeaf(g.Cert); err != nil || !s.Set().Leaf().Equal(want) {
		t.Errorf("the new certificate is not served: %v", err)
	}
}

// TestValidLater: a certificate that is not valid yet, because the clocks of its
// authority and of this machine differ, is served once it is. It is told once that it
// is not, and once that it is.
func TestValidLater(t *testing.T) {
	ca := certtest.New(t)
	p := ca.IssueAs(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "localhost")
	f, later := pairFiles(t, ca), Files{Cert: p.CertFile, Key: p.KeyFile, ClientCA: ca.File}
	var told []error
	s, err := NewSource(f, Options{OnChange: func(_ *Set, err error) { told = append(told, err) }})
	if err != nil {
		t.Fatal(err)
	}
	s.read = func(Files) content { return read(later) }
	s.look()
	s.look()
	if len(told) != 1 || told[0] == nil {
		t.Fatalf("told %v", told)
	}
	s.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	s.look()
	s.look()
	if len(told) != 2 || told[1] != nil {
		t.Errorf("told %v", told)
	}
	if want, err := ReadLeaf(later.Cert); err != nil || !s.Set().Leaf().Equal(want) {
		t.Errorf("the new certificate is not served: %v", err)
	}
}

// FuzzLoad feeds the three files with anything: no panic, errors of one line, and what
// is accepted can be served.
func FuzzLoad(f *testing.F) {
	c := read(pairFiles(f, certtest.New(f)))
	f.Add(c[Cert].data, c[Key].data, c[ClientCA].data)
	f.Add(c[Key].data, c[Cert].data, []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, cert, key, clientCA []byte) {
		var c content
		c[Cert].data, c[Key].data, c[ClientCA].data = cert, key, clientCA
		c[Key].err = map[bool]error{true: os.ErrNotExist}[len(key) == 0]
		now := time.Now()
		set, err := load(Files{Cert: "a", Key: "b", ClientCA: "c"}, c, now)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		if set.leaf == nil || now.After(set.NotAfter()) || set.clients == nil || len(set.pair.Certificate) == 0 {
			t.Error("accepted, but cannot be served")
		}
		_ = set.Warnings(now)
	})
}
