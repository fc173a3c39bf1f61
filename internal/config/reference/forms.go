package reference

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A form is how a value may look: a single value, a list, a mapping, or one of these.
type form struct {
	name string // in words, in Markdown
	like string // the path of a key with the same form, for its mapping
	one  *single
	many *elements
	keys *mapping
}

// A single is a value that is neither list nor mapping.
type single struct {
	kind    string   // what it may be in JSON besides a string: boolean, integer, or "" for nothing
	pattern string   // of strings, with their variables put in; for Go, and for ECMAScript with the flag u
	must    string   // what the pattern asks for, in words
	words   []string // if only these are allowed, and what matches the pattern if there is one
	except  []string // words that are not allowed in spite of the pattern
	least   int64    // of integers
	most    int64

	good, bad []string // as the file would say them; good ones are examples, and the bad ones are just out of bounds
}

// elements are those of a list: at least one, and no two single values alike.
type elements struct {
	most int
	form form // without the mapping's keys: they have paths of their own
}

// A mapping has the keys whose paths begin with its own, or some of them.
type mapping struct {
	names *single // of keys that the file chooses; nil if there are none
	most  int     // of all keys; 0: no bound of its own
}

// variable matches what is replaced before a value is looked at.
const variable = `\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\}`

// number matches decimals above zero.
const number = `([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)`

