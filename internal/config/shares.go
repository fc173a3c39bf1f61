package config

import (
	"iter"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
)

// Shares is how the children of one limit divide one of its counters, or each that
// nobody names. Amounts are those of one window: of a child with a shorter period that of
// one of its windows, since how many of them are used to the full is not known.
type Shares struct {
	Parent  int               // place in Config.Budgets
	Subject []budget.Identity // whose counter of the parent; nil: the only one, or each that nobody names
	Amount  int64             // of that counter
	Sum     int64             // shares of subjects that are known; at most math.MaxInt64
	Known   int               // how many they are
	Open    []int             // places of children which have a share of their limit's amount for each further subject, too
}

// Shares yields the shares in every limit that is a parent, in the order of the file;
// of a limit with per, those of the subjects that overrides or matches name, then
// those of each other subject, if there are any.
func (c *Config) Shares() iter.Seq[Shares] {
	return func(yield func(Shares) bool) {
		children := make(map[limitName][]int)
		for i, l := range c.Budgets {
			if l.Parent != "" {
				k := limitName{l.Parent, l.Unit}
				children[k] = append(children[k], i)
			}
		}
		for p, l := range c.Budgets {
			if cs := children[limitName{l.Name, l.Unit}]; len(cs) > 0 && !divide(c.Budgets, p, cs, yield) {
				return
			}
		}
	}
}

// limitName is what a limit is found by.
type limitName struct {
	name string
	unit budget.Unit
}

// divide sums up the shares of one limit. It returns false if yield did.
func divide(limits []budget.Limit, p int, children []int, yield func(Shares) bool) bool {
	parent := limits[p]
	var keys []string // of the parent's subjects that are named, in the order in which they are
	subjects := make(map[string][]budget.Identity)
	note := func(values []string) {
		if k := strings.Join(values, "\x00"); subjects[k] == nil && len(values) > 0 {
			ids := make([]budget.Identity, len(values))
			for i, v := range values {
				ids[i] = budget.Identity{Name: parent.Per[i], Value: v}
			}
			keys, subjects[k] = append(keys, k), ids
		}
	}
	amounts := make(map[string]int64, len(parent.Overrides))
	for _, o := range parent.Overrides {
		values := project(parent, o.Subject, parent.Per)
		note(values)
		amounts[strings.Join(values, "\x00")] = o.Amount
	}
	parts := make([]part, len(children))
	for i, c := range children {
		parts[i] = newPart(limits[c], parent, note)
	}
	total := func(key string, subject []budget.Identity) bool {
		s := Shares{Parent: p, Subject: subject, Amount: parent.Amount}
		if own, ok := amounts[key]; ok {
			s.Amount = own
		}
		for i, c := range children {
			sum, known, open := parts[i].of(key, subject)
			s.Sum = addCapped(s.Sum, sum)
			s.Known += known
			if open {
				s.Open = append(s.Open, c)
			}
		}
		return s.Known == 0 && len(s.Open) == 0 || yield(s)
	}
	for _, k := range keys {
		if !total(k, subjects[k]) {
			return false
		}
	}
	return total("", nil)
}

// part is what one child has of the subjects of its parent.
type part struct {
	child budget.Limit
	per   []string           // of the parent
	known map[string]*shares // by subject of the parent: those that overrides name
	each  bool               // it has one share, for the subject itself
	fixed map[string]string  // values that its match names, of names that it is not counted per
	some  bool               // it concerns some subjects of the parent and others not, which nobody lists
}

type shares struct {
	sum int64
	n   int
}

// newPart prepares the shares of a child; it notes the subjects of the parent that it
// names.
func newPart(child, parent budget.Limit, note func([]string)) part {
	per := parent.Per
	p := part{child: child, per: per, known: make(map[string]*shares), fixed: make(map[string]string)}
	p.each = !slices.ContainsFunc(child.Per, func(name string) bool { return !slices.Contains(per, name) })
	for _, name := range per {
		if !slices.Contains(child.Per, name) {
			p.fixed[name], _ = fixedValue(child, name)
		}
		for _, m := range conditionsOn(child, name) {
			if _, all := implied(parent, m); !all {
				p.some = true
			}
			for _, g := range m.Any {
				if len(per) == 1 && !strings.Contains(g, "*") {
					note([]string{g})
				}
			}
		}
	}
	for _, o := range child.Overrides {
		if !slices.ContainsFunc(o.Subject, func(id budget.Identity) bool { return !admits(child, id) }) {
			values := project(child, o.Subject, per)
			note(values)
			k := strings.Join(values, "\x00")
			if p.known[k] == nil {
				p.known[k] = new(shares)
			}
			p.known[k].sum = addCapped(p.known[k].sum, o.Amount)
			p.known[k].n++
		}
	}
	if len(per) > 1 && len(p.fixed) == len(per) {
		note(project(child, nil, per))
	}
	return p
}

