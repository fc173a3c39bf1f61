package examples

import (
	"flag"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/config"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

var update = flag.Bool("update", false, "write the rendered files anew")

// TestEnvoyStatic: envoy.yaml is what tokenbudget renders for the config.yaml beside
// it, and a real Envoy accepts it.
func TestEnvoyStatic(t *testing.T) {
	c, err := config.Load(filepath.Join("envoy-static", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("an example should not need warnings: %q", w)
	}
	opts := options(c)
	opts.Upstream = "https://api.openai.com"
	got, err := envoy.BootstrapYAML(opts)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("envoy-static", "envoy.yaml")
	equal(t, file, got)
	if testing.Short() {
		t.Skip("runs a real Envoy")
	}
	if err := envoyrun.Validate(t.Context(), got); err != nil {
		t.Error(err)
	}
}

// options are the settings of Envoy which follow from a configuration, as
// "tokenbudget envoy" takes them over.
func options(c *config.Config) envoy.Options {
	o := envoy.Options{
		ExtProc:        c.Listen.ExtProc,
		MaxRequestBody: uint32(min(c.MaxRequestBody, math.MaxUint32)),
		PassPaths:      c.Paths.Pass,
		DenyPaths:      c.Paths.Deny,
		AccessLog:      true,
	}
	for _, id := range c.Identities {
		o.Identities = append(o.Identities, id.Name)
		for _, s := range id.Sources {
			if s.SetByEnvoy && !slices.Contains(o.StripHeaders, s.Header) {
				o.StripHeaders = append(o.StripHeaders, s.Header)
			}
		}
	}
	return o
}
