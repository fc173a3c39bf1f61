package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/glob"
)

// What is taken for metered is what the dialects know.
func TestMeteredPaths(t *testing.T) {
	if known := dialect.Metered(); !slices.Equal(known, metered) {
		t.Errorf("the dialects know %q, and this package %q", known, metered)
	}
}

func TestUnlimited(t *testing.T) {
	const (
		header = "identity: {team: [{jwt: team}], user: [{jwt: sub}], env: [{header: x-env, set_by: envoy}]}\nbudgets:\n"
		refuse = "identity: {team: [{jwt: team}], env: [{header: x-env, set_by: envoy}], missing: refuse}\nbudgets:\n"
		all    = "- {name: all, limit: 5 tokens, period: day}\n"
		calls  = "- {name: calls, limit: 5 requests, period: day}\n"
		size   = "- {name: size, per: request, limit: 5 tokens}\n"
		ab     = "- {name: ab, match: {team: [a, b]}, limit: 5 tokens, period: day}\n"
		gpt    = "- {name: gpt, match: {model: \"gpt-*\"}, limit: 5 tokens, period: day}\n"
	)
	for _, test := range []struct {
		name, file string
		want       string // the beginning of the warning; "" if there is none
	}{
		{"everybody", header + all, ""},
		{"everybody, in halves", header + "- {name: in, limit: {input: 5 tokens}, period: day}\n", ""},
		{"each team", header + "- {name: teams, per: team, limit: 5 tokens, period: day}\n", ""},
		{"all by a glob", header + ab + "- {name: rest, match: {team: '*', user: '**'}, limit: 5 tokens, period: day}\n", ""},
		{"all paths", header + "- {name: all, match: {path: '/*'}, limit: 5 tokens, period: day}\n", ""},
		{"one API", header + "- {name: chat, match: {path: '*/chat/completions'}, limit: 5 tokens, period: day}\n",
			`requests with another path than "*/chat/completions" are not limited`},
		{"all that is metered", header + "- {name: all, match: {path: ['*/completions', '*/embeddings', '*/responses', '*/v1/messages']}, limit: 5 tokens, period: day}\n", ""},
		{"all paths, in two", header + "- {name: all, match: {path: ['/*ns', '/*s']}, limit: 5 tokens, period: day}\n", ""},
		{"one of two kinds of paths", header + "- {name: all, match: {path: /chat/completions}, limit: 5 tokens, period: day}\n",
			`requests with another path than "/chat/completions" are not limited`},
		{"one path", header + "- {name: v1, match: {path: '/v1/*'}, limit: 5 tokens, period: day}\n",
			`requests with another path than "/v1/*" are not limited`},

		{"some teams", header + ab, `requests with another team than "a" or "b" are not limited`},
		{"some teams twice", header + ab + strings.ReplaceAll(ab, "ab, match: {team: [a, b]}", "cd, match: {team: ['c*', d, a]}"),
			`requests with another team than "a" or "b" or "c*" (and 1 more) are not limited`},
		{"some teams and models", header + ab + gpt, "requests that match no budget are not limited"},
		{"one of two is everything", header + "- {name: x, match: {team: '*', model: o1}, limit: 5 tokens, period: day}\n",
			`requests with another model than "o1" are not limited`},
		{"those without a team only", header + `- {name: x, match: {team: "(none)"}, limit: 5 tokens, period: day}` + "\n",
			`requests with another team than "(none)" are not limited`},

		{"a header", header + "- {name: x, match: {header: {x-tier: '*'}}, limit: 5 tokens, period: day}\n", "requests without the header x-tier are not limited"},
		{"values of a header", header + "- {name: x, match: {header: {x-tier: [a, b]}}, limit: 5 tokens, period: day}\n",
			`requests with another header x-tier than "a" or "b" are not limited`},
		{"a header that is an identity, refused without", refuse + "- {name: x, per: env, match: {header: {x-env: '*'}}, limit: 5 tokens, period: day}\n", ""},
		{"a header that is an identity, which only a trial is counted per", refuse + "- {name: x, match: {header: {x-env: '*'}}, limit: 5 tokens, period: day}\n" +
			"- {name: y, per: env, limit: 5 tokens, period: day, action: shadow}\n", "requests without the header x-env are not limited"},
		{"a header that is an identity, and the rest", header + "- {name: x, match: {header: {x-env: '*'}}, limit: 5 tokens, period: day}\n" +
			`- {name: y, match: {env: "(none)"}, limit: 5 tokens, period: day}` + "\n", ""},
		{"a header that is an identity, and not the rest", header + "- {name: x, match: {header: {x-env: '*'}}, limit: 5 tokens, period: day}\n" +
			"- {name: y, match: {env: prod}, limit: 5 tokens, period: day}\n", "requests that match no budget are not limited"},

		{"each request by itself", header + size, "all requests are limited one by one only"},
		{"each request by itself, some in sum", header + size + ab, `requests with another team than "a" or "b" are limited one by one only`},
		{"each request by itself, all in sum", header + size + ab + all, ""},

		{"requests only", header + calls, `the tokens of all requests are not limited, because budget "calls" counts requests`},
		{"requests, and tokens of each", header + calls + size, `the tokens of all requests are limited for each request only, because budget "calls"`},
		{"streams only", header + "- {name: parallel, per: user, limit: 5 streams}\n", `the tokens of all requests are not limited, because budget "parallel" counts streams`},
		{"requests, and tokens of some", header + calls + ab, `the tokens of requests with another team than "a" or "b" are not limited, because budget "calls"`},
		{"requests, and tokens of some and some", header + calls + ab + gpt, "the tokens of requests that match no budget in tokens are not limited"},
		{"requests, and tokens of all", header + calls + all, ""},
		{"requests of some, tokens of all", header + all + "- {name: o, match: {model: o1}, limit: 5 requests, period: day}\n", ""},
		{"requests of one, tokens of the same", header + ab + "- {name: o, match: {team: a}, limit: 5 requests, period: day}\n",
			`requests with another team than "a" or "b" are not limited, because every`},
		{"requests of a model", header + ab + "- {name: o, match: {model: [gpt-4o, 'o*'], team: a}, limit: 5 requests, period: day}\n",
			"requests that match no budget are not limited, because every"},
		{"requests of another team", header + ab + "- {name: o, match: {team: [b, c]}, limit: 5 requests, period: day}\n",
			`the tokens of requests with team "c" are not limited, because budget "o" counts requests|requests with another team than "a" or "b" or "c" are not limited`},
		{"requests of a model of another", header + gpt + "- {name: o, match: {model: ['gpt-4*', 'o*'], path: '*', team: x}, limit: 5 requests, period: day}\n",
			`the tokens of requests with model "o*", path "/*/chat/completions", team "x" are not limited|requests that match no budget`},
		{"requests of a path", header + "- {name: v1, match: {path: '/*'}, limit: 5 tokens, period: day}\n" +
			"- {name: o, match: {path: '*', model: o1}, limit: 5 requests, period: day}\n", ""},
		{"requests of a path that is not metered", header + gpt + "- {name: o, match: {path: /health, model: x}, limit: 5 requests, period: day}\n",
			"requests that match no budget"},
		{"requests of nobody", refuse + ab + `- {name: o, match: {team: "(none)"}, limit: 5 requests, period: day}` + "\n",
			`requests with another team than "a" or "b" or "(none)" are not limited`},
		{"requests of a header that is an identity", header + "- {name: x, match: {env: prod}, limit: 5 tokens, period: day}\n" +
			"- {name: o, match: {header: {x-env: prod}}, limit: 5 requests, period: day}\n", "requests that match no budget"},
	} {
		c := check(t, test.file, "")
		if c == nil {
			continue
		}
		var got []string
		for _, w := range c.warnings {
			if strings.Contains(w.Msg, "limited") {
				got = append(got, w.Msg)
			}
		}
		want := strings.Split(test.want, "|")
		if test.want == "" {
			want = nil
		}
		// In the order of their places, hence in any here.
		slices.Sort(got)
		slices.Sort(want)
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Files with mistakes have budgets and identities that are incomplete.
func TestWarningsOfBroken(t *testing.T) {
	check(t, "identity: {team: []}\nbudgets: [{name: a, match: {model: o1}, limit: 5 requests, period: day}]", "the list \"team\" is empty")
	check(t, "identity: {team: [{jwt: team}]}\nbudgets: [{name: a, limit: many tokens, period: day}, "+
		"{name: b, limit: 5 tokens, period: day, parent: a}]", "many tokens")
}

// The search for tokens that nobody counts ends, however many globs there are.
func TestUnlimitedBound(t *testing.T) {
	var globs strings.Builder
	for i := range maxGlobs {
		fmt.Fprintf(&globs, "g%d, ", i)
	}
	file := "identity: {team: [{jwt: team}], user: [{jwt: sub}]}\nbudgets:\n" + strings.ReplaceAll(
		"- {name: a, match: {team: [GLOBS], user: [GLOBS], model: [GLOBS]}, limit: 5 requests, period: day}\n", "GLOBS", globs.String())
	if w := strings.Join(check(t, file, "").Warnings(), "\n"); strings.Contains(w, "the tokens of") {
		t.Errorf("warnings: %s", w)
	}
}

// TestUnlimitedTwin: there is a warning if there is such a request, and only then. The twin
// tries all requests of short words, in which z stands for what no budget knows.
func TestUnlimitedTwin(t *testing.T) {
	words := []string{"", "a", "b", "z", "az", "bz", "zb", "ab", "ba", "azb"}
	rapid.Check(t, func(t *rapid.T) {
		var file strings.Builder
		file.WriteString("identity: {team: [{jwt: team}]}\nbudgets:\n")
		globs := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "a*", "*", "*b", "a*b", "b*", "**"}), 1, 3, rapid.ID)
		for i := range rapid.IntRange(1, 4).Draw(t, "budgets") {
			fmt.Fprintf(&file, "- {name: n%d, limit: %s", i, rapid.SampledFrom([]string{
				"1 token, period: day", "1 token, per: request", "1 request, period: day", "{input: 1 token}, period: day", "1 stream",
			}).Draw(t, "limit"))
			var match []string
			for _, what := range []string{"team: [%s]", "model: [%s]", "header: {x-h: [%s]}"} {
				if rapid.IntRange(0, 2).Draw(t, "condition") == 0 {
					match = append(match, fmt.Sprintf(what, "'"+strings.Join(globs.Draw(t, what), "', '")+"'"))
				}
			}
			if len(match) > 0 {
				fmt.Fprintf(&file, ", match: {%s}", strings.Join(match, ", "))
			}
			file.WriteString("}\n")
		}
		c, err := Parse("f", []byte(file.String()), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got [3]bool // none, none that adds up, none in tokens
		for _, w := range c.Warnings() {
			got[0] = got[0] || strings.Contains(w, "are not limited, because every budget")
			got[1] = got[1] || strings.Contains(w, "one by one")
			got[2] = got[2] || strings.Contains(w, "the tokens of")
		}
		var want [3]bool
		for _, team := range words[1:] {
			for _, model := range words[1:] {
				for _, header := range words {
					var some, counted, tokens bool
					for _, l := range c.Budgets {
						concerned := !slices.ContainsFunc(l.Match, func(m budget.Condition) bool {
							v := map[budget.Property]string{budget.OfIdentity: team, budget.OfModel: model, budget.OfHeader: header}[m.Property]
							return v == "" || !slices.ContainsFunc(m.Any, func(g string) bool { return glob.Match(g, v) })
						})
						some = some || concerned
						counted = counted || concerned && isCounted(l)
						tokens = tokens || concerned && countsTokens(l)
					}
					want[0] = want[0] || !some
					want[1] = want[1] || some && !counted
					want[2] = want[2] || counted && !tokens
				}
			}
		}
		if want[0] {
			want[1], got[1] = false, false // told at once
		}
		if got != want {
			t.Fatalf("warned %v, want %v:\n%s%s", got, want, file.String(), strings.Join(c.Warnings(), "\n"))
		}
	})
}
