package main

import (
	"errors"
	"flag"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/certs"
)

// flagKinds are the kinds of output that a flag concerns; flags that are not here concern all.
var flagKinds = map[string][]string{
	"listen":         {"bootstrap"},
	"envoy-admin":    {"bootstrap"},
	"upstream":       {"bootstrap", "istio", "gateway"},
	"upstream-http2": {"bootstrap", "istio", "gateway"},
	"extproc-ca":     {"bootstrap", "filter", "istio"}, // for gateway they are objects of the cluster
	"extproc-cert":   {"bootstrap", "filter", "istio"},
	"extproc-key":    {"bootstrap", "filter", "istio"},
	"name":           {"istio", "gateway"},
	"namespace":      {"istio", "gateway"},
	"host":           {"istio", "gateway"},
	"labels":         {"istio"},
	"sidecar":        {"istio"},
	"gateway-class":  {"gateway"},
}

// meshFlags are the flags of what is rendered for Kubernetes.
func meshFlags(fs *flag.FlagSet) *envoy.Mesh {
	m := new(envoy.Mesh)
	fs.StringVar(&m.Name, "name", "tokenbudget", "istio, gateway: `NAME` of the objects")
	fs.StringVar(&m.Namespace, "namespace", "llm", "istio, gateway: `NAMESPACE` of the objects")
	fs.StringVar(&m.Host, "host", "llm.example.com", "istio, gateway: `NAME` under which clients reach the gateway")
	fs.BoolVar(&m.Sidecar, "sidecar", false, "istio: meter what leaves applications through their sidecars, instead of a gateway")
	fs.Func("labels", "istio: `KEY=VALUE,…` of the pods whose proxy is metered (default app=llm-gateway, or app=llm-client with -sidecar)", func(s string) error {
		m.Labels = make(map[string]string)
		for pair := range strings.SplitSeq(s, ",") {
			key, value, found := strings.Cut(pair, "=")
			if !found || m.Labels[key] != "" {
				return errors.New("write app=llm-gateway,tier=edge")
			}
			m.Labels[key] = value
		}
		return nil
	})
	fs.StringVar(&m.GatewayClass, "gateway-class", "eg", "gateway: `NAME` of the GatewayClass")
	return m
}

// onlyFor refuses flags that a kind of output would ignore.
func onlyFor(fs *flag.FlagSet, kind string, m *envoy.Mesh) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if kinds := flagKinds[f.Name]; kinds != nil && !slices.Contains(kinds, kind) {
			err = usagef("-%s is for %s, not for %s", f.Name, strings.Join(kinds, " and "), kind)
		}
		if f.Name == "host" && m.Sidecar {
			err = usagef("-host is for gateways; with -sidecar applications call the model API by its own name")
		}
	})
	return err
}

// onlyWithTLS refuses the flags of certificates that nobody would ask for.
func onlyWithTLS(fs *flag.FlagSet, server *certs.Files) (err error) {
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "extproc-ca", "extproc-server-name", "extproc-cert", "extproc-key":
			if server == nil {
				err = usagef("-%s has no effect: the configuration names no TLS for listen.extproc", f.Name)
			} else if server.ClientCA == "" && (f.Name == "extproc-cert" || f.Name == "extproc-key") {
				err = usagef("-%s has no effect: the configuration names no client_ca for listen.extproc, so the server asks for no certificate", f.Name)
			}
		}
	})
	return err
}
