package tokens

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pkoukk/tiktoken-go"
)

// families are the model names which tiktoken-go's table lacks, most of them from Python tiktoken's model.py. A
// name stands for itself and for what continues it with '-', ':' or '@': a date, a size, a variant. A star
// stands for any continuation.
var families = map[string]string{
	"o1":             "o200k_base",
	"o3":             "o200k_base",
	"o4":             "o200k_base",
	"gpt-5*":         "o200k_base",
	"gpt-4.5*":       "o200k_base",
	"gpt-4.1*":       "o200k_base",
	"gpt-4o*":        "o200k_base",
	"chatgpt-4o*":    "o200k_base",
	"gpt-oss*":       "o200k_harmony",
	"gpt-3.5":        "cl100k_base",
	"gpt-35-turbo":   "cl100k_base", // Azure's name for gpt-3.5-turbo
	"davinci-002":    "cl100k_base",
	"babbage-002":    "cl100k_base",
	"text-embedding": "cl100k_base",
	"gpt2":           "r50k_base", // the same ranks and pattern
	"gpt-2":          "r50k_base",
}

type family struct {
	name     string
	any      bool // whatever follows the name
	encoding string
}

// models are all families, the longest name first.
var models = sync.OnceValue(func() []family {
	all := make(map[string]string)
	for prefix, encoding := range tiktoken.MODEL_PREFIX_TO_ENCODING {
		all[strings.TrimSuffix(prefix, "-")] = encoding
	}
	maps.Copy(all, tiktoken.MODEL_TO_ENCODING)
	maps.Copy(all, families)
	var table []family
	for name, encoding := range all {
		if _, ok := encodings[encoding]; !ok {
			continue
		}
		name, open := strings.CutSuffix(name, "*")
		table = append(table, family{name, open, encoding})
	}
	slices.SortFunc(table, func(a, b family) int {
		return cmp.Or(len(b.name)-len(a.name), strings.Compare(a.name, b.name), boolCompare(b.any, a.any))
	})
	return table
})

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (f family) has(model string) bool {
	rest, ok := strings.CutPrefix(model, f.name)
	return ok && (f.any || rest == "" || strings.IndexByte("-:@", rest[0]) >= 0)
}

// ForModel returns the encoding of an OpenAI model. Known is false for every other model; the encoding is
// o200k_base then, and its counts are an estimate.
//
// Vendors in front of the name ("openai/gpt-4o", "azure/eu/gpt-4o", "openai.gpt-oss-20b-1:0"), the "ft:" of a
// fine-tuned model, what follows the name, and the case of letters do not matter.
//
// ForModel panics if the encoding cannot be loaded, which only a damaged binary can cause.
func ForModel(model string) (enc *Encoding, known bool) {
	name, known := encodingFor(model)
	enc, err := Get(name)
	if err != nil {
		panic(err)
	}
	return enc, known
}

// Known reports whether ForModel knows the model, without loading anything.
func Known(model string) bool {
	_, known := encodingFor(model)
	return known
}

// Models returns names of models that ForModel knows, sorted. There are more, since a name may be continued.
func Models() []string {
	var names []string
	for _, f := range models() {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// encodingFor is ForModel without loading anything.
func encodingFor(model string) (name string, known bool) {
	model = strings.ToLower(model)
	for {
		i := strings.IndexAny(model, "/:")
		if i < 0 || model[i] == ':' {
			break // a slash behind a colon belongs to a variant
		}
		model = model[i+1:]
	}
	model = strings.TrimPrefix(model, "ft:")
	model = strings.TrimPrefix(model, "openai.")
	for _, f := range models() {
		if f.has(model) {
			return f.encoding, true
		}
	}
	return "o200k_base", false
}
