package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

const oneBudget = "budgets: [{name: a, limit: 1M tokens, period: day}]\n"

// check parses a file that is otherwise right, and compares the error: "" if there
// must be none, else a part of it.
func check(t *testing.T, text, want string) *Config {
	t.Helper()
	c, err := Parse("f", []byte(text), testEnv)
	switch {
	case want == "" && err != nil:
		t.Errorf("%.80q: error:\n%v", text, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%.80q: error %v; want one with %q", text, err, want)
	}
	return c
}

func TestListen(t *testing.T) {
	for _, test := range []struct {
		address string
		open    bool   // needs insecure: true
		err     string // wrong in any case
	}{
		{address: "127.0.0.1:9002"},
		{address: "127.1.2.3:0"},
		{address: "localhost:9002"},
		{address: "[::1]:9002"},
		{address: "[::ffff:127.0.0.1]:9002"},
		{address: "unix:/run/a.sock"},
		{address: ":9002", open: true},
		{address: "0.0.0.0:9002", open: true},
		{address: "[::]:9002", open: true},
		{address: "10.0.0.1:9002", open: true},
		{address: "[fe80::1%eth0]:9002", open: true},
		{address: "localhost.example.com:9002", open: true},
		{address: "127.0.0.1.example.com:9002", open: true},
		{address: "127.0.0.1", err: "not an address"},
		{address: "::1:9002", err: "not an address"},
		{address: "127.0.0.1:http", err: "port must be a number"},
		{address: "127.0.0.1:65536", err: "port must be a number"},
		{address: "127.0.0.1:-1", err: "port must be a number"},
		{address: "a b:1", err: "neither an IP address nor a name"},
		{address: "http://127.0.0.1:9002", err: "not an address"},
		{address: "unix:run/a.sock", err: "must be absolute"},
		{address: "unix:@abstract", err: "must be absolute"},
		{address: "unix:/" + strings.Repeat("a", maxSocket), err: "at most 103 bytes"},
		{address: "", err: "not an address"},
	} {
		text := fmt.Sprintf("listen: {extproc: %q}\n%s", test.address, oneBudget)
		want := test.err
		if test.open {
			want = "can be reached from other machines"
		}
		check(t, text, want)
		c := check(t, "insecure: true\n"+text, test.err)
		if c == nil {
			continue
		}
		if c.Listen.ExtProc != test.address {
			t.Errorf("%q became %q", test.address, c.Listen.ExtProc)
		}
		if warned := strings.Contains(strings.Join(c.Warnings(), "\n"), "without encryption"); warned != test.open {
			t.Errorf("%q: warned of an open port: %v, want %v", test.address, warned, test.open)
		}
	}
	check(t, "listen: {admin: 127.0.0.1:9002}\n"+oneBudget, "same address")
	check(t, "listen: {extproc: 127.0.0.1:9003}\n"+oneBudget, "same address")
	check(t, "listen: {extproc: 127.0.0.1:0, admin: 127.0.0.1:0}\n"+oneBudget, "")
	check(t, `listen: {admin: ""}`+"\n"+oneBudget, "write none")
	if c := check(t, "listen: {admin: none}\n"+oneBudget, ""); c.Listen.Admin != "" {
		t.Errorf("admin none became %q", c.Listen.Admin)
	}
}

func TestPeriods(t *testing.T) {
	for _, name := range []string{"minute", "hour", "day", "week", "month", "quarter", "year", "total"} {
		want, err := budget.ParsePeriod(name)
		if err != nil {
			t.Fatal(err)
		}
		c := check(t, "budgets: [{name: a, limit: 1M tokens, period: "+name+"}]", "")
		if got := c.Budgets[0].Period; got != want {
			t.Errorf("%s became %s", name, got)
		}
		check(t, "budgets: [{name: a, limit: 1M tokens, period: none}]", name) // the hint has them all
	}
	for text, want := range map[string]time.Duration{
		"5m": 5 * time.Minute, "24h": 24 * time.Hour, "30d": 720 * time.Hour, "1h30m": 90 * time.Minute, "2w": 336 * time.Hour,
		"1s": time.Second, "366d": 366 * 24 * time.Hour, "90s": 90 * time.Second,
	} {
		c := check(t, "budgets: [{name: a, limit: 1M tokens, period: "+text+"}]", "")
		if got := c.Budgets[0].Period; got != budget.Period(want) {
			t.Errorf("%s became %s", text, got)
		}
	}
	for _, text := range []string{"1.5h", "30 days", "60", "5min", "5m1h", "500ms", "-5m", "+5m"} {
		check(t, "budgets: [{name: a, limit: 1M tokens, period: "+text+"}]", "it is not a period")
	}
	for _, text := range []string{"0s", "367d", "99999999999999999999h"} {
		check(t, "budgets: [{name: a, limit: 1M tokens, period: "+text+"}]", "between 1s and 366d")
	}
}

func TestZones(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"} {
		c := check(t, "budgets: [{name: a, limit: 1M tokens, period: day, timezone: "+zone+"}]", "")
		if got := c.Budgets[0].Location.String(); got != zone {
			t.Errorf("%s became %s", zone, got)
		}
	}
	for _, zone := range []string{`""`, "Local", "Berlin", "../Europe/Berlin", "/etc/localtime"} {
		check(t, "budgets: [{name: a, limit: 1M tokens, period: day, timezone: "+zone+"}]", "not a time zone")
	}
}

