package reference

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestSchemaRefuses: what an editor should mark, and what the decoder refuses anyway.
func TestSchemaRefuses(t *testing.T) {
	dir := prepare(t)
	const good = "budgets: [{name: a, limit: 1M tokens, period: day}]\n"
	for _, text := range []string{
		// keys
		"lisen: {}\n" + good, "listen: {extporc: 127.0.0.1:1}\n" + good, "listen: {extproc: {port: 1}}\n" + good, "tls: {cert: a, key: b}\n" + good,
		"listen: {tls: {cert: a}}\n" + good, "listen: {tls: {}}\n" + good, "listen: {insecure: true}\n" + good, "store: {files: {}}\n" + good,
		"store: {redis: {url: a}}\n" + good, "store: {file: {folder: a}}\n" + good, "path: {pass: [/a]}\n" + good, "timeouts: {request: 1s}\n" + good,
		"budgets: [{name: a, limit: 1M tokens, peroid: day}]", "budgets: [{limit: 1M tokens, period: day}]", "budgets: [{name: a, period: day}]",
		"budgets: [{name: a, limit: 1M tokens}]", "budgets: [{name: a, limit: {input: 1M tokens}, per: model}]", "budgets: [{name: a, limit: {}, period: day}]",
		"budgets: [{name: a, limit: {inputs: 1 token}, period: day}]", "budgets: [{name: a, limit: 1 token, period: day, match: {}}]",
		"budgets: [{name: a, limit: 1 token, period: day, borrow: true}]", "budgets: [{name: a, limit: 1 token, period: day, per: model, overrides: [{model: x}]}]",
		"models: [{as: gpt-4o}]\n" + good, "models: [{match: a}]\n" + good, "models: [{match: a, as: gpt-4o, encoding: o200k_base}]\n" + good,
		"identity: {model: [{jwt: a}]}\n" + good, "identity: {a b: [{jwt: a}]}\n" + good, "identity: {a: [{jwt: a, header: b}]}\n" + good,
		"identity: {a: [{set_by: envoy}]}\n" + good, "identity: {a: [{jwt: b, set_by: envoy}]}\n" + good, "identity: {a: [{}]}\n" + good,
		"insecure: true\n",
		// kinds
		"- a\n", "text\n", "listen: 127.0.0.1:1\n" + good, "admin_token: 12345\n" + good, "insecure: yes\n" + good, "insecure: 1\n" + good, "identity: [a]\n" + good,
		"identity: {a: {jwt: b}}\n" + good, "identity: {a: x-a}\n" + good, "paths: {pass: /a}\n" + good, "paths: {pass: []}\n" + good, "paths: {pass: [/a, /a]}\n" + good,
		"budgets: {name: a}\n", "budgets: []\n", "budgets: [a]\n", "budgets:\n", "budgets: [{name: 12, limit: 1 token, period: day}]", "budgets: [{name: true, limit: 1 token, period: day}]",
		"budgets: [{name: a, limit: [1 token], period: day}]", "budgets: [{name: a, limit: 5, period: day}]", "budgets: [{name: a, limit: 1 token, period: day, per: {team: a}}]",
		"store: {file: {dir: 12}}\n" + good, "store: {file: }\n" + good, "timeouts: {drain: [1s]}\n" + good, "models: [house]\n" + good, "models: [{match: 4, as: gpt-4o}]\n" + good,
		// values
		"listen: {extproc: localhost}\n" + good, "listen: {extproc: 9002}\n" + good, "listen: {extproc: none}\n" + good, "listen: {admin: unix:a}\n" + good,
		"admin_token: a b\n" + good, "admin_token: ''\n" + good, "max_request_body: 16MB\n" + good, "max_request_body: 100\n" + good, "max_request_body: 2000000000\n" + good,
		"max_request_body: -1\n" + good, "unknown_api: passs\n" + good, "output_cap: true\n" + good, "responses_cut: failed\n" + good, "closing_comment: on\n" + good, "store: {file: {fsync: always}}\n" + good,
		"store: {file: {sync: 5}}\n" + good, "store: {file: {sync: 5 s}}\n" + good, "store: {file: {sync: 1d}}\n" + good, "timeouts: {idle: -1s}\n" + good, "timeouts: {drain: 30}\n" + good,
		"identity: {missing: ignore}\n" + good, "identity: {a: [{header: x_a}]}\n" + good, "identity: {a: [{header: authorization}]}\n" + good, "identity: {a: [{header: x-a, set_by: nginx}]}\n" + good,
		"paths: {pass: [health]}\n" + good, "paths: {deny: ['/a?b']}\n" + good, "paths: {pass: ['/a;b']}\n" + good, "models: [{match: a, encoding: cl100k}]\n" + good,
		"budgets: [{name: a b, limit: 1 token, period: day}]", "budgets: [{name: a, limit: 20k, period: day}]", "budgets: [{name: a, limit: 20 apples, period: day}]",
		"budgets: [{name: a, limit: 5m tokens, period: day}]", "budgets: [{name: a, limit: 1e6 tokens, period: day}]", "budgets: [{name: a, limit: 0 tokens, period: day}]",
		"budgets: [{name: a, limit: 0.00k tokens, period: day}]", "budgets: [{name: a, limit: -5 tokens, period: day}]", "budgets: [{name: a, limit: 50 M tokens, period: day}]",
		"budgets: [{name: a, limit: 1,000 tokens, period: day}]", "budgets: [{name: a, limit: {input: 5 requests}, period: day}]", "budgets: [{name: a, limit: 1 token, period: fortnight}]",
		"budgets: [{name: a, limit: 1 token, period: dya}]", "budgets: [{name: a, limit: 1 token, period: day, timezone: 'Europe/ Berlin'}]", "budgets: [{name: a, limit: 1 token, period: day, per: limit}]",
		"budgets: [{name: a, limit: 1 token, period: day, per: model, max_subjects: 0}]", "budgets: [{name: a, limit: 1 token, period: day, per: model, max_subjects: 1000001}]",
		"budgets: [{name: a, limit: 1 token, period: day, per: model, max_subjects: 5K}]", "budgets: [{name: a, limit: 1 token, per: request, on_input: cut}]",
		"budgets: [{name: a, limit: 1 token, period: day, per: model, overrides: {'gpt*': 5 tokens}}]", "budgets: [{name: a, limit: 1 token, period: day, match: {path: v1/*}}]",
		"budgets: [{name: a, limit: 1 token, period: day, match: {header: {authorization: a}}}]", "budgets: [{name: a, limit: 1 token, period: day, match: {model: ''}}]",
	} {
		if _, errs := byDecoder(t, dir, text); len(errs) == 0 {
			t.Errorf("the decoder takes %s", text)
		}
		if bySchema(t, text) == nil {
			t.Errorf("the schema takes %s", text)
		}
	}
}

