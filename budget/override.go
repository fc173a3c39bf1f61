package budget

import (
	"fmt"
	"slices"
)

// Override gives one subject of a limit another amount.
type Override struct {
	Subject []Identity // a value for each name in Limit.Per, in any order
	Amount  int64      // in the limit's unit; > 0
}

// newOverrides returns the amounts by encoded subject. The error names every mistake.
func newOverrides(l Limit) (map[string]int64, []error) {
	amounts := make(map[string]int64, len(l.Overrides))
	var errs []error
	bad := func(i int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("override %d: %s", i+1, fmt.Sprintf(format, args...)))
	}
	for i, o := range l.Overrides {
		if o.Amount <= 0 {
			bad(i, "the amount is %d: it must be above 0", o.Amount)
		}
		if len(o.Subject) != len(l.Per) || len(l.Per) == 0 ||
			slices.ContainsFunc(l.Per, func(name string) bool { return valueOf(name, o.Subject) == "" }) {
			bad(i, "its subject must have a value for each of %q and no other", l.Per)
			continue
		}
		key := string(appendSubject(nil, partsOf(l.Per), o.request()))
		if _, twice := amounts[key]; twice {
			bad(i, "this subject has an override already")
		}
		amounts[key] = o.Amount
	}
	return amounts, errs
}

// request is a request of the override's subject.
func (o Override) request() *Request {
	return &Request{Identities: o.Subject, Model: valueOf(ByModel, o.Subject), Path: valueOf(ByPath, o.Subject)}
}

// amountOf returns the amount for an encoded subject.
func (r *rule) amountOf(subject string) int64 {
	if n, ok := r.amounts[subject]; ok {
		return n
	}
	return r.Amount
}
