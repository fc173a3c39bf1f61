package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Names in the rendered configuration, for those who look for them in a running
// Envoy.
const (
	ListenerName      = "tokenbudget"                 // the listener
	FilterName        = "envoy.filters.http.ext_proc" // the HTTP filter
	ExtProcCluster    = "tokenbudget_extproc"         // the tokenbudget server
	UpstreamCluster   = "upstream"                    // the model API
	StatPrefix        = "tokenbudget"                 // of the connection manager and the filter
	MetadataNamespace = "tokenbudget"                 // of the server's dynamic metadata
	JWTNamespace      = "envoy.filters.http.jwt_authn"
)

// DefaultCAFile is where Debian, Ubuntu, Alpine and Envoy's own images keep the
// system's certificate authorities.
const DefaultCAFile = "/etc/ssl/certs/ca-certificates.crt"

// Options say what to render. Upstream is required for a bootstrap, and nothing
// for a filter; zero values mean the default.
type Options struct {
	Listen        string // where Envoy listens, IP:port; default 127.0.0.1:10000
	Upstream      string // http(s)://host[:port] of the model API, without a path
	UpstreamHTTP2 bool   // the upstream speaks HTTP/2; by default https negotiates and http is HTTP/1.1
	UpstreamCA    string // file of the authorities that sign an https upstream; default DefaultCAFile

	ExtProc    string     // the tokenbudget server, host:port or unix:/path, or several with commas between them; default 127.0.0.1:9002
	ExtProcTLS *ClientTLS // TLS to the server; nil for cleartext, which suits loopback only

	Admin string // Envoy's admin interface, IP:port or unix:/path; default 127.0.0.1:9901

	MaxRequestBody uint32        // bytes; a longer body is answered with 413; default 16 MiB
	MessageTimeout time.Duration // for the server's decision on a request; default 1s and a second for each 2 MiB of MaxRequestBody
	// MaxMessageTimeout is how long the server may ask Envoy to wait for a decision beyond
	// MessageTimeout, as it does for limits that throttle; 0: not at all.
	MaxMessageTimeout time.Duration
	IdleTimeout       time.Duration // ends an exchange in which nothing moves; default 10m
	MaxConnections    int64         // of clients, together; default 10000

	StripHeaders []string // headers that only Envoy may set: the client's copy is removed
	DenyPaths    []string // paths which the server refuses, even where PassPaths has them; * stands for anything
	PassPaths    []string // paths that are not metered at all; * stands for anything
	FailOpen     bool     // let requests pass unmetered when the server cannot be reached

	AccessLog  bool     // one JSON line for each exchange, on stdout
	Identities []string // names of identities to log
}

// ClientTLS is how Envoy proves itself to the tokenbudget server and checks it.
// The files are on the machine that runs Envoy.
type ClientTLS struct {
	CAFile     string // authorities that sign the server; required
	CertFile   string // Envoy's own certificate, with KeyFile; empty for none
	KeyFile    string
	ServerName string // a DNS name in the server's certificate; default: the host of ExtProc if that is one server
}

