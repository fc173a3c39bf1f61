package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
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
const (
	colWholeStream   = "whole stream"
	colCutStream     = "cut stream"
	colCutHelper     = "cut, accumulator"
	colRefusedStream = "refused stream"
	colWholeAnswer   = "whole answer"
	colLoweredAnswer = "answer, cap lowered"
	colRefusedAnswer = "refused answer"
)

var sdkColumns = []string{colWholeStream, colCutStream, colCutHelper, colRefusedStream, colWholeAnswer, colLoweredAnswer, colRefusedAnswer}

// colCutUsage is no column: a stream that is cut, where the client asked for usage.
const colCutUsage = "cut stream, usage"

// sdkLimit is what each user has in tokens: room for a part of a streamed answer. The Responses API
// takes no cap below 16.
const sdkLimit = 25

// sdkAPI is one API, with the recordings that answer its requests.
type sdkAPI struct {
	name          string // as the scripts know it
	title         string // in the table
	sdks          string // openai or anthropic
	path          string // that the upstream sees
	azure         string // and of Azure's client; empty if there is none
	stream, unary string // recordings
	cap           string // the member of a request that bounds the answer; empty if nothing does
	code          string // of a refusal
	// What it says of an end by itself, in streams and whole answers, and of a cut.
	finished, answered, cut string
	helper                  bool // the SDKs have an accumulator
}

var sdkAPIs = []sdkAPI{
	{
		name: "chat", title: "chat", sdks: "openai", path: "/v1/chat/completions", azure: "/openai/deployments/gpt-4o/chat/completions",
		stream: "openai/chat-streaming", unary: "openai/chat-basic", cap: "max_completion_tokens", code: "budget_exceeded",
		finished: "stop", answered: "stop", cut: "length", helper: true,
	},
	{
		name: "responses", title: "Responses", sdks: "openai", path: "/v1/responses", azure: "/openai/responses",
		stream: "openai-responses/made-text", unary: "openai-responses/basic", cap: "max_output_tokens", code: "budget_exceeded",
		finished: "completed", answered: "completed", cut: "incomplete: max_output_tokens", helper: true,
	},
	{ // both were recorded with a cap of 25 tokens, which they reached
		name: "completions", title: "completions", sdks: "openai", path: "/v1/completions", azure: "/openai/deployments/gpt-3.5-turbo-instruct/completions",
		stream: "openai/completion-streaming", unary: "openai/completion-basic", cap: "max_tokens", code: "budget_exceeded",
		finished: "length", answered: "length", cut: "length",
	},
	{
		name: "embeddings", title: "embeddings", sdks: "openai", path: "/v1/embeddings", azure: "/openai/deployments/text-embedding-3-small/embeddings",
		unary: "openai/embeddings-tokens", code: "budget_exceeded", answered: "1 × 1536",
	},
	{
		name: "messages", title: "messages", sdks: "anthropic", path: "/v1/messages",
		stream: "anthropic/stream_basic", unary: "anthropic/basic", cap: "max_tokens", code: "rate_limit_error",
		finished: "end_turn", answered: "end_turn", cut: "max_tokens", helper: true,
	},
}

// raises are the accumulators which take an end by length for an error, a genuine one too, and what
// they raise when they are asked for the whole answer.
var raises = map[string]string{"Python chat": "LengthFinishReasonError", "Python responses": "RuntimeError"}

