package tokens

import (
	"slices"
	"testing"

	"github.com/pkoukk/tiktoken-go"
)

func TestForModel(t *testing.T) {
	for _, c := range []struct {
		model, encoding string
		known           bool
	}{
		{"gpt-4o", "o200k_base", true},
		{"gpt-4o-mini-2024-07-18", "o200k_base", true},
		{"gpt-4o-realtime-preview", "o200k_base", true},
		{"GPT-4o", "o200k_base", true},
		{"chatgpt-4o-latest", "o200k_base", true},
		{"gpt-4.1", "o200k_base", true},
		{"gpt-4.1-nano", "o200k_base", true},
		{"gpt-4.5-preview", "o200k_base", true},
		{"gpt-5", "o200k_base", true},
		{"gpt-5-mini", "o200k_base", true},
		{"gpt-5.1-codex", "o200k_base", true},
		{"o1", "o200k_base", true},
		{"o1-pro", "o200k_base", true},
		{"o3", "o200k_base", true},
		{"o3-mini", "o200k_base", true},
		{"o4-mini", "o200k_base", true},
		{"o4-mini-deep-research", "o200k_base", true},
		{"gpt-oss-120b", "o200k_harmony", true},
		{"gpt-oss:20b", "o200k_harmony", true},
		{"openai/gpt-oss-20b:free", "o200k_harmony", true},
		{"openai.gpt-oss-120b-1:0", "o200k_harmony", true},
		{"gpt-4", "cl100k_base", true},
		{"gpt-4-turbo", "cl100k_base", true},
		{"gpt-4-32k-0613", "cl100k_base", true},
		{"gpt-3.5-turbo", "cl100k_base", true},
		{"gpt-3.5-turbo-0125", "cl100k_base", true},
		{"gpt-35-turbo-16k", "cl100k_base", true},
		{"text-embedding-3-small", "cl100k_base", true},
		{"text-embedding-ada-002", "cl100k_base", true},
		{"davinci-002", "cl100k_base", true},
		{"text-davinci-003", "p50k_base", true},
		{"text-davinci-001", "r50k_base", true},
		{"code-cushman-001", "p50k_base", true},
		{"text-davinci-edit-001", "p50k_edit", true},
		{"text-similarity-davinci-001", "r50k_base", true},
		{"davinci", "r50k_base", true},
		{"davinci:ft-my-org-2022-01-01", "r50k_base", true},
		{"gpt2", "r50k_base", true},
		{"ft:gpt-4o:my-org:name:id", "o200k_base", true},
		{"ft:gpt-4o-mini-2024-07-18:my-org::abc/def", "o200k_base", true},
		{"ft:gpt-3.5-turbo:my-org", "cl100k_base", true},
		{"ft:gpt-4-0613:my-org", "cl100k_base", true},
		{"ft:babbage-002:my-org", "cl100k_base", true},
		{"openai/gpt-4o", "o200k_base", true},
		{"openai/gpt-4", "cl100k_base", true},
		{"azure/eu/gpt-4o", "o200k_base", true},
		{"openrouter/openai/ft:gpt-4o:x", "o200k_base", true},

		{"", "o200k_base", false},
		{"/", "o200k_base", false},
		{"o100", "o200k_base", false},
		{"o3x", "o200k_base", false},
		{"gpt-4.9", "o200k_base", false},
		{"gpt-40", "o200k_base", false},
		{"text-babbage-003", "o200k_base", false},
		{"claude-opus-4-1", "o200k_base", false},
		{"gemini-2.5-pro", "o200k_base", false},
		{"meta-llama/Llama-3.3-70B-Instruct", "o200k_base", false},
		{"my-gpt-4o", "o200k_base", false},
	} {
		e, known := ForModel(c.model)
		if e.Name() != c.encoding || known != c.known {
			t.Errorf("ForModel(%q) = %s, %t, want %s, %t", c.model, e.Name(), known, c.encoding, c.known)
		}
	}
}

// TestModelTable checks that tiktoken-go's own entries keep their meaning.
func TestModelTable(t *testing.T) {
	for model, want := range tiktoken.MODEL_TO_ENCODING {
		if want == "gpt2" {
			want = "r50k_base"
		}
		_, ours := encodings[want]
		if name, known := encodingFor(model); known != ours || known && name != want {
			t.Errorf("%s: %s, %t, want %s", model, name, known, want)
		}
	}
	for prefix, want := range tiktoken.MODEL_PREFIX_TO_ENCODING {
		if name, known := encodingFor(prefix + "x"); !known || name != want {
			t.Errorf("%sx: %s, %t, want %s", prefix, name, known, want)
		}
	}
	if !slices.IsSortedFunc(models(), func(a, b family) int { return len(b.name) - len(a.name) }) {
		t.Error("the longest name does not come first")
	}
}
