package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestStarter(t *testing.T) {
	c, err := Parse("starter.yaml", Starter(), nil) // without any environment
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	// Nobody can change what the next caller gets.
	clear(Starter())
	if _, err := Parse("starter.yaml", Starter(), nil); err != nil {
		t.Error(err)
	}
}

// setting is a line with a setting at its default.
var setting = regexp.MustCompile(`(?m)^#(\S|  )`)

// uncommented is the starter file with all its settings.
func uncommented() string { return setting.ReplaceAllString(string(Starter()), "$1") }

// What the starter file calls a default must be one.
func TestStarterDefaults(t *testing.T) {
	quiet, err := Parse("starter.yaml", Starter(), nil)
	if err != nil {
		t.Fatal(err)
	}
	loud, err := Parse("starter.yaml", []byte(uncommented()), testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if loud.AdminToken == "" {
		t.Error("the admin token is not among the settings")
	}
	loud.AdminToken = ""
	loud.warnings = slices.DeleteFunc(loud.warnings, func(e *Error) bool { return strings.Contains(e.Msg, "admin token") })
	if got, want := describe(loud), describe(quiet); got != want {
		t.Errorf("with its settings:\n%s\nwithout:\n%s", got, want)
	}
}

// Every key that is known must be in the starter file. What is known is learnt from
// the hint for an unknown key.
func TestStarterComplete(t *testing.T) {
	for _, section := range []string{
		"%s", "listen: {%s}", "listen: {extproc: {%s}}", "listen: {tls: {%s}}", "store: {%s}", "store: {file: {%s}}", "paths: {%s}", "timeouts: {%s}", "overload: {%s}", "budgets: [{%s}]",
		"budgets: [{limit: {%s}}]", "identity: {a: [{%s}]}", "models: [{%s}]",
	} {
		_, err := Parse("f", []byte(strings.ReplaceAll(section, "%s", "qqqqqq: 1")), nil)
		if err == nil {
			t.Fatalf("%s: an unknown key is accepted", section)
		}
		_, list, found := strings.Cut(err.Error(), "known here: ")
		list, _, closed := strings.Cut(list, ")")
		if !found || !closed {
			t.Fatalf("%s: no known keys in: %v", section, err)
		}
		for key := range strings.SplitSeq(list, ", ") {
			if !regexp.MustCompile(`\b`+key+`:`).MatchString(uncommented()) && !strings.Contains(uncommented(), `"`+key+`"`) {
				t.Errorf("%s: the key %s is not in the starter file", section, key)
			}
		}
	}
}
