package main

import (
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

func TestWindowsIn(t *testing.T) {
	for _, test := range []struct {
		short, long budget.Period
		want        int
	}{
		{budget.Minute, budget.Hour, 60}, {budget.Hour, budget.Day, 24}, {budget.Day, budget.Week, 7}, {budget.Day, budget.Month, 31},
		{budget.Day, budget.Quarter, 92}, {budget.Day, budget.Year, 366}, {budget.Month, budget.Quarter, 3}, {budget.Month, budget.Year, 12},
		{budget.Quarter, budget.Year, 4}, {budget.Month, budget.Month, 1}, {budget.Day, budget.Total, 0}, {0, 0, 0},
	} {
		if got := windowsIn(test.short, test.long); got != test.want {
			t.Errorf("a %s has %d windows of a %s, want %d", test.long, got, test.short, test.want)
		}
	}
}

// A parent of which very many subjects are named shows some, and says how many there are.
func TestManySums(t *testing.T) {
	file := "identity: {team: [{jwt: team}]}\nbudgets:\n- {name: a, per: team, limit: 9 tokens, period: day, overrides: {x: 8 tokens"
	for i := range 30 {
		file += ", t" + strings.Repeat("i", i) + ": 8 tokens"
	}
	file += "}}\n- {name: b, per: team, limit: 3 tokens, period: day, parent: a}\n"
	c, err := config.Parse("f", []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printShares(&out, c); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "known share"); n != shownOverrides || !strings.Contains(out.String(), "\n  (and 12 more sums)\n") {
		t.Errorf("%d sums:\n%s", n, out.String())
	}
}
