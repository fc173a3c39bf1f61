package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/bench"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

var update = flag.Bool("update", false, "write the table of SDKs into docs/sdks.md")

const sdksDoc = "../../docs/sdks.md"

// The columns of the table, in its order.
var sdkColumns = []string{"whole stream", "cut stream", "cut, accumulator", "refused stream", "whole answer", "answer, cap lowered", "refused answer"}

// sdkAnswers are the recorded answers to an API's requests, and a limit for each user
// that lets a part of the streamed one pass.
type sdkAnswers struct {
	stream, unary       string // names of recordings
	limit               int64  // tokens
	text, unaryText     string
	finished, cut, code string // how the API says so, and its word for a refusal
}

// TestSDKs: what the official SDKs of several languages make of answers that pass, are
// cut, and are refused. docs/sdks.md has the table that this test makes.
func TestSDKs(t *testing.T) {
	answers := map[string]sdkAnswers{
		"openai.chat": {stream: "openai/chat-streaming", unary: "openai/chat-basic", limit: 40, finished: "stop", cut: "length", code: "budget_exceeded"},
		"anthropic.messages": {stream: "anthropic/stream_basic", unary: "anthropic/basic", limit: 22, finished: "end_turn", cut: "max_tokens",
			code: "rate_limit_error"},
	}
	free := newRoad(t, roadOptions{limits: plenty(), interval: time.Millisecond})
	roads := make(map[string]*road)
	for api, a := range answers {
		roads[api] = newRoad(t, roadOptions{limits: []budget.Limit{
			{Name: "user-year", Unit: budget.Tokens, Amount: a.limit, Per: []string{"user"}, Period: budget.Year},
		}, interval: time.Millisecond})
		a.text, a.unaryText = recordedText(t, a.stream), recordedText(t, a.unary)
		answers[api] = a
	}
	var table strings.Builder
	table.WriteString("| SDK | " + strings.Join(sdkColumns, " | ") + " |\n|---" + strings.Repeat("|---", len(sdkColumns)) + "|\n")
	for _, c := range sdkClients {
		t.Run(c.id(), func(t *testing.T) {
			said := trySDK(t, c, answers[c.api], free, roads[c.api])
			fmt.Fprintf(&table, "| %s `%s` %s | %s |\n", c.language, c.name, c.version, strings.Join(said, " | "))
		})
	}
	if t.Failed() {
		return
	}
	t.Log("\n" + table.String())
	if *update {
		if err := bench.WriteSection(sdksDoc, "sdks", table.String()); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile(sdksDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("%s has another table; run go test ./internal/e2e -run TestSDKs -update and read the difference", sdksDoc)
	}
}

// trySDK makes one request for each column, and returns what the SDK says of each.
func trySDK(t *testing.T, c sdkClient, a sdkAnswers, free, limited *road) []string {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	base := ""
	if c.api == "openai.chat" {
		base = "/v1"
	}
	request := func(column string, r *road, recording string) clientCase {
		name := strings.NewReplacer(" ", "-", ",", "").Replace(column)
		return clientCase{sdkCase: sdkCase{
			Name: column, BaseURL: r.url + base, Stream: recording == a.stream, Prompt: "Hello!",
			Headers: map[string]string{"x-user": c.id() + name, "x-standin-id": c.id() + name, "x-standin-recording": recording},
		}}
	}
	cases := []clientCase{
		request("whole stream", free, a.stream), request("cut stream", limited, a.stream), request("cut, accumulator", limited, a.stream),
		request("refused stream", limited, a.stream), request("whole answer", free, a.unary), request("answer, cap lowered", limited, a.unary),
		request("refused answer", limited, a.unary),
	}
	cases[3].Prompt = strings.Repeat("word ", 100)
	cases[6].Prompt = cases[3].Prompt
	cases[2].Helper = true
	accumulates := c.api == "anthropic.messages"
	if !accumulates { // OpenAI's raise an error for every end by length, a genuine one too
		cases = append(cases[:2], cases[3:]...)
	}
	got := c.run(ctx, t, cases)
	lowered, err := limited.up.WaitExchange(ctx, cases[len(cases)-2].Headers["x-standin-id"])
	if err != nil {
		t.Fatal(err)
	}
	var caps struct {
		OpenAI    int64 `json:"max_completion_tokens"`
		Anthropic int64 `json:"max_tokens"`
	}
	if err := json.Unmarshal(lowered.Body, &caps); err != nil {
		t.Fatal(err)
	}
	if n := caps.OpenAI + caps.Anthropic; n <= 0 || n >= a.limit {
		t.Errorf("the upstream is told a cap of %d where %d are left at most", n, a.limit)
	}
	said := make([]string, len(sdkColumns))
	for i, column := range sdkColumns {
		r, ok := got[column]
		if !ok {
			said[i] = "–"
			continue
		}
		said[i] = "`" + r.FinishReason + "`"
		bad := r.Tries != 1
		switch {
		case strings.HasPrefix(column, "refused"):
			bad = bad || r.Error == nil || r.Error.Status != 429 || r.Error.Code != a.code || !strings.Contains(r.Error.Message, "user-year")
			if r.Error != nil {
				said[i] = fmt.Sprintf("`%s`, %d", r.Error.Type, r.Error.Status)
			}
		case strings.HasPrefix(column, "cut"):
			bad = bad || r.Error != nil || r.FinishReason != a.cut || r.Text == "" || r.Text == a.text || !strings.HasPrefix(a.text, r.Text)
		case column == "whole stream":
			bad = bad || r.Error != nil || r.FinishReason != a.finished || r.Text != a.text
		default:
			bad = bad || r.Error != nil || r.FinishReason != a.finished || r.Text != a.unaryText
		}
		if bad {
			t.Errorf("%s: %+v %+v", column, r, r.Error)
		}
	}
	return said
}

// recordedText is the text of a recorded answer.
func recordedText(t *testing.T, name string) string {
	t.Helper()
	rec, err := standin.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case !strings.HasPrefix(name, "anthropic/") && rec.Stream():
		return wholeText(t, name)
	case rec.Stream():
		return speak(t, rec.Events).text
	}
	return unaryText(t, rec.Body)
}
