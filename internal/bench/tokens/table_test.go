package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.0123: "0.012", 0.3: "0.3", 1: "1", 2.345: "2.35", 12.34: "12.3", 123.4: "123", 1234: "1,234", 4448256: "4,448,256",
	} {
		if got := number(x); got != want {
			t.Errorf("%v is written %s, want %s", x, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	table := newTable("a", "b", "")
	aim, verdict := atLeast(1.99, 2)
	table.row("x", aim, verdict)
	aim, verdict = atMost(250, 250, " ns")
	table.row(spread([]float64{3, 1, 2}), aim, verdict)
	const want = "| a | b |  |\n|---|---|---|\n| x | ≥ 2 | **missed** |\n| 2 (1–3) | ≤ 250 ns | met |\n"
	if got := table.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuantile(t *testing.T) {
	xs := []float64{5, 1, 4, 2, 3}
	if got := []float64{quantile(xs, 0), quantile(xs, 0.5), quantile(xs, 0.99), quantile(xs, 1)}; got[0] != 1 || got[1] != 3 || got[2] != 5 || got[3] != 5 {
		t.Errorf("the quantiles are %v", got)
	}
	if xs[0] != 5 {
		t.Error("the order of the rounds is lost")
	}
}

// fake is a candidate of a given speed.
type fake struct {
	perPass time.Duration
	tokens  int
}

func (f fake) turn(string, *text, time.Duration) (time.Duration, int, error) {
	return f.perPass, f.tokens, nil
}
func (fake) close() error { return nil }

// TestVerdicts puts made-up times through the table of throughput.
func TestVerdicts(t *testing.T) {
	all := []contestant{
		{name: "ours", candidate: fake{time.Millisecond, 7}},
		{name: "slow", target: targets(2, 3), candidate: fake{2 * time.Millisecond, 7}},
		{name: "wrong", candidate: fake{3 * time.Millisecond, 8}},
	}
	texts := []*text{{name: "prose", data: make([]byte, 1e6)}, {name: "CJK", data: make([]byte, 1e6)}}
	got, err := compareSpeed(t.Context(), options{rounds: 3, turn: time.Millisecond}, all, "o200k_base", texts)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| prose | 7 | 1,000 | slow | 500 | 2 (2–2) | ≥ 2 | met |",
		"| CJK | 7 | 1,000 | slow | 500 | 2 (2–2) | ≥ 3 | **missed** |",
		"| CJK | 7 | 1,000 | wrong | 333 | 3 (3–3) |  |  |",
		"**The numbers of tokens differ**: wrong says 8 tokens for prose, ours says 7; wrong says 8 tokens for CJK, ours says 7.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
}

// TestMissingToolchains has neither Python nor cargo.
func TestMissingToolchains(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	all, missing := startCandidates(t.Context(), func() (*python.Reference, error) { return python.Prepare(t.Context(), t.TempDir()) })
	defer closeAll(all)
	if len(all) != 2 {
		t.Errorf("%d candidates, want ours and tiktoken-go", len(all))
	}
	for _, want := range []string{"**Python tiktoken was skipped**: python3 is not on PATH", "**bpe-openai (Rust) was skipped**: cargo is not on PATH", "**tiktoken-rs was skipped**"} {
		if !strings.Contains(missing, want) {
			t.Errorf("the table says %q, want %q in it", missing, want)
		}
	}
}

func TestHelper(t *testing.T) {
	start := func(script string) (*helper, error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		return startHelper(exec.CommandContext(ctx, "sh", "-c", script), cancel)
	}
	h, err := start(`echo ready; read a b c d; echo 1500 "$c"; read a b c d; echo "$d"; read a b c d; exit 3`)
	if err != nil {
		t.Fatal(err)
	}
	c := voice{helper: h, name: "it"}
	perPass, n, err := c.turn("o200k_base", &text{file: "a file"}, 20*time.Millisecond)
	if err != nil || perPass != 1500 || n != 20 {
		t.Errorf("%v, %d tokens, %v", perPass, n, err)
	}
	for _, want := range []string{`it answered "a file"`, "it did not answer"} {
		if _, _, err := c.turn("o200k_base", &text{file: "a file"}, time.Millisecond); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if err := c.close(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v", err)
	}
	if _, err := start("exit 1"); err == nil || !strings.Contains(err.Error(), "did not start") {
		t.Errorf("error %v", err)
	}
}
