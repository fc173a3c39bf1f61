package dialect

import (
	"slices"
	"strings"
)

// olderCap are models that others than OpenAI serve, by the beginnings of their names. All their
// servers read max_tokens; max_completion_tokens is refused by Mistral (422), and not read by
// DeepSeek and Ollama.
var olderCap = []string{
	"codestral", "command", "deepseek", "devstral", "gemma", "gpt-oss", "labs-", "llama", "magistral", "meta-llama", "ministral", "mistral",
	"mixtral", "open-mistral", "open-mixtral", "phi", "pixtral", "qwen", "voxtral",
}

// chatCapKey is the member under which a cap is added to a request that has none. OpenAI's reasoning
// models refuse max_tokens, so what is not known gets the newer one.
func chatCapKey(model string) string {
	name := bareModel(model)
	if slices.ContainsFunc(olderCap, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		return "max_tokens"
	}
	return "max_completion_tokens"
}
