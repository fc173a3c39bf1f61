package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/config"
	"github.com/tokenbudget/tokenbudget/internal/overrides"
)

const liveFile = `store: {file: {dir: %q}}
identity: {team: [{jwt: team}]}
budgets:
  - {name: all, limit: %s, period: day}
  - {name: team, per: team, limit: 100 tokens, period: day}
`

// syncBuffer is a log that many may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newTestLive is a server without listeners, whose file is at path.
func newTestLive(t *testing.T, path string) (*live, *syncBuffer) {
	t.Helper()
	r := readConfig(path)
	c, err := config.ParseRunning(path, r.data)
	if err != nil {
		t.Fatal(err)
	}
	set, err := loadOverrides(c.Store.File.Dir)
	if err != nil {
		t.Fatal(err)
	}
	log := new(syncBuffer)
	l := newLive(path, r, c, set, newLog(zapcore.Lock(zapcore.AddSync(log))), prometheus.NewRegistry())
	l.settle = time.Millisecond
	if l.ledger, err = budget.New(t.Context(), budget.Options{Limits: l.now.Load().limits()}); err != nil {
		t.Fatal(err)
	}
	l.server = extproc.New(extproc.Options{Ledger: l.ledger, Log: zap.NewNop()})
	t.Cleanup(func() {
		if err := l.ledger.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return l, log
}

func writeLive(t *testing.T, path, dir, limit string) {
	t.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, liveFile, dir, limit), 0o600); err != nil {
		t.Fatal(err)
	}
}

// allowed is the amount of the budget for all, as the ledger decides by it.
func allowed(t *testing.T, l *live) int64 {
	t.Helper()
	_, d, err := l.ledger.Reserve(t.Context(), budget.Request{Input: 1 << 40, Output: 1, MinOutput: 1})
	if err != nil || d.Limit != "all" {
		t.Fatalf("%+v, %v", d, err)
	}
	return d.Amount
}

// A mounted ConfigMap is a chain of links, of which one is swapped.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, limit string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeLive(t, filepath.Join(dir, name, "f.yaml"), dir, limit)
		if err := errors.Join(os.Symlink(name, filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "1k tokens")
	path := filepath.Join(dir, "f.yaml")
	if err := os.Symlink("..data/f.yaml", path); err != nil {
		t.Fatal(err)
	}
	l, log := newTestLive(t, path)
	l.look(t.Context(), false)
	if log.text() != "" {
		t.Errorf("nothing has changed: %s", log.text())
	}
	version("..2", "2k tokens")
	l.look(t.Context(), false)
	l.look(t.Context(), false)
	if n := allowed(t, l); n != 2000 || strings.Count(log.text(), "was loaded") != 1 {
		t.Errorf("%d tokens: %s", n, log.text())
	}
}

// A file that is being written is not loaded until it stays the same: an editor empties
// it first.
func TestHalfWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	text := func(limit string) string { return fmt.Sprintf(liveFile, filepath.Dir(path), limit) }
	writeLive(t, path, filepath.Dir(path), "1k tokens")
	l, log := newTestLive(t, path)
	reads := func(texts ...string) {
		l.read = func(string) reading {
			now := texts[0]
			if len(texts) > 1 {
				texts = texts[1:]
			}
			return reading{data: []byte(now)}
		}
		l.look(t.Context(), false)
	}
	reads("", text("3k")[:20], text("3k tokens"))
	if n := allowed(t, l); n != 3000 || strings.Contains(log.text(), "cannot be used") {
		t.Errorf("%d tokens: %s", n, log.text())
	}
	// What is as it was before it could be loaded was never away.
	reads("", text("3k tokens"))
	// What never stays the same is left to the next look.
	var restless []string
	for i := range 2 * settleTries {
		restless = append(restless, text(fmt.Sprint(i+1, " tokens")))
	}
	reads(restless...)
	if n := allowed(t, l); n != 3000 || strings.Count(log.text(), "was loaded") != 1 {
		t.Errorf("%d tokens: %s", n, log.text())
	}
	// What stays bad is refused once.
	reads("")
	reads("")
	if n := allowed(t, l); n != 3000 || strings.Count(log.text(), "cannot be used") != 1 || len(l.notes()) != 1 {
		t.Errorf("%d tokens: %s", n, log.text())
	}
	reads(text("3k tokens"))
	if n := strings.Count(log.text(), "was loaded"); n != 2 || l.notes() != nil {
		t.Errorf("%d times loaded: %s", n, log.text())
	}
}

