package exchange

import (
	"strings"
	"testing"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// A path that an upstream may resolve to another one is not taken for free.
func TestJudge(t *testing.T) {
	p := NewPolicy(Policy{Pass: []string{"/v1/models*", "/free/*"}, Deny: []string{"/free/not*"}})
	open := NewPolicy(Policy{PassUnknown: true, Deny: []string{"/no"}})
	shut := NewPolicy(Policy{Deny: []string{"/v1/chat/*"}})
	const body, bare = true, false
	for _, tt := range []struct {
		policy       *Policy
		method, path string
		body         bool
		want         verdict
	}{
		{p, "POST", "/v1/chat/completions", body, verdictMeter},
		{p, "POST", "/v1/chat/completions", bare, verdictMeter}, // and is refused for its lack of one
		{p, "POST", "/openai/deployments/x/chat/completions", body, verdictMeter},
		{p, "GET", "/v1/chat/completions", bare, verdictPass},
		{p, "GET", "/v1/chat/completions", body, verdictPassBare},
		{p, "DELETE", "/v1/chat/completions", body, verdictPassBare},
		{p, "post", "/v1/chat/completions", body, verdictAlmost},
		{p, "get", "/v1/files", body, verdictUnknown},
		{p, "PUT", "/v1/chat/completions", body, verdictAlmost},
		{p, "POST", "/free/x", body, verdictPass},
		{p, "POST", "/free/x/chat/completions", body, verdictPass}, // as the configuration says
		{p, "POST", "/free/not/this", body, verdictDeny},
		{p, "GET", "/free/not/this", bare, verdictDeny},
		// Nor is a path that is denied open in another spelling.
		{p, "GET", "//free/not", bare, verdictDeny},
		{p, "GET", "/free/x/../not/this", bare, verdictDeny},
		{p, "GET", "/free/%6eot", bare, verdictDeny},
		{p, "GET", "/Free/Not;x", bare, verdictDeny},
		{open, "POST", "/no/", body, verdictDeny},
		{open, "POST", "/n%256f", body, verdictDeny},
		{shut, "POST", "//v1/chat/completions", body, verdictDeny},
		{shut, "POST", "/v1/CHAT/completions", body, verdictDeny},
		{shut, "POST", "/v1/completions", body, verdictMeter},
		{p, "POST", "/v1/models/../chat/completions", body, verdictMeter},
		{p, "POST", "/v1/models/..%2fchat/completions", body, verdictAlmost},
		{p, "POST", "/v1/messages/count_tokens", body, verdictPass},
		{p, "POST", "/v1/messages/count_tokens/", body, verdictUnknown},
		{p, "POST", "/v1//messages/count_tokens", body, verdictUnknown},
		{p, "PUT", "/v1/messages/count_tokens", body, verdictUnknown},
		{p, "POST", "/v1/models//chat/completions", body, verdictMeter},
		{p, "POST", "/v1/models/..\\chat/completions", body, verdictAlmost},
		{p, "POST", "/v1/models/..;/x", body, verdictUnknown},
		{p, "GET", "/v1/models/..;/x", bare, verdictPass},
		{p, "DELETE", "/v1/files/1", body, verdictPassBare},
		{open, "DELETE", "/v1/files/1", body, verdictPass},
		{open, "POST", "/v1/messages/Count_tokens", body, verdictPass},
		{open, "GET", "/v1/chat/completions", body, verdictPassBare},
		{open, "POST", "/v1/embeddings", body, verdictMeter},
		{open, "POST", "/v1/audio/speech", body, verdictPass},
		{open, "POST", "/no", body, verdictDeny},
		{open, "POST", "/v1/Chat/Completions", body, verdictAlmost},
		{open, "POST", "/v1/chat/completions/", body, verdictAlmost},
		{open, "POST", "/v1/chat//completions", body, verdictAlmost},
		{open, "POST", "/v1/chat/completions;x", body, verdictAlmost},
		{open, "POST", "/v1/chat/completions%20", body, verdictAlmost},
		{open, "POST", "/v1/chat%2fcompletions", body, verdictAlmost},
		{open, "POST", "/v1/chat%252fcompletions", body, verdictAlmost},
		{open, "PATCH", "/v1/chat/completions", body, verdictAlmost},
		{open, "POST", "/v1/chat/completions/chatcmpl-1", body, verdictPass},
	} {
		if got := tt.policy.judge(asked{method: tt.method, path: tt.path, route: dialect.ForPath(tt.path), body: tt.body}); got != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, got, tt.want)
		}
	}
}

