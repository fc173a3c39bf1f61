package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/bench/fuzz/runner"
	"github.com/tokenbudget/tokenbudget/internal/bench/load"
)

const root = "../../.."

// TestFind looks at made-up files.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/a_test.go":          "package a\nfunc TestOne(t *testing.T) { rapid.Check(t, f) }\nfunc TestTwo(t *testing.T) { t.Run(\"x\", func(t *testing.T) { rapid.MakeCheck(f)(t) }) }\nfunc TestPlain(t *testing.T) {}",
		"a/b_test.go":          "package a\nfunc helper(t *testing.T) { rapid.Check(t, f) }\nfunc TestByHelper(t *testing.T) { helper(t) }\nfunc FuzzA(f *testing.F) {}\nfunc (x X) FuzzNot(f *testing.F) {}",
		"a/a.go":               "package a\nfunc FuzzNoTest() {}",
		"a/testdata/c_test.go": "not Go",
		".hidden/d_test.go":    "not Go",
		"b/c/e_test.go":        "package c\nfunc FuzzB(f *testing.F) {}\nfunc TestOther(t *testing.T) { quick.Check(f, nil) }",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	equal := func(a, b bench.Tests) bool { return a.Pkg == b.Pkg && slices.Equal(a.Names, b.Names) }
	got, err := bench.FindTests(dir, isProperty)
	if want := []bench.Tests{{Pkg: "./a", Names: []string{"TestByHelper", "TestOne", "TestTwo"}}}; err != nil || !slices.EqualFunc(got, want, equal) {
		t.Errorf("properties %v, error %v", got, err)
	}
	got, err = bench.FindTests(dir, bench.IsFuzz)
	if want := []bench.Tests{{Pkg: "./a", Names: []string{"FuzzA"}}, {Pkg: "./b/c", Names: []string{"FuzzB"}}}; err != nil || !slices.EqualFunc(got, want, equal) {
		t.Errorf("fuzz targets %v, error %v", got, err)
	}
}

// TestFindHere: a property that is known to be in this repository is found.
func TestFindHere(t *testing.T) {
	all, err := bench.FindTests(root, isProperty)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(p bench.Tests) bool { return p.Pkg == "./budget" && slices.Contains(p.Names, "TestTwin") }) {
		t.Errorf("TestTwin of budget is not among %v", all)
	}
}

// TestMessages: the tests still say what is read out of them.
func TestMessages(t *testing.T) {
	for file, message := range map[string]string{
		"budget/kill_test.go":      `"%d kills, %d settlements acknowledged, %d reservations open`,
		"internal/e2e/cut_test.go": `seeing its cancellation: p50 %v, p99 %v, most %v"`,
	} {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), message) {
			t.Errorf("%s has no message %s; internal/bench/campaign reads it", file, message)
		}
	}
	if text, err := os.ReadFile(filepath.Join(root, "budget", "kill_test.go")); err != nil || !strings.Contains(string(text), `"found out by kill %d: %s"`) {
		t.Errorf("budget/kill_test.go has another message of controls: %v", err)
	}
}

// TestSections: docs/testing.md has a section for each step.
func TestSections(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if !strings.Contains(string(text), "<!-- begin campaign-"+s.name+" -->\n") {
			t.Errorf("docs/testing.md has no section for %s", s.name)
		}
	}
}

