package exchange

import (
	"bytes"
	"maps"
	"slices"

	"github.com/tokenbudget/tokenbudget/internal/apikeys"
)

// maxKeys bounds how many different keys of a request are looked up.
const maxKeys = 4

// apiKey returns whose API key the request shows; nil if nobody's.
//
// Each of the headers may hold a key, several times, and in one value with commas between them,
// as proxies join what comes twice. Which of them the upstream takes is not known here, so that
// all are looked up: what is unknown counts for nothing, lest a client hide its key behind
// another word, and two that are known must be the same subject's.
func (ids *identities) apiKey(p *Policy, h headers) (found *apikeys.Subject) {
	var buf [maxKeys][]byte
	seen := buf[:0]
	for _, v := range h {
		name := v.GetKey()
		if !slices.Contains(p.KeyHeaders, name) {
			continue
		}
		for rest, more := rawValue(v), true; more; {
			var key []byte
			key, rest, more = bytes.Cut(rest, []byte{','})
			key = bytes.TrimSpace(key)
			if name == "authorization" || name == "proxy-authorization" {
				key = bearer(key)
			}
			if len(key) == 0 || slices.ContainsFunc(seen, func(k []byte) bool { return bytes.Equal(k, key) }) {
				continue
			}
			if len(seen) == maxKeys {
				ids.refuse("the request shows more than %d API keys; send one", maxKeys)
				return nil
			}
			seen = append(seen, key)
			s := p.Keys.Find(key)
			switch {
			case s == nil:
			case found == nil:
				found = s
			case !maps.Equal(*found, *s):
				ids.refuse("the request shows API keys of different subjects; send one")
				return nil
			}
		}
	}
	return found
}

// bearer is the token of an authorization with the scheme Bearer (RFC 6750, section 2.1), in
// any letter case; nothing of others.
func bearer(v []byte) []byte {
	const scheme = "bearer"
	if len(v) <= len(scheme) || v[len(scheme)] != ' ' && v[len(scheme)] != '\t' || !bytes.EqualFold(v[:len(scheme)], []byte(scheme)) {
		return nil
	}
	return bytes.TrimSpace(v[len(scheme):])
}
