package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

var envoyCommand = command{
	name:  "envoy",
	args:  "bootstrap|filter|istio|gateway -config FILE [flags]",
	short: "prints the configuration for Envoy",
	long: `"bootstrap" is a whole static configuration: envoy -c FILE. "filter" is the HTTP
filter and its cluster, to be put into a configuration that exists. "istio" and "gateway"
are Kubernetes objects for Istio and for Envoy Gateway: kubectl apply -f FILE. All agree
with the configuration file that the server reads. If it names TLS for listen.extproc,
Envoy uses TLS as well, with the files of -extproc-ca, -extproc-cert and -extproc-key,
which are on Envoy's machine and read when it starts; for "gateway" they are a ConfigMap and
a Secret, which the output names. A flag that a kind would ignore is an error.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		path := configFlag(fs)
		o := envoy.Options{}
		fs.StringVar(&o.Listen, "listen", "127.0.0.1:10000", "bootstrap: `ADDRESS` where Envoy takes requests")
		fs.StringVar(&o.Upstream, "upstream", "https://api.openai.com", "bootstrap, istio, gateway: `URL` of the model API, without a path")
		fs.BoolVar(&o.UpstreamHTTP2, "upstream-http2", false, "bootstrap, istio, gateway: the upstream speaks HTTP/2 without TLS")
		fs.StringVar(&o.ExtProc, "extproc", "", "`ADDRESS` where Envoy reaches the server, or several with commas between them (default listen.extproc)")
		files := &envoy.ClientTLS{}
		fs.StringVar(&files.CAFile, "extproc-ca", "/etc/envoy/tokenbudget/ca.crt", "all but gateway: `FILE` of the authorities that sign the server, on Envoy's machine")
		fs.StringVar(&files.CertFile, "extproc-cert", "/etc/envoy/tokenbudget/tls.crt", "all but gateway: `FILE` of Envoy's certificate for the server")
		fs.StringVar(&files.KeyFile, "extproc-key", "/etc/envoy/tokenbudget/tls.key", "all but gateway: `FILE` of its private key")
		fs.StringVar(&files.ServerName, "extproc-server-name", "", "`NAME` in the server's certificate (default the host of -extproc, or else the certificate's first)")
		fs.StringVar(&o.Admin, "envoy-admin", "127.0.0.1:9901", "bootstrap: `ADDRESS` of Envoy's own admin interface")
		fs.BoolVar(&o.FailOpen, "fail-open", false, "let requests pass unmetered while the server is away")
		mesh := meshFlags(fs)
		return func(_ context.Context, e env, args []string) error {
			// The kind comes first, before the flags, as commands do.
			if len(args) == 0 {
				return usagef("say what to print: bootstrap, filter, istio or gateway")
			}
			kind := args[0]
			if err := parseFlags(fs, args[1:]); err != nil {
				return err
			}
			if err := noArguments(fs.Args()); err != nil {
				return err
			}
			render := map[string]func(envoy.Options) ([]byte, error){
				"bootstrap": envoy.BootstrapYAML, "filter": envoy.FilterYAML,
				"istio":   func(o envoy.Options) ([]byte, error) { return envoy.IstioYAML(o, *mesh) },
				"gateway": func(o envoy.Options) ([]byte, error) { return envoy.GatewayYAML(o, *mesh) },
			}[kind]
			if render == nil {
				return usagef("%q cannot be printed; known are bootstrap, filter, istio and gateway", kind)
			}
			if err := onlyFor(fs, kind, mesh); err != nil {
				return err
			}
			c, err := loadRemote(e, *path)
			if err != nil {
				return err
			}
			if err := onlyWithTLS(fs, c.Listen.ExtProcTLS); err != nil {
				return err
			}
			agree(&o, c)
			if o.ExtProcTLS, err = clientTLS(*files, o.ExtProc, c.Listen.ExtProcTLS); err != nil {
				return err
			}
			yaml, err := render(o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "%s", yaml)
			return err
		}
	},
}

// clientTLS is how Envoy talks to a server at an address that has TLS; nil if it has not.
func clientTLS(files envoy.ClientTLS, address string, server *certs.Files) (*envoy.ClientTLS, error) {
	if server == nil {
		return nil, nil
	}
	if server.ClientCA == "" {
		files.CertFile, files.KeyFile = "", "" // nobody asks for them
	}
	if files.ServerName != "" {
		return &files, nil
	}
	host := "" // of several servers, none: a name is looked for that all certificates have
	if !strings.Contains(address, ",") {
		var err error
		if host, _, err = net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("-extproc %q is no address; write host:port", address)
		}
	}
	leaf, err := certs.ReadLeaf(server.Cert)
	if err != nil { // it is on another machine
		if ip, notIP := netip.ParseAddr(host); host == "" || notIP == nil && ip.IsUnspecified() {
			return nil, fmt.Errorf("what is the server's name? give -extproc or -extproc-server-name, since its certificate is not at hand: %w", err)
		}
		return &files, nil // Envoy will check for the host
	}
	if leaf.VerifyHostname(host) != nil {
		// The address is one of many that lead to the server, or that of all interfaces.
		named := slices.IndexFunc(leaf.DNSNames, func(name string) bool { return !strings.Contains(name, "*") })
		if named < 0 {
			return nil, fmt.Errorf("the certificate %s does not name %s; give -extproc-server-name", server.Cert, cmp.Or(host, "a server"))
		}
		files.ServerName = leaf.DNSNames[named]
	}
	return &files, nil
}

// agree makes Envoy's configuration agree with the server's.
func agree(o *envoy.Options, c *config.Config) {
	o.ExtProc = cmp.Or(o.ExtProc, c.Listen.ExtProc)
	o.MaxRequestBody = uint32(min(c.MaxRequestBody, math.MaxUint32))
	o.PassPaths = c.Paths.Pass
	o.DenyPaths = c.Paths.Deny
	o.AccessLog = true
	if throttles(c) {
		o.MaxMessageTimeout = exchange.MaxOverride
	}
	for _, id := range c.Identities {
		o.Identities = append(o.Identities, id.Name)
		for _, s := range id.Sources {
			if s.SetByEnvoy && !slices.Contains(o.StripHeaders, s.Header) {
				o.StripHeaders = append(o.StripHeaders, s.Header)
			}
		}
	}
}

// throttles reports whether a request may have to wait, which Envoy must allow.
func throttles(c *config.Config) bool {
	return slices.ContainsFunc(c.Budgets, func(b budget.Limit) bool { return b.Action == budget.ActionThrottle })
}
