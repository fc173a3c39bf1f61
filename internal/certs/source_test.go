package certs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

// mount is a folder as the kubelet makes it of a secret: files are links into a folder
// that is a link itself, and only that is swapped.
type mount struct {
	dir   string
	files certs.Files
}

func newMount(t *testing.T, p certtest.Pair, ca *certtest.Authority) *mount {
	t.Helper()
	m := &mount{dir: t.TempDir()}
	link := func(name string) string {
		path := filepath.Join(m.dir, name)
		if err := os.Symlink(filepath.Join("..data", name), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m.files = certs.Files{Cert: link("tls.crt"), Key: link("tls.key"), ClientCA: link("ca.crt")}
	m.swap(t, p.CertFile, p.KeyFile, ca.File)
	return m
}

func (m *mount) swap(t *testing.T, cert, key, ca string) {
	t.Helper()
	dir, err := os.MkdirTemp(m.dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{cert: "tls.crt", key: "tls.key", ca: "ca.crt"} {
		certtest.Copy(t, from, filepath.Join(dir, to))
	}
	next := filepath.Join(m.dir, "..next")
	if err := os.Symlink(filepath.Base(dir), next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(m.dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// echo serves what it reads, and returns its address.
func echo(t *testing.T, c *tls.Config) string {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		all.Wait()
	})
	return lis.Addr().String()
}

// dial connects and gets an answer.
func dial(t *testing.T, addr string, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute}, Config: c}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*tls.Conn), ask(conn.(*tls.Conn))
}

// ask sends something and reads it back. In TLS 1.3 a client learns only with the first
// answer that the server has refused its certificate.
func ask(conn *tls.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "x"); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// TestRotation: new files are served without a restart; bad ones change nothing and are
// told once; connections that are open go on.
func TestRotation(t *testing.T) {
	ca, other := certtest.New(t), certtest.New(t)
	first, second, third := ca.Issue(t, "localhost"), ca.Issue(t, "localhost"), other.Issue(t, "localhost")
	client := func(a *certtest.Authority, p certtest.Pair) *tls.Config {
		return &tls.Config{RootCAs: a.Pool, ServerName: "localhost", Certificates: []tls.Certificate{p.TLS}, NextProtos: []string{"h2"}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	}
	served := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }
	m := newMount(t, first, ca)
	changes := make(chan error, 10)
	source, err := certs.NewSource(m.files, certs.Options{Interval: time.Millisecond, OnChange: func(s *certs.Set, err error) {
		if (s == nil) != (err != nil) {
			t.Error("neither a set nor an error, or both")
		}
		changes <- err
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- source.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	next := func() error {
		select {
		case err := <-changes:
			return err
		case <-time.After(time.Minute):
			t.Fatal("the change was not noticed")
			return nil
		}
	}
	addr := echo(t, source.ServerConfig(tls.RequireAndVerifyClientCert, "h2"))
	open, err := dial(t, addr, client(ca, first))
	if err != nil {
		t.Fatal(err)
	}
	before := served(open)
	if s := open.ConnectionState(); s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "h2" {
		t.Errorf("version %x, protocol %q", s.Version, s.NegotiatedProtocol)
	}

	m.swap(t, second.CertFile, second.KeyFile, ca.File)
	if err := next(); err != nil {
		t.Fatal(err)
	}
	conn, err := dial(t, addr, client(ca, first))
	if err != nil || served(conn) == before {
		t.Errorf("the new certificate is not served: %v", err)
	}
	now := served(conn)

	for _, bad := range [][3]string{
		{first.CertFile, second.KeyFile, ca.File}, // not a pair
		{second.KeyFile, second.KeyFile, ca.File}, // no certificate
		{first.CertFile, first.KeyFile, first.KeyFile},
	} {
		m.swap(t, bad[0], bad[1], bad[2])
		err := next()
		if _, ok := errors.AsType[certs.Problems](err); !ok {
			t.Errorf("a bad file was taken, or the error is %v", err)
		}
		if conn, err := dial(t, addr, client(ca, first)); err != nil || served(conn) != now {
			t.Errorf("the good certificate is gone: %v", err)
		}
	}

	// Another authority: at once for new connections, also those that could resume.
	m.swap(t, third.CertFile, third.KeyFile, other.File)
	if err := next(); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, addr, client(other, third)); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}
	if _, err := dial(t, addr, client(other, first)); err == nil {
		t.Error("a client of the old authority was let in")
	}
	if err := ask(open); err != nil {
		t.Errorf("the open connection broke: %v", err)
	}
	time.Sleep(20 * time.Millisecond) // some looks
	select {
	case err := <-changes:
		t.Errorf("a change was told that there was not: %v", err)
	default:
	}
}

// tickets counts those that a client gets.
type tickets int

func (*tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (n *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		*n++
	}
}

// TestClients: who is let in, and with what.
func TestClients(t *testing.T) {
	ca, other := certtest.New(t), certtest.New(t)
	p, stranger := ca.Issue(t, "localhost"), other.Issue(t, "localhost")
	for _, tt := range []struct {
		name    string
		ca      string
		auth    tls.ClientAuthType
		client  []tls.Certificate
		version uint16
		fails   bool
	}{
		{"required and there", ca.File, tls.RequireAndVerifyClientCert, []tls.Certificate{p.TLS}, 0, false},
		{"required and missing", ca.File, tls.RequireAndVerifyClientCert, nil, 0, true},
		{"required and wrong", ca.File, tls.RequireAndVerifyClientCert, []tls.Certificate{stranger.TLS}, 0, true},
		{"welcome and missing", ca.File, tls.VerifyClientCertIfGiven, nil, 0, false},
		{"welcome and wrong", ca.File, tls.VerifyClientCertIfGiven, []tls.Certificate{stranger.TLS}, 0, true},
		{"not asked for", "", tls.RequireAndVerifyClientCert, nil, 0, false},
		{"TLS 1.2", "", tls.RequireAndVerifyClientCert, nil, tls.VersionTLS12, true},
	} {
		source, err := certs.NewSource(certs.Files{Cert: p.CertFile, Key: p.KeyFile, ClientCA: tt.ca}, certs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		addr := echo(t, source.ServerConfig(tt.auth, "h2"))
		tickets := new(tickets)
		c := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost", MaxVersion: tt.version, ClientSessionCache: tickets,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever the server asks for
				if len(tt.client) == 0 {
					return new(tls.Certificate), nil
				}
				return &tt.client[0], nil
			}}
		if _, err := dial(t, addr, c); (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
		} else if err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if *tickets > 0 {
			t.Errorf("%s: the server gave a session ticket", tt.name)
		}
	}
	if _, err := certs.NewSource(certs.Files{Cert: p.CertFile, Key: stranger.KeyFile}, certs.Options{}); err == nil {
		t.Error("a pair that is none was taken")
	}
}