// Of what is unknown, unknown_api: pass lets through websockets, but no tunnels, and no
// other method in the upstream's eyes.
func TestJudgeProtocols(t *testing.T) {
	p, open := NewPolicy(Policy{Pass: []string{"/v1/realtime"}}), NewPolicy(Policy{PassUnknown: true})
	for _, tt := range []struct {
		policy *Policy
		asked  asked
		want   verdict
	}{
		{p, asked{method: "GET", path: "/v1/realtime", upgrade: "websocket"}, verdictPass},
		{p, asked{method: "GET", path: "/v1/other", upgrade: "websocket"}, verdictUpgrade},
		{open, asked{method: "GET", path: "/v1/other", upgrade: "websocket"}, verdictPass},
		{open, asked{method: "CONNECT", path: "/v1/other", upgrade: "CONNECT"}, verdictUpgrade},
		{open, asked{method: "GET", path: "/v1/chat/completions", upgrade: "websocket", route: dialect.ForPath("/v1/chat/completions")}, verdictUpgrade},
		{open, asked{method: "GET", path: "/v1/other", override: "x-http-method-override"}, verdictOverride},
	} {
		if got := tt.policy.judge(tt.asked); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.asked, got, tt.want)
		}
	}
}

func TestIdentify(t *testing.T) {
	p := NewPolicy(Policy{Identities: []Identity{
		{Name: "team", Sources: []Source{{JWT: "org.team"}, {Header: "x-team"}}},
		{Name: "user", Sources: []Source{{Header: "x-user"}}, Required: true},
	}})
	set := func(kv ...string) headers {
		var h headers
		for i := 0; i < len(kv); i += 2 {
			h = append(h, &corev3.HeaderValue{Key: kv[i], RawValue: []byte(kv[i+1])})
		}
		return h
	}
	for _, tt := range []struct {
		name         string
		h            headers
		jwt          []string
		team, user   string
		missing, bad string
	}{
		{"headers", set("x-team", "a", "x-user", "b"), nil, "a", "b", "", ""},
		{"a claim wins", set("x-team", "a", "x-user", "b"), []string{`{"org":{"team":"c"}}`}, "c", "b", "", ""},
		{"a claim's own name has a dot", set("x-user", "b"), []string{`{"org.team":"c"}`}, "c", "b", "", ""},
		{"a claim of another kind", set("x-team", "a", "x-user", "b"), []string{`{"org":{"team":7}}`}, "a", "b", "", ""},
		{"missing", set(), nil, budget.None, budget.None, "user", ""},
		{"empty is missing", set("x-user", ""), nil, budget.None, budget.None, "user", ""},
		{"twice the same", set("x-user", "b", "x-user", "", "x-user", "b"), nil, budget.None, "b", "", ""},
		{"an empty one before it", set("x-user", "", "x-user", "c"), nil, budget.None, "c", "", ""},
		{"different ones", set("x-user", "b", "x-user", "c"), nil, budget.None, budget.None, "user", `the header "x-user", which budgets here depend on, comes several times with different values`},
		{"different ones that are not asked for", set("x-team", "b", "x-team", "c", "x-user", "u"), []string{`{"org":{"team":"c"}}`}, "c", "u", "", ""},
		{"no UTF-8", set("x-user", "b\xffc"), nil, budget.None, "b\uFFFDc", "", ""},
		{"too long", set("x-user", strings.Repeat("ü", 200)), nil, budget.None, strings.Repeat("ü", 128), "", `the identity "user" is longer than 256 bytes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var md *corev3.Metadata
			if tt.jwt != nil {
				md = jwtMetadata(t, tt.jwt)
			}
			ids := p.identify(tt.h, md)
			if ids.values[0].Value != tt.team || ids.values[1].Value != tt.user || ids.missing != tt.missing || ids.bad != tt.bad {
				t.Errorf("got %+v", ids)
			}
			for _, id := range ids.values {
				if !utf8.ValidString(id.Value) {
					t.Errorf("%q is no text", id.Value)
				}
			}
		})
	}
}
