package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
)

// Whether some traffic is limited by nothing can be told exactly. A * in a text stands for a
// letter that no glob of the file has. A glob that matches such a text matches it
// with anything in the place of the *, so if no single budget matches a request of such
// texts, no budget matches one with a new word there; and if one does, it matches all such
// requests. Requests whose every property is * are those of strangers: the
// budgets that concern them concern everybody.
//
// Nothing is said where properties hang together, as when a header is also the source
// of an identity, and it cannot be seen that such a request exists.

// property is what a condition looks at.
type property struct {
	of   budget.Property
	name string
}

// sample is a request.
type sample struct {
	texts  map[property]string // what it has; of all that is not here it has *
	bare   bool                // but it has no headers besides
	nobody []string            // nor these identities
}

// metered are the ends of paths whose requests are metered; see dialect.ForPath.
var metered = []string{"/chat/completions", "/completions", "/embeddings", "/responses", "/v1/messages"}

// concernedBy reports whether a limit concerns the request.
func (s *sample) concernedBy(l budget.Limit) bool {
	return !slices.ContainsFunc(l.Match, func(m budget.Condition) bool { return !s.fulfils(m) })
}

func (s *sample) fulfils(m budget.Condition) bool {
	text, ok := s.texts[property{m.Property, m.Name}]
	switch {
	case ok:
		return coveredBy(text, m.Any)
	case m.Property == budget.OfHeader && s.bare:
		return false
	case m.Property == budget.OfPath:
		return !slices.ContainsFunc(metered, func(end string) bool {
			return !coveredBy(end, m.Any) || !coveredBy("/*"+end, m.Any)
		})
	case m.Property == budget.OfIdentity && slices.Contains(s.nobody, m.Name):
		return coveredBy(budget.None, m.Any)
	}
	return coveredBy("*", m.Any)
}

// strangers returns requests of those whom no budget knows: with all headers that
// conditions name, and without them.
func strangers(c *Config) []sample {
	headers := make(map[string]bool)
	used := make(map[string]bool) // identities, by limits that refuse who has none
	for _, l := range c.Budgets {
		for _, m := range l.Match {
			headers[m.Name] = headers[m.Name] || m.Property == budget.OfHeader
			used[m.Name] = used[m.Name] || m.Property == budget.OfIdentity && enforced(l)
		}
		for _, name := range l.Per {
			used[name] = used[name] || enforced(l)
		}
	}
	bare := sample{bare: true}
	for _, id := range c.Identities {
		if !slices.ContainsFunc(id.Sources, func(s Source) bool { return s.Header == "" || !headers[s.Header] }) {
			if c.Missing == MissingRefuse && used[id.Name] {
				return []sample{{}} // it is answered with 401
			}
			bare.nobody = append(bare.nobody, id.Name)
		}
	}
	return []sample{{}, bare}
}

// unconcerned returns the first of the requests that no limit concerns; nil if there is none.
func unconcerned(samples []sample, limits []budget.Limit) *sample {
	for i := range samples {
		if !slices.ContainsFunc(limits, samples[i].concernedBy) {
			return &samples[i]
		}
	}
	return nil
}

// enforced reports whether a limit does more than watch.
func enforced(l budget.Limit) bool { return l.Action != budget.ActionShadow }

func isCounted(l budget.Limit) bool { return !l.PerRequest }

func countsTokens(l budget.Limit) bool { return !l.PerRequest && l.Unit < budget.Requests }

// maxSamples bounds how many requests are tried in the search for tokens that nobody
// counts; it goes no further then.
const maxSamples = 1000

