package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/internal/apikeys"
)

// APIKeys say whose API key is whose, by hashes of the keys.
type APIKeys struct {
	Secret   string       `json:"-"` // of the hashes; "" if there are no API keys
	Headers  []string     // that hold a key, in lower case
	Subjects []KeySubject `json:"-"` // in the order of the file
}

// KeySubject is what identities are of a request that shows a key.
type KeySubject struct {
	Hash   apikeys.Hash
	Values map[string]string // by the names that sources have as APIKey
}

// keyHeaderDefaults hold the keys of model APIs.
var keyHeaderDefaults = []string{"authorization", "x-api-key", "api-key"}

const (
	maxKeySubjects = 10_000
	maxKeyHeaders  = 8
	maxValue       = 256 // of an identity, in bytes
	minKeySecret   = 16  // bytes
	goodKeySecret  = 32
)

// apiKeys decodes the section. What of it needs the identities is checked by checkAPIKeys.
func (d *decoder) apiKeys(c *Config, names map[string]*node) setter {
	return func(key, n *node) {
		k := &c.APIKeys
		k.Headers = nil
		seen := d.object(quote(key.Value), n, fields{
			"secret":   secret(d, &k.Secret, parseKeySecret),
			"header":   list(d, &k.Headers, maxKeyHeaders, true, parseKeyHeader),
			"subjects": d.keySubjects(k, names),
		}, nil)
		d.require(n, seen, quote(key.Value), "secret", "secret: ${TOKENBUDGET_API_KEY_SECRET}")
		if len(k.Headers) == 0 {
			k.Headers = keyHeaderDefaults
		}
	}
}

// keySubjects decodes the subjects. No message shows what could be a key in the wrong place.
func (d *decoder) keySubjects(k *APIKeys, names map[string]*node) setter {
	return func(key, n *node) {
		first := make(map[apikeys.Hash]int)
		for _, item := range d.items(key, n, maxKeySubjects, false) {
			s := KeySubject{Values: make(map[string]string)}
			var at *node
			d.mapping("a subject", item, func(key, n *node) {
				if key.Value == "hash" {
					at = key
					if !scalar(d, key, n, "(hidden)", &s.Hash, parseKeyHash) {
						return
					}
					if line, ok := first[s.Hash]; ok {
						d.fail(n, "remove one", "this hash has a subject already, in line %d", line)
						return
					}
					first[s.Hash] = n.Line
					return
				}
				if _, err := parseName(key.Value); err != nil || slices.Contains(reserved, key.Value) || key.Value == missing {
					d.fail(key, "such as team: search; a hash stands behind the key hash", "this is not the name of an identity")
					return
				}
				var v string
				if scalar(d, key, n, "(hidden)", &v, parseIdentityValue) {
					s.Values[key.Value] = v
				}
				if len(s.Values) > maxIdentities {
					d.fail(key, "remove some", "a subject has more than %d values", maxIdentities)
				}
				names[key.Value] = key
			})
			switch {
			case item.Kind != yaml.MappingNode:
				continue // reported
			case at == nil:
				d.fail(item, "tokenbudget hash-key prints one", `a subject needs the key "hash"`)
			case len(item.Content) == 2:
				d.fail(item, "such as team: search", "a subject needs a value for an identity besides its hash")
			}
			k.Subjects = append(k.Subjects, s)
		}
	}
}

// checkAPIKeys holds the section against the identities that read it. names are the
// values' that subjects have.
func (d *decoder) checkAPIKeys(c *Config, section *node, ids *identities, names map[string]*node) {
	for _, name := range slices.Sorted(maps.Keys(ids.keys)) {
		at := ids.keys[name]
		switch {
		case section == nil:
			d.fail(at, "add api_keys: {secret: \"${TOKENBUDGET_API_KEY_SECRET}\", subjects: […]}", "an identity comes from API keys, and there is no section api_keys")
			return
		case len(c.APIKeys.Subjects) > 0 && names[name] == nil:
			d.fail(at, cmp.Or(didYouMean(name, slices.Collect(maps.Keys(names))), "add it to a subject"), "no subject in api_keys has a value for %s", quote(name))
		}
	}
	if section == nil || len(d.errs) > 0 {
		return
	}
	switch {
	case len(c.APIKeys.Subjects) == 0:
		d.warn(section, "tokenbudget hash-key -config FILE reads a key and prints its subject's line", "there are no subjects, so that every API key is unknown")
	case len(ids.keys) == 0:
		d.warn(section, "such as identity: {team: [{api_key: team}]}", "no identity comes from API keys")
	default:
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if ids.keys[name] == nil {
				d.warn(names[name], "add {api_key: "+name+"} to the sources of an identity, or remove it", "no identity reads %s of an API key", quote(name))
			}
		}
	}
	n := d.at[&c.APIKeys.Secret]
	if n == nil {
		return
	}
	if !strings.Contains(n.Value, "${") {
		d.warn(n, "put it into an environment variable: secret: ${TOKENBUDGET_API_KEY_SECRET}", "the secret stands beside the hashes: who reads this file can try keys")
	}
	if len(c.APIKeys.Secret) < goodKeySecret || distinct(c.APIKeys.Secret) < 8 {
		d.warn(n, "openssl rand -hex 32 makes one; all hashes are to be made again then", "the secret is weak: it has less than %d bytes, or hardly any different ones", goodKeySecret)
	}
}

// distinct is how many different bytes s has.
func distinct(s string) int {
	seen := make(map[byte]bool)
	for i := range len(s) {
		seen[s[i]] = true
	}
	return len(seen)
}

// parseKeySecret accepts what hashes are made with.
func parseKeySecret(s string) (string, error) {
	switch {
	case len(s) < minKeySecret:
		return "", mistake("openssl rand -hex 32 makes one", "it is shorter than %d bytes", minKeySecret)
	case len(s) > 1024:
		return "", mistake("", "it is longer than 1024 bytes")
	case hasControl(s) || strings.TrimSpace(s) != s:
		return "", mistake("a line break at the end is the usual cause", "it has control characters, or space at its ends")
	}
	return s, nil
}

// parseKeyHash accepts hashes.
func parseKeyHash(s string) (apikeys.Hash, error) {
	h, err := apikeys.ParseHash(s)
	if err != nil {
		return h, mistake("tokenbudget hash-key prints one; the key itself must not stand here", "it is %s", err)
	}
	return h, nil
}

// parseKeyHeader returns the name of a header that may hold a key, in lower case.
func parseKeyHeader(s string) (string, error) {
	lower, err := parseHeaderName(s)
	if err == nil && (framingHeaders[lower] || lower == "cookie") {
		return "", mistake("such as authorization or x-api-key", "this header holds no key")
	}
	return lower, err
}

// parseIdentityValue accepts a value of an identity.
func parseIdentityValue(s string) (string, error) {
	switch {
	case s == "":
		return "", mistake("remove the name, and the next source is asked", "it is empty")
	case len(s) > maxValue:
		return "", mistake("", "it is longer than %d bytes", maxValue)
	case hasControl(s):
		return "", mistake("", "it has control characters")
	}
	return s, nil
}
