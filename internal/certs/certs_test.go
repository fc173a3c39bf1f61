package certs_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

func put(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func get(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestLoad: what is wrong is said of the right file, and shows nothing of it.
func TestLoad(t *testing.T) {
	ca := certtest.New(t)
	good, other := ca.Issue(t, "localhost"), ca.Issue(t, "localhost")
	past := ca.IssueAs(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "localhost")
	future := ca.IssueAs(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "localhost")
	key := get(t, good.KeyFile)
	block, _ := pem.Decode(key)
	locked := put(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: block.Bytes}))
	damaged := put(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[1:]}))
	together := put(t, append(append([]byte("Bag Attributes\n"), key...), get(t, good.CertFile)...))
	badCert := put(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
	large := put(t, bytes.Repeat([]byte("x"), 1<<20+1))
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	two := put(t, append(get(t, certtest.Until(t, time.Now().Add(-time.Hour)).File), get(t, ca.File)...))
	absent := filepath.Join(t.TempDir(), "absent")
	type is map[certs.Part]string
	for name, tt := range map[string]struct {
		files certs.Files
		want  is
	}{
		"good":              {certs.Files{Cert: good.CertFile, Key: good.KeyFile}, nil},
		"mutual":            {certs.Files{Cert: good.CertFile, Key: good.KeyFile, ClientCA: ca.File}, nil},
		"all in one":        {certs.Files{Cert: together, Key: together, ClientCA: ca.File}, nil},
		"one of two lives":  {certs.Files{Cert: good.CertFile, Key: good.KeyFile, ClientCA: two}, nil},
		"absent":            {certs.Files{Cert: absent, Key: absent, ClientCA: absent}, is{certs.Cert: "does not exist", certs.Key: "does not exist", certs.ClientCA: "does not exist"}},
		"folder":            {certs.Files{Cert: t.TempDir(), Key: good.KeyFile}, is{certs.Cert: "not a regular file"}},
		"pipe":              {certs.Files{Cert: good.CertFile, Key: pipe}, is{certs.Key: "not a regular file"}},
		"large":             {certs.Files{Cert: large, Key: good.KeyFile}, is{certs.Cert: "larger than"}},
		"ended":             {certs.Files{Cert: past.CertFile, Key: past.KeyFile}, is{certs.Cert: "ended at 20"}},
		"not yet":           {certs.Files{Cert: future.CertFile, Key: future.KeyFile}, is{certs.Cert: "not valid before 20"}},
		"other key":         {certs.Files{Cert: good.CertFile, Key: other.KeyFile}, is{certs.Key: "does not belong"}},
		"swapped":           {certs.Files{Cert: good.KeyFile, Key: good.CertFile}, is{certs.Cert: "holds no certificate", certs.Key: "holds no private key"}},
		"encrypted":         {certs.Files{Cert: good.CertFile, Key: locked}, is{certs.Key: "encrypted"}},
		"damaged key":       {certs.Files{Cert: good.CertFile, Key: damaged}, is{certs.Key: "damaged"}},
		"damaged cert":      {certs.Files{Cert: badCert, Key: good.KeyFile}, is{certs.Cert: "damaged"}},
		"ended authority":   {certs.Files{Cert: good.CertFile, Key: good.KeyFile, ClientCA: certtest.Until(t, time.Now().Add(-time.Hour)).File}, is{certs.ClientCA: "ended at"}},
		"key for authority": {certs.Files{Cert: good.CertFile, Key: good.KeyFile, ClientCA: good.KeyFile}, is{certs.ClientCA: "holds no certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := certs.Load(tt.files)
			if err == nil {
				if tt.want != nil || set == nil {
					t.Errorf("loaded; want %v", tt.want)
				}
				return
			}
			problems, ok := err.(certs.Problems)
			if !ok || len(problems) != len(tt.want) {
				t.Fatalf("%v; want %v", err, tt.want)
			}
			for _, p := range problems {
				if want := tt.want[p.Part]; want == "" || !strings.Contains(p.Msg, want) || p.Hint == "" {
					t.Errorf("%v; want %v", p, tt.want)
				}
				if !strings.HasPrefix(p.Error(), p.File+": ") || len(p.Error()) > len(p.File)+200 {
					t.Errorf("too much, or without its file: %v", p)
				}
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	ca, soonCA := certtest.New(t), certtest.Until(t, time.Now().Add(certs.Soon-time.Minute))
	for name, tt := range map[string]struct {
		ca   *certtest.Authority
		edit func(*x509.Certificate)
		want string
	}{
		"none":           {ca, func(*x509.Certificate) {}, ""},
		"two weeks":      {ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(certs.Soon + time.Minute) }, ""},
		"less":           {ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(certs.Soon - time.Minute) }, "the certificate ends at"},
		"no name":        {ca, func(c *x509.Certificate) { c.DNSNames = nil }, "names no host"},
		"of a client":    {ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "not one of a server"},
		"for anything":   {ca, func(c *x509.Certificate) { c.ExtKeyUsage = nil }, ""},
		"authority ends": {soonCA, func(*x509.Certificate) {}, "an authority ends at"},
	} {
		p := tt.ca.IssueAs(t, tt.edit, "localhost")
		set, err := certs.Load(certs.Files{Cert: p.CertFile, Key: p.KeyFile, ClientCA: tt.ca.File})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w := set.Warnings(time.Now())
		if got := w.Error(); len(w) > 1 || (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
