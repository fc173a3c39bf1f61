package exchange

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/apikeys"
)

// maxIdentity bounds an identity's value, in bytes.
const maxIdentity = 256

// identities are what is read of a request's headers to know who asks.
type identities struct {
	values  []budget.Identity
	matched []budget.Identity // headers that limits match
	missing string            // the first identity that is required and has no value
	bad     string            // why the request is to be refused with 400; "" if it is not
}

// identify reads the identities of a request, and the headers that limits match. What is bad is
// cut short or taken for missing, for who cannot refuse it.
func (p *Policy) identify(h headers, metadata *corev3.Metadata) (ids identities) {
	ids.values = make([]budget.Identity, 0, len(p.Identities))
	var key *apikeys.Subject
	asked := false // for the key
	for _, id := range p.Identities {
		value := ""
		for _, s := range id.Sources {
			switch {
			case s.Header != "":
				value = ids.only(h, s.Header)
			case s.APIKey != "":
				if !asked {
					key, asked = ids.apiKey(p, h), true
				}
				if key != nil {
					value = (*key)[s.APIKey]
				}
			default:
				value = claim(metadata, s.JWT)
			}
			if value != "" {
				break
			}
		}
		// Header values are bytes; what they come to, in metadata and the log, is text.
		value = strings.ToValidUTF8(value, "\uFFFD")
		switch {
		case len(value) > maxIdentity:
			ids.refuse("the identity %q is longer than %d bytes", id.Name, maxIdentity)
			value = strings.ToValidUTF8(value[:maxIdentity], "")
		case value == "":
			if id.Required && ids.missing == "" {
				ids.missing = id.Name
			}
			value = budget.None
		}
		ids.values = append(ids.values, budget.Identity{Name: id.Name, Value: value})
	}
	ids.match(p, h)
	return ids
}

// refuse notes why the request is bad, if nothing is noted yet.
func (ids *identities) refuse(format string, args ...any) {
	if ids.bad == "" {
		ids.bad = fmt.Sprintf(format, args...)
	}
}

// only returns the value of a header. Where it comes several times, who reads it may take the
// first or the last, and a client can send its own before one that a proxy appends. So different
// values are none, and the request is refused. Empty ones say nothing.
func (ids *identities) only(h headers, name string) (value string) {
	value, same := h.only(name)
	if !same {
		ids.refuse("the header %q, which budgets here depend on, comes several times with different values", name)
	}
	return value
}

// match reads the headers that limits match. One that comes with different values, or is longer
// than maxIdentity, is bad; a limit that only watches takes it for missing.
func (ids *identities) match(p *Policy, h headers) {
	for _, name := range p.MatchHeaders {
		switch v := ids.only(h, name); {
		case len(v) > maxIdentity:
			ids.refuse("the header %q, which budgets here depend on, is longer than %d bytes", name, maxIdentity)
		case v != "":
			ids.matched = append(ids.matched, budget.Identity{Name: name, Value: v})
		}
	}
	for _, name := range p.WatchHeaders {
		if v, _ := h.only(name); v != "" && len(v) <= maxIdentity {
			ids.matched = append(ids.matched, budget.Identity{Name: name, Value: v})
		}
	}
}

// only returns the value that a header has, however often it comes; "" and false if it has
// different ones. Empty values do not count.
func (h headers) only(name string) (value string, same bool) {
	for v := range h.all(name) {
		switch {
		case v == "" || v == value:
		case value == "":
			value = v
		default:
			return "", false
		}
	}
	return value, true
}
