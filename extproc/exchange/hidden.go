package exchange

import (
	"strings"
	"sync"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// Models that reason bill tokens which never appear in a stream; only the usage at its end
// tells how many. So a stream of such a model holds an allowance for them beside its text,
// from its admission on, as far as its budgets have it: what is held is there when the usage
// comes. A small budget, which has not got the allowance, holds what it has, and its streams
// are cut by their text as all others.
//
// The allowance stands until the provider says how much it was. Where it never does, since
// the stream was cut, left, or is of an upstream that reports nothing, it is charged, once
// text has come: the reasoning was done before. It is none for an answer that shows its
// reasoning, which is counted; a summary is not the reasoning.
//
// The allowance is the model's name's (see [dialect.HiddenReasoning]) until something was
// learned of the model, and then what its answers have needed.

// Hidden learns how much reasoning is not shown, by model and effort. It is safe for
// concurrent use.
type Hidden struct {
	mu     sync.Mutex
	models map[string]*hiddenModel
	clock  int64
}

type hiddenModel struct {
	tokens float64 // of one choice
	seen   int64   // answers
	used   int64   // the clock, when it was asked for last
}

const (
	mostHidden  = 1 << 20 // tokens of one answer; more is no model's
	maxHidden   = 1024    // models with efforts; the one that was not used for the longest makes room
	leastHidden = 4       // answers before what was learned counts
	// An answer that needed more moves what is expected by a quarter of the difference, one
	// that needed less by a sixteenth: so four of five are expected to need less.
	hiddenRise, hiddenFall = 1.0 / 4, 1.0 / 16
)

// NewHidden returns one that has learned nothing.
func NewHidden() *Hidden { return &Hidden{models: make(map[string]*hiddenModel)} }

// of is what is expected of an answer with one choice, in tokens.
func (h *Hidden) of(model, effort string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.models[model+" "+effort]; m != nil {
		h.clock++
		m.used = h.clock
		if m.seen >= leastHidden {
			return int64(m.tokens)
		}
	}
	return dialect.HiddenReasoning(model, effort)
}

// learn takes in what the reasoning of one choice has taken.
func (h *Hidden) learn(model, effort string, tokens int64) {
	key, tokens := model+" "+effort, min(tokens, mostHidden)
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.models[key]
	if m == nil {
		before := dialect.HiddenReasoning(model, effort)
		if tokens == 0 && before == 0 {
			return // as most models
		}
		h.makeRoom()
		m = &hiddenModel{tokens: float64(before)}
		h.models[key] = m
	}
	h.clock++
	m.used = h.clock
	m.seen++
	d, step := float64(tokens)-m.tokens, hiddenFall
	if d > 0 {
		step = hiddenRise
	}
	m.tokens += d * max(step, 1/float64(m.seen)) // the first ones count more
}

func (h *Hidden) makeRoom() {
	if len(h.models) < maxHidden {
		return
	}
	oldest := ""
	for key, m := range h.models {
		if oldest == "" || m.used < h.models[oldest].used {
			oldest = key
		}
	}
	delete(h.models, oldest)
}

// modelName is the model by which hidden reasoning is learned.
func (x *Exchange) modelName() string {
	if x.deployment != "" {
		return strings.ToLower(x.deployment)
	}
	return strings.ToLower(x.request.Model)
}

// expectHidden is the allowance of all choices together. full is all that the answer may get.
func (x *Exchange) expectHidden(full int64) int64 {
	if x.request.NoOutput {
		return 0
	}
	return min(x.policy.Hidden.of(x.modelName(), x.request.Effort)*x.request.Choices, full)
}

// holdHidden keeps of the allowance what is held beyond the first text, and what budgets
// have beyond it that hold nothing at first.
func (x *Exchange) holdHidden() {
	if x.hidden == 0 {
		return
	}
	room := x.reservation.Held().Output
	if most := x.reservation.Cuttable(); most > 0 {
		room = min(room, most)
	}
	x.hidden = min(x.hidden, max(0, room-min(x.policy.Growth, x.wanted)))
}

// withHidden is what a stream with n tokens of text has cost, as far as is known. Its caps,
// which the upstream obeys, bound both together.
func (x *Exchange) withHidden(n int64) int64 {
	// What was reported before any text, as Anthropic's API does it, says nothing of it.
	if x.hidden == 0 || x.reported.Known && x.atReport > 0 || x.reasoned && !x.summed {
		return n
	}
	with := n + x.hidden
	if x.most > 0 {
		with = min(with, x.most)
	}
	return max(n, with)
}

// learnHidden takes in what a whole stream reports.
func (x *Exchange) learnHidden() {
	if x.stream == nil || !x.reported.Known || x.record.Outcome != Completed || x.counted != x.atReport || x.reported.Output == 0 {
		return
	}
	hidden := x.reported.Reasoning
	if hidden == 0 && x.reported.Unseen { // the API bills it, and does not say how much
		hidden = max(0, x.reported.Output-x.output())
	}
	tokens := hidden / x.request.Choices
	if x.reasoned && !x.summed {
		tokens = 0
	}
	x.policy.Hidden.learn(x.modelName(), x.request.Effort, tokens)
}
