package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/glob"
)

func TestWithin(t *testing.T) {
	const yes = "minute<hour minute<day minute<week minute<month minute<quarter minute<year hour<day hour<week hour<month hour<quarter hour<year " +
		"day<week day<month day<quarter day<year month<quarter month<year quarter<year"
	for c := budget.Minute; c <= budget.Total; c++ {
		for p := budget.Minute; p <= budget.Total; p++ {
			want := c == p || p == budget.Total || slices.Contains(strings.Fields(yes), c.String()+"<"+p.String())
			if got := within(c, p); got != want {
				t.Errorf("a %s within a %s: %v", c, p, got)
			}
		}
	}
}

var (
	someGlobs  = rapid.StringOfN(rapid.SampledFrom([]rune("ab**")), 1, 4, -1)
	someValues = rapid.StringOfN(rapid.SampledFrom([]rune("abc")), 1, 6, -1)
)

// TestImplied: what is implied holds for each value, and what is not has a value for
// which it does not hold.
func TestImplied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(someGlobs, 1, 3)
		own, m := list.Draw(t, "own"), list.Draw(t, "parent's")
		property := rapid.SampledFrom([]budget.Property{budget.OfIdentity, budget.OfModel, budget.OfHeader}).Draw(t, "property")
		l := budget.Limit{Match: []budget.Condition{{Property: property, Any: own}}}
		matches := func(globs []string, v string) bool {
			return slices.ContainsFunc(globs, func(g string) bool { return glob.Match(g, v) })
		}
		escapes, ok := implied(l, budget.Condition{Property: property, Any: m})
		if !ok {
			v := strings.ReplaceAll(escapes, "*", "c")
			if !matches(own, v) || matches(m, v) {
				t.Fatalf("%q in %q: %q is said to escape through %q", own, m, v, escapes)
			}
			return
		}
		for range 20 {
			if v := someValues.Draw(t, "value"); matches(own, v) && !matches(m, v) {
				t.Fatalf("%q in %q: %q escapes", own, m, v)
			}
		}
	})
}

// TestParentCounts: of any file that is accepted, whatever counts in a child counts in
// the parent, in one counter.
func TestParentCounts(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		var file strings.Builder
		file.WriteString("identity: {team: [{jwt: team}], user: [{jwt: sub}]}\nbudgets:\n")
		globs := rapid.SampledFrom([]string{"a", "b", "a*", `"*"`, `"*b"`, "[a, b]", `["a*", c]`})
		for i, name := range []string{"parent", "child"} {
			fmt.Fprintf(&file, "- {name: %s, limit: 1B tokens", name)
			if per := rapid.SampledFrom([]string{"", "team", "user", "[team, user]", "model", "[model, team]"}).Draw(t, "per"); per != "" {
				fmt.Fprintf(&file, ", per: %s", per)
			}
			fmt.Fprintf(&file, ", period: %s", rapid.SampledFrom([]string{"day", "week", "month", "total"}).Draw(t, "period"))
			file.WriteString(", match: {path: /*")
			for _, what := range []string{"team", "user", "model"} {
				if rapid.IntRange(0, 2).Draw(t, "condition") == 0 {
					fmt.Fprintf(&file, ", %s: %s", what, globs.Draw(t, what))
				}
			}
			file.WriteString("}")
			if i == 1 {
				file.WriteString(", parent: parent")
			}
			file.WriteString("}\n")
		}
		c, err := Parse("f", []byte(file.String()), nil)
		if err != nil {
			return
		}
		accepted++
		l, err := budget.New(t.Context(), budget.Options{Limits: c.Budgets})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			value := rapid.SampledFrom([]string{"", "a", "b", "ab", "c"})
			r, _, err := l.Reserve(t.Context(), budget.Request{
				Path: "/v1/chat/completions", Model: value.Draw(t, "model"), Input: 1, Output: 1, MinOutput: 1,
				Identities: []budget.Identity{{Name: "team", Value: value.Draw(t, "team")}, {Name: "user", Value: value.Draw(t, "user")}},
			})
			if err != nil || r == nil {
				t.Fatal(r, err)
			}
			r.SettleHold()
		}
		all, err := l.Balances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		spent := make(map[string]int64) // of the children, by their parent's counter
		for _, b := range all {
			if b.Limit == "child" {
				spent[fmt.Sprint(project(c.Budgets[1], b.Subject, c.Budgets[0].Per))] += b.Spent
			}
		}
		for _, b := range all {
			if b.Limit == "parent" {
				k := fmt.Sprint(project(c.Budgets[0], b.Subject, c.Budgets[0].Per))
				if spent[k] > b.Spent {
					t.Fatalf("children have spent %d and their parent %d:\n%s%+v", spent[k], b.Spent, file.String(), all)
				}
				delete(spent, k)
			}
		}
		if len(spent) > 0 {
			t.Fatalf("without a counter of the parent: %v\n%s%+v", spent, file.String(), all)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if accepted == 0 {
		t.Error("no file was accepted")
	}
}

