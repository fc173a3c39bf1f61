package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

// maxChanges bounds how many changes are told one by one.
const maxChanges = 100

// changes says what differs between two configurations, a line each, without secrets:
// budgets with their amounts, other sections by their names.
func changes(old, c *config.Config) []string {
	out := budgetChanges(old, c)
	section := func(name string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			out = append(out, name+" changed")
		}
	}
	section("admin_token", old.AdminToken, c.AdminToken)
	section("identity", [2]any{old.Identities, old.Missing}, [2]any{c.Identities, c.Missing})
	section("api_keys", old.APIKeys, c.APIKeys)
	if !slices.EqualFunc(old.Models, c.Models, sameModel) {
		out = append(out, "models changed")
	}
	section("paths", old.Paths, c.Paths)
	section("unknown_api", old.UnknownAPI, c.UnknownAPI)
	section("output_cap", old.OutputCap, c.OutputCap)
	section("degraded", old.Degraded, c.Degraded)
	section("degraded_cut", old.DegradedCut, c.DegradedCut)
	section("responses_cut", old.ResponsesCut, c.ResponsesCut)
	section("include_usage", old.IncludeUsage, c.IncludeUsage)
	section("closing_comment", old.ClosingComment, c.ClosingComment)
	section("timeouts", old.Timeouts, c.Timeouts)
	section("overload", old.Overload, c.Overload)
	if n := len(out); n > maxChanges {
		out = append(out[:maxChanges:maxChanges], fmt.Sprintf("and %d more", n-maxChanges))
	}
	return out
}

func budgetChanges(old, c *config.Config) (out []string) {
	find := func(limits []budget.Limit, l budget.Limit) *budget.Limit {
		i := slices.IndexFunc(limits, func(o budget.Limit) bool { return o.Name == l.Name && o.Unit == l.Unit })
		if i < 0 {
			return nil
		}
		return &limits[i]
	}
	var order [2][]string // of those that stay
	for _, o := range old.Budgets {
		if find(c.Budgets, o) == nil {
			out = append(out, fmt.Sprintf("budget %s: %d %s removed", o.Name, o.Amount, o.Unit))
		} else {
			order[0] = append(order[0], o.Name+o.Unit.String())
		}
	}
	for _, l := range c.Budgets {
		o := find(old.Budgets, l)
		if o == nil {
			out = append(out, fmt.Sprintf("budget %s: %d %s added", l.Name, l.Amount, l.Unit))
			continue
		}
		order[1] = append(order[1], l.Name+l.Unit.String())
		if o.Amount != l.Amount {
			out = append(out, fmt.Sprintf("budget %s: %d → %d %s", l.Name, o.Amount, l.Amount, l.Unit))
		}
		var other []string
		part := func(name string, a, b any) {
			if !reflect.DeepEqual(a, b) {
				other = append(other, name)
			}
		}
		part("per", [2]any{o.Per, o.PerRequest}, [2]any{l.Per, l.PerRequest})
		part("period", o.Period, l.Period)
		part("timezone", o.Location.String(), l.Location.String())
		part("match", o.Match, l.Match)
		part("overrides", o.Overrides, l.Overrides)
		part("action", [2]any{o.Action, o.MaxDelay}, [2]any{l.Action, l.MaxDelay})
		part("admission", o.Admission, l.Admission)
		part("parent", o.Parent, l.Parent)
		part("max_subjects", o.MaxSubjects, l.MaxSubjects)
		part("on_input", slices.Contains(old.Truncate, o.Name), slices.Contains(c.Truncate, l.Name))
		if len(other) > 0 {
			out = append(out, fmt.Sprintf("budget %s (%s): %s changed", l.Name, l.Unit, strings.Join(other, ", ")))
		}
	}
	if !slices.Equal(order[0], order[1]) {
		out = append(out, "the order of budgets changed")
	}
	return out
}
