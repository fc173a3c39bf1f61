package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/glob"
)

// A budget with a parent has shares of it. What makes that true is that whatever
// counts in the child counts in the parent, too. The ledger does not see to it: a
// request has to fit into every budget that concerns it. So it is checked here that the
// parent concerns all that the child concerns, in the same unit, in windows that
// hold the child's, and in one counter for each of the child's.

// declared is a budget of the file with what checks between budgets need.
type declared struct {
	parent *node          // where its parent is named; nil if it has none
	limits []budget.Limit // one for each unit; never empty
	whole  bool           // no mistake was found in it
}

// checkParents checks what the budgets say of their parents.
func (d *decoder) checkParents(all []declared) {
	byName := make(map[string]*declared, len(all))
	for i := range all {
		byName[all[i].limits[0].Name] = &all[i]
	}
	inCycle := make(map[*declared]bool)
	for i := range all {
		child := &all[i]
		name := child.limits[0].Parent
		if name == "" {
			continue
		}
		parent := byName[name]
		if inCycle[child] {
			continue // reported
		}
		loop := cycle(child, byName, inCycle)
		switch {
		case parent == nil:
			d.fail(child.parent, cmp.Or(didYouMean(name, slices.Collect(maps.Keys(byName))), "name a budget of this file"),
				"parent %s: no budget has this name", quote(name))
		case parent == child:
			d.fail(child.parent, "remove it, or name a broader one", "budget %s is its own parent", quote(name))
		case loop != nil:
			d.fail(child.parent, "remove one of them", "the parents lead back to budget %s: %s",
				quote(child.limits[0].Name), shownNames(loop))
		case child.whole && parent.whole:
			d.checkParent(child, parent)
		}
	}
}

// cycle returns the names from a budget over its parents back to itself and marks those
// budgets; nil if they do not lead back.
func cycle(from *declared, byName map[string]*declared, mark map[*declared]bool) []string {
	var names []string
	for b := from; ; {
		if b == nil || len(names) > len(byName) {
			return nil // no parent; or a cycle that from is not part of
		}
		names = append(names, b.limits[0].Name)
		if b = byName[b.limits[0].Parent]; b == from {
			break
		}
	}
	for _, name := range names {
		mark[byName[name]] = true
	}
	return append(names, names[0])
}

// shownNames are names for a message, not too many.
func shownNames(names []string) string {
	const most = 6
	if len(names) > most {
		names = slices.Concat(names[:most-2], []string{"…"}, names[len(names)-1:])
	}
	return strings.Join(names, ", ")
}

// checkParent checks one child beside its parent, neither of which has a mistake.
func (d *decoder) checkParent(child, parent *declared) {
	c, p := child.limits[0], parent.limits[0]
	name := quote(p.Name)
	bad := func(hint, format string, args ...any) { d.fail(child.parent, hint, format, args...) }
	switch {
	case c.PerRequest:
		bad("remove it", "a budget per request has no parent: it bounds each request by itself")
		return
	case p.PerRequest:
		bad("name one with a period", "the parent %s bounds each request by itself, and has no shares", name)
		return
	}
	for _, l := range child.limits {
		if !slices.ContainsFunc(parent.limits, func(p budget.Limit) bool { return p.Unit == l.Unit }) {
			bad("write both limits in the same unit", "the budget counts %s, and its parent %s counts %s: a share is counted as the whole is",
				spell(l.Unit), name, units(parent.limits))
			return
		}
	}
	switch {
	case !within(c.Period, p.Period):
		bad(fmt.Sprintf("write period: %s, or a parent with a longer one", p.Period),
			"a window of a %s does not lie within one of a %s, the period of the parent %s", c.Period, p.Period, name)
	case calendar(c.Period) && calendar(p.Period) && c.Location.String() != p.Location.String():
		bad("write timezone: "+p.Location.String(), "its windows begin in %s, and those of the parent %s in %s: they do not lie within each other",
			c.Location, name, p.Location)
	}
	for _, by := range p.Per {
		if _, fixed := fixedValue(c, by); !fixed && !slices.Contains(c.Per, by) {
			bad("add "+by+" to per, or match a single "+by, "the parent %s is counted per %s, and the budget is not: it would be a share of no counter in particular",
				name, by)
		}
	}
	for _, m := range p.Match {
		if g, ok := implied(c, m); !ok {
			what := conditionName(m)
			if g == "" {
				bad(fmt.Sprintf("add the condition to its match: %s: %s", what, globList(m.Any)),
					"the parent %s concerns only requests with %s %s, and the budget others, too, which would not count in the parent",
					name, what, globList(m.Any))
			} else {
				bad("make it as narrow as the parent's, which is "+globList(m.Any),
					"the budget concerns requests with %s %s, and the parent %s not all of them: they would not count in it", what, quote(g), name)
			}
		}
	}
}

