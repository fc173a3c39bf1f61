package budget

import (
	"slices"
	"testing"
)

// heldOn returns the names of the limits which a request is held on.
func heldOn(t *testing.T, l *Ledger, q Request) (names []string) {
	t.Helper()
	r := reserve(t, l, q)
	defer r.Settle(Amount{})
	for _, b := range balances(t, l) {
		if b.Held > 0 {
			names = append(names, b.Limit)
		}
	}
	return names
}

func TestMatch(t *testing.T) {
	limit := func(name string, cs ...Condition) Limit {
		return Limit{Name: name, Amount: 1 << 40, Period: Day, Match: cs}
	}
	is := func(p Property, name string, globs ...string) Condition { return Condition{p, name, globs} }
	l := open(t, Options{Limits: []Limit{
		limit("all"),
		limit("search", is(OfIdentity, "team", "search")),
		limit("nobody", is(OfIdentity, "team", None)),
		limit("gpt-4", is(OfModel, "", "gpt-4*")),
		limit("search on o1 or o3", is(OfIdentity, "team", "search"), is(OfModel, "", "o1", "o3")),
		limit("v1", is(OfPath, "", "/v1/*")),
		limit("not live", is(OfHeader, "x-env", "prod-*", "staging")),
		limit("any env", is(OfHeader, "x-env", "*")),
		limit("any team", is(OfIdentity, "team", "*")),
	}})
	with := func(team, model, path, env string) Request {
		q := ask(1, 1)
		q.Model, q.Path = model, path
		if team != "" {
			q.Identities = []Identity{{"user", "search"}, {"team", team}}
		}
		if env != "" {
			q.Headers = []Identity{{"x-other", "staging"}, {"x-env", env}}
		}
		return q
	}
	for _, c := range []struct {
		name string
		q    Request
		want []string
	}{
		{"nothing", with("", "", "", ""), []string{"all", "nobody", "any team"}},
		{"a team", with("search", "x", "/x", ""), []string{"all", "search", "any team"}},
		{"part of a name", with("searching", "x", "/x", ""), []string{"all", "any team"}},
		{"letter case", with("Search", "GPT-4", "/V1/x", "STAGING"), []string{"all", "any env", "any team"}},
		{"a model", with("a", "gpt-4o-mini", "/x", ""), []string{"all", "gpt-4", "any team"}},
		{"both conditions", with("search", "o3", "/x", ""), []string{"all", "search", "search on o1 or o3", "any team"}},
		{"one of two conditions", with("a", "o3", "/x", ""), []string{"all", "any team"}},
		{"a path", with("a", "x", "/v1/chat/completions", ""), []string{"all", "v1", "any team"}},
		{"a header", with("a", "x", "/x", "staging"), []string{"all", "not live", "any env", "any team"}},
		{"a header's glob", with("a", "x", "/x", "prod-eu"), []string{"all", "not live", "any env", "any team"}},
		{"another header value", with("a", "x", "/x", "prod"), []string{"all", "any env", "any team"}},
	} {
		if got := heldOn(t, l, c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: held on %q, want %q", c.name, got, c.want)
		}
	}
	none := open(t, Options{Limits: []Limit{limit("o1", is(OfModel, "", "o1"))}})
	r := reserve(t, none, ask(5, 5))
	if d := r.Strictest(); d.Limit != "" || !d.Allowed {
		t.Errorf("no limit matches: %+v", d)
	}
	if _, ok := r.Spend(1 << 50); !ok {
		t.Error("cut, though no limit matches")
	}
	if !r.Settle(Amount{5, 5}) || len(balances(t, none)) != 0 {
		t.Errorf("balances %+v", balances(t, none))
	}
}

// A limit that does not concern the request cannot refuse it, and its use is not the
// request's to raise.
func TestMatchRefuses(t *testing.T) {
	l := open(t, Options{Limits: []Limit{
		{Name: "wide", Amount: 1000, Period: Day},
		{Name: "o1", Amount: 10, Period: Day, Match: []Condition{{Property: OfModel, Any: []string{"o1*"}}}},
	}})
	q := ask(20, 20)
	q.Model = "o1-mini"
	if d := refused(t, l, q); d.Limit != "o1" {
		t.Errorf("refused by %+v", d)
	}
	q.Model = "gpt-4o"
	if d := reserve(t, l, q).Strictest(); d.Limit != "wide" || d.Remaining != 960 {
		t.Errorf("granted by %+v", d)
	}
}

// TestPerModelAndPath counts by what the request is instead of who asks.
func TestPerModelAndPath(t *testing.T) {
	l := open(t, Options{Limits: []Limit{{Name: "x", Unit: Requests, Amount: 1, Period: Day, Per: []string{"team", ByModel, ByPath}}}})
	q := ask(1, 1, "team", "a", "model", "an identity cannot have this name")
	q.Model, q.Path = "gpt-4o", "/v1/chat/completions"
	reserve(t, l, q).SettleHold()
	d := refused(t, l, q)
	if want := []Identity{{"team", "a"}, {"model", "gpt-4o"}, {"path", "/v1/chat/completions"}}; !slices.Equal(d.Subject, want) {
		t.Errorf("subject %v, want %v", d.Subject, want)
	}
	for _, change := range []func(*Request){
		func(q *Request) { q.Model = "o1" },
		func(q *Request) { q.Path = "/v2/chat/completions" },
		func(q *Request) { q.Model = "" },
		func(q *Request) { q.Identities = nil },
	} {
		other := q
		change(&other)
		reserve(t, l, other).SettleHold()
		refused(t, l, other)
	}
}
