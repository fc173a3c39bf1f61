package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/config"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/overrides"
)

// What the file says about exchanges must reach those who decide on them.
func TestPolicy(t *testing.T) {
	parse := func(t *testing.T, text string) *config.Config {
		t.Helper()
		c, err := config.Parse("budgets.yaml", []byte(text+"\nbudgets: [{name: all, per: [team], limit: 1k tokens, period: day}]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	identities := `identity: {team: [{jwt: org.team}, {header: X-Team, set_by: envoy}], user: [{header: x-user}]`
	ids := func(required bool) []exchange.Identity {
		return []exchange.Identity{
			{Name: "team", Sources: []exchange.Source{{JWT: "org.team"}, {Header: "x-team"}}, Required: required},
			{Name: "user", Sources: []exchange.Source{{Header: "x-user"}}},
		}
	}
	for _, tc := range []struct {
		name, text string
		want       exchange.Policy
	}{
		{"defaults", identities + "}", exchange.Policy{Identities: ids(false), MaxRequest: 16 << 20}},
		{
			// Only what a budget is counted by must be there.
			"missing", identities + ", missing: refuse}", exchange.Policy{Identities: ids(true), MaxRequest: 16 << 20},
		},
		{
			"all else", identities + `}
paths: {pass: [/health], deny: ["/v1/files*"]}
unknown_api: pass
output_cap: always
responses_cut: completed
include_usage: always
closing_comment: false
max_request_body: 1MiB`, exchange.Policy{
				Identities: ids(false), Pass: []string{"/health"}, Deny: []string{"/v1/files*"}, PassUnknown: true,
				OutputCap: exchange.CapAlways, IncludeUsage: exchange.UsageAlways, SilentCut: true, CutCompleted: true, MaxRequest: 1 << 20,
			},
		},
		{
			"degraded", identities + "}\ndegraded: refuse\ndegraded_cut: reset",
			exchange.Policy{Identities: ids(false), RefuseDegraded: true, ResetCut: true, MaxRequest: 16 << 20},
		},
		{"never", identities + "}\noutput_cap: never\ninclude_usage: never", exchange.Policy{Identities: ids(false), OutputCap: exchange.CapNever, IncludeUsage: exchange.UsageNever, MaxRequest: 16 << 20}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := policy(parse(t, tc.text)); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
	t.Run("models", func(t *testing.T) {
		counter := count.New(count.Options{Models: mappings(parse(t, identities+`}
models: [{match: [eu-*, fast], as: gpt-4}, {match: house, encoding: p50k_base}]`))})
		for name, want := range map[string]string{"EU-Chat": "gpt-4 cl100k_base false", "house": "house p50k_base false", "strange": "strange o200k_base true"} {
			m := counter.Model(name)
			if got := fmt.Sprint(m.Name, " ", m.Encoding.Name(), " ", m.Estimated); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	})
}

// What limits look at must be read, and must be there.
func TestPolicyOfLimits(t *testing.T) {
	for _, tc := range []struct {
		limits  string
		headers []string
		watched []string
		plain   bool
		need    []string
	}{
		{`{name: a, limit: 1 token, period: day}`, nil, nil, false, nil},
		{`{name: a, match: {header: {X-Env: a, x-tier: b}}, limit: 1 token, period: day}, {name: b, match: {header: {x-env: c}}, limit: 1 stream}`,
			[]string{"x-env", "x-tier"}, nil, false, nil},
		{`{name: a, match: {path: /v1/*}, per: request, limit: 1 token}`, nil, nil, true, nil},
		{`{name: a, per: [team, path], limit: 1 token, period: day}`, nil, nil, true, []string{"team"}},
		{`{name: a, match: {user: x, model: y}, limit: 1 token, period: day}`, nil, nil, false, []string{"user"}},
		// What only watches is no reason to refuse.
		{`{name: a, match: {header: {x-env: a, x-tier: b}, path: /v1/*}, per: [team, path], limit: 1 token, period: day, action: shadow}, {name: b, match: {header: {x-tier: c}}, limit: 1 stream}`,
			[]string{"x-tier"}, []string{"x-env"}, false, nil},
	} {
		c, err := config.Parse("f", []byte("identity: {team: [{jwt: team}], user: [{jwt: sub}], missing: refuse}\nbudgets: ["+tc.limits+"]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := policy(c)
		var need []string
		for _, id := range p.Identities {
			if id.Required {
				need = append(need, id.Name)
			}
		}
		if !slices.Equal(p.MatchHeaders, tc.headers) || !slices.Equal(p.WatchHeaders, tc.watched) || p.PlainPath != tc.plain || !slices.Equal(need, tc.need) {
			t.Errorf("%s: headers %q and %q, plain %v, required %q", tc.limits, p.MatchHeaders, p.WatchHeaders, p.PlainPath, need)
		}
	}
}

// Where limits depend on the model, a request may not name several.
func TestPolicyOfModels(t *testing.T) {
	for limit, want := range map[string]bool{
		`per: user`:                              false,
		`per: model`:                             true,
		`match: {model: gpt-4*}`:                 true,
		`match: {model: gpt-4*}, action: shadow`: false,
		`per: [user, model], action: refuse`:     true,
	} {
		c, err := config.Parse("f", []byte("identity: {user: [{jwt: sub}]}\nbudgets: [{name: a, limit: 1 token, period: day, "+limit+"}]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := policy(c).OneModel; got != want {
			t.Errorf("%s: %v", limit, got)
		}
	}
}

// Budgets whose on_input is truncate shorten prompts; the others refuse them.
func TestPolicyOfInput(t *testing.T) {
	c, err := config.Parse("f", []byte("budgets: [{name: a, per: request, limit: {input: 1 token, output: 1 token}, on_input: truncate}, "+
		"{name: b, per: request, limit: 1 token, on_input: refuse}, {name: c, per: request, limit: 1 token}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := policy(c); !slices.Equal(p.Truncate, []string{"a"}) {
		t.Errorf("truncate: %q", p.Truncate)
	}
}

// To the server 0 is its default; in the file it means not to wait.
func TestNoTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: -1, time.Second: time.Second} {
		c := &config.Config{Timeouts: config.Timeouts{Drain: timeout, Background: timeout}}
		s, err := (&live{}).settings(&ruling{c, new(overrides.Set)})
		if err != nil {
			t.Fatal(err)
		}
		if s.DrainTimeout != want || s.Policy.BackgroundTimeout != want {
			t.Errorf("%v: a drain of %v, and %v in the background, want %v", timeout, s.DrainTimeout, s.Policy.BackgroundTimeout, want)
		}
	}
}

// An address in the log can be used as it is, for both kinds of listeners.
func TestListen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	for _, addr := range []string{"127.0.0.1:0", "unix:" + socket} {
		lis, err := listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		second, err := listen(address(lis))
		if err == nil {
			second.Close()
			t.Errorf("%s could be listened on twice", addr)
		}
		if err := lis.Close(); err != nil {
			t.Error(err)
		}
	}

	// A socket whose server has crashed: the file is there, and nobody answers.
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("unix", socket); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("the socket is not stale: %v", err)
	}
	again, err := listen("unix:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// What the file says of overload reaches the server.
func TestOverloadSettings(t *testing.T) {
	c, err := config.Parse("f", []byte("overload: {max_exchanges: 5k, max_buffered: 1GiB, max_delay: 200ms}\nbudgets: [{name: a, limit: 1 token, period: day}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &live{}
	s, err := l.settings(&ruling{config: c, overrides: new(overrides.Set)})
	if want := (extproc.Overload{MaxExchanges: 5000, MaxBuffered: 1 << 30, MaxDelay: 200 * time.Millisecond}); err != nil || s.Overload != want {
		t.Errorf("%+v, error %v, want %+v", s.Overload, err, want)
	}
}

// The environment's memory limit stands.
func TestGCPercent(t *testing.T) {
	for env, want := range map[string]int{"": 50, "100": 0, "off": 0} {
		if n := gcPercent(env); n != want {
			t.Errorf("GOGC=%q: %d, not %d", env, n, want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	if n := memoryLimit("1GiB"); n != 0 {
		t.Errorf("limit %d in spite of the environment's", n)
	}
	if n, all := memoryLimit(""), extproc.MachineMemory(); n >= all || n < all/2 {
		t.Errorf("limit %d of %d", n, all)
	}
}
