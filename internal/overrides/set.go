package overrides

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
)

// Max is how many overrides there can be.
const Max = 1000

// ErrFull means that there are [Max] overrides, or that they are too long for the file.
var ErrFull = errors.New("there are as many overrides as there may be")

// Override is one of a [Set].
type Override struct {
	Budget  string            `json:"budget"`
	Subject map[string]string `json:"subject"` // a value for each name that the budget is counted per
	Amounts map[string]int64  `json:"amounts"` // by the names of units
	Reason  string            `json:"reason"`
	Who     string            `json:"who"` // put it there
	At      time.Time         `json:"at"`
}

// key is what an override is found by. No name, value or budget has a zero byte.
func key(name string, subject map[string]string) string {
	parts := []string{name}
	for _, k := range slices.Sorted(maps.Keys(subject)) {
		parts = append(parts, k, subject[k])
	}
	return strings.Join(parts, "\x00")
}

func (o Override) key() string { return key(o.Budget, o.Subject) }

// Set is all overrides, in the order of their budgets and subjects. It does not change.
// The zero value has none.
type Set struct{ list []Override }

func (s *Set) find(name string, subject map[string]string) (int, bool) {
	return slices.BinarySearchFunc(s.list, key(name, subject), func(o Override, k string) int { return cmp.Compare(o.key(), k) })
}

// Get returns the override of a budget's subject.
func (s *Set) Get(name string, subject map[string]string) (Override, bool) {
	i, ok := s.find(name, subject)
	if !ok {
		return Override{}, false
	}
	return s.list[i], true
}

// Put returns a set in which o stands in the place of the override of its subject. It
// fails with [ErrFull].
func (s *Set) Put(o Override) (*Set, error) {
	i, ok := s.find(o.Budget, o.Subject)
	list := slices.Clone(s.list)
	if ok {
		list[i] = o
	} else {
		list = slices.Insert(list, i, o)
	}
	if len(list) > Max {
		return nil, fmt.Errorf("%w (%d); delete those that are not needed, or write them into the configuration file", ErrFull, Max)
	}
	return &Set{list}, nil
}

// Delete returns a set without the override of a subject; it is the same one if there is
// none.
func (s *Set) Delete(name string, subject map[string]string) *Set {
	i, ok := s.find(name, subject)
	if !ok {
		return s
	}
	return &Set{slices.Delete(slices.Clone(s.list), i, i+1)}
}

// Apply returns limits with the amounts of the set. The limits themselves do not change.
func (s *Set) Apply(limits []budget.Limit) []budget.Limit {
	out := slices.Clone(limits)
	for i := range out {
		l := &out[i]
		from, _ := s.find(l.Name, nil)
		copied := false
		for _, o := range s.list[from:] {
			if o.Budget != l.Name {
				break
			}
			n, ok := o.Amounts[l.Unit.String()]
			if !ok || !fits(*l, o.Subject) {
				continue
			}
			if len(l.Per) == 0 {
				l.Amount = n
				continue
			}
			if !copied {
				l.Overrides, copied = slices.Clone(l.Overrides), true
			}
			set(l, o.Subject, n)
		}
	}
	return out
}

// fits reports whether a limit has a counter of this subject.
func fits(l budget.Limit, subject map[string]string) bool {
	return len(subject) == len(l.Per) && !slices.ContainsFunc(l.Per, func(name string) bool { return subject[name] == "" })
}

func set(l *budget.Limit, subject map[string]string, n int64) {
	for i, o := range l.Overrides {
		if same(o.Subject, subject) {
			l.Overrides[i].Amount = n
			return
		}
	}
	o := budget.Override{Amount: n}
	for _, name := range l.Per {
		o.Subject = append(o.Subject, budget.Identity{Name: name, Value: subject[name]})
	}
	l.Overrides = append(l.Overrides, o)
}

func same(ids []budget.Identity, subject map[string]string) bool {
	return len(ids) == len(subject) && !slices.ContainsFunc(ids, func(id budget.Identity) bool { return subject[id.Name] != id.Value })
}

// Amounts are what a budget allows a subject by limits, by the names of units. Nil if
// the limits have no such budget with such a subject.
func Amounts(limits []budget.Limit, name string, subject map[string]string) map[string]int64 {
	var amounts map[string]int64
	for _, l := range limits {
		if l.Name != name || !fits(l, subject) {
			continue
		}
		n := l.Amount
		for _, o := range l.Overrides {
			if same(o.Subject, subject) {
				n = o.Amount
			}
		}
		if amounts == nil {
			amounts = make(map[string]int64)
		}
		amounts[l.Unit.String()] = n
	}
	return amounts
}

// Shown is an override as it is shown.
type Shown struct {
	Override
	File      map[string]int64 `json:"file"`           // what the configuration file allows
	Effective bool             `json:"effective"`      // whether all of it has an effect
	Note      string           `json:"note,omitempty"` // why not
}

// List returns the overrides, beside what the file's limits say.
func (s *Set) List(limits []budget.Limit) []Shown {
	out := make([]Shown, len(s.list))
	for i, o := range s.list {
		out[i] = s.Show(o, limits)
	}
	return out
}

// Show returns o as List would, beside what the file's limits say.
func (s *Set) Show(o Override, limits []budget.Limit) Shown {
	shown := Shown{Override: o, File: Amounts(limits, o.Budget, o.Subject)}
	for unit := range o.Amounts {
		if _, ok := shown.File[unit]; !ok {
			shown.Note = "the budget does not count " + strings.ReplaceAll(unit, "_", " ")
		}
	}
	switch {
	case !slices.ContainsFunc(limits, func(l budget.Limit) bool { return l.Name == o.Budget }):
		shown.Note = "the configuration has no budget of this name"
	case shown.File == nil:
		shown.Note = "the budget is counted per something else"
	}
	if _, ok := s.Get(o.Budget, o.Subject); !ok {
		shown.Note = "taken back"
	}
	shown.Effective = shown.Note == ""
	return shown
}
