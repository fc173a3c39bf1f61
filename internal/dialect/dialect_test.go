package dialect

import (
	"strings"
	"testing"
)

func TestDeployment(t *testing.T) {
	for path, want := range map[string]string{
		"/openai/deployments/gpt-4/chat/completions":                            "gpt-4",
		"/azure/openai/deployments/eu%20chat/chat/completions":                  "eu chat",
		"/OpenAI/Deployments/GPT-4/chat/completions":                            "GPT-4",
		"openai/deployments/a/chat/completions":                                 "",
		"/openai/deployments/a/openai/deployments/b/chat/completions":           "b",
		"/openai/deployments/" + strings.Repeat("x", 256) + "/chat/completions": strings.Repeat("x", 256),
		"/openai/deployments/" + strings.Repeat("x", 257) + "/chat/completions": "",
		"/openai/deployments//chat/completions":                                 "",
		"/openai/deployments/%ff/chat/completions":                              "",
		"/openai/deployments/%/chat/completions":                                "",
		"/openai/deployments/a/b/chat/completions":                              "",
		"/openai/deployments/a/embeddings":                                      "a",
		"/openai/deployments/a/completions":                                     "a",
		"/openai/deployments/a/extensions/chat/completions":                     "a",
		"/v1/engines/davinci/completions":                                       "davinci",
		"/openai/deployments/a/files":                                           "",
		"/deployments/a/chat/completions":                                       "",
		"/v1/chat/completions":                                                  "",
		"/chat/completions":                                                     "",
		"":                                                                      "",
	} {
		if got := Deployment(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
