package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/certs"
)

var rewrite = flag.Bool("rewrite", false, "write the expected results in testdata anew")

// testEnv is the environment of the files in testdata.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"TOKENBUDGET_ADMIN_TOKEN": "0123456789abcdef",
		"TOKEN":                   "0123456789abcdef",
		"KEYS":                    "7a3f0c96be5841d2f7a3f0c96be5841d",
		"DIR":                     "/var/lib/tokenbudget",
		"DIGITS":                  "123",
		"NAME":                    "everyone",
		"TRICK":                   "$$${TOKEN}", // what a variable holds is not expanded
		"EMPTY":                   "",
	}[name]
	return v, ok
}

// TestGolden compares what is made of testdata/*.yaml with the .txt beside it: all
// the mistakes of broken files; values and warnings of working ones.
func TestGolden(t *testing.T) {
	for _, kind := range []string{"working", "broken"} {
		paths, err := filepath.Glob("testdata/" + kind + "_*.yaml")
		if err != nil || len(paths) == 0 {
			t.Fatalf("no %s files: %v", kind, err)
		}
		for _, path := range paths {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				c, err := Parse(filepath.Base(path), data, testEnv)
				if broken := err != nil; broken != (kind == "broken") {
					t.Fatalf("broken: %v; error:\n%v", broken, err)
				}
				var got string
				if err != nil {
					got = err.Error() + "\n"
				} else {
					got = describe(c)
				}
				compare(t, strings.TrimSuffix(path, ".yaml")+".txt", got)
			})
		}
	}
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if that is right, run go test -rewrite\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// describe writes a configuration, one fact a line.
func describe(c *Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("listen extproc=%q admin=%q insecure=%v", c.Listen.ExtProc, c.Listen.Admin, c.Insecure)
	for i, t := range []*certs.Files{c.Listen.ExtProcTLS, c.Listen.AdminTLS} {
		if t != nil {
			line("tls of %s %+v", [...]string{"extproc", "admin"}[i], *t)
		}
	}
	line("admin token %q", c.AdminToken)
	for _, id := range c.Identities {
		line("identity %s %s", id.Name, strings.ReplaceAll(fmt.Sprintf("%+v", id.Sources), " APIKey: ", " "))
	}
	if k := c.APIKeys; k.Secret != "" {
		line("api keys in %q under a secret of %d bytes", k.Headers, len(k.Secret))
		for _, s := range k.Subjects {
			line("  %s… %v", s.Hash.String()[:4], s.Values)
		}
	}
	line("missing %s", c.Missing)
	line("store dir=%q fsync=%s sync=%s", c.Store.File.Dir, c.Store.File.Fsync, c.Store.File.Sync)
	for _, l := range c.Budgets {
		switch {
		case l.PerRequest:
			line("budget %s: %d %s in each request", l.Name, l.Amount, l.Unit)
		case l.Period == 0:
			line("budget %s: %d %s per %q", l.Name, l.Amount, l.Unit, l.Per)
		default:
			line("budget %s: %d %s per %q each %s in %s", l.Name, l.Amount, l.Unit, l.Per, l.Period, l.Location)
		}
		for _, m := range l.Match {
			line("  match %s %s any of %q", [...]string{"identity", "model", "path", "header"}[m.Property], m.Name, m.Any)
		}
		for _, o := range l.Overrides {
			line("  override %v: %d", o.Subject, o.Amount)
		}
		if l.Parent != "" {
			line("  parent %s", l.Parent)
		}
		if l.Action != budget.ActionCut || l.Admission != budget.AdmitPredict || l.MaxDelay > 0 {
			line("  action %s, admission %s, at most %s of delay", l.Action, l.Admission, l.MaxDelay)
		}
		if l.MaxSubjects > 0 {
			line("  at most %d subjects", l.MaxSubjects)
		}
	}
	if len(c.Truncate) > 0 {
		line("truncate %q", c.Truncate)
	}
	for _, m := range c.Models {
		line("model %q %s", m.Match, m.How())
	}
	line("max request body %d", c.MaxRequestBody)
	line("paths pass=%q deny=%q", c.Paths.Pass, c.Paths.Deny)
	line("unknown api %s, output cap %s, include usage %s, closing comment %v", c.UnknownAPI, c.OutputCap, c.IncludeUsage, c.ClosingComment)
	if c.ResponsesCut != CutIncomplete {
		line("responses cut %s", c.ResponsesCut)
	}
	line("timeouts exchange=%s idle=%s drain=%s drain_delay=%s connection_age=%s background=%s", c.Timeouts.Exchange, c.Timeouts.Idle, c.Timeouts.Drain, c.Timeouts.DrainDelay, c.Timeouts.ConnectionAge, c.Timeouts.Background)
	if c.Overload != defaults().Overload {
		line("overload exchanges=%d buffered=%d delay=%s", c.Overload.MaxExchanges, c.Overload.MaxBuffered, c.Overload.MaxDelay)
	}
	for _, w := range c.Warnings() {
		line("warning %s", w)
	}
	return b.String()
}
