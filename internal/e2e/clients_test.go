package e2e

import (
	"bytes"
	"context"
	"encoding/json"
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
	api      string // of the requests that it makes
}

// sdkClients are the newest releases of the official SDKs, and the last of the major
// version before, or of an earlier one, which most programs still use.
var sdkClients = []sdkClient{
	{"Python", "openai", "3.54.0", "openai.chat"},
	{"Python", "openai", "1.109.1", "openai.chat"},
	{"Python", "anthropic", "2.12.0", "anthropic.messages"},
	{"Python", "anthropic", "0.125.0", "anthropic.messages"},
	{"Node.js", "openai", "7.57.0", "openai.chat"},
	{"Node.js", "openai", "4.104.0", "openai.chat"},
	{"Node.js", "@anthropic-ai/sdk", "1.13.0", "anthropic.messages"},
	{"Node.js", "@anthropic-ai/sdk", "0.137.0", "anthropic.messages"},
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
	sdkCase
	Helper    bool `json:"helper"` // the SDK's own accumulator reads the stream
	MaxTokens int  `json:"max_tokens"`
}

// clientResult is what an SDK made of the answer.
type clientResult struct {
	sdkResult
	Thinking, Tool string
}

// run makes the requests one after the other.
func (c sdkClient) run(ctx context.Context, t *testing.T, cases []clientCase) map[string]clientResult {
	t.Helper()
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.command(ctx, t)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got struct {
		Version string
		Results []clientResult
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got.Version != c.version {
		t.Fatalf("%s %s is installed, not %s", c.name, got.Version, c.version)
	}
	results := make(map[string]clientResult)
	for _, r := range got.Results {
		results[r.Name] = r
	}
	return results
}