func TestTables(t *testing.T) {
	out := func(test, text string) event { return event{Action: "output", Test: test, Output: text + "\n"} }
	got, err := killTable([]event{
		out("TestKilled/group_slow", "    kill_test.go:334: 250 kills, 21864 settlements acknowledged, 1988 reservations open, 5 records"),
		out("TestKilled/control_group_slow_early", "    kill_test.go:346: found out by kill 3: x"),
	})
	if err != nil || !strings.HasSuffix(got, "| group slow | 250 | 21,864 | 1,988 | 0 |\n| control group slow early | 3 |  |  | found out |\n") {
		t.Errorf("kills: %s, error %v", got, err)
	}
	got, err = cutTable([]event{
		out("TestCuts", "    cut_test.go:122: 1000 cuts; from the cut's message to the upstream seeing its cancellation: p50 561.2µs, p99 5.1ms, most 161.4ms"),
		{Action: "pass", Test: "TestClientAborts"}, {Action: "pass", Test: "TestClientAborts"}, {Action: "fail", Test: "TestParallelStreams"},
	})
	if err != nil || !strings.HasSuffix(got, "| 1,000 | 1,000 | 0.56 ms | 5.10 ms | 161 ms |\n\n`TestClientAborts` passed 2 times, `TestParallelStreams` 0 times.\n") {
		t.Errorf("cuts: %s, error %v", got, err)
	}
	table := newTable("property", "checks", "s")
	p := bench.Tests{Pkg: "./a", Names: []string{"TestA", "TestB"}}
	one := []event{out("TestA/x", "    a_test.go:1: [rapid] OK, passed 2000 tests (19.829402215s)"), out("TestA/y", "    a_test.go:1: [rapid] OK, passed 2000 tests (1m0.5s)")}
	if err := propertyRows(table, p, one); !errors.Is(err, errNoFigures) {
		t.Errorf("TestB has said nothing: error %v", err)
	}
	err = propertyRows(table, p, append(one, out("TestB", "    a_test.go:1: [rapid] OK, passed 100 tests (431.963625ms)")))
	if got, _ := table.done(); err != nil || !strings.HasSuffix(got, "| `a` `TestA` | 4,000 | 80 |\n| `a` `TestB` | 100 | 0.4 |\n") {
		t.Errorf("properties: %s, error %v", got, err)
	}
	got, err = fuzzTable([]runner.Result{{Pkg: "./a", Name: "FuzzA", Runs: 407_666, New: 1793, Took: time.Minute}})
	if err != nil || !strings.HasSuffix(got, "| `a` `FuzzA` | 407,666 | 1,793 | 60 |\n") {
		t.Errorf("fuzz: %s, error %v", got, err)
	}
	if _, err := killTable(nil); !errors.Is(err, errNoFigures) {
		t.Errorf("no figures: error %v", err)
	}
}

func TestSoakTable(t *testing.T) {
	r := &load.SoakResult{Exchanges: map[string]int64{"streamed": 1200, "cut": 34}, Exact: load.Charges{Least: 5, Most: 7, Charged: 6}, Took: time.Minute}
	for i := range 8 {
		r.Samples = append(r.Samples, load.Sample{At: time.Unix(int64(i)*60, 0), RSS: int64(100+i) << 20})
	}
	got, err := soakTable(r)
	if err != nil || !strings.HasPrefix(got, "1m0s, 1,234 exchanges: cut 34, streamed 1,200. ") || !strings.Contains(got, "| resident memory, MiB | 101 | 103 | 105 | 107 | +60.0 |\n") {
		t.Errorf("%s, error %v", got, err)
	}
}

func TestChoose(t *testing.T) {
	got, err := choose("cuts,kills")
	if err != nil || len(got) != 2 || got[0].name != "kills" || got[1].name != "cuts" {
		t.Errorf("got %v, error %v", got, err)
	}
	if got, err := choose(""); err != nil || len(got) != len(steps) {
		t.Errorf("all are %v, error %v", got, err)
	}
	if _, err := choose("kill"); err == nil || !strings.Contains(err.Error(), "tokens, kills") {
		t.Errorf("error %v", err)
	}
}

// TestGoTestFails: a test that fails is an error.
func TestGoTestFails(t *testing.T) {
	if _, err := goTest(t.Context(), nil, "-run=^$", "./absent"); err == nil {
		t.Error("no error")
	}
	events, err := goTest(t.Context(), nil, "-v", "-run=^TestWriteSection$", "..")
	if err != nil || !slices.ContainsFunc(events, func(e event) bool { return e.Action == "pass" && e.Test == "TestWriteSection" }) {
		t.Errorf("events %v, error %v", events, err)
	}
}
