package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/glob"
)

// logKeys are the keys of a line in the log, beside which identities stand.
var logKeys = []string{
	"level", "ts", "msg", "request_id", "api", "stream", "input_tokens", "output_tokens", "cached_tokens",
	"reasoning_tokens", "input_source", "output_source", "cost_nanousd", "outcome", "status", "reason", "held", "duration_ms", "ttft_ms",
	"truncated_messages", "throttled_ms", "shadow", "degraded", "background",
	"subject", "threshold", "spent", "amount", "window_end",
	// Envoy's own, in its access log.
	"upstream_request_id", "client", "protocol", "method", "details", "flags", "upstream", "bytes_in", "bytes_out",
}

// warnAll looks over the whole configuration. limits has the position of each limit
// in c.Budgets.
func (d *decoder) warnAll(c *Config, ids *identities, limits []*node) {
	if len(d.errs) > 0 {
		return // nobody will see warnings, and what has mistakes is incomplete
	}
	d.warnListen(c)
	d.warnIdentities(c, ids)
	d.warnBudgets(c, limits)
	d.warnDelays(c, limits)
	d.warnShares(c, limits)
	d.warnUnlimited(c, limits)
	if n := d.at[&c.UnknownAPI]; n != nil && c.UnknownAPI == UnknownPass {
		d.warn(n, "prefer paths: {pass: […]} for what you know", "requests of an API that is not known are neither metered nor limited")
	}
	if n := d.at[&c.Paths.Pass]; n != nil {
		for _, pattern := range c.Paths.Pass {
			if slices.ContainsFunc(metered, func(end string) bool { return glob.Match(pattern, "/v1"+strings.TrimPrefix(end, "/v1")) }) {
				d.warn(n, "make it narrower", "%s lets model requests through unmetered", quote(pattern))
			}
		}
	}
	if n := d.at[&c.OutputCap]; n != nil && c.OutputCap == CapNever {
		d.warn(n, "use unary", "an answer that is not a stream cannot be cut; without an output cap it may exceed its budgets, those per request included")
	}
}

func (d *decoder) warnIdentities(c *Config, ids *identities) {
	used := make(map[string]bool)
	for _, l := range c.Budgets {
		for _, name := range l.Per {
			used[name] = true
		}
		for _, c := range l.Match {
			if c.Property == budget.OfIdentity {
				used[c.Name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ids.at)) {
		n := ids.at[name]
		if !used[name] {
			d.warn(n, "count a budget per "+shorten(name)+", or keep it for the log only", "no budget is counted per %s or matches it", quote(name))
		}
		if slices.Contains(logKeys, name) {
			d.warn(n, "choose another name", "the log has a key %s already, and will have it twice", quote(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ids.headers)) {
		if use := ids.headers[name]; !use.setByEnvoy {
			d.warn(use.at, "add set_by: envoy if Envoy sets it, or use jwt",
				"header %s is trusted as it reaches the filter: a client may be able to choose its value", quote(name))
		}
	}
	if n := d.at[&c.Missing]; n != nil && len(c.Identities) == 0 {
		d.warn(n, "declare an identity, or remove it", "missing has no effect, because there are no identities")
	}
}

// warnDelays names budgets in which requests cannot wait as long as they may, because an
// exchange lasts no longer than its timeout.
func (d *decoder) warnDelays(c *Config, limits []*node) {
	for i, l := range c.Budgets {
		if l.MaxDelay > c.Timeouts.Exchange && (i == 0 || c.Budgets[i-1].Name != l.Name) { // not once for each unit
			d.warn(limits[i], "make timeouts.exchange longer, or max_delay shorter",
				"requests that budget %s throttles wait for %s at most, not for its max_delay of %s, because an exchange lasts no longer",
				quote(l.Name), brief(c.Timeouts.Exchange), brief(l.MaxDelay))
		}
	}
}

// warnBudgets names limits that can never decide, because another one that counts and
// does the same is tighter.
func (d *decoder) warnBudgets(c *Config, limits []*node) {
	type counted struct {
		unit     budget.Unit
		action   budget.Action
		admit    budget.Admission
		each     bool
		match    string
		per      string
		period   budget.Period
		location string
	}
	tightest := make(map[counted]int)
	for i, l := range c.Budgets {
		if len(l.Overrides) > 0 {
			continue // one of its subjects may be tighter, or looser
		}
		per := slices.Sorted(slices.Values(l.Per))
		k := counted{l.Unit, l.Action, l.Admission, l.PerRequest, fmt.Sprint(l.Match), strings.Join(per, ","), l.Period, l.Location.String()}
		if l.Period.Rolling() {
			k.location = "" // which has no effect
		}
		j, ok := tightest[k]
		if !ok {
			tightest[k] = i
			continue
		}
		loose, tight := i, j
		if c.Budgets[i].Amount < c.Budgets[j].Amount {
			loose, tight = j, i
			tightest[k] = i
		}
		d.warn(limits[loose], "remove one", "budget %s never decides, because %s counts the same and allows no more",
			quote(c.Budgets[loose].Name), quote(c.Budgets[tight].Name))
	}
}