func TestShares(t *testing.T) {
	const head = "identity: {team: [{jwt: team}], user: [{jwt: sub}]}\nbudgets:\n"
	for _, test := range []struct {
		name, budgets string
		want          []string // subject: sum of amount, number, places of the open ones
	}{
		{"none", "- {name: a, limit: 10 tokens, period: day}", nil},
		{"three budgets", `
- {name: a, limit: 100 tokens, period: day}
- {name: b, match: {team: b}, limit: 50 tokens, period: day, parent: a}
- {name: c, match: {team: [c, d]}, limit: 60 tokens, period: hour, parent: a}
- {name: d, match: {team: b, user: x}, limit: 20 tokens, period: day, parent: b}`,
			[]string{"a []: 110 of 100, 2 []", "b []: 20 of 50, 1 []"}},
		{"overrides", `
- {name: a, limit: 100 tokens, period: day}
- {name: b, per: team, limit: 5 tokens, period: day, parent: a, overrides: {x: 30 tokens, y: 40 tokens}}`,
			[]string{"a []: 70 of 100, 2 [1]"}},
		{"overrides that its match leaves out", `
- {name: a, limit: 100 tokens, period: day}
- {name: b, per: team, match: {team: "x*"}, limit: 5 tokens, period: day, parent: a, overrides: {x: 30 tokens, y: 40 tokens}}`,
			[]string{"a []: 30 of 100, 1 [1]"}},
		{"the same per", `
- {name: a, per: team, limit: 100 tokens, period: month, overrides: {x: 10 tokens, z: 7 tokens}}
- {name: b, per: team, limit: 5 tokens, period: month, parent: a, overrides: {x: 3 tokens, y: 40 tokens}}`,
			[]string{"a [{team x}]: 3 of 10, 1 []", "a [{team z}]: 5 of 7, 1 []", "a [{team y}]: 40 of 100, 1 []", "a []: 5 of 100, 1 []"}},
		{"a narrower per", `
- {name: a, per: team, limit: 100 tokens, period: day, overrides: {x: 10 tokens}}
- {name: b, per: [user, team], limit: 5 tokens, period: day, parent: a, overrides: [{team: x, user: u, limit: 6 tokens}, {user: v, team: x, limit: 7 tokens}]}`,
			[]string{"a [{team x}]: 13 of 10, 2 [1]", "a []: 0 of 100, 0 [1]"}},
		{"one team of a parent per team", `
- {name: a, per: team, limit: 100 tokens, period: day, overrides: {x: 10 tokens}}
- {name: b, match: {team: x}, limit: 5 tokens, period: day, parent: a}
- {name: c, match: {team: y}, per: user, limit: 7 tokens, period: day, parent: a}`,
			[]string{"a [{team x}]: 5 of 10, 1 []", "a [{team y}]: 0 of 100, 0 [2]"}},
		{"some of a parent per team", `
- {name: a, per: team, limit: 100 tokens, period: day}
- {name: b, per: team, match: {team: [x, "y*"]}, limit: 5 tokens, period: day, parent: a}`,
			[]string{"a [{team x}]: 5 of 100, 1 []"}},
		{"as many as the parent", `
- {name: a, per: team, match: {team: "x*"}, limit: 100 tokens, period: day}
- {name: b, per: team, match: {team: "x*", model: o1}, limit: 5 tokens, period: day, parent: a}`,
			[]string{"a []: 5 of 100, 1 []"}},
		{"units apart", `
- {name: a, limit: {input: 100 tokens, output: 50 tokens}, period: day}
- {name: b, per: team, limit: {output: 5 tokens}, period: day, parent: a, overrides: {x: {output: 30 tokens}}}`,
			[]string{"a []: 30 of 50, 1 [2]"}},
	} {
		c := check(t, head+test.budgets, "")
		if c == nil {
			continue
		}
		var got []string
		for s := range c.Shares() {
			got = append(got, fmt.Sprintf("%s %v: %d of %d, %d %v", c.Budgets[s.Parent].Name, s.Subject, s.Sum, s.Amount, s.Known, s.Open))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got\n%q\nwant\n%q", test.name, got, test.want)
		}
	}
}

// The sum of many great shares stays where it is at the end of the number range.
func TestSharesOverflow(t *testing.T) {
	var file strings.Builder
	file.WriteString("identity: {team: [{jwt: team}]}\nbudgets:\n- {name: a, limit: 1 token, period: day}\n")
	file.WriteString("- {name: b, per: team, limit: 1 token, period: day, parent: a, overrides: {")
	for i := range 9999 {
		fmt.Fprintf(&file, "t%d: 1000000B tokens, ", i)
	}
	file.WriteString("x: 2 tokens}}\n")
	c := check(t, file.String(), "")
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "9223372036854775807 tokens, 922337203685477580700 % of its 1 ") {
		t.Errorf("warnings: %s", w)
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		part, whole int64
		want        string
	}{
		{0, 7, "0 %"}, {1, 3000, "0 %"}, {1, 3, "33.3 %"}, {2, 3, "66.7 %"}, {4, 10, "40 %"}, {10, 10, "100 %"}, {13, 10, "130 %"}, {1, 200, "0.5 %"},
		{1_000_001, 1_000_000, "a little more than 100 %"}, {999_999, 1_000_000, "a little less than 100 %"}, {1, 20, "5 %"}, {1, 1, "100 %"},
	} {
		if got := Percent(test.part, test.whole); got != test.want {
			t.Errorf("%d of %d: %s, want %s", test.part, test.whole, got, test.want)
		}
	}
}

// A child that holds more at first may refuse what its parent would admit.
func TestChildThatHoldsMore(t *testing.T) {
	for admission, warned := range map[string]bool{"predict": true, "full": false} {
		c, err := Parse("f", []byte("budgets:\n- {name: a, limit: 100 tokens, period: day}\n"+
			"- {name: b, limit: 100 tokens, period: hour, parent: a, admission: "+admission+"}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(fmt.Sprint(c.Warnings()), "never decides"); got != warned {
			t.Errorf("%s: %v", admission, c.Warnings())
		}
	}
}
