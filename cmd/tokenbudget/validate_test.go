package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/config"
)

// The columns of a summary stay where they are below overrides, and below the line
// that says how many more there are.
func TestSummaryAligned(t *testing.T) {
	for _, further := range []string{"", ", action: refuse", ", match: {model: o1}", ", action: shadow, match: {model: o1}"} {
		for _, overrides := range []int{1, shownOverrides + 5} {
			file := "identity: {team: [{jwt: team}]}\nbudgets:\n- {name: a, per: team, limit: 9 tokens, period: day, overrides: {"
			for i := range overrides {
				file += fmt.Sprintf("t%d: 8 tokens, ", i)
			}
			file += "}}\n- {name: a-much-longer-name, limit: 9000000000 tokens, period: quarter" + further + "}\n- {name: c, limit: 9 tokens, period: day}\n"
			c, err := config.Parse("f", []byte(file), nil)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := summary(&out, c); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(out.String(), "\n")
			var heading, last string
			for _, line := range lines {
				if strings.HasPrefix(line, "BUDGET") {
					heading = line
				}
				if strings.HasPrefix(line, "c ") {
					last = line
				}
				if strings.HasSuffix(line, " ") {
					t.Errorf("%q ends with a space", line)
				}
			}
			for column, cell := range map[string]string{"LIMIT": "9 tokens", "PERIOD": "day", "PER": "all together", "ACTION": "cut", "MATCH": "every request"} {
				at := strings.Index(heading+" ", " "+column+" ")
				if column == "PER" {
					at = strings.LastIndex(heading+" ", " PER ")
				}
				if at >= 0 && strings.Index(last, " "+cell) != at {
					t.Errorf("%q with %d overrides: %s is not above %q:\n%s", further, overrides, column, cell, out.String())
				}
			}
		}
	}
}
