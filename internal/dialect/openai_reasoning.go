package dialect

import "strings"

// Models that reason bill tokens which never appear in the answer. What is expected of
// them, for each choice, in tokens, by reasoning_effort. They are guesses of the usual, not of
// the most: recordings of gpt-5-nano have 192 for a greeting, and 1,000 and more for a
// riddle.
const (
	hiddenLow    = 256
	hiddenMedium = 1024
	hiddenHigh   = 4096
)

// reasoners are the models that are known to reason without showing it, by the beginnings
// of their names, and whether they do so if the request says nothing of its effort. The
// first that fits counts.
var reasoners = []struct {
	prefix string
	unset  int64
}{
	{"o1", hiddenMedium},
	{"o3", hiddenMedium},
	{"o4", hiddenMedium},
	{"codex-mini", hiddenMedium},
	{"gpt-5-chat", 0},
	{"gpt-5.", 0}, // from gpt-5.1 on the effort is "none" unless it is set
	{"gpt-5", hiddenMedium},
}

// efforts are what reasoning_effort can say.
var efforts = map[string]int64{"none": 0, "minimal": 0, "low": hiddenLow, "medium": hiddenMedium, "high": hiddenHigh, "xhigh": hiddenHigh, "max": hiddenHigh}

// HiddenReasoning is how many tokens of reasoning that is not shown are expected of an
// answer of the model, with the effort that the request asks for, "" if it does not. It is
// 0 for models that are not known to reason so.
func HiddenReasoning(model, effort string) int64 {
	name := bareModel(model)
	for _, r := range reasoners {
		if !strings.HasPrefix(name, r.prefix) {
			continue
		}
		if n, ok := efforts[effort]; ok && r.prefix != "gpt-5-chat" {
			return n
		}
		return r.unset
	}
	return 0
}

// effort reads reasoning_effort: one of its words, or "".
func (p *requestReader) effort(at span) string {
	if v := at.of(p.body); v[0] == '"' && len(v) < len(`"12345678"`) {
		word := string(v[1 : len(v)-1])
		if _, ok := efforts[word]; ok {
			return word
		}
	}
	return ""
}

// reasoning reads OpenRouter's object: an effort, or a bound in tokens, which stands for the least
// effort that takes as much.
func (p *requestReader) reasoning(at span) (effort string) {
	for name, value := range members(p.body, at) {
		switch v := value.of(p.body); string(name.of(p.body)) {
		case `"effort"`:
			if e := p.effort(value); e != "" {
				return e
			}
		case `"max_tokens"`:
			if !isNumber(v[0]) {
				continue
			}
			switch n := clampInteger(v); {
			case n <= 0:
				effort = "none"
			case n <= hiddenLow:
				effort = "low"
			case n <= hiddenMedium:
				effort = "medium"
			default:
				effort = "high"
			}
		}
	}
	return effort
}