// TestSDKs: what the official SDKs of several languages make of answers that pass, are
// cut, and are refused. docs/sdks.md has the table that this test makes.
func TestSDKs(t *testing.T) {
	free := newRoad(t, roadOptions{limits: plenty(), interval: time.Millisecond})
	limited := newRoad(t, roadOptions{limits: []budget.Limit{perUser("user-year", budget.Tokens, sdkLimit)}, interval: time.Millisecond})
	var table strings.Builder
	table.WriteString("| SDK | API | " + strings.Join(sdkColumns, " | ") + " |\n|---|---" + strings.Repeat("|---", len(sdkColumns)) + "|\n")
	for _, c := range sdkClients {
		t.Run(c.id(), func(t *testing.T) {
			for _, row := range trySDK(t, c, free, limited) {
				fmt.Fprintf(&table, "| %s `%s` %s | %s\n", c.language, c.name, c.version, row)
			}
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

// trySDK makes one request for each API and column, and returns a row for each API.
func trySDK(t *testing.T, c sdkClient, free, limited *road) (rows []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the SDK may have to be installed
	defer cancel()
	var cases []clientCase
	for _, api := range sdkAPIs {
		for _, azure := range []bool{false, true} {
			cases = append(cases, sdkCases(c, api, azure, free, limited)...)
		}
	}
	got := c.run(ctx, t, cases)
	if len(got) != len(cases) {
		t.Fatalf("%d results of %d cases", len(got), len(cases))
	}
	for _, api := range sdkAPIs {
		if api.offered(c, false) {
			said := api.check(ctx, t, c, false, got, free, limited)
			title := api.title
			if api.offered(c, true) {
				title += ", also at Azure"
				if azure := api.check(ctx, t, c, true, got, free, limited); !slices.Equal(azure, said) {
					t.Errorf("%s: %q, and at Azure %q", api.title, said, azure)
				}
			}
			rows = append(rows, title+" | "+strings.Join(said, " | ")+" |")
		}
	}
	return rows
}

// offered says whether an SDK has the API.
func (a sdkAPI) offered(c sdkClient, azure bool) bool {
	return (a.sdks == "openai") == (c.name == "openai") && (!azure || a.azure != "")
}

// has says whether the API has a column.
func (a sdkAPI) has(column string) bool {
	switch column {
	case colWholeStream, colCutStream, colRefusedStream:
		return a.stream != ""
	case colCutHelper:
		return a.helper
	case colLoweredAnswer:
		return a.cap != ""
	case colCutUsage:
		return a.name == "chat" || a.name == "completions"
	}
	return true
}

// caseID names a case, its user, and its exchange at the upstream.
func (a sdkAPI) caseID(c sdkClient, azure bool, column string) string {
	id := strings.NewReplacer(" ", "-", ",", "").Replace(c.id() + "-" + a.name + "-" + column)
	if azure {
		id += "-azure"
	}
	return id
}

func sdkCases(c sdkClient, a sdkAPI, azure bool, free, limited *road) (cases []clientCase) {
	if !a.offered(c, azure) {
		return nil
	}
	for _, column := range append(slices.Clone(sdkColumns), colCutUsage) {
		if !a.has(column) {
			continue
		}
		id := a.caseID(c, azure, column)
		k := clientCase{
			Name: id, API: a.name, Azure: azure, BaseURL: limited.url, Prompt: "Hello!", Helper: column == colCutHelper, Usage: column == colCutUsage,
			Stream: strings.Contains(column, "stream") || column == colCutHelper, MaxTokens: 100,
			Headers: map[string]string{"x-user": id, "x-standin-id": id, "x-standin-recording": a.unary},
		}
		if k.Stream {
			k.Headers["x-standin-recording"] = a.stream
		}
		if column == colWholeStream || column == colWholeAnswer {
			k.BaseURL = free.url
		}
		if strings.HasPrefix(column, "refused") {
			k.Prompt = strings.Repeat("word ", 100)
		}
		cases = append(cases, k)
	}
	return cases
}

// check returns what the SDK says in each column.
func (a sdkAPI) check(ctx context.Context, t *testing.T, c sdkClient, azure bool, got map[string]clientResult, free, limited *road) []string {
	t.Helper()
	said := make([]string, len(sdkColumns))
	for i, column := range sdkColumns {
		if !a.has(column) {
			said[i] = "–"
			continue
		}
		r := got[a.caseID(c, azure, column)]
		said[i] = "`" + r.FinishReason + "`"
		var bad bool
		switch column {
		case colRefusedStream, colRefusedAnswer:
			bad = r.Error == nil || r.Error.Status != 429 || r.Error.Code != a.code || !strings.Contains(r.Error.Message, "user-year")
			if r.Error != nil {
				said[i] = fmt.Sprintf("`%s`, %d", r.Error.Type, r.Error.Status)
			}
		case colCutStream, colCutHelper:
			whole := recordedText(t, a.stream)
			bad = r.Error != nil || r.FinishReason != a.cut || r.Text == "" || r.Text == whole || !strings.HasPrefix(whole, r.Text)
		case colWholeStream:
			bad = r.Error != nil || r.FinishReason != a.finished || r.Text != recordedText(t, a.stream)
		default:
			bad = r.Error != nil || r.FinishReason != a.answered || r.Text != recordedText(t, a.unary)
		}
		want := ""
		if column == colCutHelper {
			want = raises[c.language+" "+a.name]
		}
		if r.HelperError != "" {
			said[i] = "`" + r.HelperError + "`"
		}
		if bad || r.Tries != 1 || r.HelperError != want {
			t.Errorf("%s, %s, azure %v: %+v %+v", a.name, column, azure, r, r.Error)
		}
	}
	if a.has(colCutUsage) {
		r, without := got[a.caseID(c, azure, colCutUsage)], got[a.caseID(c, azure, colCutStream)]
		if r.Error != nil || r.FinishReason != a.cut || r.Tries != 1 || r.Usage == nil || *r.Usage == 0 || without.Usage != nil {
			t.Errorf("%s, %s, azure %v: %+v %+v", a.name, colCutUsage, azure, r, r.Error)
		}
	}
	path := a.path
	if azure {
		path = a.azure
	}
	ex, err := free.up.WaitExchange(ctx, a.caseID(c, azure, colWholeAnswer))
	if err != nil {
		t.Fatal(err)
	}
	if ex.Path != path {
		t.Errorf("%s, azure %v: the path is %s, want %s", a.name, azure, ex.Path, path)
	}
	a.checkCap(ctx, t, c, azure, limited)
	return said
}

// checkCap looks at what the upstream is told of a cap that is lowered.
func (a sdkAPI) checkCap(ctx context.Context, t *testing.T, c sdkClient, azure bool, limited *road) {
	t.Helper()
	if a.cap == "" {
		return
	}
	lowered, err := limited.up.WaitExchange(ctx, a.caseID(c, azure, colLoweredAnswer))
	if err != nil {
		t.Fatal(err)
	}
	var request map[string]any
	if err := json.Unmarshal(lowered.Body, &request); err != nil {
		t.Fatal(err)
	}
	if n, _ := request[a.cap].(float64); n <= 0 || n >= sdkLimit {
		t.Errorf("%s: the upstream is told a cap of %v where %d are left at most", a.name, request[a.cap], sdkLimit)
	}
}

// recordedText is the text of a recorded answer.
func recordedText(t *testing.T, name string) string {
	t.Helper()
	rec, err := standin.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.HasPrefix(name, "openai/embeddings-"):
		return ""
	case strings.HasPrefix(name, "anthropic/") && rec.Stream():
		return speak(t, rec.Events).text
	case strings.HasPrefix(name, "openai-responses/") && rec.Stream():
		return wroteBefore(t, rec, len(rec.Events)).text
	case rec.Stream():
		said := newChatSaid()
		for _, e := range rec.Events {
			if data := strings.TrimPrefix(strings.TrimSpace(string(e)), "data: "); data != "[DONE]" {
				said.read(t, []byte(data))
			}
		}
		return said.Texts["0"]
	}
	return unaryText(t, rec.Body)
}