// An override that cannot be written does not count.
func TestOverrideNotKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	dir := filepath.Join(filepath.Dir(path), "data")
	writeLive(t, path, dir, "1k tokens")
	l, log := newTestLive(t, path)
	r, err := overrides.ParseRequest([]byte(`{"limit": "5k tokens"}`), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put("all", r, admin.Author{}); !errors.Is(err, admin.ErrNotKept) {
		t.Errorf("without a folder: %v", err)
	}
	if n := allowed(t, l); n != 1000 || len(l.List()) != 0 || strings.Contains(log.text(), `"msg":"override"`) {
		t.Errorf("%d tokens, %v: %s", n, l.List(), log.text())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put("all", r, admin.Author{Who: "token", Remote: "r"}); err != nil {
		t.Fatal(err)
	}
	want := `"budget":"all","subject":{},"old":"1000 tokens","new":"5000 tokens","reason":"","who":"token","remote":"r"`
	if n := allowed(t, l); n != 5000 || !strings.Contains(log.text(), want) {
		t.Errorf("%d tokens: %s", n, log.text())
	}
	// It is there before Put returns.
	set, err := loadOverrides(dir)
	if err != nil || !reflect.DeepEqual(set, l.now.Load().overrides) {
		t.Errorf("in the file %+v, %v", set, err)
	}

	// What cannot be put into effect is in the file, and the answer says so. A file of the
	// configuration counts as refused then.
	if err := l.ledger.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := l.now.Load()
	r.Limit = []byte(`"6k tokens"`)
	if _, err := l.Put("all", r, admin.Author{}); !errors.Is(err, admin.ErrNotKept) || !strings.Contains(err.Error(), "after a restart") {
		t.Errorf("without a ledger: %v", err)
	}
	l.look(t.Context(), true)
	if set, err := loadOverrides(dir); err != nil || set.List(nil)[0].Amounts["tokens"] != 6000 || l.now.Load() != before || len(l.notes()) != 1 {
		t.Errorf("in the file %+v, %v; notes %q", set, err, l.notes())
	}
}

// The file and the admin API change things at the same time, while the pages are read.
// Neither undoes what the other did.
func TestLiveParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	dir := filepath.Dir(path)
	writeLive(t, path, dir, "1k tokens")
	l, log := newTestLive(t, path)
	var all sync.WaitGroup
	all.Go(func() {
		for i := range 20 {
			writeLive(t, path, dir, fmt.Sprint(1001+i, " tokens"))
			l.look(t.Context(), true)
		}
	})
	for g := range 3 {
		all.Go(func() {
			for i := range 20 {
				body := fmt.Sprintf(`{"subject": {"team": "t%d"}, "limit": "%d tokens"}`, g, i+1)
				r, err := overrides.ParseRequest([]byte(body), true)
				if err == nil {
					_, err = l.Put("team", r, admin.Author{})
				}
				if err != nil {
					t.Error(err)
				}
				l.access()
				l.identities()
				l.notes()
			}
		})
	}
	all.Wait()
	if n := allowed(t, l); n != 1020 {
		t.Errorf("%d tokens: %s", n, log.text())
	}
	for _, o := range l.List() {
		if o.Amounts["tokens"] != 20 || !o.Effective {
			t.Errorf("%+v", o)
		}
	}
	if len(l.List()) != 3 {
		t.Errorf("overrides %+v", l.List())
	}
	again, _ := newTestLive(t, path)
	if !reflect.DeepEqual(again.List(), l.List()) {
		t.Errorf("after a restart %+v, want %+v", again.List(), l.List())
	}
}