func TestTimeouts(t *testing.T) {
	c := check(t, "timeouts: {exchange: 1m}\n"+oneBudget, "")
	if c.Timeouts.Idle != time.Minute {
		t.Errorf("idle is %s, longer than an exchange", c.Timeouts.Idle)
	}
	check(t, "timeouts: {exchange: 1m, idle: 1m}\n"+oneBudget, "")
	check(t, "timeouts: {idle: 61s, exchange: 1m}\n"+oneBudget, "longer than an exchange")
	check(t, "timeouts: {drain: 0s}\n"+oneBudget, "")
	check(t, "timeouts: {drain: -1s}\n"+oneBudget, "between 0s and 10m")
	if c := check(t, "timeouts: {drain: 2s}\n"+oneBudget, ""); c.Timeouts.DrainDelay != 2*time.Second {
		t.Errorf("the drain's delay is %s, longer than the drain", c.Timeouts.DrainDelay)
	}
	check(t, "timeouts: {drain: 2s, drain_delay: 2s, connection_age: 0s}\n"+oneBudget, "")
	check(t, "timeouts: {drain_delay: 3s, drain: 2s}\n"+oneBudget, "longer than the drain")
	check(t, "timeouts: {connection_age: 25h}\n"+oneBudget, "between 0s and 24h")
	check(t, "timeouts: {idle: 0s}\n"+oneBudget, "between 1s and 24h")
	check(t, "timeouts: {idle: 30}\n"+oneBudget, "not a length of time")
}

func TestMaxRequestBody(t *testing.T) {
	for text, want := range map[string]string{
		"1KiB": "", "1GiB": "", "1023": "between 1024 and 1073741824 bytes", "1.5GiB": "between 1024 and 1073741824 bytes", "0": "more than zero",
	} {
		check(t, "max_request_body: "+text+"\n"+oneBudget, want)
	}
}

func TestNames(t *testing.T) {
	budgetOf := func(name string) string {
		return fmt.Sprintf("budgets: [{name: %q, limit: 1M tokens, period: day}]", name)
	}
	for _, name := range []string{"a", "A.b_c-9", strings.Repeat("x", 64)} {
		check(t, budgetOf(name), "")
	}
	for _, name := range []string{"", strings.Repeat("x", 65), "a b", "a/b", "ä", "a\n"} {
		check(t, budgetOf(name), "a name has 1 to 64 characters")
	}
}

// The order of keys must not matter: budgets may stand above the identities that they
// name, and limits of one budget keep their order.
func TestOrder(t *testing.T) {
	parts := []string{
		"budgets: [{name: a, per: [user, team], limit: {output: 1 token, input: 2 tokens}, period: day}]\n",
		"identity: {user: [{jwt: sub}], team: [{jwt: team}]}\n",
	}
	one := check(t, parts[0]+parts[1], "")
	two := check(t, parts[1]+parts[0], "")
	if describe(one) != describe(two) {
		t.Errorf("got\n%s\nand\n%s", describe(one), describe(two))
	}
	if l := one.Budgets; len(l) != 2 || l[0].Unit != budget.InputTokens || l[0].Amount != 2 || l[1].Unit != budget.OutputTokens ||
		l[1].Amount != 1 || !slices.Equal(l[0].Per, []string{"user", "team"}) {
		t.Errorf("limits: %+v", l)
	}
	if one.Identities[0].Name != "user" || one.Identities[1].Name != "team" {
		t.Errorf("identities: %+v", one.Identities)
	}
}

func TestBounds(t *testing.T) {
	check(t, strings.Repeat("#", MaxFile-len(oneBudget)-1)+"\n"+oneBudget, "")
	check(t, strings.Repeat("#", MaxFile-len(oneBudget))+"\n"+oneBudget, "f:1:1: the file is larger than 1048576 bytes")

	var many strings.Builder
	many.WriteString("budgets:\n")
	for i := range maxBudgets {
		fmt.Fprintf(&many, "- {name: b%d, limit: 1M tokens, period: day}\n", i)
	}
	check(t, many.String(), "")
	check(t, many.String()+"- {name: last, limit: 1M tokens, period: day}\n", "f:1002:3: the list \"budgets\" has 1001 elements")

	var names strings.Builder
	for i := range maxIdentities + 1 {
		fmt.Fprintf(&names, "  i%d: [{jwt: i}]\n", i)
	}
	check(t, "identity:\n"+names.String()+oneBudget, "f:18:3: there are more than 16 identities")
	check(t, "identity:\n  i: ["+strings.Repeat("{jwt: a}, ", maxSources+1)+"]\n"+oneBudget, "more than 8")

	check(t, oneBudget+"store: {file: {dir: '"+strings.Repeat("${DIR}", maxExpanded/20+1)+"'}}", "longer than 65536 bytes")
	check(t, strings.Repeat("[", 9000)+strings.Repeat("]", 9000), "f:1:17: lists and mappings are nested more than 16 deep")
	check(t, strings.Repeat("[", 20000)+strings.Repeat("]", 20000), "f:1:")
	check(t, strings.Repeat("- ", 20000)+"a", "f:1:")
}

