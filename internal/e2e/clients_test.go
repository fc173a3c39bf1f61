package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// client is one release of an official SDK, which is run in a process of its own.
type sdkClient struct {
	language string // Python or Node.js
	name     string // as the language's registry has it
	version  string
}

// sdkClients are the newest releases of the official SDKs, and the last of the major
// version before, or of an earlier one, which most programs still use.
var sdkClients = []sdkClient{
	{"Python", "openai", "3.54.0"},
	{"Python", "openai", "1.109.1"},
	{"Python", "anthropic", "2.12.0"},
	{"Python", "anthropic", "0.125.0"},
	{"Node.js", "openai", "7.57.0"},
	{"Node.js", "openai", "4.104.0"},
	{"Node.js", "@anthropic-ai/sdk", "1.13.0"},
	{"Node.js", "@anthropic-ai/sdk", "0.137.0"},
}

// id names the client in headers, paths and names of tests.
func (c sdkClient) id() string {
	name := strings.NewReplacer("@", "", "/", "-").Replace(c.name)
	return strings.ToLower(strings.ReplaceAll(c.language, ".", "")) + "-" + name + "-" + c.version
}

// command is a run of the client's script, which reads cases and prints results.
func (c sdkClient) command(ctx context.Context, t *testing.T) *exec.Cmd {
	t.Helper()
	if c.language == "Node.js" {
		return c.script(ctx, t, "testdata/sdk_node.cjs", c.name)
	}
	return c.script(ctx, t, map[string]string{"openai": "testdata/sdk.py", "anthropic": "testdata/sdk_anthropic.py"}[c.name])
}

// script is a run of a script that uses the SDK.
func (c sdkClient) script(ctx context.Context, t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	if c.language == "Node.js" {
		node, err := envoyrun.NodeModules(ctx, strings.TrimPrefix(c.id(), "nodejs-"), c.name+"@"+c.version)
		if err != nil {
			t.Fatal(err)
		}
		return node.Command(ctx, script, args...)
	}
	python, err := envoyrun.PythonVenv(ctx, c.name+"-"+c.version, c.name+"=="+c.version)
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, python, append([]string{script}, args...)...)
}

// clientCase is a request that an SDK is to make.
type clientCase struct {
	Name      string            `json:"name"`
	API       string            `json:"api"`   // chat, completions, embeddings, responses, messages
	Azure     bool              `json:"azure"` // by the SDK's client for Azure
	BaseURL   string            `json:"base_url"`
	Headers   map[string]string `json:"headers"`
	Stream    bool              `json:"stream"`
	Helper    bool              `json:"helper"` // the SDK's own accumulator reads the stream
	Usage     bool              `json:"usage"`  // stream_options.include_usage
	Prompt    string            `json:"prompt"`
	MaxTokens int               `json:"max_tokens"`
}

// clientResult is what an SDK made of the answer.
type clientResult struct {
	Name, Text, Thinking, Tool string
	FinishReason               string `json:"finish_reason"` // status and reason of a response; sizes of embeddings
	HelperError                string `json:"helper_error"`
	Usage                      *int64
	Tries                      int
	Error                      *struct {
		Type, Code, Message string
		Status              int
	}
}

// run makes the requests one after the other.
func (c sdkClient) run(ctx context.Context, t *testing.T, cases []clientCase) map[string]clientResult {
	t.Helper()
	var got struct {
		Version string
		Results []clientResult
	}
	runScript(t, c.command(ctx, t), cases, &got)
	if got.Version != c.version {
		t.Fatalf("%s %s is installed, not %s", c.name, got.Version, c.version)
	}
	results := make(map[string]clientResult)
	for _, r := range got.Results {
		results[r.Name] = r
	}
	return results
}