// What cannot change while running stays, and what depends on it.
func TestRunning(t *testing.T) {
	parse := func(text string) *config.Config {
		c, err := config.ParseRunning("f", []byte(text+"\nbudgets: [{name: a, limit: 1 token, period: day}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	exposed := parse("listen: {admin: 0.0.0.0:1, tls: {cert: a, key: b}}\nadmin_token: t")
	for _, c := range []struct {
		name, text string
		restart    string
		guarded    bool
		token      string
	}{
		{"another token", "listen: {admin: 0.0.0.0:1, tls: {cert: a, key: b}}\nadmin_token: u", "[]", true, "u"},
		// The file would be safe; the address that is listened on would not.
		{"loopback without a token", "listen: {}", "[listen admin_token]", true, "t"},
		{"insecure", "listen: {admin: 0.0.0.0:1, tls: {cert: a, key: b}}\ninsecure: true", "[listen admin_token]", true, "t"},
		{"store", "listen: {admin: 0.0.0.0:1, tls: {cert: a, key: b}}\nadmin_token: t\nstore: {file: {fsync: wait}}\nmax_request_body: 1MiB", "[store max_request_body]", true, "t"},
	} {
		got, restart := running(exposed, parse(c.text), false)
		if fmt.Sprint(restart) != c.restart || got.AdminGuarded() != c.guarded || got.AdminToken != c.token ||
			!reflect.DeepEqual(got.Listen, exposed.Listen) || got.Store != exposed.Store || got.MaxRequestBody != exposed.MaxRequestBody {
			t.Errorf("%s: %v, %+v", c.name, restart, got)
		}
	}
	passing := parse("paths: {pass: [/x/*]}")
	if renderAgain(passing, parse("paths: {pass: [/x/*], deny: [/x/y]}")) == "" || renderAgain(passing, parse("paths: {pass: [/x/*]}")) != "" {
		t.Error("Envoy must be told what is denied of the paths that it lets pass")
	}
	if w := renderAgain(parse(""), parse("paths: {pass: [/x]}\nidentity: {a: [{header: x, set_by: envoy}]}")); !strings.Contains(w, "set_by") || !strings.Contains(w, "paths") {
		t.Errorf("one of two is told: %s", w)
	}
	for text, want := range map[string]bool{
		"": false, "identity: {a: [{header: x}]}": false, "identity: {a: [{header: x, set_by: envoy}]}": true, "paths: {pass: [/x]}": true, "paths: {deny: [/x]}": false,
	} {
		if got := renderAgain(parse(""), parse(text)); (got != "") != want {
			t.Errorf("%s: %q", text, got)
		}
	}
	throttling := parse("")
	throttling.Budgets[0].Action = budget.ActionThrottle
	if renderAgain(parse(""), throttling) == "" || renderAgain(throttling, parse("")) != "" {
		t.Error("Envoy must be told of the first budget that throttles, and of no other")
	}
	old := parse("models: [{match: a, encoding: o200k_base}]")
	if got, _ := running(old, parse("models: [{match: b, encoding: o200k_base}]"), false); got.Models[0].Match[0] != "b" {
		t.Error("new models are not taken")
	}
}

func TestChanges(t *testing.T) {
	parse := func(text string) *config.Config {
		c, err := config.ParseRunning("f", []byte("identity: {team: [{jwt: team}]}\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := parse(`admin_token: old-secret
budgets:
  - {name: a, limit: 1 token, period: day}
  - {name: b, limit: {input: 2 tokens, output: 3 tokens}, period: day}
  - {name: c, per: team, limit: 1k tokens, period: day}
`)
	if got := changes(old, old); got != nil {
		t.Errorf("nothing has changed: %q", got)
	}
	got := changes(old, parse(`admin_token: new-secret
models: [{match: a, as: gpt-4o}]
paths: {deny: [/x]}
unknown_api: pass
responses_cut: completed
closing_comment: false
overload: {max_exchanges: 5}
budgets:
  - {name: c, per: team, limit: 1k tokens, period: month, timezone: Europe/Berlin, overrides: {x: 5 tokens}, max_subjects: 5, match: {team: x}}
  - {name: b, limit: {output: 4 tokens}, period: day}
  - {name: d, limit: 3 streams}
`))
	want := []string{
		"budget a: 1 tokens removed", "budget b: 2 input_tokens removed",
		"budget c (tokens): period, timezone, match, overrides, max_subjects changed",
		"budget b: 3 → 4 output_tokens", "budget d: 3 streams added", "the order of budgets changed",
		"admin_token changed", "models changed", "paths changed", "unknown_api changed", "responses_cut changed", "closing_comment changed", "overload changed",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
