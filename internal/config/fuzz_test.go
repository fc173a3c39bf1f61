package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tokenbudget/tokenbudget/budget"
)

// FuzzParse feeds Parse with anything. It must not panic; every mistake must have a
// position in the file and one line; and what it accepts must keep its promises.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(Starter())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("file.yaml", data, testEnv)
		if err != nil {
			checkErrors(t, data, err)
			return
		}
		checkConfig(t, c)
	})
}

func checkErrors(t *testing.T, data []byte, err error) {
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("not Errors: %T %v", err, err)
	}
	if strings.Count(err.Error(), "\n") != len(errs)-1 || !utf8.ValidString(err.Error()) {
		t.Fatalf("not one line each: %q", err)
	}
	lines := bytes.Split(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\n"))
	line, column := 1, 1
	for _, e := range errs {
		if e.File != "file.yaml" || e.Msg == "" {
			t.Fatalf("incomplete: %+v", e)
		}
		if e.Line < line || e.Line == line && e.Column < column {
			t.Fatalf("not sorted: %v", errs)
		}
		line, column = e.Line, e.Column
		if line > len(lines) || column > utf8.RuneCount(lines[line-1])+1 {
			t.Fatalf("not in the file: %v", e)
		}
	}
}

func checkConfig(t *testing.T, c *Config) {
	declared := make(map[string]bool)
	for _, id := range c.Identities {
		if declared[id.Name] || slices.Contains(reserved, id.Name) || !nameForm.MatchString(id.Name) {
			t.Fatalf("identity %q", id.Name)
		}
		declared[id.Name] = true
		if len(id.Sources) == 0 {
			t.Fatalf("identity %s has no source", id.Name)
		}
		for _, s := range id.Sources {
			if len(s.JWT+s.Header+s.APIKey) == 0 || s.JWT != "" && s.Header+s.APIKey != "" || s.Header != "" && s.APIKey != "" || s.SetByEnvoy && s.Header == "" || s.Header != strings.ToLower(s.Header) {
				t.Fatalf("source %+v", s)
			}
		}
	}
	type id struct {
		name string
		unit budget.Unit
	}
	seen := make(map[id]bool)
	for _, l := range c.Budgets {
		if seen[id{l.Name, l.Unit}] || !nameForm.MatchString(l.Name) {
			t.Fatalf("limit %q", l.Name)
		}
		seen[id{l.Name, l.Unit}] = true
		if l.Amount < 1 || l.Amount > MaxAmount || l.Location == nil {
			t.Fatalf("limit %+v", l)
		}
		for i, name := range l.Per {
			if !declared[name] && name != budget.ByModel && name != budget.ByPath || slices.Contains(l.Per[:i], name) {
				t.Fatalf("limit %s is per %q", l.Name, l.Per)
			}
		}
		for _, m := range l.Match {
			if m.Property == budget.OfIdentity && !declared[m.Name] {
				t.Fatalf("limit %s matches %q", l.Name, m.Name)
			}
		}
	}
	// What is accepted here, a ledger accepts, too.
	ledger, err := budget.New(t.Context(), budget.Options{Limits: c.Budgets})
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.Budgets) == 0 {
		t.Fatal("no budgets")
	}
	if l := c.Listen; !c.Insecure {
		if !Loopback(l.ExtProc) && (l.ExtProcTLS == nil || l.ExtProcTLS.ClientCA == "") {
			t.Fatalf("anybody can talk to %s", l.ExtProc)
		}
		if l.Admin != "" && !Loopback(l.Admin) && (l.AdminTLS == nil || !c.AdminGuarded()) {
			t.Fatalf("anybody can read %s", l.Admin)
		}
	}
	if c.Listen.ExtProc == "" || c.Store.File.Dir == "" || c.Store.File.Sync <= 0 || c.MaxRequestBody <= 0 ||
		!slices.Contains([]Missing{MissingShared, MissingRefuse}, c.Missing) ||
		!slices.Contains([]UnknownAPI{UnknownRefuse, UnknownPass}, c.UnknownAPI) ||
		!slices.Contains([]IncludeUsage{UsageAuto, UsageAlways, UsageNever}, c.IncludeUsage) ||
		!slices.Contains([]OutputCap{CapUnary, CapAlways, CapNever}, c.OutputCap) ||
		c.Timeouts.Idle < time.Second || c.Timeouts.Idle > c.Timeouts.Exchange || c.Timeouts.Drain < 0 || c.Timeouts.DrainDelay < 0 || c.Timeouts.DrainDelay > c.Timeouts.Drain ||
		c.Timeouts.ConnectionAge < 0 || c.Timeouts.Background < 0 {
		t.Fatalf("incomplete: %+v", c)
	}
	for _, glob := range c.Paths.Deny {
		if slices.Contains(c.Paths.Pass, glob) {
			t.Fatalf("both passed and denied: %s", glob)
		}
	}
	for _, w := range c.Warnings() {
		if !strings.HasPrefix(w, "file.yaml:") || strings.Contains(w, "\n") {
			t.Fatalf("warning %q", w)
		}
	}
}
