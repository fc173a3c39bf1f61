package runner

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRun runs the fuzzer on a module of its own: one target that passes, one that panics, and
// one whose known input fails.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds test binaries")
	}
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n",
		"a/a.go": "package a\n\nfunc Parse(b []byte) bool { if len(b) > 1 && b[0] == 'p' { panic(\"planted\") }; return len(b) > 3 }\n",
		"a/a_test.go": `package a

import "testing"

func FuzzGood(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) { _ = len(b) }) }
func FuzzPanics(f *testing.F) { f.Add([]byte("po")[:1]); f.Fuzz(func(t *testing.T, b []byte) { Parse(b) }) }
`,
		"b/b_test.go": "package b\n\nimport \"testing\"\n\nfunc FuzzSeed(f *testing.F) { f.Add(7); f.Fuzz(func(t *testing.T, n int) { if n == 7 { t.Error(\"seven\") } }) }\n",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	logged := make(chan string, 100)
	results, err := Run(t.Context(), Options{Root: root, Time: "20000x", AtOnce: 2, Log: func(format string, _ ...any) { logged <- format }})
	if err != nil {
		t.Fatal(err)
	}
	for range len(logged) {
		lines = append(lines, <-logged)
	}
	if len(lines) < 4 {
		t.Errorf("it says %q", lines)
	}
	if len(results) != 3 {
		t.Fatalf("%d results: %v", len(results), results)
	}
	good, panics, seed := results[0], results[1], results[2]
	if good.Name != "FuzzGood" || good.Err != nil || good.Runs < 20_000 || good.Output != nil {
		t.Errorf("%v: %+v", &good, good)
	}
	if !strings.HasPrefix(panics.Input, "a/testdata/fuzz/FuzzPanics/") || panics.Err == nil || !slices.ContainsFunc(panics.Output, func(s string) bool { return strings.Contains(s, "planted") }) {
		t.Errorf("%v: %+v", &panics, panics)
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(panics.Input))); err != nil {
		t.Error(err)
	}
	if seed.Err == nil || seed.Input != "" || !slices.ContainsFunc(seed.Output, func(s string) bool { return strings.Contains(s, "seven") }) {
		t.Errorf("%v: %+v", &seed, seed)
	}
	if err := Failed(results); err == nil || !strings.Contains(err.Error(), "go test -run='FuzzPanics/") || !strings.Contains(err.Error(), "FuzzSeed") || strings.Contains(err.Error(), "FuzzGood") {
		t.Errorf("failed: %v", err)
	}

	// Those that are chosen, and the end of a time, which is no failure whatever the fuzzer says. On a busy
	// machine a time may end before the fuzzer has run anything, which is one.
	for _, long := range []string{"1s", "5s", "25s"} {
		results, err = Run(t.Context(), Options{Root: root, Time: long, Only: regexp.MustCompile("^./a FuzzG")})
		if err != nil || len(results) != 1 || results[0].Runs > 0 {
			break
		}
	}
	if err != nil || len(results) != 1 || results[0].Err != nil || results[0].Runs == 0 {
		t.Errorf("%+v, error %v", results, err)
	}
	if results, err := Run(t.Context(), Options{Root: root, Time: "1s", Only: regexp.MustCompile("nothing")}); err == nil {
		t.Errorf("nothing to run gives %v", results)
	}
}

// TestTime: what is no time is told.
func TestTime(t *testing.T) {
	for _, bad := range []string{"", "0s", "-1s", "0x", "x", "10", "60 s"} {
		if _, err := Run(t.Context(), Options{Root: "../../../..", Time: bad}); err == nil || !strings.Contains(err.Error(), "60s") {
			t.Errorf("time %q: error %v", bad, err)
		}
	}
	if d, err := deadline("10m"); err != nil || d < 10*time.Minute || d > 20*time.Minute {
		t.Errorf("%v, error %v", d, err)
	}
}