func TestManyMistakes(t *testing.T) {
	_, err := Parse("f", []byte(strings.Repeat("x: 1\n", 250)+oneBudget), nil)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors+1 {
		t.Fatalf("%d mistakes, want %d and a summary", len(errs), maxErrors)
	}
	if last := errs[maxErrors].Error(); !strings.Contains(last, "there are 150 more mistakes") {
		t.Error(last)
	}
}

func TestErrors(t *testing.T) {
	_, err := Parse("dir/f.yaml", []byte("insecure: 1\nlisten: 2\n"), nil)
	want := `dir/f.yaml:1:1: the file needs the key "budgets" (such as budgets: [{name: everyone, limit: 50M tokens, period: month}])
dir/f.yaml:1:11: insecure "1": it must be true or false
dir/f.yaml:2:9: "listen" must be a mapping, not a number (write {key: value}, or key: value in indented lines)`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var e *Error
	if !errors.As(err, &e) || e.Line != 1 || e.Column != 1 || e.File != "dir/f.yaml" {
		t.Errorf("the first mistake is %+v", e)
	}
}

// A column counts characters, wherever the file has more bytes than characters, and
// whether it has a byte order mark or the line ends of Windows.
func TestColumns(t *testing.T) {
	check(t, "\ufeffstore: {file: {dir: 'ä€😀', zzz: 1}}\r\n"+oneBudget, "f:1:28: unknown key")
	check(t, "listen: {}\r\n\r\nzzz: 1\r\n"+oneBudget, "f:3:1: unknown key")
	check(t, "# ä\nlisten: {}\n\n   # comment\n  ä: 'ö\n"+oneBudget, "f:5:3: malformed YAML")
}

// No message shows a token, however wrongly it is written.
func TestSecrets(t *testing.T) {
	for _, text := range []string{
		"admin_token: hunter 2\n", "admin_token: *hunter\n", "admin_token: !hunter x\n", "admin_token: &hunter x\n",
		"admin_token: 'hunter 2'\n", "admin_token: ${hunter 2}\n", "admin_token: \"${hunter 2}\"\n", "admin_token: hunter: 2\n",
		"admin_token: \"hunter\\x\"\n", "admin_token: 'hunter\n", "admin_token: [hunter]\n", "admin_token: {hunter: }\n",
		"api_keys: {secret: hunter}\n", "api_keys: {secret: 0123456789abcdef, subjects: [{hash: hunter, team: x}]}\n",
		"api_keys: {secret: 0123456789abcdef, subjects: [{'hunter 2': x}]}\n", "api_keys: {secret: 0123456789abcdef, subjects: [{hash: {hunter: x}}]}\n",
		"api_keys: {secret: 0123456789abcdef, subjects: [{hash: [hunter], team: x}]}\n", "api_keys: {secret: \"hunter 0123456789\\n\"}\n",
		"admin_token: \"hunter\\n\"\n", "admin_token: @hunter\n", "admin_token: |\n  hunter\n", "admin_token: ${HUNTER}\n",
	} {
		_, err := Parse("f", []byte(text+oneBudget), func(name string) (string, bool) { return "hunter 3", name == "HUNTER" })
		if err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	c := check(t, "admin_token: ${TOKEN}\n"+oneBudget, "")
	if data, err := json.Marshal(c); err != nil || strings.Contains(string(data), c.AdminToken) {
		t.Errorf("JSON %s, error %v", data, err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	_, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "tokenbudget init") {
		t.Errorf("a file that does not exist: %v", err)
	}
	if _, err := Load(filepath.Dir(path)); err == nil {
		t.Error("a directory was read")
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TOKENBUDGET_TEST_NAME", "from-env")
	write("budgets:\n- name: ${TOKENBUDGET_TEST_NAME}\n  limit: 1M tokens\n  period: day\n")
	c, err := Load(path)
	if err != nil || c.Budgets[0].Name != "from-env" {
		t.Errorf("got %+v, error %v", c, err)
	}
	write(strings.Repeat("#", MaxFile+1))
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":1:1: the file is larger") {
		t.Errorf("a large file: %v", err)
	}
}
