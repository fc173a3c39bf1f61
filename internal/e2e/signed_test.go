package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

var signingKey = standin.SigningKey{ID: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}

// signed is a request that AWS's signer has signed for the upstream's host, as clients do that
// reach it through a proxy.
func (r *road) signed(t *testing.T, c call) *http.Request {
	t.Helper()
	req, err := r.request(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Del("authorization")
	req.Host = strings.TrimPrefix(r.up.URL(), "http://")
	sum := sha256.Sum256([]byte(c.body))
	creds := aws.Credentials{AccessKeyID: signingKey.ID, SecretAccessKey: signingKey.Secret, SessionToken: "token"}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(sum[:]), "bedrock", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	return req
}

// TestSigned: what a client has signed arrives so that its signature holds: streamed and unary,
// whole and cut, under budgets of every kind. What would have to be altered is refused and
// does not arrive. Of a request that differs in a byte the upstream says so.
func TestSigned(t *testing.T) {
	day, err := budget.ParsePeriod("24h")
	if err != nil {
		t.Fatal(err)
	}
	limits := func() []budget.Limit {
		shared := perUser("soft", budget.Tokens, 1e6)
		shared.Action = budget.ActionRefuse
		watched := perUser("watched", budget.OutputTokens, 1)
		watched.Action = budget.ActionShadow
		slow := perUser("slow", budget.Tokens, 1e6)
		slow.Action, slow.Period = budget.ActionThrottle, budget.Hour
		whole := perUser("whole", budget.OutputTokens, 1e6)
		whole.Admission = budget.AdmitFull
		rolling := perUser("rolling", budget.Tokens, 1e6)
		rolling.Period = day
		return []budget.Limit{
			perUser("user-year", budget.Tokens, 1e6), perUser("calls", budget.Requests, 1000),
			{Name: "parallel", Unit: budget.Streams, Amount: 100}, shared, watched, slow, whole, rolling,
			{Name: "size", Unit: budget.OutputTokens, Amount: 300, PerRequest: true, Match: []budget.Condition{{Property: budget.OfIdentity, Name: "user", Any: []string{"sized*"}}}},
			{Name: "prompt", Unit: budget.InputTokens, Amount: 40, PerRequest: true},
			{Name: "small", Unit: budget.Tokens, Amount: 90, Period: budget.Total, Per: []string{"user"}, Match: []budget.Condition{{Property: budget.OfIdentity, Name: "user", Any: []string{"small*"}}}},
		}
	}
	sizes, err := budget.NewSizes(limits())
	if err != nil {
		t.Fatal(err)
	}
	const stream, long = "openai/chat-streaming", "40"
	const streamed = `{ "model": "gpt-4o", "stream": true, "messages": [ ] }`
	calls := []struct {
		name, user, body string
		repeat           string
		status           int
		says             string // the answer
	}{
		{"stream", "u", streamed, "1", 200, "[DONE]"},
		{"unary", "u", `{ "model": "gpt-4o", "max_tokens": 100, "messages": [ ] }`, "1", 200, `"usage"`},
		{"cut", "small-a", streamed, long, 200, ": tokenbudget: cut, limit small\n"},
		{"unary too large", "small-b", `{ "model": "gpt-4o", "max_tokens": 100, "messages": [ ] }`, "1", 429, "the request is signed, so its max_tokens cannot be lowered: ask for"},
		{"per request", "sized", `{ "model": "gpt-4o", "stream": true, "max_tokens": 300, "messages": [ ] }`, "1", 200, "[DONE]"},
		{"per request, too large", "sized", `{ "model": "gpt-4o", "stream": true, "max_tokens": 301, "messages": [ ] }`, "1", 400, "the request is signed, so its max_tokens cannot be lowered: ask for 300 or fewer"},
		{"prompt too long", "u", `{ "model": "gpt-4o", "stream": true, "messages": [ {"role":"user","content":"` + strings.Repeat("word ", 40) + `"}, {"role":"assistant","content":"Yes."}, {"role":"user","content":"Why?"} ] }`, "1", 400, "the request is signed, so its prompt cannot be shortened"},
	}
	combinations(t, roadOptions{limits: limits(), signing: signingKey, interval: time.Millisecond, policy: exchange.Policy{Truncate: []string{"prompt"}, Sizes: sizes}},
		func(t *testing.T, r *road, hc *http.Client) {
			for _, c := range calls {
				id := strings.ReplaceAll(t.Name()+c.name, " ", "-")
				user := c.user
				if strings.HasPrefix(user, "small") {
					user += id // with a counter of its own
				}
				headers := map[string]string{}
				if strings.Contains(c.body, "stream") {
					headers = map[string]string{"x-standin-recording": stream, "x-standin-repeat": c.repeat}
				}
				resp, body := send(t, hc, r.signed(t, call{id: id, user: user, body: c.body, headers: headers}))
				if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) {
					t.Errorf("%s: %s %s", c.name, resp.Status, body)
				}
				if _, err := r.finished(id); err != nil {
					t.Error(err)
				}
				ex, reached := r.up.Exchange(id)
				if reached != (c.status == 200) || reached && string(ex.Body) != c.body {
					t.Errorf("%s: the upstream got %q", c.name, ex.Body)
				}
				if b := r.balance(t, "user-year", user); b.Held != 0 || reached && b.Spent == 0 {
					t.Errorf("%s: charged %+v", c.name, b)
				}
			}
			// The control: the upstream notices a byte.
			req := r.signed(t, call{id: t.Name() + "control", user: "u", body: streamed})
			req.Body = io.NopCloser(strings.NewReader(strings.Replace(streamed, "gpt-4o", "gpt-4p", 1)))
			if resp, body := send(t, hc, req); resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "the signature does not match") {
				t.Errorf("another body: %s %s", resp.Status, body)
			}
			req = r.signed(t, call{id: t.Name() + "header", user: "u", body: streamed})
			req.Header.Set("x-user", "v")
			if resp, body := send(t, hc, req); resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "the signature does not match") {
				t.Errorf("another header: %s %s", resp.Status, body)
			}
		})
}

// TestSignedAcceptEncoding: some clients sign accept-encoding. It stays then.
func TestSignedAcceptEncoding(t *testing.T) {
	r := newRoad(t, roadOptions{limits: plenty(), signing: signingKey})
	req := r.signed(t, call{id: "encoding", user: "u", body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
		headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "accept-encoding": "identity"}})
	if !strings.Contains(req.Header.Get("authorization"), "accept-encoding;") {
		t.Fatal("the signer does not sign it")
	}
	if resp, body := send(t, client(false), req); resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s", resp.Status, body)
	}
}