func TestListen(t *testing.T) {
	const said = "fuzz: elapsed: 0s, gathering baseline coverage: 0/193 completed\nfuzz: elapsed: 3s, gathering baseline coverage: 7/193 completed\n"
	for _, tt := range []struct {
		in   string
		want Result
	}{
		{"", Result{}},
		{said, Result{Runs: 7, Took: 3 * time.Second}},
		{said + "fuzz: elapsed: 1m0s, execs: 407666 (0/sec), new interesting: 1793 (total: 918)\nPASS\n", Result{Runs: 407_666, New: 1793, Took: time.Minute}},
		{"x\n    Failing input written to testdata/fuzz/FuzzA/12ab\n", Result{Input: "a/testdata/fuzz/FuzzA/12ab"}},
	} {
		r := Result{Pkg: "./a", Name: "FuzzA"}
		listen(strings.NewReader(tt.in), &r, func(string, ...any) {})
		if r.Runs != tt.want.Runs || r.New != tt.want.New || r.Took != tt.want.Took || r.Input != tt.want.Input {
			t.Errorf("%q gives %+v", tt.in, r)
		}
	}
	r := Result{Pkg: "./a", Name: "FuzzA"}
	listen(strings.NewReader(strings.Repeat(strings.Repeat("x", 100_000)+"\n", 100)), &r, func(string, ...any) {})
	if n := len(strings.Join(r.Output, "")); len(r.Output) != maxTail || n > maxTail*maxLine {
		t.Errorf("%d lines of %d bytes are kept", len(r.Output), n)
	}
}

func TestJudge(t *testing.T) {
	exit := errors.New("exit status 1")
	for _, tt := range []struct {
		name    string
		output  string
		runs    int64
		exit    error
		counted bool
		input   string
		failed  bool
		ended   bool
	}{
		{name: "all is well", output: "PASS", runs: 5},
		{name: "nothing was run", output: "PASS", failed: true},
		{name: "the end of the time", output: "--- FAIL: FuzzX (60.02s)\n    context deadline exceeded\nFAIL", runs: 5, exit: exit, ended: true},
		{name: "the same, and an input", output: "--- FAIL: FuzzX (60.02s)\n    context deadline exceeded\nFAIL", runs: 5, exit: exit, input: "x", failed: true},
		{name: "the same with a number of runs", output: "--- FAIL: FuzzX (60.02s)\n    context deadline exceeded\nFAIL", runs: 5, exit: exit, counted: true, failed: true},
		{name: "the same, before anything was run", output: "--- FAIL: FuzzX (60.02s)\n    context deadline exceeded\nFAIL", exit: exit, failed: true},
		{name: "a test that says so, too", output: "--- FAIL: FuzzX (60.02s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:7: context deadline exceeded\nFAIL", runs: 5, exit: exit, failed: true},
		{name: "more than that", output: "--- FAIL: FuzzX (60.02s)\n    context deadline exceeded\n    x_test.go:7: wrong\nFAIL", runs: 5, exit: exit, failed: true},
		{name: "a panic before it", output: "panic: planted\n--- FAIL: FuzzX (60.02s)\n    context deadline exceeded\nFAIL", runs: 5, exit: exit, failed: true},
		{name: "a worker that hangs", output: "--- FAIL: FuzzX (60.02s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL", runs: 5, exit: exit, failed: true},
		{name: "nothing is said", runs: 5, exit: exit, failed: true},
	} {
		r := Result{Runs: tt.runs, Input: tt.input, Output: strings.Split(tt.output, "\n")}
		if r.judge(tt.exit, nil, tt.counted); (r.Err != nil) != tt.failed || r.AtDeadline != tt.ended {
			t.Errorf("%s: error %v, at the deadline %v", tt.name, r.Err, r.AtDeadline)
		}
	}
	r := Result{Runs: 5}
	if r.judge(nil, errors.New("interrupted"), false); r.Err == nil {
		t.Error("one that was stopped has passed")
	}
}
