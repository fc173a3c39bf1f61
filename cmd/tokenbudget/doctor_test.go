package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// TestDoctor: a real Envoy with what "tokenbudget envoy bootstrap" prints is fine; with what it prints
// for another file, or with -fail-open, it is not.
func TestDoctor(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real Envoy")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const budgets = "\nbudgets: [{name: all, limit: 1M tokens, period: day%}]\n"
	plain := write("plain.yaml", "identity: {team: [{header: x-team, set_by: envoy}]}"+strings.ReplaceAll(budgets, "%", ""))
	more := write("more.yaml", "max_request_body: 32MiB\nidentity: {user: [{header: x-user, set_by: envoy}]}"+strings.ReplaceAll(budgets, "%", ", action: throttle"))
	run := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := execute(t.Context(), env{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}, args)
		return code, stdout.String(), stderr.String()
	}
	start := func(flags ...string) string {
		t.Helper()
		code, bootstrap, stderr := run(append([]string{"envoy", "bootstrap", "-config", plain, "-listen", "127.0.0.1:0", "-envoy-admin", "127.0.0.1:0", "-upstream", "http://127.0.0.1:1"}, flags...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		e, err := envoyrun.Start(t.Context(), envoyrun.Options{Bootstrap: []byte(bootstrap), Concurrency: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e.AdminAddr()
	}
	closed, open := start(), start("-fail-open")
	for _, tt := range []struct {
		args  []string
		code  int
		rules []string // in this order
	}{
		{[]string{"-envoy", closed}, 0, nil},
		{[]string{"-envoy", closed, "-config", plain}, 0, nil},
		{[]string{"-envoy", closed, "-config", more}, 1, []string{"message-timeout", "max-message-timeout", "set-by-envoy", "buffer"}},
		{[]string{"-envoy", closed, "-cluster", "elsewhere"}, 1, []string{"no-filter"}},
		{[]string{"-envoy", open}, 1, []string{"fail-open"}},
		{[]string{"-envoy", open, "-fail-open"}, 0, nil},
		{[]string{"-envoy", closed, "-admin", "127.0.0.1:1"}, 1, []string{"server-away"}},
	} {
		code, stdout, stderr := run(append([]string{"doctor", "-json"}, tt.args...)...)
		var got struct{ Findings []struct{ Rule string } }
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Findings == nil || code != tt.code {
			t.Errorf("%q: code %d, %v: %s%s", tt.args, code, err, stdout, stderr)
			continue
		}
		var rules []string
		for _, f := range got.Findings {
			rules = append(rules, f.Rule)
		}
		if strings.Join(rules, " ") != strings.Join(tt.rules, " ") {
			t.Errorf("%q: found %q, want %q", tt.args, rules, tt.rules)
		}
	}
	if code, stdout, _ := run("doctor", "-envoy", closed); code != 0 || !strings.Contains(stdout, "nothing found") {
		t.Errorf("code %d: %s", code, stdout)
	}
	if code, stdout, _ := run("doctor", "-envoy", open); code != 1 || !strings.Contains(stdout, "mend: failure_mode_allow: false") {
		t.Errorf("code %d: %s", code, stdout)
	}
	// An Envoy is no server.
	if code, _, stderr := run("doctor", "-envoy", closed, "-admin", closed); code != 1 || !strings.Contains(stderr, "is this the server's listen.admin?") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
