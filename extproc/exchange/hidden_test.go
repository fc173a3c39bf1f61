package exchange

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func TestHidden(t *testing.T) {
	h := NewHidden()
	if n := h.of("azure/gpt-5-mini", ""); n != 1024 {
		t.Errorf("%d tokens are expected of a model by its name", n)
	}
	if n := h.of("gpt-5-mini", "minimal"); n != 0 {
		t.Errorf("%d tokens are expected without effort", n)
	}
	// A model that nobody knows is learned, after some answers.
	for i := range 100 {
		n := h.of("house", "")
		if i < leastHidden && n != 0 || i >= leastHidden && (n < 400 || n > 600) {
			t.Errorf("after %d answers of 500 tokens %d are expected", i, n)
		}
		h.learn("house", "", 500)
	}
	// What is rare but long weighs more than what is common and short.
	for i := range 400 {
		h.learn("house", "", map[bool]int64{true: 1000, false: 100}[i%5 == 0])
	}
	if n := h.of("house", ""); n < 250 || n > 1000 {
		t.Errorf("%d tokens are expected where one of five needs 1000 and the others 100", n)
	}
	if n := h.of("house", "high"); n != 0 {
		t.Errorf("another effort is not told apart: %d", n)
	}
	// A known one unlearns what it does not need.
	for range 200 {
		h.learn("o3", "", 0)
	}
	if n := h.of("o3", ""); n > 10 {
		t.Errorf("%d tokens are expected of who never reasons", n)
	}
	for range 100 {
		h.learn("liar", "", 1<<62)
	}
	if n := h.of("liar", ""); n > mostHidden {
		t.Errorf("%d tokens are expected", n)
	}
	// Most models never reason, and take no room; others take no more than there is.
	h.learn("plain", "", 0)
	for i := range 2 * maxHidden {
		h.learn(fmt.Sprint("m", i), "", 100)
		h.of("house", "")
	}
	if len(h.models) != maxHidden || h.models["plain "] != nil || h.models["house "] == nil || h.models["m0 "] != nil {
		t.Errorf("%d models are known", len(h.models))
	}
}

// What streams report is learned, unless they show their reasoning.
func TestHiddenLearned(t *testing.T) {
	p := &Policy{Hidden: NewHidden()}
	const usage = `{"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":301,"completion_tokens_details":{"reasoning_tokens":300}}}`
	for i, tt := range []struct {
		model, text string
		want        int64
	}{
		{"quiet", `{"choices":[{"index":0,"delta":{"content":"a"}}]}`, 300},
		{"loud", `{"choices":[{"index":0,"delta":{"content":"a","reasoning_content":"hm"}}]}`, 0},
	} {
		for range leastHidden {
			c := newConversation()
			c.policy = *p
			for _, d := range commands(
				"limits", "minute tokens=100000", "request", "", "body", `{"model":"`+tt.model+`","stream":true,"messages":[]}`, "answer", "",
				"data eos", tt.text+"\n"+usage,
			) {
				c.do(t, d, wholly)
			}
		}
		if got := p.Hidden.of(tt.model, ""); got < tt.want-50 || got > tt.want {
			t.Errorf("%d: %d tokens are expected, want %d", i, got, tt.want)
		}
	}
}

// Claude thinks if it is told to, and shows that or not: who lets it think unseen does not
// make others' streams hold anything for it, nor do they make his hold less.
func TestHiddenThinking(t *testing.T) {
	p := &Policy{Hidden: NewHidden()}
	ask := func(members string) int64 {
		c := newConversation()
		c.policy = *p
		for _, d := range commands(
			"limits", "minute tokens=1000000", "request", "", "body", `{"model":"claude-opus-4-8","stream":true,"max_tokens":9000,`+members+`"messages":[]}`,
		) {
			if d.Cmd == "request" {
				d.CmdArgs = []datadriven.CmdArg{{Key: "path", Vals: []string{"/v1/messages"}}}
			}
			c.do(t, d, wholly)
		}
		hidden := c.x.hidden
		thinking := 0
		if strings.Contains(members, "omitted") {
			thinking = 3000
		}
		for _, d := range commands("answer", "", "data eos",
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`+"\n"+
				fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":%d,"output_tokens_details":{"thinking_tokens":%d}}}`, thinking+1, thinking)) {
			c.do(t, d, wholly)
		}
		return hidden
	}
	const unseen = `"thinking":{"type":"adaptive","display":"omitted"},`
	for range 50 {
		ask(unseen)
		ask("")
	}
	for members, want := range map[string]int64{unseen: 3000, "": 0, `"thinking":{"type":"disabled"},`: 0, `"thinking":{"type":"adaptive","display":"omitted"},"output_config":{"effort":"low"},`: 0} {
		if got := ask(members); got != want {
			t.Errorf("%s: %d tokens are held, want %d", members, got, want)
		}
	}
}

// Anthropic's API reports usage when a message begins, which says nothing of thinking, and
// shows a summary of it at most: who leaves behind the text is charged the allowance as
// anybody else.
func TestHiddenThinkingLeft(t *testing.T) {
	const (
		start   = `{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}` + "\n"
		summary = `{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"hm"}}` + "\n"
	)
	for _, tt := range []struct {
		name, model, first string
		want               int64
	}{
		{"reported at the beginning", "claude-opus-4-8", start, 3000},
		{"not reported", "claude-opus-4-8", "", 3000},
		{"a summary", "anthropic/Claude-Opus-4.8", start + summary, 3000},
		{"all of it", "claude-3-7-sonnet-latest", start + summary, 0},
		{"all of another model's", "glm-4.6", start + summary, 0},
	} {
		p := &Policy{Hidden: NewHidden()}
		for range leastHidden {
			p.Hidden.learn(strings.ToLower(tt.model), "adaptive", 3000)
		}
		c := newConversation()
		c.policy = *p
		for _, d := range commands(
			"limits", "minute tokens=1000000", "request", "", "body",
			`{"model":"`+tt.model+`","stream":true,"max_tokens":9000,"thinking":{"type":"adaptive"},"messages":[]}`,
			"answer", "", "data", tt.first+`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`, "end", "",
		) {
			if d.Cmd == "request" {
				d.CmdArgs = []datadriven.CmdArg{{Key: "path", Vals: []string{"/v1/messages"}}}
			}
			c.do(t, d, wholly)
		}
		if n := c.record.Output; n < tt.want || n > tt.want+10 {
			t.Errorf("%s: %d tokens of output are charged", tt.name, n)
		}
	}
}

// Who thinks and does not report how much is learned by what was billed beyond what was seen.
func TestHiddenUnreported(t *testing.T) {
	p := &Policy{Hidden: NewHidden()}
	for range leastHidden {
		c := newConversation()
		c.policy = *p
		for _, d := range commands(
			"limits", "minute tokens=1000000", "request", "", "body", `{"model":"claude-opus-4-8","stream":true,"max_tokens":9000,"messages":[]}`, "answer", "",
			"data eos", `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}`+"\n"+
				`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1000}}`,
		) {
			if d.Cmd == "request" {
				d.CmdArgs = []datadriven.CmdArg{{Key: "path", Vals: []string{"/v1/messages"}}}
			}
			c.do(t, d, wholly)
		}
	}
	if got := p.Hidden.of("claude-opus-4-8", ""); got < 990 || got > 1000 {
		t.Errorf("%d tokens are expected of a model that thinks 998", got)
	}
}
