package bench

import (
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	values := []int{9, 1, 8, 2, 7, 3, 6, 4, 5, 10}
	for q, want := range map[float64]int{0: 1, 0.5: 6, 0.99: 10, 1: 10} {
		if got := Quantile(values, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if got := Quantile([]int(nil), 0.5); got != 0 {
		t.Errorf("of none: %d", got)
	}
}

func TestSpread(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		figures []float64
		want    Spread
	}{
		{[]float64{3, nan, 1, 2}, Spread{1, 2, 3}},
		{[]float64{4, 1, 2, 3}, Spread{1, 2.5, 4}},
		{[]float64{9, 1, 2, 3, 4, 5, 6, 7, 8}, Spread{3, 5, 7}},
		{[]float64{7, math.Inf(1)}, Spread{7, 7, 7}},
	} {
		if got := NewSpread(tt.figures); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.figures, got, tt.want)
		}
	}
	if got := NewSpread([]float64{nan}); !math.IsNaN(got.Median) {
		t.Errorf("of none: %v", got)
	}
}

// helper makes this test binary do something else.
const helper = "BENCH_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helper) {
	case "now":
		_, _ = os.Stdout.WriteString(strconv.FormatInt(Now(), 10))
		return
	case "work":
		for begin := Clock(); ; {
			if Clock()-begin > 300*time.Millisecond {
				break
			}
		}
		held := make([]byte, 64<<20)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		_, _ = os.Stdout.WriteString("done")
		_, _ = os.Stdin.Read(held)
		return
	}
	os.Exit(m.Run())
}

// Another process's time lies between two of ours.
func TestNowIsShared(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helper+"=now")
	time.Sleep(200 * time.Millisecond) // so that clocks which begin with their processes differ
	before := Now()
	out, err := cmd.Output()
	after := Now()
	if err != nil {
		t.Fatal(err)
	}
	there, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil || there < before || there > after {
		t.Errorf("before %d, there %q, after %d", before, out, after)
	}
}

// What a process has used of processor and memory is seen from outside.
func TestProcess(t *testing.T) {
	if math.IsNaN(CPU(os.Getpid())) {
		t.Skip("processes can be looked at on Linux only")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helper+"=work")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if cpu := CPU(cmd.Process.Pid); cpu < 0.3 || cpu > 10 {
		t.Errorf("CPU %v s, want a little more than 0.3", cpu)
	}
	if rss := RSS(cmd.Process.Pid); rss < 64<<20 || rss > 256<<20 {
		t.Errorf("RSS %v, want a little more than 64 MiB", rss)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if cpu, rss := CPU(cmd.Process.Pid), RSS(cmd.Process.Pid); !math.IsNaN(cpu) || !math.IsNaN(rss) {
		t.Errorf("a process that has ended: CPU %v, RSS %v", cpu, rss)
	}
	if !math.IsNaN(CPU(-1)) {
		t.Error("-1 is no process")
	}
}

func TestNumber(t *testing.T) {
	for f, want := range map[float64]string{0.123: "0.12", 9.5: "9.50", 12.34: "12.3", 999: "999", 1234: "1,234", -1234: "-1,234", -123: "-123", 1234567: "1,234,567", math.NaN(): "–"} {
		if got := Number(f); got != want {
			t.Errorf("%v is %q, want %q", f, got, want)
		}
	}
}
