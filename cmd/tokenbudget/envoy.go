package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"slices"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

var envoyCommand = command{
	name:  "envoy",
	args:  "bootstrap|filter -config FILE [flags]",
	short: "prints the configuration for Envoy",
	long: `"bootstrap" is a whole static configuration: envoy -c FILE. "filter" is the HTTP
filter and its cluster, to be put into a configuration that exists. Both agree
with the configuration file that the server reads.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		path := configFlag(fs)
		o := envoy.Options{}
		fs.StringVar(&o.Listen, "listen", "127.0.0.1:10000", "`ADDRESS` where Envoy takes requests")
		fs.StringVar(&o.Upstream, "upstream", "https://api.openai.com", "`URL` of the model API, without a path")
		fs.BoolVar(&o.UpstreamHTTP2, "upstream-http2", false, "the upstream speaks HTTP/2 without TLS")
		fs.StringVar(&o.Admin, "envoy-admin", "127.0.0.1:9901", "`ADDRESS` of Envoy's own admin interface")
		fs.BoolVar(&o.FailOpen, "fail-open", false, "let requests pass unmetered while the server is away")
		return func(_ context.Context, e env, args []string) error {
			// The kind comes first, before the flags, as commands do.
			if len(args) == 0 {
				return usagef("say what to print: bootstrap or filter")
			}
			kind := args[0]
			if err := parseFlags(fs, args[1:]); err != nil {
				return err
			}
			if err := noArguments(fs.Args()); err != nil {
				return err
			}
			render := map[string]func(envoy.Options) ([]byte, error){"bootstrap": envoy.BootstrapYAML, "filter": envoy.FilterYAML}[kind]
			if render == nil {
				return usagef("%q cannot be printed; known are bootstrap and filter", kind)
			}
			c, err := loadConfig(e, *path)
			if err != nil {
				return err
			}
			agree(&o, c)
			yaml, err := render(o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "%s", yaml)
			return err
		}
	},
}

// agree makes Envoy's configuration agree with the server's.
func agree(o *envoy.Options, c *config.Config) {
	o.ExtProc = c.Listen.ExtProc
	o.MaxRequestBody = uint32(min(c.MaxRequestBody, math.MaxUint32))
	o.PassPaths = c.Paths.Pass
	o.DenyPaths = c.Paths.Deny
	o.AccessLog = true
	for _, id := range c.Identities {
		o.Identities = append(o.Identities, id.Name)
		for _, s := range id.Sources {
			if s.SetByEnvoy && !slices.Contains(o.StripHeaders, s.Header) {
				o.StripHeaders = append(o.StripHeaders, s.Header)
			}
		}
	}
}
