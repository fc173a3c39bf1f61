package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

const (
	defaultAdmin = "127.0.0.1:9003"
	// tokenVariable holds the admin token. A flag would show it to all who list processes.
	tokenVariable = "TOKENBUDGET_ADMIN_TOKEN"
)

// adminFlags are the flags of commands that ask a running server.
type adminFlags struct{ addr, ca, cert, key, name string }

// newAdminFlags declares them. unset says whom the command asks without -admin.
func newAdminFlags(fs *flag.FlagSet, unset string) *adminFlags {
	f := new(adminFlags)
	fs.StringVar(&f.addr, "admin", "", "`ADDRESS` of a running server's admin listener: host:port, https://host:port or unix:/path (default "+unset+")")
	fs.StringVar(&f.ca, "ca", "", "`FILE` of the authorities that sign the server's certificate (default the system's)")
	fs.StringVar(&f.cert, "cert", "", "`FILE` of a client certificate, with -key")
	fs.StringVar(&f.key, "key", "", "`FILE` of its private key")
	fs.StringVar(&f.name, "server-name", "", "`NAME` in the server's certificate (default the host of -admin)")
	return f
}

// adminHelp is what the help of these commands says about access.
const adminHelp = `A server with TLS is asked as https://host:port. Where it wants a proof, give -cert
and -key, or set ` + tokenVariable + `; the token is sent over https and
to addresses of this machine only.`

// adminClient asks one server.
type adminClient struct {
	addr  string      // host:port or unix:/path
	tls   *tls.Config // nil: HTTP
	token string
}

// client returns the client that the flags describe.
func (f *adminFlags) client() (*adminClient, error) {
	addr, https := strings.CutPrefix(cmp.Or(f.addr, defaultAdmin), "https://")
	if https {
		addr = strings.TrimSuffix(addr, "/")
	}
	c := &adminClient{addr: addr}
	if https || f.ca != "" || f.cert != "" || f.key != "" || f.name != "" {
		var err error
		if c.tls, err = f.tls(); err != nil {
			return nil, err
		}
	}
	if c.tls != nil || config.Loopback(addr) {
		c.token = os.Getenv(tokenVariable)
	}
	return c, c.check("-admin " + quoted(f.addr))
}

// of returns a client of the server that a configuration describes. It takes the
// server's certificate from the file that the server serves, and the token from the
// configuration; without secret it sends no token, and takes any certificate.
func (f *adminFlags) of(file *config.Config, secret bool) (*adminClient, error) {
	c := &adminClient{addr: file.Listen.Admin}
	if c.addr == "" {
		return nil, errors.New("the server has no admin address (listen.admin: none)")
	}
	if strings.HasSuffix(c.addr, ":0") {
		return nil, errors.New("listen.admin has port 0: ask with -admin; the log names the address")
	}
	if secret && file.AdminGuarded() {
		c.token = file.AdminToken
	}
	if t := file.Listen.AdminTLS; t != nil {
		var err error
		if c.tls, err = f.tls(); err != nil {
			return nil, err
		}
		if f.ca == "" {
			c.tls.InsecureSkipVerify = true // the name of this machine is rarely in it; the very certificate is expected instead
			if secret {
				if c.tls.VerifyConnection, err = only(t.Cert); err != nil {
					return nil, err
				}
			}
		}
	}
	return c, c.check("listen.admin " + quoted(c.addr))
}

// only accepts a server that shows the first certificate of a file.
func only(file string) (func(tls.ConnectionState) error, error) {
	want, err := certs.ReadLeaf(file)
	if err != nil {
		return nil, err
	}
	return func(s tls.ConnectionState) error {
		if !s.PeerCertificates[0].Equal(want) {
			return fmt.Errorf("the server shows another certificate than %s; if that has just changed, try again, else give -ca", file)
		}
		return nil
	}, nil
}

// tls is what the flags say about TLS.
func (f *adminFlags) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: f.name}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-ca: %s holds no certificate in PEM form", f.ca)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return nil, usagef("-cert and -key belong together")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("-cert and -key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// check refuses what is no address; what names it in the message.
func (c *adminClient) check(what string) error {
	if strings.HasPrefix(c.addr, "unix:") {
		return nil
	}
	_, _, err := net.SplitHostPort(c.addr)
	u, urlErr := url.Parse("http://" + c.addr)
	if err != nil || urlErr != nil || u.Host != c.addr {
		return usagef("%s is no address; write host:port, https://host:port or unix:/path", what)
	}
	return nil
}

// get asks the admin listener. No proxy stands between: the address is loopback or of an
// inner network.
func (c *adminClient) get(ctx context.Context, path string) (*http.Response, error) {
	scheme, host, dial := "http", c.addr, (&net.Dialer{}).DialContext
	if c.tls != nil {
		scheme = "https"
	}
	if socket, unix := strings.CutPrefix(c.addr, "unix:"); unix {
		host = "localhost"
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	client := http.Client{
		Transport: &http.Transport{DialContext: dial, TLSClientConfig: c.tls, DisableKeepAlives: true},
		// The token is for this server only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		hint := "is it running, and is this its listen.admin?"
		if c.tls != nil {
			hint = "is it running, is this its listen.admin with TLS, and do -ca, -cert and -key suit it?"
		}
		return nil, fmt.Errorf("no server answers at %s: %w (%s)", c.addr, err, hint)
	}
	return resp, nil
}
