package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// overrides decodes what some subjects may use instead, into the limits of a budget.
// With one name in per it is a mapping from values to limits, and always may be a
// list of {name: value, …, limit: …}.
func (d *decoder) overrides(key, n *node, limits []budget.Limit) {
	per := limits[0].Per
	if len(per) == 0 {
		d.fail(key, "add per, such as per: team; for some requests use match", "overrides need a budget that is counted per something")
		return
	}
	if n.Kind == yaml.MappingNode {
		if len(per) > 1 {
			d.fail(n, "write - {"+strings.Join(per, ": …, ")+": …, limit: …}", "overrides of a budget counted per several names must be a list")
			return
		}
		if len(n.Content) > 2*maxOverrides {
			d.fail(n, "remove some", "there are more than %d overrides", maxOverrides)
			return
		}
		first := make(map[string]bool) // models are the same in any letter case
		d.mapping(quote(key.Value), n, func(value, n *node) {
			if value.ShortTag() != "!!str" { // as for other text, or YAML tools would write 8 for 010
				d.fail(value, "put it in quotes", "overrides %s: the %s must be text, not %s", quote(value.Value), per[0], kind(value))
			} else if v, err := parseSubject(per[0])(value.Value); err != nil {
				d.reject(value, "overrides "+quote(value.Value)+": ", err)
			} else if first[v] {
				d.fail(value, "remove one", "this subject has an override already")
			} else {
				first[v] = true
				d.override(limits, []budget.Identity{{Name: per[0], Value: v}}, value, n)
			}
		})
		return
	}
	seenSubjects := make(map[string]bool)
	for _, item := range d.items(key, n, maxOverrides, false) {
		values := make([]string, len(per))
		f := fields{"limit": func(_, _ *node) {}} // below
		for i, name := range per {
			f[name] = value(d, &values[i], parseSubject(name))
		}
		seen := d.object("an override", item, f, nil)
		subject := make([]budget.Identity, len(per))
		complete := item.Kind == yaml.MappingNode
		for i, name := range per {
			d.require(item, seen, "an override", name, name+": …")
			subject[i] = budget.Identity{Name: name, Value: values[i]}
			complete = complete && values[i] != ""
		}
		d.require(item, seen, "an override", "limit", "limit: 5M tokens")
		if !complete || seen["limit"] == nil {
			continue
		}
		id := strings.Join(values, "\x00")
		if seenSubjects[id] {
			d.fail(item, "remove one", "this subject has an override already")
			continue
		}
		seenSubjects[id] = true
		at := slices.Index(item.Content, seen["limit"])
		d.override(limits, subject, seen["limit"], item.Content[at+1])
	}
}

// override decodes the limit of one subject.
func (d *decoder) override(limits []budget.Limit, subject []budget.Identity, key, n *node) {
	var amounts []amount
	d.limit(&amounts)(key, n)
	for _, a := range amounts {
		i := slices.IndexFunc(limits, func(l budget.Limit) bool { return l.Unit == a.unit })
		switch {
		case a.n == 0: // reported
		case i < 0:
			d.fail(n, "write it in the same unit as the limit", "the override is in %s, and the budget counts %s", spell(a.unit), units(limits))
		default:
			if a.n == limits[i].Amount {
				d.warn(n, "remove it", "the override of %s has no effect, because it equals the limit", subjectText(subject))
			}
			limits[i].Overrides = append(limits[i].Overrides, budget.Override{Subject: subject, Amount: a.n})
		}
	}
}

func spell(u budget.Unit) string { return strings.ReplaceAll(u.String(), "_", " ") }

func units(limits []budget.Limit) string {
	names := make([]string, len(limits))
	for i, l := range limits {
		names[i] = spell(l.Unit)
	}
	return strings.Join(names, " and ")
}

func subjectText(subject []budget.Identity) string {
	parts := make([]string, len(subject))
	for i, id := range subject {
		parts[i] = id.Name + " " + quote(id.Value)
	}
	return strings.Join(parts, ", ")
}

// maxSubjectValue is the longest value of an identity or a model, in bytes; requests
// with longer ones are refused.
const maxSubjectValue = 256

// parseSubject accepts values of one name in per. Limits see models in lower case.
func parseSubject(name string) func(string) (string, error) {
	if name != budget.ByModel {
		return parseSubjectValue
	}
	return func(s string) (string, error) {
		s, err := parseSubjectValue(s)
		return strings.ToLower(s), err
	}
}

func parseSubjectValue(s string) (string, error) {
	switch {
	case s == "":
		return "", mistake("requests without a value have "+budget.None, "it is empty")
	case len(s) > maxSubjectValue:
		return "", mistake("", "it is longer than %d bytes", maxSubjectValue)
	case strings.Contains(s, "*"):
		return "", mistake("name each one, or use match in a budget of its own", "an override is for one value, and * is no glob here")
	}
	return s, nil
}
