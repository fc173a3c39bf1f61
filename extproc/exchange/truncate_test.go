package exchange

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// TestTruncateTwin: what is forwarded is what a twin finds that drops one turn after
// the other and counts the whole anew each time; and it is held and logged as what
// it costs.
func TestTruncateTwin(t *testing.T) {
	memo, err := count.NewMemo(1000)
	if err != nil {
		t.Fatal(err)
	}
	defer memo.Close()
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		counter := count.New(count.Options{Memo: memo}) // warm or cold
		plain := count.New(count.Options{})
		body := drawConversation(t)
		whole := parsed(t, body)
		model := plain.Model(whole.Model)
		all := model.Input.Of(plain.Prompt(model, whole))
		limit := budget.Limit{Name: "size", PerRequest: true, Unit: rapid.SampledFrom([]budget.Unit{budget.InputTokens, budget.Tokens}).Draw(t, "unit"),
			Amount: rapid.Int64Range(1, all+10).Draw(t, "amount")}
		if rapid.Bool().Draw(t, "large") { // small numbers are drawn more often
			limit.Amount = all + 11 - limit.Amount
		}
		sizes, err := budget.NewSizes([]budget.Limit{limit})
		if err != nil {
			t.Fatal(err)
		}

		x := New(NewPolicy(Policy{Count: counter, Sizes: sizes, Truncate: []string{"size"}}))
		x.Step(message(0, 0, nil))
		reserve := x.Step(message(1, 0, []byte(body))).Reserve
		if reserve == nil {
			t.Fatalf("no reservation is asked for: %s", body)
		}

		// The twin.
		room, aim := limit.Amount, limit.Amount
		if limit.Unit == budget.Tokens {
			room -= reserve.MinOutput
			aim = max(limit.Amount-reserve.Output, room/2)
			if n := whole.Output(); n > reserve.Output {
				aim = max(limit.Amount-n, room/2)
			}
		}
		want, dropped := whole, int64(0)
		outcome := "whole"
		if all > room {
			outcome = "refused"
			for n := int32(1); n <= int32(whole.Messages()); n++ {
				short := parsed(t, body)
				turns := short.Turns()
				gone := short.Drop(func(i int) bool { return turns[i] != dialect.Kept && turns[i] < n })
				out, _ := short.Body(0)
				again := parsed(t, string(out))
				tokens := model.Input.Of(plain.Prompt(model, again))
				if tokens <= aim || tokens <= room && n == int32(whole.Messages()) {
					want, dropped, outcome = short, int64(gone), "shortened"
					break
				}
			}
		}
		outcomes[outcome]++
		got, _ := x.request.Body(0)
		expected, _ := want.Body(0)
		if string(got) != string(expected) {
			t.Fatalf("%s: %+v\ngot  %s\nwant %s\nof   %s", outcome, limit, got, expected, body)
		}
		tokens := model.Input.Of(plain.Prompt(model, parsed(t, string(got))))
		if reserve.Input != tokens || x.input != tokens || x.record.Input != tokens || x.record.Truncated != dropped || x.model.Input.Of(x.prompt) != tokens {
			t.Fatalf("%d tokens are to be held, %d to be logged, and %d messages were dropped; want %d and %d", reserve.Input, x.record.Input, x.record.Truncated, tokens, dropped)
		}
		if outcome != "refused" && tokens > room {
			t.Fatalf("%d tokens in a room of %d", tokens, room)
		}
	})
	for _, o := range []string{"whole", "shortened", "refused"} {
		if outcomes[o] == 0 {
			t.Errorf("no request was %s", o)
		}
	}
}

func parsed(t *rapid.T, body string) *dialect.Request {
	r, err := dialect.OpenAIChat{}.ParseRequest([]byte(body))
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return r
}

// drawConversation makes a chat request of turns with and without tools.
func drawConversation(t *rapid.T) string {
	var messages []string
	say := func(format string) {
		text := strings.Repeat("a word or two. ", rapid.SampledFrom([]int{0, 1, 2, 10, 100}).Draw(t, "words"))
		messages = append(messages, fmt.Sprintf(format, text))
	}
	if rapid.Bool().Draw(t, "system") {
		say(`{"role":"system","content":"Be %s"}`)
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "turns") {
		say(`{"role":"user","content":"Why? %s"}`)
		if rapid.Bool().Draw(t, "tools") {
			say(`{"role":"assistant","content":null,"tool_calls":[{"id":"` + fmt.Sprint(i) + `","type":"function","function":{"name":"f","arguments":"%s"}}]}`)
			say(`{"role":"tool","tool_call_id":"` + fmt.Sprint(i) + `","content":"%s"}`)
		}
		if rapid.Bool().Draw(t, "answer") {
			say(`{"role":"assistant","content":"Because %s"}`)
		}
	}
	model := rapid.SampledFrom([]string{"gpt-4o", "gpt-4", "gpt-oss-20b", "claude-x"}).Draw(t, "model")
	rest := rapid.SampledFrom([]string{"", `,"stream":true`, `,"max_tokens":7`, `,"stream":true,"max_tokens":300,"n":2`,
		`,"tools":[{"type":"function","function":{"name":"f"}}]`}).Draw(t, "rest")
	return `{"model":"` + model + `","messages":[` + strings.Join(messages, ", ") + `]` + rest + `}`
}
