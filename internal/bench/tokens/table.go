package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/bench"
)

// A table is rows of Markdown.
type table struct{ strings.Builder }

func newTable(columns ...string) *table {
	t := &table{}
	t.row(columns...)
	t.WriteString(strings.Repeat("|---", len(columns)) + "|\n")
	return t
}

func (t *table) row(cells ...string) { t.WriteString("| " + strings.Join(cells, " | ") + " |\n") }

// atLeast and atMost say whether a figure meets its target.
func atLeast(figure, target float64) (aim, verdict string) {
	return fmt.Sprintf("≥ %s", number(target)), verdictOf(figure >= target)
}

func atMost(figure, target float64, unit string) (aim, verdict string) {
	return fmt.Sprintf("≤ %s%s", number(target), unit), verdictOf(figure <= target)
}

func verdictOf(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// number writes a figure with two or three digits.
func number(x float64) string {
	switch {
	case x >= 1000:
		s := fmt.Sprintf("%.0f", x)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case x >= 100 || x == float64(int(x)):
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x < 1:
		return fmt.Sprintf("%.2g", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// quantile is the q-th quantile: 0.5 is the median.
func quantile(xs []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// spread is the median with the smallest and the largest.
func spread(xs []float64) string {
	return fmt.Sprintf("%s (%s–%s)", number(quantile(xs, 0.5)), number(slices.Min(xs)), number(slices.Max(xs)))
}

// machine says what ran this.
func machine() string {
	return fmt.Sprintf("%s/%s, %d processors, %s, shared. Times: %s.\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), bench.ClockName)
}
