package tokens

import (
	"errors"
	"fmt"
	"strings"
)

// The split patterns which are known, as the files have them, line ends written as \r and \n. A pattern is known by
// its text: there are no regular expressions at run time.
const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	spaces       = `|\s*[\r\n]+|\s+(?!\S)|\s+`
	caseless     = `\p{Lm}\p{Lo}\p{M}]`
	untilLower   = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}` + caseless + `*[\p{Ll}` + caseless + `+`
	fromUpper    = `|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}` + caseless + `+[\p{Ll}` + caseless + `*`
	otherO200k   = `| ?[^\s\p{L}\p{N}]+[\r\n/]*` + spaces
	otherWords   = `| ?[^\s\p{L}\p{N}]+[\r\n]*` + spaces

	splitNumbers  = `\p{N}{1,3}`
	splitCJK      = "[一-龥\u3040-ゟ゠-ヿ]+"
	splitDeepThen = `[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`" + `{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*` + spaces
)

// patterns are those of a Split which stands alone before ByteLevel. Each matches any text from end to end.
var patterns = map[string]*style{
	// GPT-2, in the words of the paper's code and of tiktoken.
	`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`:      &styleGPT2,
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`:         &styleGPT2,
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s`: &styleGPT2,

	// cl100k, in the words of tiktoken, old and new, and Llama 3.
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`:         &styleLlama3,
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s`: &styleCL100kOniguruma,
	contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}` + otherWords:                                                      &styleLlama3,

	// Qwen 2 and 3; Qwen 3.5.
	contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}` + otherWords:                                   &styleQwen2,
	contractions + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + spaces: &styleQwen35,

	// o200k: gpt-oss, Llama 4. Tekken: Mistral.
	untilLower + contractions + `?` + fromUpper + contractions + `?|` + splitNumbers + otherO200k: &styleO200k,
	untilLower + fromUpper + `|\p{N}` + otherO200k:                                                &styleTekken,
}

// style returns the split pattern of a pre-tokenizer.
func (c *component) style() (*style, error) {
	var steps []component
	switch {
	case c == nil:
		return nil, errors.New("there is no pre_tokenizer; ByteLevel is needed, alone or at the end of a Sequence")
	case c.Type == "Sequence":
		steps = c.PreTokenizers
	default:
		steps = []component{*c}
	}
	if len(steps) == 0 || steps[len(steps)-1].Type != "ByteLevel" {
		kind := c.Type
		if len(steps) > 0 {
			kind = steps[len(steps)-1].Type
		}
		return nil, fmt.Errorf("pre_tokenizer %q is not supported; ByteLevel is needed, alone or at the end of a Sequence", short(kind))
	}
	last := steps[len(steps)-1]
	if last.AddPrefixSpace == nil || *last.AddPrefixSpace {
		return nil, errors.New("pre_tokenizer ByteLevel: add_prefix_space is not supported; it must be false")
	}
	steps = steps[:len(steps)-1]
	if last.UseRegex == nil || *last.UseRegex {
		return styleBefore(steps)
	}
	switch len(steps) {
	case 1:
		text, err := steps[0].split(true)
		if err != nil {
			return nil, err
		}
		if s, ok := patterns[text]; ok {
			return s, nil
		}
		return nil, errPattern(text)
	case 3:
		for i, want := range []string{splitNumbers, splitCJK, splitDeepThen} {
			text, err := steps[i].split(false)
			if err != nil {
				return nil, err
			}
			if text != want {
				return nil, errPattern(text)
			}
		}
		return &styleDeepSeek, nil
	}
	return nil, fmt.Errorf("pre_tokenizer with %d steps before ByteLevel without its own pattern is not supported; one Split, or the three of DeepSeek V3, are", len(steps))
}

// styleBefore returns the split pattern of ByteLevel with its own, that of GPT-2, behind what may cut out numbers.
func styleBefore(steps []component) (*style, error) {
	switch {
	case len(steps) == 0:
		return &styleGPT2, nil
	case len(steps) > 1:
		return nil, fmt.Errorf("pre_tokenizer with %d steps before ByteLevel with its own pattern is not supported; one that cuts out numbers is", len(steps))
	case steps[0].Type == "Digits" && steps[0].IndividualDigits:
		return &styleGPT2Digits, nil
	case steps[0].Type == "Digits":
		return &styleGPT2Numbers, nil
	}
	text, err := steps[0].split(false)
	if err != nil {
		return nil, err
	}
	switch text {
	case `\p{N}`:
		return &styleGPT2Digits, nil
	case `\p{N}+`:
		return &styleGPT2Numbers, nil
	case splitNumbers:
		return &styleGPT2Triples, nil
	}
	return nil, errPattern(text)
}

// split returns the pattern of a Split that keeps all of the text. Full says that the pattern matches all of any
// text, so that what is between matches, which is nothing, may be removed.
func (c *component) split(full bool) (string, error) {
	switch {
	case c.Type != "Split":
		return "", fmt.Errorf("pre_tokenizer %q is not supported; Split, Digits and ByteLevel are", short(c.Type))
	case c.Pattern.Regex == nil:
		return "", errors.New("pre_tokenizer Split without a Regex is not supported")
	case c.Behavior == "Isolated":
	case full && c.Behavior == "Removed" && c.Invert:
	default:
		return "", fmt.Errorf("pre_tokenizer Split with the behavior %q is not supported; Isolated is", short(c.Behavior))
	}
	return strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(*c.Pattern.Regex), nil
}

func errPattern(text string) error {
	return fmt.Errorf("the split pattern %q is not known; those of GPT-2, cl100k, o200k, Llama 3, Qwen 2 to 3.5, Tekken and DeepSeek V3 are", short(text))
}
