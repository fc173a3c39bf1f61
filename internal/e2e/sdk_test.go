package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// sdkVersions are the official Python SDK's newest release and its last of 1.x,
// which most programs still use.
var sdkVersions = []string{"openai==3.54.0", "openai==1.109.1"}

type sdkCase struct {
	Name    string            `json:"name"`
	BaseURL string            `json:"base_url"`
	Headers map[string]string `json:"headers"`
	Stream  bool              `json:"stream"`
	Usage   bool              `json:"usage"`
	Prompt  string            `json:"prompt"`
}

type sdkResult struct {
	Name         string
	Text         string
	FinishReason string `json:"finish_reason"`
	Usage        *int64
	Tries        int
	Error        *struct {
		Type, Code, Message string
		Status              int
	}
}

// TestSDK: what the official SDK makes of answers that pass, are cut, and are
// refused.
func TestSDK(t *testing.T) {
	const limit = 40
	r := newRoad(t, roadOptions{limits: []budget.Limit{
		{Name: "user-year", Unit: budget.Tokens, Amount: limit, Per: []string{"user"}, Period: budget.Year},
	}, interval: time.Millisecond})
	free := newRoad(t, roadOptions{limits: plenty(), interval: time.Millisecond})
	whole := wholeText(t, "openai/chat-streaming")
	for _, requirement := range sdkVersions {
		t.Run(requirement, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			user := strings.ReplaceAll(requirement, "==", "-")
			python, err := envoyrun.PythonVenv(ctx, user, requirement)
			if err != nil {
				t.Fatal(err)
			}
			streamed := func(name, suffix string, rd *road) sdkCase {
				return sdkCase{Name: name, BaseURL: rd.url + "/v1", Stream: true, Prompt: "Hello!", Headers: map[string]string{
					"x-user": user + suffix, "x-standin-id": user + name, "x-standin-recording": "openai/chat-streaming",
				}}
			}
			unary := streamed("unary", "", free)
			unary.Stream, unary.Headers["x-standin-recording"] = false, "openai/chat-basic"
			wantsUsage := streamed("cut-usage", "-usage", r)
			wantsUsage.Usage = true
			refused := streamed("refused", "-refused", r)
			refusedUnary := streamed("refused-unary", "-refused", r)
			refusedUnary.Stream = false
			refused.Prompt = strings.Repeat("word ", 100)
			refusedUnary.Prompt = refused.Prompt
			cases := []sdkCase{streamed("whole", "", free), streamed("cut", "-cut", r), wantsUsage, refused, unary, refusedUnary}
			got := runSDK(ctx, t, python, cases)

			if s := got["whole"]; s.Error != nil || s.FinishReason != "stop" || s.Text != whole {
				t.Errorf("whole: %+v", s)
			}
			if s := got["unary"]; s.Error != nil || s.FinishReason != "stop" || s.Usage == nil || *s.Usage != 377 {
				t.Errorf("unary: %+v", s)
			}
			for _, name := range []string{"cut", "cut-usage"} {
				s := got[name]
				if s.Error != nil || s.FinishReason != "length" || s.Tries != 1 {
					t.Errorf("%s: %+v", name, s)
				}
				if s.Text == "" || s.Text == whole || !strings.HasPrefix(whole, s.Text) {
					t.Errorf("%s: the text is no beginning of the whole: %q", name, s.Text)
				}
				if (s.Usage != nil) != (name == "cut-usage") {
					t.Errorf("%s: usage is %v", name, s.Usage)
				}
			}
			for _, name := range []string{"refused", "refused-unary"} {
				e := got[name].Error
				if e == nil || e.Type != "RateLimitError" || e.Status != 429 || e.Code != "budget_exceeded" || !strings.Contains(e.Message, "user-year") {
					t.Errorf("%s: %+v", name, e)
				}
				if n := got[name].Tries; n != 1 {
					t.Errorf("%s: the SDK tried %d times", name, n)
				}
			}
		})
	}
}

func runSDK(ctx context.Context, t *testing.T, python string, cases []sdkCase) map[string]sdkResult {
	t.Helper()
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, python, "testdata/sdk.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got struct {
		Version string
		Results []sdkResult
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	results := make(map[string]sdkResult)
	for _, r := range got.Results {
		results[r.Name] = r
		result := r.FinishReason
		if r.Error != nil {
			result = r.Error.Type
		}
		t.Logf("openai %s  %-14s %-15s %d tries, %d bytes of text", got.Version, r.Name, result, r.Tries, len(r.Text))
	}
	return results
}

// wholeText is the text of a recorded stream.
func wholeText(t *testing.T, name string) string {
	t.Helper()
	rec, err := standin.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	texts, _ := content(rec.Body)
	return texts["0content"]
}
