package exchange

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/tokenbudget/tokenbudget/internal/apikeys"
)

func keyPolicy() *Policy {
	secret := []byte("a secret of the tests")
	of := func(key string) apikeys.Hash { return apikeys.HashOf(secret, []byte(key)) }
	return NewPolicy(Policy{
		KeyHeaders: []string{"authorization", "x-api-key", "api-key"},
		Keys: apikeys.New(secret, map[apikeys.Hash]*apikeys.Subject{
			of("sk-a"): {"team": "a"}, of("sk-a2"): {"team": "a"}, of("sk-b"): {"team": "b", "user": "ann"},
		}),
		Identities: []Identity{{Name: "team", Sources: []Source{{APIKey: "team"}}}, {Name: "user", Sources: []Source{{APIKey: "user"}, {Header: "x-user"}}}},
	})
}

func TestAPIKey(t *testing.T) {
	const several, many = "the request shows API keys of different subjects; send one", "the request shows more than 4 API keys; send one"
	p := keyPolicy()
	for _, tt := range []struct {
		name       string
		h          headers
		team, user string
		bad        string
	}{
		{"none", rawHeaders("x-user", "bob"), "(none)", "bob", ""},
		{"bearer", rawHeaders("authorization", "Bearer sk-b", "x-user", "bob"), "b", "ann", ""},
		{"a value that the subject has not", rawHeaders("x-api-key", "sk-a", "x-user", "bob"), "a", "bob", ""},
		{"any case", rawHeaders("authorization", "BEARER\tsk-a "), "a", "(none)", ""},
		{"azure", rawHeaders("api-key", " sk-a"), "a", "(none)", ""},
		{"another scheme", rawHeaders("authorization", "Basic sk-a"), "(none)", "(none)", ""},
		{"no scheme", rawHeaders("authorization", "sk-a"), "(none)", "(none)", ""},
		{"a scheme alone", rawHeaders("authorization", "Bearer", "x-api-key", ""), "(none)", "(none)", ""},
		{"signed", rawHeaders("authorization", "AWS4-HMAC-SHA256 Credential=sk-a, SignedHeaders=host, Signature=0"), "(none)", "(none)", ""},
		{"another letter case", rawHeaders("x-api-key", "SK-A"), "(none)", "(none)", ""},
		{"in a header of another name", rawHeaders("x-key", "sk-a"), "(none)", "(none)", ""},
		{"twice", rawHeaders("authorization", "Bearer sk-a", "x-api-key", "sk-a", "x-api-key", "sk-a"), "a", "(none)", ""},
		{"behind a stranger's", rawHeaders("authorization", "Bearer x", "x-api-key", "sk-a"), "a", "(none)", ""},
		{"before a stranger's", rawHeaders("x-api-key", "sk-a", "authorization", "Bearer x"), "a", "(none)", ""},
		{"joined", rawHeaders("x-api-key", "x, sk-a"), "a", "(none)", ""},
		{"two of one subject", rawHeaders("x-api-key", "sk-a", "authorization", "Bearer sk-a2"), "a", "(none)", ""},
		{"of two subjects", rawHeaders("x-api-key", "sk-a", "authorization", "Bearer sk-b"), "(none)", "(none)", several},
		{"of two subjects, joined", rawHeaders("authorization", "Bearer sk-a,Bearer sk-b"), "(none)", "(none)", several},
		{"many", rawHeaders("x-api-key", "1,2,3,4,5,sk-a"), "(none)", "(none)", many},
		{"one, often", rawHeaders("x-api-key", strings.Repeat("sk-a,", 100)), "a", "(none)", ""},
		{"long", rawHeaders("x-api-key", strings.Repeat("k", 60<<10)), "(none)", "(none)", ""},
	} {
		ids := p.identify(tt.h, nil)
		if ids.values[0].Value != tt.team || ids.values[1].Value != tt.user || ids.bad != tt.bad {
			t.Errorf("%s: %+v", tt.name, ids)
		}
	}
}

// FuzzAPIKey: whatever headers are, nothing of them is in what the client is told, and a subject is
// found only if one of its keys is there.
func FuzzAPIKey(f *testing.F) {
	f.Add("Bearer sk-a", "sk-b, x")
	f.Add("bearer sk-a,Bearer  sk-a2,,", "1,2,3,4,5")
	f.Fuzz(func(t *testing.T, authorization, key string) {
		ids := keyPolicy().identify(rawHeaders("authorization", authorization, "x-api-key", key), nil)
		all := authorization + key
		if team := ids.values[0].Value; team == "a" && !strings.Contains(all, "sk-a") || team == "b" && !strings.Contains(all, "sk-b") {
			t.Fatalf("%q, %q: %+v", authorization, key, ids)
		}
		if strings.Contains(all, "sk-") && strings.Contains(ids.bad, "sk-") {
			t.Fatalf("told %q", ids.bad)
		}
	})
}

func BenchmarkIdentify(b *testing.B) {
	key := "sk-proj-" + strings.Repeat("0123456789", 15)
	for name, h := range map[string]headers{"key=none": rawHeaders("x-user", "bob"), "key=shown": rawHeaders("authorization", "Bearer "+key, "x-user", "bob")} {
		b.Run(name, func(b *testing.B) {
			p := keyPolicy()
			b.ReportAllocs()
			for b.Loop() {
				p.identify(h, (*corev3.Metadata)(nil))
			}
		})
	}
}