// of returns the sum of the shares of one subject of the parent, or with nil of each that
// nobody names, how many they are, and whether there are further ones, of an unknown number.
func (p *part) of(key string, subject []budget.Identity) (sum int64, n int, open bool) {
	for _, id := range subject {
		if v, ok := p.fixed[id.Name]; ok && v != id.Value || !admits(p.child, id) {
			return 0, 0, false
		}
	}
	if subject == nil && p.some {
		return 0, 0, false
	}
	if s := p.known[key]; s != nil && (subject != nil || len(p.per) == 0) {
		sum, n = s.sum, s.n
	}
	switch {
	case !p.each:
		return sum, n, true
	case n == 0:
		return p.child.Amount, 1, false
	}
	return sum, n, false
}

// admits reports whether requests of an identity's value, or of a model or path, can be
// concerned by l.
func admits(l budget.Limit, id budget.Identity) bool {
	for _, m := range conditionsOn(l, id.Name) {
		if !coveredBy(id.Value, m.Any) {
			return false
		}
	}
	return true
}

// project returns the values of names in a subject of l, or those that its match fixes.
func project(l budget.Limit, subject []budget.Identity, names []string) []string {
	values := make([]string, len(names))
	for i, name := range names {
		if j := slices.IndexFunc(subject, func(id budget.Identity) bool { return id.Name == name }); j >= 0 {
			values[i] = subject[j].Value
		} else {
			values[i], _ = fixedValue(l, name)
		}
	}
	return values
}

func addCapped(a, b int64) int64 { return min(a, math.MaxInt64-b) + b }

// warnShares names limits of which more is shared out than there is, and children that
// never decide because their parent has no more than they have.
func (d *decoder) warnShares(c *Config, limits []*node) {
	for s := range c.Shares() {
		if s.Sum <= s.Amount {
			continue
		}
		p := c.Budgets[s.Parent]
		whose := ""
		switch {
		case s.Subject != nil:
			whose = " for " + subjectText(s.Subject)
		case len(p.Per) > 0:
			whose = " for each further " + strings.Join(p.Per, " and ")
		}
		d.warn(limits[s.Parent], "lower them, unless it is meant; who comes first is served",
			"budget %s is oversold%s: the known shares come to %d %s, %s of its %d",
			quote(p.Name), whose, s.Sum, spell(p.Unit), Percent(s.Sum, s.Amount), s.Amount)
	}
	place := make(map[limitName]int, len(c.Budgets))
	for i, l := range c.Budgets {
		place[limitName{l.Name, l.Unit}] = i
	}
	for i, l := range c.Budgets {
		p, ok := place[limitName{l.Parent, l.Unit}]
		if !ok || l.Action != c.Budgets[p].Action || l.Admission != c.Budgets[p].Admission || sameCounters(l, c.Budgets[p]) {
			continue // of the same counters, warnBudgets has told; of another action or admission, either may decide
		}
		if own, whole := extremes(l), extremes(c.Budgets[p]); own.low >= whole.high {
			d.warn(limits[i], "make it smaller", "budget %s never decides, because its parent %s allows no more, and counts all of it, too",
				quote(l.Name), quote(l.Parent))
		}
	}
}

// sameCounters reports whether two limits count the same requests in the same way.
func sameCounters(a, b budget.Limit) bool {
	sorted := func(l budget.Limit) []string { return slices.Sorted(slices.Values(l.Per)) }
	return a.Period == b.Period && slices.Equal(sorted(a), sorted(b)) && len(a.Overrides)+len(b.Overrides) == 0 &&
		slices.EqualFunc(a.Match, b.Match, func(a, b budget.Condition) bool {
			return a.Property == b.Property && a.Name == b.Name && slices.Equal(a.Any, b.Any)
		})
}

type amountRange struct{ low, high int64 }

// extremes are the least and the greatest amount of a limit's counters.
func extremes(l budget.Limit) amountRange {
	r := amountRange{l.Amount, l.Amount}
	for _, o := range l.Overrides {
		r.low, r.high = min(r.low, o.Amount), max(r.high, o.Amount)
	}
	return r
}

// Percent says how much of whole a part is, such as "40 %" or "33.3 %", rounded to the
// nearest tenth, though never to 100 from above or below.
func Percent(part, whole int64) string {
	n := new(big.Int).Mul(big.NewInt(part), big.NewInt(2000))
	n.Div(n.Add(n, big.NewInt(whole)), big.NewInt(2*whole)) // whole is at most 10^15
	switch tenths := n.String(); {
	case tenths == "1000" && part > whole:
		return "a little more than 100 %"
	case tenths == "1000" && part < whole:
		return "a little less than 100 %"
	case tenths == "0":
		return "0 %"
	case strings.HasSuffix(tenths, "0"):
		return tenths[:len(tenths)-1] + " %"
	case len(tenths) == 1:
		return "0." + tenths + " %"
	default:
		return tenths[:len(tenths)-1] + "." + tenths[len(tenths)-1:] + " %"
	}
}
