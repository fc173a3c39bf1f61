package main

import (
	"errors"
	"flag"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/envoy"
)

// meshKinds are the kinds of output that each flag of [meshFlags] concerns.
var meshKinds = map[string][]string{
	"name":          {"istio", "gateway"},
	"namespace":     {"istio", "gateway"},
	"host":          {"istio", "gateway"},
	"labels":        {"istio"},
	"sidecar":       {"istio"},
	"gateway-class": {"gateway"},
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
func onlyFor(fs *flag.FlagSet, kind string) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if kinds := meshKinds[f.Name]; kinds != nil && !slices.Contains(kinds, kind) {
			err = usagef("-%s is for %s, not for %s", f.Name, strings.Join(kinds, " and "), kind)
		}
	})
	return err
}