// WithDefaults returns the options with the defaults in place of zero values.
func (o Options) WithDefaults() Options {
	setDefault(&o.Listen, "127.0.0.1:10000")
	setDefault(&o.ExtProc, "127.0.0.1:9002")
	setDefault(&o.Admin, "127.0.0.1:9901")
	setDefault(&o.UpstreamCA, DefaultCAFile)
	setDefault(&o.MaxRequestBody, 16<<20)
	// A prompt is counted before it is decided on, at 5 MB/s at the least.
	setDefault(&o.MessageTimeout, time.Second+time.Duration(o.MaxRequestBody>>21)*time.Second)
	setDefault(&o.IdleTimeout, 10*time.Minute)
	setDefault(&o.MaxConnections, 10_000)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// settings are options that have been checked and taken apart.
type settings struct {
	Options
	listen, admin, upstream endpoint
	upstreamTLS             bool
	extProc                 endpoint   // the first of servers
	servers                 []endpoint // at least one, if there is no error
}

// endpoint is an address as Envoy wants it.
type endpoint struct {
	address *corev3.Address
	host    string // empty for a Unix socket
	port    uint16
	ip      bool // host is an IP address
}

// identityName is what a metadata key in %DYNAMIC_METADATA(ns:key)% may look like.
var identityName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// headerName is a token of RFC 9110, section 5.6.2, in lower case.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9a-z-]+$")

// resolve fills in the defaults and checks the options. The error names every
// mistake.
func (o Options) resolve(needUpstream bool) (settings, error) {
	s := settings{Options: o.WithDefaults()}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("envoy: "+format, args...)) }

	address := func(field, value string, mustBeIP bool) endpoint {
		e, err := parseEndpoint(value)
		if err != nil {
			fail("%s: %w", field, err)
		} else if mustBeIP && e.host != "" && !e.ip {
			fail("%s: %q is a name; an address to listen on must be an IP address, such as 127.0.0.1:%d", field, value, e.port)
		}
		return e
	}
	s.listen = address("Listen", s.Listen, true)
	s.admin = address("Admin", s.Admin, true)
	var err error
	if s.servers, err = parseServers(s.ExtProc); err != nil {
		fail("ExtProc: %w", err)
	} else {
		s.extProc = s.servers[0]
	}
	if needUpstream || s.Upstream != "" {
		var err error
		if s.upstream, s.upstreamTLS, err = parseUpstream(s.Upstream); err != nil {
			fail("Upstream: %w", err)
		}
	}
	if t := s.ExtProcTLS; t != nil {
		if t.CAFile == "" {
			fail("ExtProcTLS: CAFile is required, else anybody could pose as the server")
		}
		if (t.CertFile == "") != (t.KeyFile == "") {
			fail("ExtProcTLS: CertFile and KeyFile belong together")
		}
		switch {
		case t.ServerName != "" || err != nil:
		case s.extProc.host == "":
			fail("ExtProcTLS: a Unix socket has no host name; set ServerName")
		case len(s.servers) > 1:
			fail("ExtProcTLS: several servers need a name that is in the certificate of each; set ServerName")
		}
	}
	if s.MessageTimeout < time.Millisecond {
		fail("MessageTimeout: %v is less than a millisecond", s.MessageTimeout)
	}
	if s.MaxMessageTimeout < 0 {
		fail("MaxMessageTimeout: %v is negative", s.MaxMessageTimeout)
	}
	if s.IdleTimeout < time.Millisecond {
		fail("IdleTimeout: %v is less than a millisecond", s.IdleTimeout)
	}
	if s.MaxConnections < 0 {
		fail("MaxConnections: %d is negative", s.MaxConnections)
	}
	s.StripHeaders = nil
	for _, h := range o.StripHeaders {
		h = strings.ToLower(h)
		if !headerName.MatchString(h) {
			fail("StripHeaders: %q is not a header name", h)
		} else if h == "host" {
			fail("StripHeaders: host cannot be removed")
		}
		s.StripHeaders = append(s.StripHeaders, h)
	}
	slices.Sort(s.StripHeaders)
	s.StripHeaders = slices.Compact(s.StripHeaders)
	for field, paths := range map[string][]string{"DenyPaths": s.DenyPaths, "PassPaths": s.PassPaths} {
		for _, p := range paths {
			if !strings.HasPrefix(p, "/") {
				fail("%s: %q does not begin with /", field, p)
			}
		}
	}
	for _, name := range s.Identities {
		if !identityName.MatchString(name) {
			fail("Identities: %q is not a name of letters, digits, _ and -", name)
		}
	}
	return s, errors.Join(errs...)
}

// parseEndpoint reads host:port, :port (all IPv4 addresses) or unix:/path.
func parseEndpoint(s string) (endpoint, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = strings.TrimPrefix(path, "//") // unix:///path, as gRPC writes it
		if !strings.HasPrefix(path, "/") {
			return endpoint{}, fmt.Errorf("%q: the path of the socket must be absolute, as in unix:/run/tokenbudget.sock", s)
		}
		return endpoint{address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q is neither host:port nor unix:/path", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q: %q is not a port from 0 to 65535", s, port)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return tcpEndpoint(host, uint16(n)), nil
}

// parseUpstream reads http(s)://host[:port].
func parseUpstream(s string) (endpoint, bool, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return endpoint{}, false, errors.New("is required, such as https://api.openai.com")
	case err != nil:
		return endpoint{}, false, err
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return endpoint{}, false, fmt.Errorf("%q is not a URL such as https://api.openai.com or http://127.0.0.1:8000", s)
	case u.User != nil:
		return endpoint{}, false, errors.New("must not contain a user or password")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, false, fmt.Errorf("%q must end after the host and port: the client sends the path", s)
	}
	tls, port := u.Scheme == "https", u.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[tls]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return endpoint{}, false, fmt.Errorf("%q: %s is not a port", s, port)
	}
	return tcpEndpoint(u.Hostname(), uint16(n)), tls, nil
}

func tcpEndpoint(host string, port uint16) endpoint {
	_, err := netip.ParseAddr(host)
	return endpoint{
		host: host, port: port, ip: err == nil,
		address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       host,
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		}}},
	}
}
