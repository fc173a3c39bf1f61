package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

// shareTree prints the budgets that have shares in others as a tree, with what the
// shares of each parent come to.
type shareTree struct {
	w        io.Writer
	budgets  []budget.Limit
	children map[int][]int // places in budgets, by the parent's
	sums     map[int][]config.Shares
	cut      map[int]int // how many sums are not shown, by the parent's place
}

// printShares prints nothing if no budget has a parent.
func printShares(w io.Writer, c *config.Config) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	tree := shareTree{w: t, budgets: c.Budgets, children: make(map[int][]int), sums: make(map[int][]config.Shares), cut: make(map[int]int)}
	for s := range c.Shares() {
		if len(tree.sums[s.Parent]) < shownOverrides {
			tree.sums[s.Parent] = append(tree.sums[s.Parent], s)
		} else {
			tree.cut[s.Parent]++
		}
	}
	if len(tree.sums) == 0 {
		return nil
	}
	type limit struct {
		name string
		unit budget.Unit
	}
	place := make(map[limit]int)
	for i, b := range c.Budgets {
		place[limit{b.Name, b.Unit}] = i
	}
	for i, b := range c.Budgets {
		if p, ok := place[limit{b.Parent, b.Unit}]; ok {
			tree.children[p] = append(tree.children[p], i)
		}
	}
	fmt.Fprintln(t, "\nSHARES\tLIMIT\tPERIOD\tOF ITS PARENT")
	for i, b := range c.Budgets {
		if b.Parent == "" && len(tree.children[i]) > 0 {
			tree.print(i, -1, "")
		}
	}
	return t.Flush()
}

// print prints a limit with what is below it; parent is -1 of one that has none.
func (t *shareTree) print(i, parent int, indent string) {
	b := t.budgets[i]
	name, of := b.Name, "" // of: the last column, with its tab
	if len(b.Per) > 0 {
		name += " per " + strings.Join(b.Per, " and ")
	}
	if parent >= 0 {
		of = "\t" + config.Percent(b.Amount, t.budgets[parent].Amount)
		if len(b.Per) > 0 {
			of += " each"
		}
		if n := windowsIn(b.Period, t.budgets[parent].Period); n > 1 {
			of += fmt.Sprintf(", up to %d times a %s", n, t.budgets[parent].Period)
		}
	}
	fmt.Fprintf(t.w, "%s%s\t%d %s\t%s%s\n", indent, name, b.Amount, b.Unit, period(b), of)
	indent += "  "
	for _, child := range t.children[i] {
		t.print(child, i, indent)
	}
	for _, s := range t.sums[i] {
		part := config.Percent(s.Sum, s.Amount)
		if s.Amount != b.Amount {
			part += fmt.Sprintf(" of %d", s.Amount)
		}
		fmt.Fprintf(t.w, "%s= %s%s\t%d %s\t\t%s%s\n", indent, t.whose(s), plural(s.Known, "known share"), s.Sum, b.Unit, part, t.room(s))
	}
	if n := t.cut[i]; n > 0 {
		fmt.Fprintf(t.w, "%s(and %d more sums)\n", indent, n)
	}
}

// whose says of which counter of a parent the shares are.
func (t *shareTree) whose(s config.Shares) string {
	switch per := t.budgets[s.Parent].Per; {
	case s.Subject != nil:
		return subjectText(s.Subject) + ": "
	case len(per) > 0:
		return "each other " + strings.Join(per, " and ") + ": "
	}
	return ""
}

// room says how many further subjects fit into what the known shares leave.
func (t *shareTree) room(s config.Shares) string {
	text, before := "", ", room for "
	for i, c := range s.Open {
		if i == 3 {
			return text + " …"
		}
		text += fmt.Sprintf("%s%d%s of %s", before, max(0, s.Amount-s.Sum)/t.budgets[c].Amount, more(s), t.budgets[c].Name)
		before = ", or "
	}
	return text
}

func more(s config.Shares) string {
	if s.Known > 0 {
		return " more"
	}
	return ""
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// windowsIn is how many windows of a calendar period one of a longer period has at
// most; 0 if that cannot be said.
func windowsIn(short, long budget.Period) int {
	const hour, day = 60, 24 * 60
	minutes := map[budget.Period]int{
		budget.Minute: 1, budget.Hour: hour, budget.Day: day, budget.Week: 7 * day,
		budget.Month: 31 * day, budget.Quarter: 92 * day, budget.Year: 366 * day,
	}
	switch {
	case short == budget.Month && long == budget.Quarter:
		return 3
	case short == budget.Month && long == budget.Year:
		return 12
	case short == budget.Quarter && long == budget.Year:
		return 4
	case minutes[short] == 0:
		return 0
	}
	return minutes[long] / minutes[short]
}
