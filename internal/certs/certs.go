// Package certs loads the certificates of a TLS listener, says what is wrong with
// them, and loads them again when their files change.
//
// [Load] reads a listener's [Files] and returns a [Set], or [Problems] that say which
// file is at fault and what to do. [Set.Warnings] lists what will be a problem soon.
// A [Source] serves the newest set that could be loaded:
//
//	source, err := certs.NewSource(files, certs.Options{...})
//	config := source.ServerConfig(tls.RequireAndVerifyClientCert, "h2")
//	go source.Run(ctx)
//
// # Rotation
//
// [Source.Run] reads the files every few seconds and compares what they hold. It asks
// for no events of the file system: a mounted secret is a chain of symbolic links, of
// which only one in the middle is swapped. New connections get the new certificates;
// open ones, and the streams on them, go on with those they began with. Files that
// cannot be used change nothing: the last good ones stay.
//
// # Caveats
//
//   - TLS 1.3 only. Envoy and Go speak it; there are no old clients to care for.
//   - No session tickets: connections are few and live long, and a ticket would
//     outlive an authority that was taken out.
//   - Every certificate that an authority in ClientCA has signed for clients is let
//     in. Use an authority of its own.
//   - An open connection is not ended when its authority is taken out or its
//     certificate ends.
//   - Revocation lists are not read.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// maxFile bounds each file, in bytes. The authorities of a whole operating system
// have a quarter of it.
const maxFile = 1 << 20

// Soon is how long before its end a certificate is warned of.
const Soon = 14 * 24 * time.Hour

// Files are the files of one listener, in PEM (RFC 7468). Relative paths count from
// the working directory.
type Files struct {
	Cert     string // the server's certificate, and those between it and its authority
	Key      string // its private key, not encrypted
	ClientCA string // the authorities that sign clients; "": clients need no certificate
}

// Part is one of a listener's files.
type Part int

// The values of [Part].
const (
	Cert Part = iota
	Key
	ClientCA
)

// Problem is what is wrong with one file. It shows nothing of what the file holds.
type Problem struct {
	Part Part
	File string // its path
	Msg  string
	Hint string // what to do about it
}

// Error returns "file: msg (hint)".
func (p *Problem) Error() string { return fmt.Sprintf("%s: %s (%s)", p.File, p.Msg, p.Hint) }

// Problems are all that is wrong with a listener's files, in the order of [Part].
type Problems []*Problem

// Error returns the problems in one line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "; ")
}

// Set is what the files of a listener hold.
type Set struct {
	files   Files
	pair    tls.Certificate
	leaf    *x509.Certificate
	ca      []*x509.Certificate
	clients *x509.CertPool // of ca; nil if clients need no certificate
}

// Load reads the files. The error is [Problems]: a file that is missing, has not what
// it should or is no longer valid, or a key that belongs to another certificate.
func Load(f Files) (*Set, error) { return load(f, read(f), time.Now()) }

// content is what the files hold, or why they cannot be read.
type content [3]struct {
	data []byte
	err  error
}

func (f Files) paths() [3]string { return [3]string{f.Cert, f.Key, f.ClientCA} }

func read(f Files) (c content) {
	for i, path := range f.paths() {
		if path != "" {
			c[i].data, c[i].err = readFile(path)
		}
	}
	return c
}

// equal says whether two readings are the same, as far as loading is concerned.
func (c content) equal(other content) bool {
	for i := range c {
		if !bytes.Equal(c[i].data, other[i].data) || (c[i].err == nil) != (other[i].err == nil) {
			return false
		}
	}
	return true
}

// readFile reads a regular file: opening a pipe could wait for ever.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return data, err
}