// within reports whether each window of a child's period lies in one of the parent's,
// if both have the same time zone.
func within(child, parent budget.Period) bool {
	switch {
	case child == parent || parent == budget.Total:
		return true
	case calendar(child) && calendar(parent):
		return child < parent && child != budget.Week // weeks go across the ends of all that is longer
	}
	// Both end now, if they roll; else one begins where the other does not.
	return child > budget.Total && parent > budget.Total && child < parent
}

// calendar reports whether a period's windows begin by a calendar, over and over.
func calendar(p budget.Period) bool { return budget.Minute <= p && p < budget.Total }

// conditionsOn are the conditions of l on what a name in per stands for.
func conditionsOn(l budget.Limit, per string) (cs []budget.Condition) {
	for _, m := range l.Match {
		switch m.Property {
		case budget.OfIdentity:
			if m.Name != per {
				continue
			}
		case budget.OfModel:
			if per != budget.ByModel {
				continue
			}
		case budget.OfPath:
			if per != budget.ByPath {
				continue
			}
		default:
			continue
		}
		cs = append(cs, m)
	}
	return cs
}

// fixedValue returns the one value that requests which l concerns have of a name in
// per, if its match says so.
func fixedValue(l budget.Limit, per string) (string, bool) {
	for _, m := range conditionsOn(l, per) {
		if len(m.Any) == 1 && !strings.Contains(m.Any[0], "*") {
			return m.Any[0], true
		}
	}
	return "", false
}

// implied reports whether every request that l concerns fulfils m. Else it returns the
// glob that lets others through, or "" if l has no such condition.
//
// Conditions on different properties are taken as independent, though one header may be
// the source of an identity. Those on one property are compared exactly: g is within p
// if p matches the text of g, whose * nothing but a * of p matches. And if it lies within
// none of several, the text with a letter for * that occurs in none is one that it lets through.
func implied(l budget.Limit, m budget.Condition) (escapes string, ok bool) {
	if m.Property != budget.OfHeader && coveredBy("*", m.Any) {
		return "", true
	}
	for _, own := range l.Match {
		if own.Property != m.Property || own.Name != m.Name {
			continue
		}
		i := slices.IndexFunc(own.Any, func(g string) bool { return !coveredBy(g, m.Any) })
		if i < 0 {
			return "", true
		}
		escapes = own.Any[i]
	}
	return escapes, false
}

// coveredBy reports whether one of the globs matches all that g matches.
func coveredBy(g string, globs []string) bool {
	return slices.ContainsFunc(globs, func(p string) bool { return glob.Match(p, g) })
}

// conditionName names what a condition looks at, as in the file.
func conditionName(m budget.Condition) string {
	switch m.Property {
	case budget.OfModel:
		return budget.ByModel
	case budget.OfPath:
		return budget.ByPath
	case budget.OfHeader:
		return "header " + m.Name
	}
	return m.Name
}

// globList shows a few globs.
func globList(globs []string) string {
	const most = 3
	shown := make([]string, 0, most)
	for _, g := range globs[:min(len(globs), most)] {
		shown = append(shown, quote(g))
	}
	text := strings.Join(shown, " or ")
	if more := len(globs) - most; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}
