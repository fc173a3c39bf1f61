package exchange

import (
	"cmp"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/glob"
)

// What is decided on is what the upstream will see. So a request is metered if it is a
// POST to the exact path of an API, with a body in JSON; it passes if it cannot have a
// model at work: without a body, or to a path that the configuration sets free. What an
// upstream might take for something else than this server is refused. docs/paths.md has
// the cases, and a test reads them there.

// asked is what a request's headers say of where it goes.
type asked struct {
	method, path string // the path without its query
	route        dialect.Route
	body         bool   // it has a body, or may have one
	upgrade      string // the protocol that the connection is to change to
	override     string // a header that asks for another method or path
}

// overrides are headers by which some frameworks take another method than the request's.
var overrides = []string{"x-http-method-override", "x-http-method", "x-method-override"}

// rewrites are headers by which some frameworks take another path than the request's, and
// by which gateways tell of the one that they had before.
var rewrites = []string{"x-original-url", "x-rewrite-url"}

func askedFor(h headers, path string, body bool) asked {
	q := asked{method: h.get(":method"), path: path, route: dialect.ForPath(path), body: body, upgrade: h.get(":protocol")}
	for protocol := range h.all("upgrade") {
		// No upstream is asked for HTTP/2 in this way by Envoy; some clients offer it always.
		if !strings.EqualFold(protocol, "h2c") {
			q.upgrade = cmp.Or(q.upgrade, protocol)
		}
	}
	if q.method == "CONNECT" {
		q.upgrade = cmp.Or(q.upgrade, q.method)
	}
	for _, name := range overrides {
		for method := range h.all(name) {
			if method != q.method {
				q.override = name
			}
		}
	}
	for _, name := range rewrites {
		for path := range h.all(name) {
			if r := dialect.ForPath(pathOnly(path)); r.API != nil && r.API != q.route.API {
				q.override = name
			}
		}
	}
	return q
}

// verdict is what a request's headers alone decide.
type verdict uint8

const (
	verdictMeter    verdict = iota // a known API: read the body
	verdictPass                    // free
	verdictPassBare                // free, if it has no body
	verdictDeny                    // configured to be refused
	verdictUnknown                 // of no known API, with a body
	verdictAlmost                  // a known API's path, but for the method or the spelling, with a body
	verdictUpgrade                 // another protocol, in which nothing could be read
	verdictOverride                // another method or path in the upstream's eyes
)

// judge decides on a request by its headers.
func (p *Policy) judge(q asked) verdict {
	if p.denies(q.path) {
		return verdictDeny
	}
	// A pattern that sets a path free must mean the path which the upstream will
	// see: what an upstream may resolve to another path is not taken for it.
	if plainPath(q.path) && matchAny(p.Pass, q.path) {
		return verdictPass
	}
	unknown := q.route.API == nil && (!q.route.Free || !q.route.Exact)
	switch {
	case q.override != "":
		return verdictOverride
	case q.upgrade != "" && unknown && p.PassUnknown && q.method != "CONNECT":
		return verdictPass
	case q.upgrade != "":
		return verdictUpgrade
	case q.route.API != nil && q.route.Exact && q.method == "POST":
		return verdictMeter
	case !q.body, unknown && p.PassUnknown:
		return verdictPass
	case q.method == "GET", q.method == "HEAD", q.method == "OPTIONS", q.method == "DELETE":
		return verdictPassBare
	case q.route.API != nil:
		return verdictAlmost
	case q.route.Free && q.route.Exact && q.method == "POST" && plainPath(q.path):
		return verdictPass
	}
	return verdictUnknown
}

// denies says that a pattern of Deny fits the path, or what a lenient upstream may take it
// for, which is in lower case.
func (p *Policy) denies(path string) bool {
	if len(p.Deny) == 0 {
		return false
	}
	return matchAny(p.Deny, path) || slices.ContainsFunc(dialect.Readings(path), func(reading string) bool {
		return slices.ContainsFunc(p.Deny, func(pattern string) bool { return glob.Match(strings.ToLower(pattern), reading) })
	})
}

// bareMessage refuses a body where none belongs.
const bareMessage = "a GET, HEAD, OPTIONS or DELETE passes unmetered, and must not have a body; to let it pass with one, add its path to paths.pass"

// explain says why a request is refused, and what would let it pass.
func (v verdict) explain(q asked) string {
	what := clip(q.method, 20) + " " + clip(q.path, 200)
	switch v {
	case verdictDeny:
		return "this path is not allowed here"
	case verdictAlmost:
		return what + " is almost a path that is metered; only POST to its exact spelling is"
	case verdictUpgrade:
		return fmt.Sprintf("%s asks for %s, which cannot be metered; to let it pass unmetered, add it to paths.pass", what, clip(q.upgrade, 40))
	case verdictOverride:
		return fmt.Sprintf("%s has the header %s, by which the upstream could take another method or path; leave it out", what, q.override)
	}
	return what + " is of no API that tokenbudget can meter; to let it pass unmetered, add it to paths.pass or set unknown_api: pass"
}

// unreadable says why a body with such headers cannot be read as the upstream will; "" if
// it can. The body of a form can be JSON as well, with other values; and so can one in
// another character set.
func unreadable(h headers) string {
	for t := range h.all("content-type") {
		if t == "" || t == "application/json" {
			continue
		}
		kind, parameters, err := mime.ParseMediaType(t)
		if err != nil || kind != "application/json" && kind != "text/json" && !strings.HasSuffix(kind, "+json") {
			return fmt.Sprintf("a request body of content-type %q cannot be metered; send application/json", clip(t, 40))
		}
		if c := parameters["charset"]; c != "" && !strings.EqualFold(c, "utf-8") && !strings.EqualFold(c, "utf8") {
			return fmt.Sprintf("a request body with charset %q cannot be metered; send UTF-8", clip(c, 40))
		}
	}
	return ""
}