func load(f Files, c content, now time.Time) (*Set, error) {
	s := &Set{files: f}
	var problems Problems
	fail := func(part Part, hint, format string, args ...any) {
		problems = append(problems, &Problem{part, f.paths()[part], fmt.Sprintf(format, args...), hint})
	}
	readable := func(part Part) bool {
		if err := c[part].err; err != nil {
			problems = append(problems, unreadable(part, f.paths()[part], err))
			return false
		}
		return true
	}

	if readable(Cert) {
		chain, err := certificates(c[Cert].data)
		switch {
		case err != nil:
			fail(Cert, certHint, "%v", err)
		case now.After(chain[0].NotAfter):
			fail(Cert, "renew it", "the certificate ended at %s", stamp(chain[0].NotAfter))
		case now.Before(chain[0].NotBefore):
			fail(Cert, "check the clock", "the certificate is not valid before %s", stamp(chain[0].NotBefore))
		default:
			s.leaf = chain[0]
		}
	}
	if readable(Key) {
		if msg, hint := keyProblem(c[Key].data); msg != "" {
			fail(Key, hint, "%s", msg)
		} else if s.leaf != nil {
			var err error
			s.pair, err = tls.X509KeyPair(c[Cert].data, c[Key].data)
			if err != nil { // certificate and key can be read, each for itself
				fail(Key, "name the key that the certificate was made for", "the key does not belong to the certificate")
			}
		}
	}
	if f.ClientCA != "" && readable(ClientCA) {
		all, err := certificates(c[ClientCA].data)
		switch {
		case err != nil:
			fail(ClientCA, "it must hold the certificates of authorities in PEM form", "%v", err)
		case !slices.ContainsFunc(all, func(ca *x509.Certificate) bool { return now.Before(ca.NotAfter) }):
			fail(ClientCA, "renew it", "the authority ended at %s", stamp(all[0].NotAfter))
		default:
			s.ca, s.clients = all, x509.NewCertPool()
			for _, ca := range all {
				s.clients.AddCert(ca)
			}
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// ReadLeaf reads the first certificate of a file, which is a server's own. It may have
// ended. The error is a [Problem].
func ReadLeaf(path string) (*x509.Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, unreadable(Cert, path, err)
	}
	all, err := certificates(data)
	if err != nil {
		return nil, &Problem{Cert, path, err.Error(), certHint}
	}
	return all[0], nil
}

// unreadable says why a file cannot be read.
func unreadable(part Part, path string, err error) *Problem {
	var inner *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Problem{part, path, "the file does not exist", "a relative path counts from the working directory"}
	case errors.As(err, &inner): // the path is shown already
		return &Problem{part, path, "the file cannot be read: " + inner.Err.Error(), "let the server's user read it"}
	}
	return &Problem{part, path, err.Error(), "name a file in PEM form"}
}

const certHint = "it must hold the server's certificate in PEM form"

// stamp writes a time as RFC 3339 in UTC.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// certificates reads the certificates of a file; there is at least one.
func certificates(data []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue // a key in the same file, or a comment of some tool
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate in the file is damaged")
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, errors.New("the file holds no certificate")
	}
	return all, nil
}

// keyProblem says why a file holds no usable key, or "".
func keyProblem(data []byte) (msg, hint string) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return "the private key is encrypted", "store it without a password, readable for the server's user only"
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			continue
		}
		for _, parse := range []func([]byte) error{
			func(der []byte) error { _, err := x509.ParsePKCS8PrivateKey(der); return err },
			func(der []byte) error { _, err := x509.ParsePKCS1PrivateKey(der); return err },
			func(der []byte) error { _, err := x509.ParseECPrivateKey(der); return err },
		} {
			if parse(block.Bytes) == nil {
				return "", ""
			}
		}
		return "the private key is damaged, or of an unknown kind", "use an ECDSA, Ed25519 or RSA key"
	}
	return "the file holds no private key", "it must hold the certificate's private key in PEM form"
}

// NotAfter is when the server's certificate ends.
func (s *Set) NotAfter() time.Time { return s.leaf.NotAfter }

// Leaf is the server's certificate. It must not be changed.
func (s *Set) Leaf() *x509.Certificate { return s.leaf }

// Warnings lists what is wrong without being an error, and what will be by the time
// now + [Soon].
func (s *Set) Warnings(now time.Time) (warnings Problems) {
	warn := func(part Part, hint, format string, args ...any) {
		warnings = append(warnings, &Problem{part, s.files.paths()[part], fmt.Sprintf(format, args...), hint})
	}
	if s.leaf.NotAfter.Before(now.Add(Soon)) {
		warn(Cert, "renew it; the new file is loaded without a restart", "the certificate ends at %s", stamp(s.leaf.NotAfter))
	}
	if len(s.leaf.DNSNames)+len(s.leaf.IPAddresses) == 0 {
		warn(Cert, "make one with a subject alternative name", "the certificate names no host, so clients will not accept it")
	}
	if len(s.leaf.ExtKeyUsage) > 0 && !slices.Contains(s.leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(s.leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		warn(Cert, "make one with the extended key usage serverAuth", "the certificate is not one of a server, so clients will not accept it")
	}
	for _, ca := range s.ca {
		if ca.NotAfter.Before(now.Add(Soon)) {
			warn(ClientCA, "add its successor; the new file is loaded without a restart", "an authority ends at %s", stamp(ca.NotAfter))
			break
		}
	}
	return warnings
}
