package road

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tokenbudget/tokenbudget"

// rule forbids imports. Its lists are patterns: an import path, and with "/..."
// at its end the paths below it too. "./" is this module.
type rule struct {
	who    []string // the packages it binds,
	except []string // but not these
	bans   []string // what they must not import,
	allows []string // except this
	deep   bool     // not even by way of other packages of this module
	why    string
}

var leaves = []string{"./internal/tokens/...", "./internal/sse/...", "./internal/dialect/...", "./internal/glob/...", "./internal/certs/...", "./internal/apikeys/...", "./internal/coding/..."}

var rules = []rule{
	{
		who: []string{"./internal/tokens/..."}, bans: []string{"./..."}, allows: []string{"./internal/tokens/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/sse/..."}, bans: []string{"./..."}, allows: []string{"./internal/sse/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/dialect/..."}, bans: []string{"./..."}, allows: []string{"./internal/dialect/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/glob/..."}, bans: []string{"./..."}, allows: []string{"./internal/glob/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/apikeys/..."}, bans: []string{"./..."}, allows: []string{"./internal/apikeys/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/certs/..."}, bans: []string{"./..."}, allows: []string{"./internal/certs/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/coding/..."}, bans: []string{"./..."}, allows: []string{"./internal/coding/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/wire/..."}, bans: []string{"./..."}, allows: []string{"./internal/wire/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./internal/doctor/..."}, bans: []string{"./..."}, allows: []string{"./internal/doctor/..."},
		why: "a leaf imports nothing of this module",
	},
	{
		who: []string{"./..."}, bans: []string{"./internal/certs/certtest"},
		why: "certificates that anybody can make are for tests",
	},
	{
		who: []string{"./internal/count/..."}, bans: []string{"./..."}, allows: append([]string{"./internal/count/..."}, leaves...),
		why: "counting joins leaves and knows nothing of exchanges or budgets",
	},
	{
		who: []string{"./budget/..."}, deep: true,
		bans: []string{"./extproc/...", "./envoy/...", "./cmd/...", "./internal/config/...", "./internal/demo/..."},
		why:  "the ledger serves any caller and knows neither Envoy nor the configuration file",
	},
	{
		who: []string{"./internal/config/..."}, bans: []string{"./..."},
		allows: append([]string{"./internal/config/...", "./budget/..."}, leaves...),
		why:    "a configuration is data; those who run by it import it, not the other way round",
	},
	{
		who: []string{"./internal/overrides/..."}, bans: []string{"./..."},
		allows: []string{"./internal/overrides/...", "./budget/...", "./internal/config/..."},
		why:    "overrides are data above the configuration's; the admin pages and the server use them",
	},
	{
		who: []string{"./envoy/..."}, bans: []string{"./budget/..."},
		why: "rendering Envoy's configuration needs no ledger",
	},
	{
		who: []string{"./envoy/..."}, bans: []string{"./extproc/..."}, deep: true,
		why: "envoy and extproc stand side by side; cmd joins them",
	},
	{
		who: []string{"./extproc/..."}, bans: []string{"./envoy/..."}, deep: true,
		why: "envoy and extproc stand side by side; cmd joins them",
	},
	{
		who: []string{"./..."}, except: []string{"./cmd/..."}, bans: []string{"./cmd/..."},
		why: "commands stand at the beginning of the road",
	},
	{
		who: []string{"./..."}, except: []string{"./internal/bench/..."}, bans: []string{"./internal/noop/..."},
		why: "a server that meters nothing is for benchmarks only",
	},
	{
		// Direct imports only: the messages of go-control-plane import gRPC.
		who:  []string{"./extproc/exchange/..."},
		bans: []string{"net", "net/http/...", "os/...", "google.golang.org/grpc/..."},
		why:  "the state machine does no I/O: it returns what is to be done",
	},
	{
		who:    []string{"./..."},
		except: []string{"./cmd/...", "./internal/demo/...", "./internal/standin/...", "./internal/envoyrun/...", "./internal/bench/..."},
		bans:   []string{"./internal/standin/...", "./internal/envoyrun/..."},
		why:    "the stand-in upstream and the runner of Envoy are for demo, tests and benchmarks",
	},
	{
		who: []string{"./..."}, except: []string{"./internal/tokens/...", "./internal/bench/tokens/..."},
		bans: []string{"github.com/pkoukk/tiktoken-go/...", "github.com/pkoukk/tiktoken-go-loader/..."},
		why:  "internal/tokens hides which tokenizer is used",
	},
	{
		who: []string{"./..."}, except: []string{"./internal/coding/...", "./internal/bench/..."},
		bans: []string{"github.com/andybalholm/brotli/...", "github.com/klauspost/compress/...", "compress/flate", "compress/gzip", "compress/zlib"},
		why:  "internal/coding bounds what is decoded",
	},
	{
		who: []string{"./..."}, except: []string{"./budget/...", "./internal/count/..."}, bans: []string{"github.com/dgraph-io/ristretto/..."},
		why: "it may drop what it is given; only the ledger knows which rows can be lost, and counting can count again",
	},
}

