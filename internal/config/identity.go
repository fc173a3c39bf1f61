package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/budget"
)

// reserved names mean other things than identities where budgets use them.
var reserved = []string{"request", "model", "path", "limit"}

// missing is the key among the names which is not one.
const missing = "missing"

// identities is what the checks of other sections need to know about this one.
type identities struct {
	at      map[string]*node // name → its key, also of identities with mistakes
	headers map[string]headerUse
	keys    map[string]*node // name of a value of API keys → the first source that reads it
}

// headerUse is the first use of a header as a source.
type headerUse struct {
	at         *node
	setByEnvoy bool
}

// identities decodes the names, their sources, and the key missing among them.
func (d *decoder) identities(c *Config, ids *identities) setter {
	return func(key, n *node) {
		d.mapping(quote(key.Value), n, func(key, n *node) {
			if key.Value == missing {
				value(d, &c.Missing, oneOf(MissingShared, MissingRefuse))(key, n)
				return
			}
			ids.at[key.Value] = key
			if len(ids.at) > maxIdentities {
				d.fail(key, "remove some", "there are more than %d identities", maxIdentities)
				return
			}
			if slices.Contains(reserved, key.Value) {
				d.fail(key, "choose another name", "%s has another meaning and cannot be an identity", quote(key.Value))
			} else if _, err := parseName(key.Value); err != nil {
				d.reject(key, "identity "+quote(key.Value)+": ", err)
			} else if strings.Contains(key.Value, ".") {
				// Envoy's access log finds an identity by its name, and a dot there
				// leads into an object.
				d.fail(key, "use - or _ instead", "identity %s: its name cannot have dots", quote(key.Value))
			}
			c.Identities = append(c.Identities, Identity{key.Value, d.sources(key, n, ids)})
		})
	}
}

// sources decodes the sources of one identity.
func (d *decoder) sources(key, n *node, ids *identities) []Source {
	var sources []Source
	for _, item := range d.items(key, n, maxSources, false) {
		var s Source
		var by string
		seen := d.object("a source", item, fields{
			"jwt":     value(d, &s.JWT, parseClaim),
			"header":  value(d, &s.Header, parseHeader),
			"api_key": value(d, &s.APIKey, parseName),
			"set_by":  value(d, &by, oneOf("envoy")),
		}, nil)
		s.SetByEnvoy = by != ""
		jwt, header, apiKey := seen["jwt"], seen["header"], seen["api_key"]
		switch {
		case item.Kind != yaml.MappingNode:
			continue // reported
		case jwt != nil && header != nil:
			d.fail(header, "write two sources; the first that has a value wins", "a source is either jwt or header")
		case apiKey != nil && (jwt != nil || header != nil):
			d.fail(apiKey, "write two sources; the first that has a value wins", "a source is one of jwt, header and api_key")
		case jwt == nil && header == nil && apiKey == nil:
			d.fail(item, "such as {jwt: sub} or {header: x-user}", "a source needs jwt, header or api_key")
		case header == nil && seen["set_by"] != nil:
			d.fail(seen["set_by"], "remove it", "set_by concerns headers; a claim always comes from Envoy, and a key proves itself")
		case s.JWT == "" && s.Header == "" && s.APIKey == "":
			continue // reported
		case slices.ContainsFunc(sources, func(t Source) bool { return t.JWT == s.JWT && t.Header == s.Header && t.APIKey == s.APIKey }):
			d.fail(item, "remove one", "this source is listed twice")
			continue
		}
		if s.APIKey != "" && ids.keys[s.APIKey] == nil {
			ids.keys[s.APIKey] = apiKey
		}
		if s.Header != "" {
			if use, ok := ids.headers[s.Header]; !ok {
				ids.headers[s.Header] = headerUse{item, s.SetByEnvoy}
			} else if use.setByEnvoy != s.SetByEnvoy {
				with, without := item.Line, use.at.Line
				if use.setByEnvoy {
					with, without = without, with
				}
				d.fail(item, "either Envoy sets it or a client may", "header %s has set_by: envoy in line %d, but not in line %d",
					quote(s.Header), with, without)
			}
		}
		sources = append(sources, s)
	}
	return sources
}

// parse accepts what a budget can be counted per.
func (ids *identities) parse(s string) (string, error) {
	_, err := parseName(s)
	switch {
	case err != nil:
		return "", err
	case s == perRequest || s == budget.ByModel || s == budget.ByPath:
		return s, nil
	case slices.Contains(reserved, s) || s == missing:
		return "", mistake("choose another name", "it cannot be the name of an identity")
	case ids.at[s] == nil:
		return "", mistake(cmp.Or(didYouMean(s, slices.Collect(maps.Keys(ids.at))), "declare it, such as identity: {"+s+": [{jwt: sub}]}"),
			"no identity has this name")
	}
	return s, nil
}
