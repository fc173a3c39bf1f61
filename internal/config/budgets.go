package config

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// budgets decodes the list of budgets, once all identities are known. It returns
// where the name of each limit in c.Budgets stands.
func (d *decoder) budgets(key, n *node, c *Config, ids *identities) []*node {
	var positions []*node
	first := make(map[string]*node)
	for _, item := range d.items(key, n, maxBudgets, false) {
		limits, name := d.budget(item, ids)
		if name == nil {
			continue // reported
		}
		if twin := first[limits[0].Name]; twin != nil {
			d.fail(name, "choose another name", "the name %s is taken by the budget in line %d", quote(name.Value), twin.Line)
			continue
		}
		first[limits[0].Name] = name
		for _, l := range limits {
			c.Budgets = append(c.Budgets, l)
			positions = append(positions, name)
		}
	}
	return positions
}

// budget decodes one budget into its limits, one for each unit. It returns where its
// name stands, or nil if it has none. With a name there is at least one limit, which
// may be incomplete if mistakes were reported.
func (d *decoder) budget(n *node, ids *identities) (limits []budget.Limit, name *node) {
	base := budget.Limit{Location: time.UTC}
	var amounts []amount
	perRequest := false

	seen := d.object("a budget", n, fields{
		"name": value(d, &base.Name, parseName),
		"per": list(d, &base.Per, maxIdentities, true, func(s string) (string, error) {
			perRequest = perRequest || s == "request"
			return ids.parse(s)
		}),
		"limit":    d.limit(&amounts),
		"period":   value(d, &base.Period, parsePeriod),
		"timezone": value(d, &base.Location, parseZone),
	}, refusals{
		"match":           later("match", "remove it; the budget then concerns every request"),
		"overrides":       later("overrides", "remove it; the limit then is the same for everybody"),
		"alerts":          later("alerts", "remove it, and watch the metrics"),
		"on_input":        later("on_input", "remove it"),
		"action":          later("action", "remove it; new requests are refused and running streams cut"),
		"admission":       later("admission", "remove it"),
		"when_store_down": later("when_store_down", "remove it"),
		"parent":          later("parent", "remove it; a request must fit into every budget that concerns it"),
		"borrow":          later("borrow", "remove it"),
	})
	d.require(n, seen, "a budget", "name", "name: everyone")
	d.require(n, seen, "a budget", "limit", "limit: 50M tokens")
	if !perRequest { // which has no period, and is refused for itself
		d.require(n, seen, "a budget", "period", "period: month")
	}
	if zone := d.at[&base.Location]; zone != nil && base.Period == budget.Total {
		d.warn(zone, "remove it", "the timezone has no effect, because a total never starts again")
	}

	if len(amounts) == 0 {
		amounts = []amount{{}} // reported
	}
	for _, a := range amounts {
		l := base
		l.Amount, l.Unit = a.n, a.unit
		limits = append(limits, l)
	}
	return limits, d.at[&base.Name]
}

// amount is a limit's number with its unit.
type amount struct {
	n    int64
	unit budget.Unit
}

// limit decodes "50M tokens" or {input: 8k tokens, output: 2k tokens}.
func (d *decoder) limit(amounts *[]amount) setter {
	return func(key, n *node) {
		if n.Kind != yaml.MappingNode {
			var a amount
			value(d, &a, parseAmount)(key, n)
			*amounts = append(*amounts, a)
			return
		}
		var input, output amount
		d.object(quote(key.Value), n, fields{
			"input":  value(d, &input, parseTokens(budget.InputTokens)),
			"output": value(d, &output, parseTokens(budget.OutputTokens)),
		}, nil)
		for _, a := range []amount{input, output} {
			if a.n > 0 {
				*amounts = append(*amounts, a)
			}
		}
		if len(n.Content) == 0 {
			d.fail(n, "such as {input: 8k tokens, output: 2k tokens}", "the limit has neither input nor output")
		}
	}
}

func parseAmount(s string) (amount, error) {
	n, unit, err := ParseAmount(s)
	return amount{n, unit}, err
}

// parseTokens accepts amounts of tokens and counts them in the given unit.
func parseTokens(unit budget.Unit) func(string) (amount, error) {
	return func(s string) (amount, error) {
		a, err := parseAmount(s)
		if err == nil && a.unit != budget.Tokens {
			err = mistake("write tokens, or a limit of its own", "input and output are counted in tokens, not %s", a.unit)
		}
		a.unit = unit
		return a, err
	}
}