// matches reports whether an import path fits one of the patterns.
func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		base, below := strings.CutSuffix(p, "/...")
		return pkg == base || below && strings.HasPrefix(pkg, base+"/")
	})
}

// violations returns a line for each import that breaks a rule, given what each
// package of the module imports.
func violations(rules []rule, imports map[string][]string) (found []string) {
	for _, r := range rules {
		for _, pkg := range slices.Sorted(maps.Keys(imports)) {
			if !matches(pkg, r.who) || matches(pkg, r.except) {
				continue
			}
			seen := map[string]bool{pkg: true}
			var follow func(way []string)
			follow = func(way []string) {
				for _, to := range imports[way[len(way)-1]] {
					if seen[to] {
						continue
					}
					seen[to] = true
					way := append(slices.Clone(way), to)
					if matches(to, r.bans) && !matches(to, r.allows) {
						found = append(found, fmt.Sprintf("%s: %s", strings.Join(way, " → "), r.why))
					} else if r.deep {
						follow(way)
					}
				}
			}
			follow([]string{pkg})
		}
	}
	return found
}

func TestImports(t *testing.T) {
	imports, err := readImports(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := imports["./internal/road"]; !ok {
		t.Fatalf("this package is not among the %d found", len(imports))
	}
	for _, v := range violations(rules, imports) {
		t.Error(v)
	}
}

// readImports returns what each package of the module imports outside its tests,
// whatever the platform. It reads the files itself rather than ask the go command
// so that go test knows them, and does not return a cached result when one of
// them has changed.
func readImports(root string) (map[string][]string, error) {
	imports := make(map[string][]string)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file == root {
				return nil
			}
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if otherModule := err == nil; otherModule || name == "testdata" || name == "vendor" || name[0] == '.' || name[0] == '_' {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := "./" + filepath.ToSlash(dir)
		if dir == "." {
			pkg = "."
		}
		direct := imports[pkg]
		for _, spec := range parsed.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if own, ok := strings.CutPrefix(to, module); ok && (own == "" || own[0] == '/') {
				to = "." + own
			}
			direct = append(direct, to)
		}
		imports[pkg] = direct
		return nil
	})
	return imports, err
}

