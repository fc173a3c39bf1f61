package config

import (
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// Bounds of lists. Every request is checked against every budget, so their number is
// also a matter of speed.
const (
	maxIdentities = 16
	maxSources    = 8
	maxBudgets    = 1000
	maxGlobs      = 256
	maxOverrides  = 10_000
	maxSubjects   = 1_000_000 // as many counters as the ledger keeps in memory
)

// config decodes the whole file. What depends on several keys is checked at the end,
// so that the order of the keys does not matter.
func (d *decoder) config(root *node, c *Config) {
	var budgets *node
	ids := &identities{at: make(map[string]*node), headers: make(map[string]headerUse), keys: make(map[string]*node)}
	l, keyNames := new(listenKeys), make(map[string]*node)

	seen := d.object("the file", root, fields{
		"listen":      d.listen(c, l),
		"insecure":    value(d, &c.Insecure, parseBool),
		"admin_token": secret(d, &c.AdminToken, parseToken),
		"identity":    d.identities(c, ids),
		"api_keys":    d.apiKeys(c, keyNames),
		"store": d.section(fields{
			"file": d.section(fields{
				"dir":   value(d, &c.Store.File.Dir, parseDir),
				"fsync": value(d, &c.Store.File.Fsync, oneOf(budget.FsyncWait, budget.FsyncGroup, budget.FsyncOS)),
				"sync":  value(d, &c.Store.File.Sync, duration(10*time.Millisecond, time.Minute)),
			}, nil),
		}, refusals{
			"redis": later("store.redis", "use store.file, which serves one replica"),
		}),
		"models":           d.models(c),
		"budgets":          func(_, n *node) { budgets = n },
		"max_request_body": value(d, &c.MaxRequestBody, size(1<<10, 1<<30)),
		"paths": d.section(fields{
			"pass": list(d, &c.Paths.Pass, maxGlobs, false, notIn("deny", &c.Paths.Deny, parsePassGlob)),
			"deny": list(d, &c.Paths.Deny, maxGlobs, false, notIn("pass", &c.Paths.Pass, parseGlob)),
		}, nil),
		"unknown_api":     value(d, &c.UnknownAPI, oneOf(UnknownRefuse, UnknownPass)),
		"output_cap":      value(d, &c.OutputCap, oneOf(CapUnary, CapAlways, CapNever)),
		"degraded":        value(d, &c.Degraded, oneOf(DegradedMeter, DegradedRefuse)),
		"degraded_cut":    value(d, &c.DegradedCut, oneOf(DegradedClose, DegradedReset)),
		"responses_cut":   value(d, &c.ResponsesCut, oneOf(CutIncomplete, CutCompleted)),
		"include_usage":   value(d, &c.IncludeUsage, oneOf(UsageAuto, UsageAlways, UsageNever)),
		"closing_comment": value(d, &c.ClosingComment, parseBool),
		"timeouts": d.section(fields{
			"exchange": value(d, &c.Timeouts.Exchange, duration(time.Second, 24*time.Hour)),
			"idle":     value(d, &c.Timeouts.Idle, duration(time.Second, 24*time.Hour)),
			"drain":    value(d, &c.Timeouts.Drain, duration(0, 10*time.Minute)),

			"drain_delay":    value(d, &c.Timeouts.DrainDelay, duration(0, 10*time.Minute)),
			"connection_age": value(d, &c.Timeouts.ConnectionAge, duration(0, 24*time.Hour)),
			"background":     value(d, &c.Timeouts.Background, duration(0, 24*time.Hour)),
		}, nil),
		"overload": d.overload(&c.Overload),
	}, refusals{"tls": {"tls does not belong here", "move it into listen"}})
	d.require(root, seen, "the file", "budgets", "budgets: [{name: everyone, limit: 50M tokens, period: month}]")
	var limits []*node
	if budgets != nil {
		limits = d.budgets(seen["budgets"], budgets, c, ids)
	}
	d.settleListen(c, l, seen["admin_token"] != nil)
	d.checkTimeouts(c)
	d.checkAPIKeys(c, seen["api_keys"], ids, keyNames)
	d.warnOverload(c)
	d.warnAll(c, ids, limits)
}
