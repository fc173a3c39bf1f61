package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// A tokenizer.json is how Hugging Face's library tokenizers saves a tokenizer. This reads those of byte-level BPE:
// GPT-2, Llama 3, Qwen 2 and later, Mistral's Tekken, DeepSeek V3, gpt-oss, and what has been trained like them.
// What a file asks for and is not supported is an error. Added and special tokens, the post-processor and the
// decoder concern other things than the tokens of ordinary text, and are not looked at.

// maxTokenizerFile bounds the size of a tokenizer.json, in bytes. The largest in use have about 20 MB.
const maxTokenizerFile = 64 << 20

// LoadFile returns the encoding of a tokenizer.json, under the name of its path. The file must be a regular one of at
// most 64 MiB.
func LoadFile(path string) (*Encoding, error) {
	// Opening a pipe would wait for somebody to write to it.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file; give the path of a tokenizer.json", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Its size may have changed since, so the limit is on what is read.
	data, err := io.ReadAll(io.LimitReader(f, maxTokenizerFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse returns the encoding of a tokenizer.json with the content data, under the given name. It takes memory of
// about ten times the size of data while it works.
//
// The encoding's ids are those of the file. Its counts are those of tokenizers 0.23 with no special tokens added
// and with those in the text taken as text: len(t.encode(text, add_special_tokens=False).ids) of a tokenizer t
// whose list of added tokens is empty. docs/tokens.md says where they may differ.
//
// The error says what in the file is not supported, and what is. It quotes names and ids of the file, and parts of
// patterns and tokens.
func Parse(name string, data []byte) (*Encoding, error) {
	e, err := parseTokenizer(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	e.name = name
	return e, nil
}

// A tokenizerFile is what matters of a tokenizer.json.
type tokenizerFile struct {
	Normalizer   json.RawMessage `json:"normalizer"`
	PreTokenizer json.RawMessage `json:"pre_tokenizer"`
	Model        json.RawMessage `json:"model"`
}

// maxComponent bounds the text of a normalizer or a pre-tokenizer, in bytes. A step of three bytes, "{},", becomes a
// component of more than a hundred. The largest in use are tables of SentencePiece, of a few hundred KB.
const maxComponent = 1 << 20

// A component is a normalizer or a pre-tokenizer, with the options of all kinds of them.
type component struct {
	Type             string      `json:"type"`
	Normalizers      []component `json:"normalizers"`
	PreTokenizers    []component `json:"pretokenizers"`
	Pattern          pattern     `json:"pattern"`
	Behavior         string      `json:"behavior"`
	Invert           bool        `json:"invert"`
	AddPrefixSpace   *bool       `json:"add_prefix_space"`
	UseRegex         *bool       `json:"use_regex"`
	IndividualDigits bool        `json:"individual_digits"`
}

type pattern struct {
	Regex  *string
	String *string
}

func parseTokenizer(data []byte) (*Encoding, error) {
	if len(data) > maxTokenizerFile {
		return nil, fmt.Errorf("the file has more than %d MiB, which no tokenizer.json needs", maxTokenizerFile>>20)
	}
	var file tokenizerFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("no tokenizer.json: %w", err)
	}
	normalizer, err := parseComponent("normalizer", file.Normalizer)
	if err != nil {
		return nil, err
	}
	nfc, err := normalizer.normalizer()
	if err != nil {
		return nil, err
	}
	preTokenizer, err := parseComponent("pre_tokenizer", file.PreTokenizer)
	if err != nil {
		return nil, err
	}
	style, err := preTokenizer.style()
	if err != nil {
		return nil, err
	}
	if len(file.Model) == 0 {
		return nil, errors.New(`no tokenizer.json: it has no "model"`)
	}
	vocab, err := parseModel(file.Model)
	if err != nil {
		return nil, err
	}
	loadClasses()
	if style.splitter == deepSeek {
		loadGaps()
	}
	return &Encoding{vocab: vocab, style: style, nfc: nfc}, nil
}

// parseComponent returns nil for a component that is null or not there.
func parseComponent(name string, data []byte) (*component, error) {
	if len(data) > maxComponent {
		return nil, fmt.Errorf("the %s has more than %d KiB, which none that is supported needs", name, maxComponent>>10)
	}
	if len(data) == 0 {
		return nil, nil
	}
	var c *component
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("no tokenizer.json: %s: %w", name, err)
	}
	return c, nil
}

// normalizer reports whether the normalizer is NFC, the only one that is supported.
func (c *component) normalizer() (nfc bool, err error) {
	switch {
	case c == nil:
		return false, nil
	case c.Type == "NFC":
		return true, nil
	case c.Type == "Sequence":
		for _, part := range c.Normalizers {
			if part.Type != "NFC" {
				return false, errNormalizer(part.Type)
			}
			nfc = true
		}
		return nfc, nil
	}
	return false, errNormalizer(c.Type)
}

func errNormalizer(kind string) error {
	return fmt.Errorf("normalizer %q is not supported, only NFC or none", short(kind))
}

// short shortens what a file says for an error.
func short(s string) string {
	const most = 80
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most]) + "…"
}