func TestReadImports(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"root.go":              `package root; import "os"`,
		"budget/a.go":          `package budget; import ("io"; x "` + module + `/extproc")`,
		"budget/b_plan9.go":    `package budget; import _ "` + module + `"`,
		"budget/a_test.go":     `package budget; import "testing"`,
		"budget/testdata/a.go": `package broken because it is only data`,
		"extproc/doc.go":       `package extproc`,
		"tool/go.mod":          `module tool`,
		"tool/main.go":         `package main; import "net"`,
		"docs/README.md":       `# no Go`,
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readImports(root)
	want := map[string][]string{".": {"os"}, "./budget": {"io", "./extproc", "."}, "./extproc": nil}
	if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// TestRulesBite runs every rule over made-up imports.
func TestRulesBite(t *testing.T) {
	type graph = map[string][]string
	bad := []graph{
		{"./internal/tokens": {"./budget"}},
		{"./internal/tokens/vocab": {"./internal/sse"}},
		{"./internal/sse": {"io", "./internal/tokens"}},
		{"./internal/dialect/openai": {"./internal/sse"}},
		{"./internal/glob": {"./internal/sse"}},
		{"./internal/apikeys": {"./internal/sse"}},
		{"./internal/certs": {"./internal/sse"}},
		{"./internal/coding": {"./internal/dialect"}},
		{"./extproc/exchange": {"compress/gzip"}},
		{"./extproc": {"github.com/klauspost/compress/zstd"}},
		{"./internal/wire": {"./internal/dialect"}},
		{"./internal/doctor": {"./envoy"}},
		{"./extproc": {"./internal/certs/certtest"}},
		{"./internal/count": {"./budget"}},
		{"./budget": {"./extproc"}},
		{"./budget": {"./internal/config"}},
		{"./budget": {"./internal/clock"}, "./internal/clock": {"./internal/wall"}, "./internal/wall": {"./envoy"}},
		{"./internal/config": {"./extproc/exchange"}},
		{"./internal/config": {"./internal/demo"}},
		{"./internal/overrides": {"./internal/admin"}},
		{"./envoy": {"./budget"}},
		{"./envoy": {"./internal/names"}, "./internal/names": {"./extproc"}},
		{"./extproc": {"./envoy"}},
		{"./internal/demo": {"./cmd/tokenbudget/run"}},
		{"./extproc": {"./internal/noop"}},
		{"./extproc/exchange": {"net/http"}},
		{"./extproc/exchange": {"net"}},
		{"./extproc/exchange": {"os/signal"}},
		{"./extproc/exchange": {"google.golang.org/grpc/status"}},
		{"./extproc": {"./internal/standin"}},
		{"./internal/config": {"./budget"}, "./budget": {"./internal/envoyrun"}},
		{"./extproc": {"github.com/pkoukk/tiktoken-go"}},
		{"./extproc": {"github.com/pkoukk/tiktoken-go-loader"}},
		{"./extproc": {"github.com/dgraph-io/ristretto/v2"}},
	}
	for _, imports := range bad {
		if got := violations(rules, imports); len(got) != 1 {
			t.Errorf("%v: got %q, want one violation", imports, got)
		}
	}
	for _, r := range rules {
		if !slices.ContainsFunc(bad, func(imports graph) bool { return len(violations([]rule{r}, imports)) > 0 }) {
			t.Errorf("no example breaks the rule that binds %v: %s", r.who, r.why)
		}
	}

	good := graph{
		"./cmd/tokenbudget":        {"os", "./envoy", "./extproc", "./budget", "./internal/config", "./internal/demo", "./internal/envoyrun"},
		"./envoy":                  {"./internal/tokens"},
		"./extproc":                {"net", "google.golang.org/grpc", "./extproc/exchange", "./budget", "./internal/wire"},
		"./extproc/exchange":       {"time", "net/url", "osmosis", "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3", "./budget", "./internal/dialect", "./internal/sse"},
		"./budget":                 {"github.com/dgraph-io/ristretto/v2", "./budget/store", "./internal/clock"},
		"./budget/store":           {"os", "./budget"},
		"./internal/config":        {"./budget", "./internal/certs", "./internal/tokens"},
		"./internal/count":         {"github.com/dgraph-io/ristretto/v2", "./internal/dialect", "./internal/tokens"},
		"./internal/tokens":        {"github.com/pkoukk/tiktoken-go", "./internal/tokens/vocab"},
		"./internal/demo":          {"./internal/standin", "./internal/envoyrun"},
		"./internal/bench/tokens":  {"github.com/pkoukk/tiktoken-go", "./internal/bench/tokens/python", "./internal/envoyrun"},
		"./internal/bench/prompts": {"./internal/noop", "./internal/envoyrun", "./extproc"},
		"./internal/standin":       {"./internal/standin/replay"},
		"./internal/dialect":       {"./internal/dialect/openai"},
		"./internal/ssestatistic":  {"./internal/sse"},
	}
	if got := violations(rules, good); len(got) > 0 {
		t.Errorf("these should be allowed: %q", got)
	}
}

// forbidden finds what must not stand in any file: an absolute path into a home
// or work directory (but not one that goes on from a word, a parent folder or a variable),
// and hosts of package registries. As regular expressions they don't match themselves.
var forbidden = regexp.MustCompile(`(?m)(?:^|[^\w.*~)}\]/-])/(?:home|work|root)/` +
	`|(?:proxy|sum)\.golang\.org|\bpypi\.org|files\.pythonhosted\.org|registry\.(?:npmjs|yarnpkg)\.\w+|(?:static|index)\.crates\.io`)

func TestForbiddenWords(t *testing.T) {
	root := filepath.Join("..", "..")
	files, err := listFiles(root)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(files, "internal/road/road_test.go") {
		t.Fatalf("this file is not among the %d found", len(files))
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // deleted, but not yet from git's list
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if at := forbidden.FindIndex(content); at != nil {
			line := 1 + strings.Count(string(content[:at[1]-1]), "\n")
			t.Errorf("%s:%d names %q, which means nothing on other machines; use a relative path, or leave it out", file, line, content[at[0]:at[1]])
		}
	}
}

// listFiles returns git's files and those not yet added, or all there are where
// git is not at hand.
func listFiles(root string) (files []string, err error) {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	if out, err := git.Output(); err == nil && len(out) > 0 {
		return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
	}
	err = fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, d.Name()) {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			files = append(files, file)
		}
		return err
	})
	return files, err
}

func TestForbiddenPattern(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{
		{path.Join("/", "home", "me", "x"), true},
		{"open(\"" + path.Join("/", "work", "main") + "\")", true},
		{"# a\n" + path.Join("/", "root", "x"), true},
		{"unix:" + path.Join("/", "root", "x.sock"), true},
		{"GOPROXY=https://" + "proxy." + "golang.org", true},
		{"https://" + "pypi." + "org/simple", true},
		{"https://example.com/home/page", false},
		{".." + path.Join("/", "work", "x") + " and ${DIR}" + path.Join("/", "work", "x") + " and a" + path.Join("/", "root", "b"), false},
		{"/homely/ /workers/ /rooted/", false},
		{"golang.org/x/sync", false},
	} {
		if got := forbidden.MatchString(c.text); got != c.want {
			t.Errorf("%q: forbidden is %t, want %t", c.text, got, c.want)
		}
	}
}
