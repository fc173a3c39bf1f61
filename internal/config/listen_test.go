package config

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

// TestListenTLS: who may be served where, and with which files. The files of a test are
// $CERT, $KEY and $CA; $SOON is a certificate that ends soon, $OTHER another one's key.
func TestListenTLS(t *testing.T) {
	ca := certtest.New(t)
	pair, other := ca.Issue(t, "localhost"), ca.Issue(t, "localhost")
	ends := time.Now().Add(certs.Soon - time.Hour)
	soon := ca.IssueAs(t, func(c *x509.Certificate) { c.NotAfter = ends }, "localhost")
	past := ca.IssueAs(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, "localhost")
	files := strings.NewReplacer("$MUTUAL", "{cert: $CERT, key: $KEY, client_ca: $CA}", "$TLS", "{cert: $CERT, key: $KEY}")
	paths := map[string]string{
		"CERT": pair.CertFile, "KEY": pair.KeyFile, "CA": ca.File, "OTHER": other.KeyFile,
		"SOON": soon.CertFile, "SOONKEY": soon.KeyFile, "PAST": past.CertFile, "PASTKEY": past.KeyFile,
	}
	const (
		noTLS    = "without TLS"
		noClient = "anybody could pose as Envoy"
		noReader = "anybody could read who uses how much"
		bare     = "without encryption"
		anybody  = "serves everybody who can reach it"
		idle     = "the admin token has no effect"
		unused   = "tls has no effect"
		needless = "insecure has no effect"
		token    = "\nadmin_token: t"
		insecure = "\ninsecure: true"
	)
	for _, tt := range []struct {
		listen string
		fails  []string // what errors or else warnings say, in their order
		warns  []string
		tls    string // of extproc and admin: t TLS, m mutual TLS, - none; + if reading is guarded
	}{
		{"{}", nil, nil, "--"},
		{"{extproc: 0.0.0.0:1}", []string{noTLS}, nil, ""},
		{"{extproc: 0.0.0.0:1, tls: $TLS}", []string{noClient}, nil, ""},
		{"{extproc: 0.0.0.0:1, tls: $TLS}" + insecure, nil, []string{anybody}, "tt"},
		{"{extproc: 0.0.0.0:1, tls: $MUTUAL}", nil, nil, "mm+"},
		{"{extproc: 0.0.0.0:1, tls: $MUTUAL}" + insecure, nil, []string{needless}, "mm+"},
		{"{extproc: 0.0.0.0:1, admin: none, tls: $MUTUAL}", nil, nil, "m-"},
		{"{extproc: 0.0.0.0:1, admin: unix:/a, tls: $MUTUAL}", nil, nil, "m-"},
		{"{extproc: {address: 0.0.0.0:1, tls: $MUTUAL}}", nil, nil, "m-"},
		{"{extproc: 0.0.0.0:1, admin: {tls: none}, tls: $MUTUAL}", nil, nil, "m-"},
		{"{extproc: {address: 0.0.0.0:1, tls: none}, tls: $MUTUAL}", []string{noTLS}, nil, ""},
		{"{extproc: unix:/a, admin: none, tls: $MUTUAL}", nil, []string{unused}, "--"},
		{"{extproc: {address: unix:/a, tls: $MUTUAL}}", []string{"only addresses host:port have TLS"}, nil, ""},
		{"{admin: {address: none, tls: $TLS}}", []string{"only addresses host:port have TLS"}, nil, ""},
		{"{tls: $TLS}" + token, nil, nil, "tt"},
		{"{admin: none}" + token, nil, []string{idle}, "--"},
		{"{tls: $MUTUAL}" + token, nil, nil, "mm+"},
		{"{admin: 0.0.0.0:1}" + token, []string{noTLS}, nil, ""},
		{"{admin: 0.0.0.0:1, tls: $TLS}", []string{noReader}, nil, ""},
		{"{admin: 0.0.0.0:1, tls: $TLS}" + token, nil, nil, "tt+"},
		{"{admin: 0.0.0.0:1, tls: $TLS}" + insecure, nil, []string{anybody}, "tt"},
		{"{admin: 0.0.0.0:1}" + insecure, nil, []string{bare}, "--"},
		{"{admin: 0.0.0.0:1}" + insecure + token, nil, []string{"can read the admin token"}, "--+"},
		{"{admin: 0.0.0.0:1, extproc: {tls: $TLS}, tls: $MUTUAL}", nil, nil, "tm+"},
		{"{admin: 0.0.0.0:1, tls: $TLS}\nadmin_token: ''", []string{"admin_token (hidden): it is empty"}, nil, ""},

		{"{tls: {cert: $CERT, key: $OTHER}}", []string{"the key does not belong to the certificate"}, nil, ""},
		{"{tls: {cert: $CERT, key: $KEY, client_ca: $KEY}}", []string{"client_ca \"…\": the file holds no certificate"}, nil, ""},
		{"{tls: {cert: $PAST, key: $PASTKEY}}", []string{"cert \"…\": the certificate ended at"}, nil, ""},
		{"{tls: {cert: $SOON, key: $SOONKEY}}", nil, []string{"cert \"…\": the certificate ends at " + ends.UTC().Format(time.RFC3339)}, "tt"},
	} {
		t.Run(tt.listen, func(t *testing.T) {
			text := "listen: " + files.Replace(tt.listen) + "\n" + oneBudget
			text = os.Expand(text, func(name string) string { return paths[name] })
			c, err := Parse("f", []byte(text), nil)
			hide := func(s string) string { // the start of a path, as much as messages show
				for _, path := range paths {
					s = strings.ReplaceAll(s, shorten(path), "…")
				}
				return s
			}
			if err != nil {
				expectLines(t, strings.Split(hide(err.Error()), "\n"), tt.fails)
				// Who only talks to the server does not need its files.
				dir := t.TempDir()
				path := filepath.Join(dir, "f.yaml")
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := LoadRemote(path)
				if ofFile := strings.Contains(hide(fmt.Sprint(tt.fails)), "…") || strings.Contains(fmt.Sprint(tt.fails), "does not belong"); ofFile != (err == nil) {
					t.Errorf("from afar: %v", err)
				}
				return
			}
			expectLines(t, nil, tt.fails)
			var warnings []string
			for _, w := range c.Warnings() {
				warnings = append(warnings, hide(w))
			}
			expectLines(t, warnings, tt.warns)
			got := ""
			for _, f := range []*certs.Files{c.Listen.ExtProcTLS, c.Listen.AdminTLS} {
				switch {
				case f == nil:
					got += "-"
				case f.ClientCA == "":
					got += "t"
				default:
					got += "m"
				}
			}
			if c.AdminGuarded() {
				got += "+"
			}
			if got != tt.tls {
				t.Errorf("TLS is %s, want %s", got, tt.tls)
			}
		})
	}
}

// expectLines checks that there are as many lines as wanted, each with its text and a position.
func expectLines(t *testing.T, lines, want []string) {
	t.Helper()
	ok := len(lines) == len(want)
	for i := 0; ok && i < len(lines); i++ {
		ok = strings.HasPrefix(lines[i], "f:") && strings.Contains(lines[i], want[i])
	}
	if !ok {
		t.Errorf("got %q, want %q", lines, want)
	}
}
