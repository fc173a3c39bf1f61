package extproc

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

func (r *rig) setLimits(limits ...budget.Limit) {
	r.t.Helper()
	if err := r.ledger.SetLimits(context.Background(), limits); err != nil {
		r.t.Fatal(err)
	}
}

// tellUntilCut sends words until the answer is cut, at most n, and returns how many came
// back.
func (p *peer) tellUntilCut(limit string, n int) int {
	p.t.Helper()
	for i := range n {
		p.send(responseBody(event(" word"), false))
		got := bodyOf(p.next())
		if !got.GetEndOfStream() {
			continue
		}
		if !strings.Contains(string(got.GetBody()), ": tokenbudget: cut, limit "+limit+"\n") {
			p.t.Fatalf("not a cut by %s: %s", limit, got.GetBody())
		}
		p.hangUp()
		return i
	}
	return n
}

// A stream that would be cut goes on when its limit is raised, and one that would go on is
// cut by a limit that is lowered, at its next growth.
func TestLimitsChange(t *testing.T) {
	user := budget.Limit{Name: "user", Amount: 60, Period: budget.Total, Per: []string{"user"}}
	raised := user
	raised.Amount = 10_000
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.setLimits(user)
		p := r.dial()
		p.begin("ann")
		for range 30 {
			p.say(" word")
		}
		r.setLimits(raised)
		for range 100 { // more than it was
			p.say(" word")
		}
		r.setLimits(user)
		if n := p.tellUntilCut("user", 100); n > 8 { // its last growth
			t.Errorf("%d words came after the limit was lowered", n)
		}

		// A limit that is new does not concern those under way, and who comes.
		r.setLimits(raised)
		p = r.dial()
		p.begin("bob")
		r.setLimits(raised, budget.Limit{Name: "all", Amount: 1, Period: budget.Total})
		for range 50 {
			p.say(" word")
		}
		if r.dial().request("carl", true).GetImmediateResponse().GetStatus().GetCode() != 429 {
			t.Error("the new limit does not refuse")
		}
		p.hangUp()
	})
}

// An exchange goes by the settings that it began with.
func TestSettingsChange(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		begin := func() *peer {
			p := r.dial()
			p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann", "x-other", "bob"))
			if p.next().GetRequestHeaders() == nil {
				t.Fatal("the request's headers were refused")
			}
			return p
		}
		finish := func(p *peer) {
			p.send(requestBody(chatBody("Good morning", true)))
			if p.next().GetRequestBody() == nil {
				t.Fatal("the request was refused")
			}
			p.hangUp()
		}
		early := begin()
		r.server.Set(Settings{Policy: exchange.Policy{
			Identities: []exchange.Identity{{Name: "user", Sources: []exchange.Source{{Header: "x-other"}}}},
		}})
		finish(early)
		finish(begin())
		synctest.Wait()
		if a, b := r.log.lines("user", "ann"), r.log.lines("user", "bob"); len(a) != 1 || len(b) != 1 {
			t.Errorf("by the settings of before %v, by the new ones %v", a, b)
		}
	})
}