// How single values look. A pattern may allow more than the decoder, and must not allow
// less.
var (
	boolean      = form{name: "bool", one: &single{kind: "boolean", pattern: `^(true|false)$`, must: "true or false", good: []string{"true", "false"}, bad: []string{"yes", "1"}}}
	address      = text("address", "host:port such as 127.0.0.1:9002, or unix:/path", `^(unix:/[^\n]{0,102}|(\[[^\[\]]*\]|[A-Za-z0-9.-]*):[0-9]+)$`, "127.0.0.1:9002", "unix:/run/tokenbudget.sock", `"[::1]:9002"`)
	adminAddress = text("address or `none`", "host:port such as 127.0.0.1:9003, unix:/path, or none", `^(none|unix:/[^\n]{0,102}|(\[[^\[\]]*\]|[A-Za-z0-9.-]*):[0-9]+)$`, "127.0.0.1:9003", "none")
	token        = text("text", "printable ASCII without spaces, up to 1024 bytes", `^[!-~]+$`, "${TOKENBUDGET_ADMIN_TOKEN}")
	keySecret    = text("text", "16 to 1024 bytes", `^.{16}`, "${TOKENBUDGET_API_KEY_SECRET}")
	keyHash      = text("64 of `0-9 a-f`", "64 characters of 0-9 and a-f", `^[0-9a-f]{64}$`, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
	keyHeader    = text("name of a header", "the name of a header, without underscores", "^[A-Za-z0-9!#$%&'*+.^`|~-]+$", "x-api-key").except("cookie", "host", "content-type")
	keyValue     = text("text", "not empty", `[^\n]`, "search")
	path         = text("path", "the path of a file or folder", `[^\s]`)
	name         = text("1–64 of `a-z A-Z 0-9 . _ -`", "1 to 64 characters of a-z A-Z 0-9 . _ -", `^[a-zA-Z0-9._-]{1,64}$`)
	perName      = text("name", "the name of an identity; or model, path or request", `^[a-zA-Z0-9._-]{1,64}$`).except("limit", "missing")
	identityName = text("name", "1 to 64 characters of a-z A-Z 0-9 _ -", `^[a-zA-Z0-9_-]{1,64}$`).except("request", "model", "path", "limit")
	claim        = text("name of a claim", "the name of a claim such as sub", `^[^ ]([^\n]*[^ ])?$`)
	headerName   = text("name of a header", "the name of a header, without underscores", "^[A-Za-z0-9!#$%&'*+.^`|~-]+$").except(
		"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-goog-api-key", "host", "content-type", "accept-encoding")
	pathGlob  = text("glob", "a path that begins with /, without query and spaces; * stands for any characters", `^/[^?# ]*$`)
	passGlob  = text("glob", `a path that begins with /, without query, spaces, %, \ and ;; * stands for any characters`, `^/[^?# %;\\]*$`)
	matchGlob = text("glob", "a path that begins with / or *, without query and spaces; * stands for any characters", `^[/*][^?# ]*$`)
	pattern   = text("glob", "not empty; * stands for any characters", `[^\n]`)
	modelGlob = text("glob", "the name of a model; * stands for any characters", `^[^ ]([^\n]*[^ ])?$`)
	model     = text("model", "the name of a model such as gpt-4o", `[^\n]`, "gpt-4o")
	subject   = text("text", "a value; * is no glob here", `^[^*]+$`)
	zone      = text("IANA name", "a time zone such as Europe/Berlin, or UTC", `^[A-Za-z0-9_+./-]+$`, "UTC", "Europe/Berlin")
	// Between number and unit, and around them, may be any space; [^!-~] is whatever is no
	// printable ASCII.
	amount = text("amount", "an amount such as 20k tokens, 1.5M tokens, 60 requests or 3 streams",
		`^[^!-~]*`+number+`[kMB]?[^!-~]+(tokens?|requests?|streams?)[^!-~]*$`, "20k tokens", "1.5M tokens", "60 requests", "3 streams")
	tokenAmount = text("amount of tokens", "an amount such as 8k tokens or 1.5M tokens", `^[^!-~]*`+number+`[kMB]?[^!-~]+tokens?[^!-~]*$`, "8k tokens")
)

// text is a string that matches a pattern.
func text(name, must, pattern string, good ...string) form {
	return form{name: name, one: &single{pattern: pattern, must: must, good: good}}
}

// except excludes some words.
func (f form) except(words ...string) form {
	one := *f.one
	one.except = words
	f.one = &one
	return f
}

// words allows some words only.
func words(all ...string) form {
	quoted := make([]string, len(all))
	for i, w := range all {
		quoted[i] = "`" + w + "`"
	}
	return form{name: strings.Join(quoted, " "), one: &single{words: all, good: all, bad: []string{all[0] + "x"}}}
}

// or allows what matches a pattern besides words.
func (f form) or(name, must, pattern string, good ...string) form {
	one := *f.one
	one.pattern, one.must, one.good = pattern, must, slices.Concat(one.good, good)
	return form{name: f.name + ", or " + name, one: &one}
}

// duration is a time within bounds, which only its words can tell.
func duration(least, most time.Duration) form {
	pattern := `(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+`
	if least == 0 {
		pattern = `[-+]?(` + pattern + `|0)` // -0s is zero, too
	} else {
		pattern = `\+?` + pattern
	}
	f := text("time, "+brief(least)+"–"+brief(most), "a time such as 500ms, 30s, 5m or 1h30m, from "+brief(least)+" to "+brief(most),
		`^`+pattern+`$`, brief(least), brief(most))
	f.one.bad = []string{(least - 1).String(), (most + 1).String(), "5 minutes"}
	if least == 0 {
		f.one.kind = "integer" // which is 0 without a unit
	}
	return f
}

// brief writes a time without its zeros.
func brief(t time.Duration) string {
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size is a number of bytes within bounds.
func size(least, most int64) form {
	unit := func(n int64) string {
		for _, u := range []string{"", "KiB", "MiB", "GiB"} {
			if n < 1<<10 {
				return fmt.Sprint(n, u)
			}
			n >>= 10
		}
		panic("such a size needs another unit")
	}
	f := text("size, "+unit(least)+"–"+unit(most), "a size such as 16MiB, 512KiB or 1048576, from "+unit(least)+" to "+unit(most),
		`^`+number+`(KiB|MiB|GiB)?$`, unit(least), unit(most), strconv.FormatInt(least, 10))
	f.one.kind, f.one.least, f.one.most = "integer", least, most
	f.one.bad = []string{strconv.FormatInt(least-1, 10), strconv.FormatInt(most+1, 10), "16MB"}
	return f
}

// count is a number of things, from 1.
func count(most int64) form {
	f := text(fmt.Sprintf("number, 1–%dM", most/1e6), fmt.Sprintf("a number such as 5000 or 100k, up to %d", most), `^`+number+`[kMB]?$`, "5000", "100k", strconv.FormatInt(most, 10))
	f.one.kind, f.one.least, f.one.most = "integer", 1, most
	f.one.bad = []string{"0", strconv.FormatInt(most+1, 10), "5K"}
	return f
}

// list is a list of up to most elements.
func list(most int, of form) form {
	what := "mappings"
	if of.one != nil {
		what = of.name + "s"
	}
	return form{name: fmt.Sprintf("list of %s, up to %s", what, thousands(most)), many: &elements{most: most, form: of}}
}

// listOrOne is list, or an element alone.
func listOrOne(most int, of form) form {
	return form{name: fmt.Sprintf("%s, or a list of up to %s", of.name, thousands(most)), one: of.one, many: &elements{most: most, form: of}}
}

// thousands writes a number with commas.
func thousands(n int) string {
	if n < 10_000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// object is a mapping with the keys that are listed, and no others.
func object() form { return form{name: "mapping", keys: &mapping{}} }

// named is a mapping that has, besides the keys that are listed, those the file chooses.
func named(names form, most int) form {
	return form{name: "mapping", keys: &mapping{names: names.one, most: most}}
}

// like has the form of another key, and the keys below it.
func like(path string) form {
	_, last, _ := strings.Cut(path, "[].")
	return form{name: "like `" + cmp.Or(last, path) + "`", like: path}
}

// either has the form of one or of the other: single values, lists and mappings.
func either(a, b form) form {
	a.name += ", or " + b.name
	a.like, a.one, a.many, a.keys = cmp.Or(a.like, b.like), cmp.Or(a.one, b.one), cmp.Or(a.many, b.many), cmp.Or(a.keys, b.keys)
	return a
}