// warnUnlimited tells of requests that have no limit, or none that adds up, or none in
// tokens. A limit of the prompt or of the answer alone is taken for meant.
func (d *decoder) warnUnlimited(c *Config, names []*node) {
	limits := only(c.Budgets, enforced)
	if len(names) == 0 || len(limits) == 0 { // nothing at all, or a trial
		return
	}
	last := names[len(names)-1]
	why := "every budget has a match"
	if len(limits) < len(c.Budgets) {
		why += ", or only watches"
	}
	all := strangers(c)
	counted := only(limits, isCounted)
	if s := unconcerned(all, limits); s != nil {
		d.warn(last, "add a budget without match for the rest, unless that is meant",
			"%s are not limited, because %s", s.outside(limits, "match no budget"), why)
	} else if s := unconcerned(all, counted); s != nil {
		d.warn(last, "add a budget with a period, unless that is meant",
			"%s are limited one by one only, and neither their number nor their sum is", s.outside(counted, "match no budget with a period"))
	}
	tokens := only(limits, countsTokens)
	each := only(limits, func(l budget.Limit) bool { return l.PerRequest })
	apart := independent(c)
	left := maxSamples
	for i, l := range c.Budgets {
		if !enforced(l) || !isCounted(l) || countsTokens(l) {
			continue
		}
		samples := only(all, func(s sample) bool { return s.concernedBy(l) })
		if len(samples) == 0 && apart {
			samples = samplesOf(c, l)
		}
		if left -= len(samples); left < 0 {
			return
		}
		if s := unconcerned(samples, tokens); s != nil {
			how := "are not limited"
			if slices.ContainsFunc(each, s.concernedBy) {
				how = "are limited for each request only"
			}
			d.warn(names[i], "add a limit in tokens, unless that is meant",
				"the tokens of %s %s, because budget %s counts %s", s.outside(tokens, "match no budget in tokens"), how, quote(l.Name), l.Unit)
			return // one is enough
		}
	}
}

// independent reports whether a request can have any value of an identity together with
// any headers that conditions name: no identity is taken from such a header first.
func independent(c *Config) bool {
	return !slices.ContainsFunc(c.Identities, func(id Identity) bool {
		first := id.Sources[0].Header
		return first != "" && slices.ContainsFunc(c.Budgets, func(l budget.Limit) bool {
			return slices.ContainsFunc(l.Match, func(m budget.Condition) bool { return m.Property == budget.OfHeader && m.Name == first })
		})
	})
}

// samplesOf returns requests that l concerns, one for each choice of its globs; none if
// they are too many.
func samplesOf(c *Config, l budget.Limit) []sample {
	samples := []sample{{bare: true}}
	for _, m := range l.Match {
		var longer []sample
		for _, s := range samples {
			globs := m.Any
			if m.Property == budget.OfPath {
				globs = meteredPaths(m.Any)
			}
			for _, g := range globs {
				if g == budget.None && c.Missing == MissingRefuse {
					continue // there are no such requests
				}
				if len(longer) == maxSamples {
					return nil
				}
				texts := map[property]string{{m.Property, m.Name}: g}
				maps.Copy(texts, s.texts)
				longer = append(longer, sample{texts: texts, bare: true})
			}
		}
		samples = longer
	}
	return only(samples, func(s sample) bool { return s.concernedBy(l) })
}

// meteredPaths are the paths of metered requests that globs match, as far as it is plain
// that there are some.
func meteredPaths(globs []string) (paths []string) {
	for _, g := range globs {
		isMetered := slices.ContainsFunc(metered, func(end string) bool { return strings.HasSuffix(g, end) })
		for _, end := range metered {
			path := g
			switch {
			case isMetered && end != metered[0]:
				continue // it stands for itself, once
			case !isMetered && !strings.HasSuffix(g, "*"):
				continue
			case !isMetered:
				path += end
			}
			if path[0] == '*' {
				path = "/" + path
			}
			paths = append(paths, path)
		}
	}
	return paths
}

// outside describes the requests that are like s and which none of the limits concerns;
// others does so if it is more than a few words.
func (s *sample) outside(limits []budget.Limit, others string) string {
	if len(s.texts) > 0 {
		var parts []string
		for p, text := range s.texts {
			parts = append(parts, conditionName(budget.Condition{Property: p.of, Name: p.name})+" "+quote(text))
		}
		slices.Sort(parts)
		return "requests with " + strings.Join(parts, ", ")
	}
	if len(limits) == 0 {
		return "all requests"
	}
	var open []budget.Condition // which s does not fulfil
	for _, l := range limits {
		for _, m := range l.Match {
			if !s.fulfils(m) {
				open = append(open, m)
			}
		}
	}
	m := open[0] // of limits that do not concern s each has one
	if slices.ContainsFunc(open, func(o budget.Condition) bool { return o.Property != m.Property || o.Name != m.Name }) {
		return "requests that " + others
	}
	switch {
	case m.Property == budget.OfHeader && s.bare:
		return "requests without the header " + m.Name
	case slices.Contains(s.nobody, m.Name):
		return "requests without the identity " + m.Name
	}
	var globs []string
	for _, o := range open {
		for _, g := range o.Any {
			if !slices.Contains(globs, g) {
				globs = append(globs, g)
			}
		}
	}
	return "requests with another " + conditionName(m) + " than " + globList(globs)
}

func only[T any](of []T, f func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(of), func(v T) bool { return !f(v) })
}