// odd are values that are written strangely, some of which the decoder takes somewhere.
func odd() []string {
	all := []string{
		`""`, `" "`, "~", "null", "0", "-0", "+0", "00", "1", "01", "1.0", "2048.0", "02048", "+5", "-5", "0x10", "0o17", "1_000", "1e3", ".5", "5.", "1e400", ".inf", ".nan",
		"true", "True", "yes", `"true"`, "2024-01-01", "12:30", "[]", "{}", "[x]", "{x: y}", "[[x]]", "[{}]",
		"0s", "-0s", "1.s", ".5s", "1h0.5m", "1us", "1µs", "1μs", "+1m", "01h", "1h1h", "60000ms", "5 m", "1d", "2w",
		"1 token", "1k  tokens", `"1\ttokens"`, `" 2 streams "`, "\"3\u00a0requests\"", "\"3\u2003requests\"", "1.50k tokens", "0.001M tokens", "0001 tokens", "0 tokens", "1 tokens tokens", "$5", "50% ",
		`"$$5 tokens"`, `"$${X} tokens"`, `"${TOKENBUDGET_ADMIN_TOKEN}"`, `"a${TOKENBUDGET_ADMIN_TOKEN}"`, `"/a$b"`, `"/a$$b"`, `"x-$$"`, `"$"`, `"*$"`,
		"127.0.0.1:0", "localhost:09002", `":9002"`, `"[::1]:9002"`, `"[::1%eth0]:1"`, "unix:/a", "unix:a", "unix:/" + strings.Repeat("a", 102), "unix:/" + strings.Repeat("a", 103), `"[1.2.3.4]:5"`,
		"none", "request", "[request]", "model", "[model, path]", "path", "limit", "missing", "team", "(none)", `"*"`, "a*b", "/", "//", "/*", "*/a", `"/\u00e4"`, "/a%20b", `"/a b"`, `"a#b"`,
		"UTC", "./UTC", "utc", "Etc/GMT+5", "posix/UTC", "Local", "X-Team", "x_team", "x.team", "~x", "!x", `"\u00a0"`, `"\u00a0x"`, `"x\u2028"`, `"x "`, `"\x07"`, `"\n"`, `"a\nb"`,
		"gpt-4o", "GPT-4O", "gpt-4o-2024-08-06", "ft:gpt-4o:a", "o200k_base", "O200K_BASE", "./llama3.json", strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 256), strings.Repeat("é", 128),
		"{input: 1 token}", "{output: 1.5k tokens, input: 2 tokens}", "{input: 1 request}", "{search: 5 tokens}", "{search: {input: 1 token}}", "[{team: a, limit: 5 tokens}]", "{8: 5 tokens}", `{"8": 5 tokens}`,
		"[{jwt: a}]", "{secret: 0123456789abcdef}", "[{hash: 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843, team: a}]", "[{jwt: a}, {header: b, set_by: envoy}]", "{header: {X-A: [a, b], x-b: c}}", "{team: [a, b], model: c, path: /x}", "{header: {}}", "{team: a, header: {}}",
		"[{name: a, limit: 1 token, period: day}]", "[{match: a, as: gpt-4o}, {match: a, as: gpt-4o}]", "{address: 127.0.0.1:1}", "{address: 127.0.0.1:1, tls: none}", "{tls: none}", "{cert: a, key: b}", "{cert: a, key: b, client_ca: c}",
	}
	for _, k := range keys {
		all = append(all, k.examples()...)
		if k.form.one != nil {
			all = append(all, k.form.one.bad...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// laxer fails if the decoder takes a file that is wrong by the schema. It returns
// whether the decoder takes it.
func laxer(t *testing.T, fail func(format string, args ...any), dir, text string) bool {
	_, errs := byDecoder(t, dir, text)
	if len(errs) > 0 {
		return false
	}
	if err := bySchema(t, text); err != nil {
		fail("the schema is stricter than the decoder: %v\n%s", err, text)
	}
	return true
}

// TestSchemaLaxer puts every odd value at every key.
func TestSchemaLaxer(t *testing.T) {
	dir := prepare(t)
	all := odd()
	for _, k := range keys {
		taken := 0
		for _, value := range all {
			if text, _ := fileWith(k.path, value); laxer(t, t.Errorf, dir, text) {
				taken++
			}
			if k.form.many == nil {
				continue
			}
			if text, _ := fileWith(k.path, "["+value+"]"); laxer(t, t.Errorf, dir, text) {
				taken++
			}
		}
		if taken == 0 {
			t.Errorf("%s: no value was taken, so nothing was compared", k.path)
		}
	}
}

// TestSchemaLaxerRandom makes whole files from the words of the schema, mostly right
// ones, and compares decoder and schema.
func TestSchemaLaxerRandom(t *testing.T) {
	dir := prepare(t)
	taken, all := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		for range 10 {
			all++
			g := &writer{t: rt, mistakes: rapid.IntRange(0, 1).Draw(rt, "mistakes")}
			if laxer(t, rt.Errorf, dir, g.mapping("", object(), 0)) {
				taken++
			}
		}
	})
	t.Logf("the decoder took %d of %d files", taken, all)
	if taken*10 < all {
		t.Errorf("the decoder took only %d of %d files: most was not compared", taken, all)
	}
}

// A writer makes random files.
type writer struct {
	t        *rapid.T
	mistakes int // how many more it may make
	budgets  int // that have a name
}

// chance is true in one of n cases.
func (g *writer) chance(n int) bool { return rapid.IntRange(0, n-1).Draw(g.t, "chance") == n/2 }

// mistake says whether to make one here.
func (g *writer) mistake() bool {
	if g.mistakes == 0 || !g.chance(8) {
		return false
	}
	g.mistakes--
	return true
}

func (g *writer) pick(all []string) string { return rapid.SampledFrom(all).Draw(g.t, "pick") }

// value writes a value of a form, in YAML's flow style.
func (g *writer) value(k key, f form, path string, depth int) string {
	if g.mistake() {
		return g.pick(odd())
	}
	var kinds []string
	if f.one != nil {
		kinds = append(kinds, "one", "one")
	}
	if f.many != nil {
		kinds = append(kinds, "many")
	}
	if f.keys != nil {
		kinds = append(kinds, "keys")
	}
	if f.like != "" {
		kinds = append(kinds, "like")
	}
	switch g.pick(kinds) {
	case "one":
		return g.single(k, f.one)
	case "many":
		n := rapid.IntRange(1, 2).Draw(g.t, "elements")
		var all []string
		for range n {
			all = append(all, g.value(key{}, f.many.form, path+"[]", depth))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case "like":
		return g.value(k, lookup(f.like).form, f.like, depth)
	}
	return "{" + g.mapping(path, f, depth) + "}"
}

// mapping writes the keys of a mapping: of the whole file as lines, else between braces.
func (g *writer) mapping(path string, f form, depth int) string {
	var all []string
	if path == "" && !g.mistake() {
		all = append(all, "identity: {team: [{jwt: team}], user: [{jwt: sub}]}")
	}
	alternatives := ""
	for _, k := range below(path) {
		name := k.name()
		switch {
		case path == "" && k.path == "identity":
			continue
		case name == anyName:
			name = g.pick([]string{"team", "user", "x-env"})
			if f.keys.names == headerName.one {
				name = g.pick([]string{"x-env", "X-Trace"})
			}
			if g.mistake() {
				name = g.pick(odd())
			}
			if strings.HasPrefix(path, "budgets[].overrides[]") {
				name = "team"
			} else if g.chance(2) {
				continue
			}
		case rules[path]["oneOf"] != nil && strings.Contains(fmt.Sprint(rules[path]["oneOf"]), "["+name+"]"):
			if alternatives == "" {
				alternatives = g.pick(map[string][]string{"models[]": {"as", "encoding", "tokenizer"}}[path])
			}
			if name != alternatives && !g.mistake() {
				continue
			}
		case k.def == required || k.path == "budgets[].period":
			if g.mistake() {
				continue
			}
		case (name == "overrides" || name == "on_input" || name == "max_delay") && !g.chance(25): // which need certain others
			continue
		case k.path == "budgets[].limit.input": // or its output, of which there must be one
		case !g.chance(5):
			continue
		}
		value := g.value(k, k.form, k.path, depth+1)
		if strings.HasPrefix(name, "*") || strings.Contains(name, `"`) {
			name = strconv.Quote(name)
		}
		all = append(all, name+": "+value)
	}
	if g.mistakes > 0 && g.chance(20) {
		all = append(all, g.pick([]string{"tls", "action", "names", "limit"})+": 1")
	}
	if path == "" {
		return strings.Join(all, "\n") + "\n"
	}
	return strings.Join(all, ", ")
}

// single writes a single value: one that is known to be right, or one that its pattern
// allows, and sometimes with a letter that is wrong.
func (g *writer) single(k key, o *single) string {
	good := append(k.examples(), o.good...)
	if k.form.one != o {
		good = o.good
	}
	if o == perName.one {
		good = []string{"team", "user", "model", "path"}
	}
	var value string
	switch {
	case k.path == "budgets[].name" && !g.mistake():
		g.budgets++
		value = fmt.Sprint("b-", g.budgets)
	case len(good) > 0 && !g.chance(8) || len(o.words) > 0:
		value = g.pick(good)
		if !strings.HasPrefix(value, `"`) && strings.ContainsAny(value, "{}[],*:$") && !strings.HasPrefix(value, "[") && !strings.HasPrefix(value, "{") {
			value = strconv.Quote(value)
		}
	default:
		value = strconv.Quote(rapid.StringMatching(o.pattern).Draw(g.t, "text"))
	}
	if g.mistake() && len(value) > 2 {
		i := rapid.IntRange(1, len(value)-2).Draw(g.t, "where")
		value = value[:i] + g.pick([]string{" ", "0", ".", "m", "*", "/", "$", "", "-"}) + value[i+1:]
	}
	return value
}
