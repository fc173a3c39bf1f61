package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
)

// matchHint shows the form of a match.
const matchHint = `such as match: {team: search, model: "gpt-4*", header: {x-env: [prod, staging]}}`

// match decodes which requests a budget concerns.
func (d *decoder) match(dst *[]budget.Condition, ids *identities) setter {
	return func(key, n *node) {
		add := func(p budget.Property, name string, key, n *node, parse func(string) (string, error)) {
			c := budget.Condition{Property: p, Name: name}
			list(d, &c.Any, maxGlobs, true, parse)(key, n)
			if len(c.Any) > 0 {
				*dst = append(*dst, c)
			}
		}
		before := len(d.errs) + d.more
		d.mapping(quote(key.Value), n, func(key, n *node) {
			switch key.Value {
			case budget.ByModel:
				add(budget.OfModel, "", key, n, parseModelPattern)
			case budget.ByPath:
				add(budget.OfPath, "", key, n, parsePathPattern)
			case "header":
				d.mapping(quote(key.Value), n, func(key, n *node) {
					name, err := parseHeader(key.Value)
					if err != nil {
						d.reject(key, "header "+quote(key.Value)+": ", err)
						return
					}
					if use, known := ids.headers[name]; !known || !use.setByEnvoy {
						d.warn(key, "let Envoy set it, and name it in an identity with set_by: envoy",
							"header %s is matched as it reaches the filter: a client may be able to choose its value, and with it its limits", quote(name))
					}
					add(budget.OfHeader, name, key, n, parsePattern)
				})
			default:
				if ids.at[key.Value] == nil {
					known := slices.AppendSeq([]string{budget.ByModel, budget.ByPath, "header"}, maps.Keys(ids.at))
					hint := didYouMean(key.Value, known)
					d.fail(key, cmp.Or(hint, "match an identity that is declared, or model, path, header"), "match %s: no identity has this name", quote(key.Value))
					return
				}
				add(budget.OfIdentity, key.Value, key, n, parsePattern)
			}
		})
		if len(*dst) == 0 && len(d.errs)+d.more == before {
			d.fail(n, "remove it, and the budget concerns every request; or write conditions, "+matchHint, "the match has no condition")
		}
	}
}

// parsePattern accepts globs of values.
func parsePattern(s string) (string, error) {
	switch {
	case s == "":
		return "", mistake("write * for any value", "it is empty")
	case hasControl(s):
		return "", mistake("", "it has control characters")
	case len(s) > maxClaim:
		return "", mistake("", "it is longer than %d bytes", maxClaim)
	}
	return s, nil
}

// parseModelPattern accepts globs of models, whose letter case does not matter: limits
// see their names in lower case.
func parseModelPattern(s string) (string, error) {
	s, err := parsePattern(s)
	return strings.ToLower(s), err
}

func parsePathPattern(s string) (string, error) {
	if strings.HasPrefix(s, "*") {
		_, err := parseGlob("/" + s)
		return s, err
	}
	return parseGlob(s)
}
