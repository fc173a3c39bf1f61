package config

import (
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// budgets decodes the list of budgets, once all identities are known. It returns
// where the name of each limit in c.Budgets stands.
func (d *decoder) budgets(key, n *node, c *Config, ids *identities) []*node {
	var positions []*node
	first := make(map[string]*node)
	var all []declared
	for _, item := range d.items(key, n, maxBudgets, false) {
		before := len(d.errs) + d.more
		limits, truncate, name := d.budget(item, ids)
		if name == nil {
			continue // reported
		}
		if twin := first[limits[0].Name]; twin != nil {
			d.fail(name, "choose another name", "the name %s is taken by the budget in line %d", quote(name.Value), twin.Line)
			continue
		}
		first[limits[0].Name] = name
		all = append(all, declared{valueIn(item, "parent"), limits, len(d.errs)+d.more == before})
		for _, l := range limits {
			c.Budgets = append(c.Budgets, l)
			positions = append(positions, name)
		}
		if truncate {
			c.Truncate = append(c.Truncate, name.Value)
		}
	}
	d.checkParents(all)
	return positions
}

// valueIn returns the value of a key of a mapping, nil if it has none.
func valueIn(n *node, key string) *node {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// budget decodes one budget into its limits, one for each unit. It returns where its
// name stands, or nil if it has none. With a name there is at least one limit, which
// may be incomplete if mistakes were reported. truncate says that it shortens prompts.
func (d *decoder) budget(n *node, ids *identities) (limits []budget.Limit, truncate bool, name *node) {
	base := budget.Limit{Location: time.UTC}
	var amounts []amount
	var onInput string
	var overrides *node

	seen := d.object("a budget", n, d.actions(&base, fields{
		"name":         value(d, &base.Name, parseName),
		"per":          list(d, &base.Per, maxIdentities, true, ids.parse),
		"match":        d.match(&base.Match, ids),
		"limit":        d.limit(&amounts),
		"period":       value(d, &base.Period, parsePeriod),
		"timezone":     value(d, &base.Location, parseZone),
		"overrides":    func(_, n *node) { overrides = n },
		"max_subjects": value(d, &base.MaxSubjects, parseSubjects),
		"parent":       value(d, &base.Parent, parseName),
		"on_input":     value(d, &onInput, oneOf(onInputRefuse, onInputTruncate)),
	}), refusals{
		"alerts":          later("alerts", "remove it, and watch the metrics"),
		"when_store_down": later("when_store_down", "remove it"),
		"borrow":          later("borrow", "remove it"),
	})
	d.require(n, seen, "a budget", "name", "name: everyone")
	d.require(n, seen, "a budget", "limit", "limit: 50M tokens")
	if base.PerRequest = slices.Contains(base.Per, perRequest); base.PerRequest {
		d.checkPerRequest(&base, amounts, onInput, seen)
	} else if on := seen["on_input"]; on != nil {
		d.fail(on, "remove it, or write per: request", "on_input concerns limits per request only")
	}
	d.checkPeriod(n, &base, amounts, seen)
	d.checkActions(&base, amounts, onInput == onInputTruncate, seen)
	if n := d.at[&base.MaxSubjects]; n != nil && len(base.Per) == 0 {
		d.warn(n, "remove it", "max_subjects has no effect, because the budget has a single counter")
	}

	if len(amounts) == 0 {
		amounts = []amount{{}} // reported
	}
	for _, a := range amounts {
		l := base
		l.Amount, l.Unit = a.n, a.unit
		if !countsOutput(l.Unit) {
			l.Admission = budget.AdmitPredict // which is to say none: it holds no output
		}
		limits = append(limits, l)
	}
	if overrides != nil && !base.PerRequest {
		d.overrides(seen["overrides"], overrides, limits)
	}
	return limits, onInput == onInputTruncate, d.at[&base.Name]
}

// perRequest is the name in per which bounds each request by itself.
const perRequest = "request"

// The values of on_input.
const (
	onInputRefuse   = "refuse"
	onInputTruncate = "truncate"
)

// checkPerRequest checks what a budget per request can have.
func (d *decoder) checkPerRequest(l *budget.Limit, amounts []amount, onInput string, seen map[string]*node) {
	if len(l.Per) > 1 {
		d.fail(d.at[&l.Per], "use match to say for whom it is", "per: request stands alone")
	}
	l.Per = nil
	input := false
	for _, a := range amounts {
		if a.n > 0 && a.unit >= budget.Requests {
			d.fail(seen["limit"], "such as limit: {input: 8k tokens, output: 2k tokens}", "a limit per request counts tokens, not %s", a.unit)
		}
		input = input || a.unit != budget.OutputTokens
	}
	if on := seen["on_input"]; on != nil && !input {
		if onInput == onInputTruncate {
			d.fail(on, "add a limit, such as limit: {input: 8k tokens}", "a prompt cannot be truncated, because the input is not limited")
		} else {
			d.warn(on, "remove it", "on_input has no effect, because the input is not limited")
		}
	}
	if o := seen["overrides"]; o != nil {
		d.fail(o, "write a budget of its own with match", "a budget per request has no overrides")
	}
}

// checkPeriod checks that a budget has a period, or that it has none.
func (d *decoder) checkPeriod(n *node, l *budget.Limit, amounts []amount, seen map[string]*node) {
	zone := d.at[&l.Location]
	streams := slices.ContainsFunc(amounts, func(a amount) bool { return a.unit == budget.Streams })
	switch {
	case !l.PerRequest && !streams:
		d.require(n, seen, "a budget", "period", "period: month")
		switch {
		case zone == nil:
		case l.Period == budget.Total:
			d.warn(zone, "remove it", "the timezone has no effect, because a total never starts again")
		case l.Period.Rolling():
			d.warn(zone, "remove it", "the timezone has no effect, because a rolling period follows no calendar")
		}
		return
	case seen["period"] == nil:
	case l.PerRequest:
		d.fail(seen["period"], "remove it", "a limit per request has no period: it bounds each request by itself")
	default:
		d.fail(seen["period"], "remove it", "a limit in streams has no period: it counts the requests under way")
	}
	if zone != nil {
		d.warn(zone, "remove it", "the timezone has no effect, because there is no period")
	}
}

// parseSubjects reads how many counters a budget may have.
func parseSubjects(s string) (int64, error) {
	return scaled(s, amountFactors, maxSubjects, "write it like 100k or 5000")
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
