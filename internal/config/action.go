package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// minDelay is the shortest max_delay: with less a request would hardly be asked for again.
const minDelay = 100 * time.Millisecond

// named accepts the names of the given values.
func named[T fmt.Stringer](values ...T) func(string) (T, error) {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = v.String()
	}
	one := oneOf(names...)
	return func(s string) (v T, err error) {
		if _, err = one(s); err == nil {
			v = values[slices.Index(names, s)]
		}
		return v, err
	}
}

// actions are the keys of a budget that say what it does once it is used up, and how much
// of an answer it holds at first.
func (d *decoder) actions(l *budget.Limit, f fields) fields {
	f["action"] = value(d, &l.Action, named(budget.ActionCut, budget.ActionRefuse, budget.ActionThrottle, budget.ActionShadow))
	f["admission"] = value(d, &l.Admission, named(budget.AdmitPredict, budget.AdmitFull, budget.AdmitNone))
	f["max_delay"] = value(d, &l.MaxDelay, duration(minDelay, budget.MaxDelay))
	return f
}

// checkActions checks what fits together. It is called once it is known whether the
// budget is per request.
func (d *decoder) checkActions(l *budget.Limit, amounts []amount, truncate bool, seen map[string]*node) {
	action := d.at[&l.Action]
	streams := slices.ContainsFunc(amounts, func(a amount) bool { return a.unit == budget.Streams })
	switch {
	case l.PerRequest && l.Action == budget.ActionRefuse:
		d.fail(action, "use cut or shadow", "a limit per request has no counter that could go into debt, so that it cannot refuse without cutting")
	case l.PerRequest && l.Action == budget.ActionThrottle:
		d.fail(action, "use cut or shadow", "a limit per request cannot throttle: waiting makes no request smaller")
	case l.Action == budget.ActionThrottle && l.Period == budget.Total && !streams:
		d.fail(action, "use refuse, or another period", "a total cannot throttle: it never starts again, so that waiting for it is in vain")
	case l.Action == budget.ActionThrottle && l.Period > budget.Hour && l.Period < budget.Total:
		d.warn(action, "use refuse, or a shorter period", "nearly every request is refused rather than delayed, because its windows are much longer than the delay")
	case l.Action == budget.ActionShadow && truncate:
		d.fail(seen["on_input"], "remove it", "a limit with action: shadow changes nothing, so that it truncates no prompt")
	}
	unread := seen["action"] != nil && action == nil // a mistake that is told already: it may mean throttle
	if n := seen["max_delay"]; n != nil && l.Action != budget.ActionThrottle && !unread {
		d.fail(n, "remove it, or write action: throttle", "max_delay concerns limits that throttle only")
	}
	if l.Action == budget.ActionThrottle && l.MaxDelay == 0 {
		l.MaxDelay = budget.DefaultMaxDelay
	}
	if n := seen["admission"]; n != nil {
		switch {
		case l.PerRequest:
			d.fail(n, "remove it", "a limit per request holds nothing, so that it has no admission")
		case !slices.ContainsFunc(amounts, func(a amount) bool { return a.n == 0 || countsOutput(a.unit) }):
			d.fail(n, "remove it", "admission is how much of the answer is held, and this limit does not count answers")
		}
	}
}

func countsOutput(u budget.Unit) bool { return u == budget.Tokens || u == budget.OutputTokens }
